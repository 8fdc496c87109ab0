"""What README.md and docs/*.md say is true: links, settings, examples and numbers."""

import inspect
import json
import re

from pages import blocks, PAGES, ROOT, rows
import pytest
import yaml

from trt_openvla_ros.pipeline.configuration import Config, STAGES
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.settings import list_settings

LINKING = [*PAGES, *ROOT.glob('docs/decisions/*.md'), *ROOT.glob('models/*/README.md')]


def slug(heading: str) -> str:
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@pytest.mark.parametrize('page', LINKING, ids=lambda p: str(p.relative_to(ROOT)))
def test_linked_files_and_headings_exist(page):
    for target, anchor in re.findall(r'\]\(([^)#]*)#?([^)]*)\)', page.read_text()):
        other = page.parent / target if target else page
        assert other.exists(), target
        if anchor:
            headings = re.findall(r'^#+ (.*)', other.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f'{target}#{anchor}'


def test_settings_named_exist():
    known = list_settings(Config)
    sections = {name.split('.')[0] for name in known if '.' in name}
    for page in PAGES:
        text = page.read_text()
        named_here = set(re.findall(r'-p (\w+\.\w+):=', text))
        named_here |= {
            name for name in re.findall(r'`(\w+\.\w+)`', text) if name.split('.')[0] in sections
        }
        assert named_here <= known.keys()
    assert [row[0] for row in rows('docs/pipeline.md', 'stage')] == list(STAGES)


def test_parameters_in_examples_exist():
    for block in blocks('yaml'):
        if '/**' not in (content := yaml.safe_load(block.code)):
            continue  # no parameters
        values = content['/**']['ros__parameters']
        # rclpy has those of every topic.
        assert values.keys() - {'qos_overrides'} <= {
            row[0] for row in rows('docs/node.md', 'parameter')
        }


def test_python_examples_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    # Those with a client need a server or an action, and are tested with one.
    examples = [block for block in blocks('python') if 'Client(' not in block.code]
    assert examples
    namespaces = {block.page: {} for block in examples}  # a page's later examples go on
    for block in examples:
        exec(compile(block.code, block.page, 'exec'), namespaces[block.page])
        assert namespaces[block.page]['prediction'].action.shape == (7,)


def test_signature_is_that_of_the_code():
    given = inspect.signature(Policy.from_checkpoint).parameters.values()
    shown = [
        p.name if p.default is p.empty else f'{p.name}={p.default!r}'
        for p in given
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    page = (ROOT / 'docs' / 'python.md').read_text()
    assert f'`Policy.from_checkpoint({", ".join(shown)})`' in page


@pytest.mark.parametrize('name', ['tiny_openvla', 'tiny_ecot'])
def test_numbers_of_quantisation_are_those_measured(name):
    page = 'docs/benchmarks.md'
    found = [row[1:] for row in rows(page, f'{name} as')]
    path = ROOT / 'docs' / 'benchmarks' / f'agreement_{name}.json'
    measured = json.loads(path.read_text())
    wanted = [['', '', f'{100 * measured["original"]["success"]["rate"]:.1f} %', '']]
    for result in measured['formats'].values():
        apart = result['success_difference']
        shares = (result['same_action'], result['same_bin'], result['success']['rate'])
        interval = f'({apart["low"]:+.1f} to {apart["high"]:+.1f})'
        percent = [f'{100 * share:.1f} %' for share in shares]
        wanted.append([*percent, f'{apart["points"]:+.1f} {interval}'])
    assert found == wanted
    scenes = measured['original']['success']['of']
    assert f'success, of {scenes} scenes' in (ROOT / page).read_text()


def test_latencies_of_the_node_are_those_measured():
    measured = json.loads((ROOT / 'docs' / 'benchmarks' / 'node.json').read_text())
    small, large, fast = (measured[k] for k in ('640x480', '1920x1080', '1920x1080 at 30 Hz'))
    parts = [small['overhead'], large['overhead']]
    parts += [fast[name] for name in ('age', 'inference', 'preprocess')]
    wanted = [[f'{part[name]:.1f} ms' for name in ('p50_ms', 'p95_ms')] for part in parts]
    found = [row[1:3] for row in rows('docs/benchmarks.md', 'measured')]
    assert found[: len(wanted)] == wanted
    text = ' '.join((ROOT / 'docs' / 'node.md').read_text().split())
    first, second = (f'{part["p50_ms"]:.0f} ms' for part in parts[:2])
    assert f'{first} of a step with images of 640 x 480, and {second} with 1920 x 1080' in text


@pytest.mark.parametrize('page', ['README.md', 'docs/benchmarks.md'])
def test_numbers_of_success_are_those_measured(page):
    measured = json.loads((ROOT / 'docs' / 'benchmarks' / 'evaluate.json').read_text())
    wanted = []
    for name, result in measured['policies'].items():
        kinds = [result['kinds'][kind] for kind in ('reach', 'push', 'pick')]
        rates = [entry['rate'] for entry in (result['success'], *kinds, result['went_to_named'])]
        wanted.append([name, *(f'{100 * rate:.0f} %' for rate in rates)])
    assert rows(page, 'policy') == wanted
