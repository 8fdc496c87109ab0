"""README.md and docs/*.md, taken apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import shlex

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
# A line directly above a block of commands that no test and no CI runs.
MARK = re.compile(r'\*(?:Not run yet|Run by hand)\b.*\.\*')
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """What stands between two fences, and whether a mark is above it."""

    page: Path
    language: str
    code: str
    marked: bool

    @property
    def commands(self) -> Iterator[list[str]]:
        """The words of each command, without comments."""
        for line in self.code.replace('\\\n', ' ').splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), '&&']:
                if word != '&&':
                    words.append(word)
                elif words:
                    yield words
                    words = []


def blocks(language: str = '') -> list[Block]:
    """Give the blocks of all pages that are in a language; of any if none is given."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            above = text[: match.start()].rstrip('\n').rpartition('\n')[2]
            found.append(Block(page, match[1], match[2], bool(MARK.fullmatch(above))))
    return [block for block in found if language in ('', block.language)]


def rows(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table of a page whose first column has this heading."""
    table = (ROOT / page).read_text().split(f'\n| {heading} |', 1)[1]
    lines = re.split(r'\n(?!\|)', table, maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip(' `') for cell in line.split('|')[1:-1]] for line in lines]
