"""How the pages lay out tables."""

from __future__ import annotations

from collections.abc import Iterable
import re


def markdown(heading: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Lay out a table; heading has the names of the columns, separated by commas."""
    columns = heading.split(', ')
    lines = [columns, ['---'] * len(columns)]
    lines += [[cell.replace('|', r'\|') for cell in row] for row in rows]
    return [re.sub(r'\|  (?=\|)', '| ', f'| {" | ".join(cells)} |') for cells in lines]


def code(text: str) -> str:
    """Write as code; nothing stays nothing."""
    return f'`{text}`' if text else ''
