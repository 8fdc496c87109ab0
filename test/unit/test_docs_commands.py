"""Every command in README.md and docs/*.md is run, checked or marked as not run.

A command is of a kind that is checked here, or that a test or CI runs; or a line directly above
its block says `*Not run yet ...*` or `*Run by hand ...*`. Even then its names are checked. They
are compared with tables of the pages, which test/ros compares with the code.
"""

import ast
from pathlib import Path
import re
import shlex
import subprocess
from xml.etree import ElementTree

from pages import blocks, FENCE, MARK, PAGES, ROOT, rows
import pytest
import yaml

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings
from trt_openvla_ros.pipeline.command import COMMANDS
from trt_openvla_ros.pipeline.configuration import read_configuration
from trt_openvla_ros.serving.settings import ServerSettings

PACKAGE = 'trt_openvla_ros'
MAKEFILE = (ROOT / 'Makefile').read_text()
TARGETS = set(re.findall(r'^([a-z-]+):', MAKEFILE, re.MULTILINE))
INLINE = re.compile(r'`((?:make|ros2|python3?|pip|docker)\s[^`]+)`')
SETTINGS = {'evaluate_bag': EvaluateBagSettings, 'bag_to_lerobot': BagToLeRobotSettings}
# Of `ros2 bag`, in ros2bag/verb/record.py and play.py of ros2/rosbag2 for Jazzy.
RECORD_OPTIONS = ('--qos-profile-overrides-path', '--storage-config-file', '--use-sim-time')
# Verbs of ros2/sros2, and the enclaves of our policy.
SECURITY = {
    *('create_keystore', 'create_enclave', 'create_permission'),
    *('generate_artifacts', 'generate_policy'),
}
ENCLAVES = {
    enclave.get('path')
    for enclave in ElementTree.parse(ROOT / 'config/security/policies.xml').iter('enclave')
}
COMPOSE = ['docker', 'compose', '-f', 'docker/compose.yaml']


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def named(page: str, heading: str, node: str) -> dict[str, str]:
    """Give the first two columns of a table of topics or services, names as in the graph."""
    names = ((row[0].replace('~', f'/{node}'), row[1]) for row in rows(page, heading))
    return {name if name[0] == '/' else f'/{name}': kind for name, kind in names}


TOPICS = (
    named('docs/node.md', 'topic', 'policy')
    | named('docs/simulation.md', 'topic', 'sim')
    | named('docs/viewing.md', 'topic', 'overlay')
    | named('docs/robot.md', 'topic', 'robot')
)
SERVICES = named('docs/simulation.md', 'service', 'sim')
SERVICES |= named('docs/robot.md', 'service', 'robot')
ACTIONS = named('docs/tasks.md', 'action', 'task')
PARAMETERS = {row[0]: row[4] for row in rows('docs/node.md', 'parameter')}


def launch_arguments(file: str) -> dict[str, str]:
    """Read the names and texts of a launch file, which needs launch to be imported."""
    tree = ast.parse((ROOT / 'launch' / file).read_text())
    value = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'ARGUMENTS'
    )
    return {entry.elts[0].value: entry.elts[2].value for entry in value.elts}


def check_options(source: Path, words: list[str]) -> None:
    text = source.read_text()
    for option in words:
        assert not re.match('--[a-z]', option) or option == '--help' or f"'{option}'" in text


def check_stage(command: str, words: list[str]) -> None:
    assert command in COMMANDS
    if '--help' not in words:
        read_configuration(words, '' if command == 'pipeline' else command)


def check_program(name: str, words: list[str]) -> None:
    script = (ROOT / 'scripts' / name).read_text()
    if name in COMMANDS:
        check_stage(name, words)
    elif name in ('overlay_node', 'monitor'):
        check_rules(words)
    elif name == 'deploy_server':
        assert read_settings(ServerSettings, words, name).checkpoint
    elif name in SETTINGS:
        read_settings(SETTINGS[name], words, name)
    else:
        module = re.search(r"run\('([^']+)'", script)[1]
        check_options(ROOT / f'{module.replace(".", "/")}.py', words)


