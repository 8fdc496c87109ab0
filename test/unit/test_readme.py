"""What only the README has to be; test_docs.py checks what all pages say."""

from pathlib import Path
import re

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 200


def test_it_begins_with_a_sentence_and_a_picture():
    title, sentence, picture, *_ = README.split('\n\n')
    assert title == '# trt_openvla_ros'
    assert sentence.count('.') == 1
    assert picture.endswith('(docs/flow.svg)')
    assert re.findall(r'!\[.*\]\((.*)\)', README) == ['docs/flow.svg', 'docs/demo.gif']


def test_what_was_run_is_in_five_points():
    section = README.split('\n## What was run, and what was not\n')[1].split('\n## ')[0]
    assert len(re.findall(r'^- ', section, re.MULTILINE)) == 5


def test_pipeline_takes_four_commands_and_serving_two():
    for heading, count in (('Build engines for TensorRT-LLM', 4), ('Serve it over HTTP', 2)):
        section = README.split(f'\n## {heading}\n')[1].split('\n## ')[0]
        (block,) = re.findall(r'```bash\n(.*?)```', section, re.DOTALL)
        assert len(block.replace('\\\n', '').splitlines()) == count


def test_every_page_is_linked():
    for page in (ROOT / 'docs').glob('*.md'):
        assert f'(docs/{page.name})' in README


def test_nothing_is_left_to_fill_in():
    for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        wrong = re.findall(r'\b[A-Z]{3,}\d*\b ms|RATIO|[A-Z]+LINE|REPOSITORY', page.read_text())
        assert not wrong, page
