"""What the README says about commands, arguments and Python is true."""

import ast
import json
from pathlib import Path
import re
import subprocess

import pytest

from trt_openvla_ros.pipeline.configuration import Config, STAGES
from trt_openvla_ros.settings import list_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()


def blocks(language: str) -> str:
    return '\n'.join(re.findall(rf'```{language}\n(.*?)```', README, re.DOTALL))


def rows(heading: str) -> list[list[str]]:
    """Give the cells of the first table whose first column has this heading."""
    table = README.split(f'\n| {heading} |', 1)[1].split('\n\n', 1)[0]
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()[2:]]


def test_make_targets_exist():
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    named = set(re.findall(r'\bmake ([a-z]+)', README))
    assert {'demo', 'test', 'help', 'bench'} <= named <= targets
    listed = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r'make ([a-z]+)', listed.stdout)) == targets - {'env'}


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r'\b[A-Z]{3,}\d*\b ms|RATIO|[A-Z]+LINE|REPOSITORY', README)


def test_linked_files_exist():
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        assert (ROOT / target).exists(), target


def test_python_example_runs():
    namespace = {}
    # The other one needs a server, and is tested with one.
    code = re.search(r'```python\n(.*?)```', README, re.DOTALL)[1]
    code = code.replace("'test/data", f"'{ROOT}/test/data")
    exec(compile(code, 'README.md', 'exec'), namespace)
    assert namespace['prediction'].action.shape == (7,)


def launch_arguments(file: str, default_of_other: str) -> dict[str, tuple[str, str]]:
    """Read name to default and description; defaults that are no literals are given."""
    tree = ast.parse((ROOT / 'launch' / file).read_text())
    value = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'ARGUMENTS'
    )
    return {
        name.value: (getattr(default, 'value', default_of_other), text.value)
        for name, default, text in (entry.elts for entry in value.elts)
    }


def test_launch_arguments_are_those_of_the_launch_files():
    lines = [line for line in blocks('bash').splitlines() if 'deploy_server' not in line]
    used = set(re.findall(r'(?<![\w.])(\w+):=', '\n'.join(lines)))
    for heading, file, default in (
        ('argument', 'policy.launch.py', 'config/policy.yaml'),
        ('demo argument', 'demo.launch.py', 'models/tiny_openvla'),
    ):
        arguments = launch_arguments(file, default)
        documented = {n.strip('`'): (d.strip('`'), text) for n, d, text in rows(heading)}
        assert documented == arguments
        used -= set(arguments)
    assert not used


def test_settings_of_the_pipeline_exist():
    known = list_settings(Config)
    assert set(re.findall(r'-p (\w+\.\w+):=', blocks('bash'))) <= set(known)
    stages = {name.split('.')[0] for name in known if '.' in name}
    for name in re.findall(r'`(\w+\.\w+)`', README):
        if name.split('.')[0] in stages:
            assert name in known
    assert {row[0].strip('`') for row in rows('stage')} == set(STAGES)


@pytest.mark.parametrize('name', ['policy.launch.py', 'demo.launch.py'])
def test_launch_files_named_are_installed(name):
    assert name in blocks('bash')
    assert (ROOT / 'launch' / name).is_file()


@pytest.mark.parametrize('name', ['tiny_openvla', 'tiny_ecot'])
def test_numbers_of_quantisation_are_those_measured(name):
    found = [row[1:] for row in rows(f'{name} as')]
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
    assert f'success, of {scenes} scenes' in README