def check_rules(words: list[str]) -> None:
    """Check the parameters and remapped names in the arguments of a node of docs/viewing.md."""
    parameters = {row[0] for row in rows('docs/viewing.md', 'parameter')}
    topics = {row[0] for row in rows('docs/viewing.md', 'topic')}
    given = [word for word in words if word != '--ros-args']
    given = given[: given.index('>')] if '>' in given else given
    for option, rule in zip(given[::2], given[1::2], strict=True):
        if option == '--params-file':
            assert (ROOT / rule).is_file()
        else:
            name = rule.split(':=')[0]
            assert name in {'-p': parameters, '-r': topics | {'pose'}}[option], rule


def check_ros2(verb: str, *words: str) -> bool:
    """Check the names of a command of ros2; tell whether it was run at all."""
    if verb == 'launch':
        package, file, *given = (word for word in words if word != '-s')
        assert package == PACKAGE
        assert {word.split(':=')[0] for word in given} <= launch_arguments(file).keys()
    elif (verb, *words[:2]) == ('run', 'rosbag2_transport', 'recorder'):
        return False
    elif words[:2] == ('diagnostic_aggregator', 'aggregator_node'):
        assert words[2:4] == ('--ros-args', '--params-file')
        return False
    elif verb == 'security':
        assert words[0] in SECURITY
        assert {word for word in words if word.startswith('/')} <= ENCLAVES
        return False
    elif verb == 'action':
        options = [word for word in words if word.startswith('-')]
        name, kind = [word for word in words[1:] if word not in options][:2]
        assert (words[0], options, ACTIONS[name]) == ('send_goal', ['--feedback'], kind)
        return False
    elif verb == 'run':
        assert words[0] == PACKAGE
        # Every process of ROS has these two.
        given = [word for word in words[2:] if word not in ('--ros-args', '--enclave')]
        check_program(words[1], given)
    elif (verb, *words[:1]) == ('bag', 'play'):
        # The image topic of the example is remapped.
        names = [word for word in words if word.startswith('/')]
        assert set(names) <= TOPICS.keys()
        options = {'--clock', '--delay', '--topics', RECORD_OPTIONS[0]}
        assert {word for word in words if word[0] == '-'} <= options
    elif (verb, *words[:1]) == ('bag', 'record'):
        values = yaml.safe_load((ROOT / 'config' / 'record' / 'recorder.yaml').read_text())
        known = {*TOPICS, *values['/**']['ros__parameters']['record']['topics']}
        assert {word for word in words if word[0] == '/'} <= known
        options = {'--topics', '--output', '--storage', *RECORD_OPTIONS}
        assert {word for word in words if word[:2] == '--'} <= options
    elif verb in ('topic', 'bag'):
        names = [word for word in words if word.startswith('/')]
        assert names
        assert set(names) <= TOPICS.keys()
        assert words[0] in ('pub', 'echo')
        assert words[0] != 'pub' or words[words.index(names[0]) + 1] == TOPICS[names[0]]
    elif verb == 'service':
        assert words[0] == 'call'
        assert SERVICES[words[1]] == words[2]
    elif verb == 'lifecycle':
        assert words[0] == 'set'
        assert words[1] in ('/policy', '/robot')
        assert words[2] in ('configure', 'activate', 'deactivate', 'cleanup')
    else:
        assert (verb, *words[:2]) == ('param', 'set', '/policy')
        assert PARAMETERS[words[2]] == 'yes', f'{words[2]} cannot be set at run time'
    return verb != 'bag'


def check(words: list[str]) -> bool:
    """Check the names in a command; tell whether tests or CI run its kind."""
    if re.match('[A-Z]+=', words[0]):  # an environment variable
        words = words[1:]
    program, *rest = words
    if program == 'make':
        assert rest[0] in TARGETS
        for name, value in (word.split('=', 1) for word in rest[1:]):
            assert f'$({name}' in MAKEFILE
            if name == 'DEMO':
                check_options(ROOT / PACKAGE / 'evaluation' / 'demo.py', shlex.split(value))
        return True
    if program == 'ros2':
        return check_ros2(*rest)
    if rest[:1] == ['-m'] and rest[1] == f'{PACKAGE}.pipeline':
        check_stage(rest[2], rest[3:])
        return True
    if rest[:1] == ['-m']:
        assert rest[1] == f'{PACKAGE}.serving.ray_app'
        assert read_settings(ServerSettings, rest[2:], 'deploy_server').checkpoint
        return False
    if program == 'python':
        check_options(ROOT / rest[0], rest[1:])
        return False
    if program == 'pip':
        assert rest[0] == 'install'
        extra = re.fullmatch(r'\.(?:\[(\w+)\])?', rest[1])
        assert not extra or not extra[1] or (ROOT / 'requirements' / f'{extra[1]}.txt').is_file()
        return bool(extra)  # .ci/run installs the package so, without what it depends on
    if words[:4] == COMPOSE and words[4] == 'run':
        assert words[4:7] == ['run', '--rm', 'policy']
        check(words[7:])
    return program == 'curl'  # test/serving runs them all


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_commands_are_run_or_marked_and_name_what_exists(page):
    for block in blocks('bash'):
        if block.page == page:
            for words in block.commands:
                assert check(words) or block.marked, f'tested nowhere: {" ".join(words)}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_commands_in_sentences_name_what_exists(page):
    for text in INLINE.findall(FENCE.sub('', page.read_text())):
        words = shlex.split(text)
        if words[0] != 'ros2' or len(words) > 3:  # `ros2 bag record` is its name
            check(words)


def test_kinds_of_blocks_are_known():
    assert {block.language for block in blocks('')} == {'bash', 'python', 'yaml'}


def test_marks_are_above_a_block():
    marks = sum(len(MARK.findall(page.read_text())) for page in PAGES)
    assert marks == sum(block.marked for block in blocks(''))


@pytest.mark.parametrize(
    ('command', 'problem'),
    [
        ('make fly', AssertionError),
        ('make demo WINGS=2', AssertionError),
        ('make demo DEMO="--wings 2"', AssertionError),
        ('ros2 launch trt_openvla_ros policy.launch.py wings:=2', AssertionError),
        ('ros2 run trt_openvla_ros fly', FileNotFoundError),
        ('ros2 run trt_openvla_ros train_tiny --wings 2', AssertionError),
        ('ros2 run trt_openvla_ros overlay_node --ros-args -p wings:=2', AssertionError),
        ('ros2 run trt_openvla_ros monitor --ros-args -r wings:=arms', AssertionError),
        ('ros2 topic echo /policy/wings', AssertionError),
        ('ros2 topic pub --once /instruction std_msgs/msg/Bool', AssertionError),
        ('ros2 param set /policy checkpoint elsewhere', AssertionError),
        ('ros2 security create_enclave keystore /trt_openvla_ros/wings', AssertionError),
        ('ros2 action send_goal /task/fly trt_openvla_ros/action/ExecuteInstruction', KeyError),
        ('docker compose -f docker/compose.yaml run --rm policy make fly', AssertionError),
    ],
)
def test_wrong_commands_would_be_found(command, problem):
    with pytest.raises(problem):
        check(shlex.split(command))


@pytest.mark.parametrize('command', ['fly', 'docker compose -f docker/compose.yaml build'])
def test_commands_of_other_kinds_would_need_a_mark(command):
    assert not check(shlex.split(command))


def test_make_targets_are_listed():
    used = {words[1] for block in blocks('bash') for words in block.commands if words[0] == 'make'}
    inline = re.findall(r'`make ([a-z-]+)', ''.join(page.read_text() for page in PAGES))
    assert {'demo', 'test', 'help', 'bench'} <= used | set(inline) <= TARGETS
    listed = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r'make ([a-z-]+)', listed.stdout)) == TARGETS - {'env'}


def test_files_in_commands_exist():
    for block in blocks('bash'):
        for path in re.findall(
            r'\b(?:docker|config|tools|models|test/data)/[\w./-]*\w', block.code
        ):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ('page', 'file'),
    [
        ('docs/node.md', 'policy.launch.py'),
        ('docs/simulation.md', 'demo.launch.py'),
        ('docs/robot.md', 'robot.launch.py'),
    ],
)
def test_launch_arguments_are_those_of_the_launch_file(page, file):
    assert {row[0]: row[2] for row in rows(page, 'argument')} == launch_arguments(file)
    assert any(file in block.code for block in blocks('bash'))
