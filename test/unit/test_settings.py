from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.serving.settings import ServerSettings
from trt_openvla_ros.settings import describe_settings, list_settings, setting

CONFIG = Path(__file__).parents[2] / 'config'


@dataclass(frozen=True)
class Numbers:
    name: str = setting('', 'A word.')
    colour: str = setting('red', 'A colour.', choices=('red', 'blue'))
    count: int = setting(3, 'How many.', low=1, high=10)
    speed: float = setting(0.5, 'How fast [m/s].', low=0.0, high=2.0)
    loud: bool = setting(False, 'Whether it is heard.')


def read(*arguments):
    return read_settings(Numbers, arguments, 'program')


def rules(*rules):
    return read('--ros-args', *(x for rule in rules for x in ('-p', rule)))


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / 'a file.yaml'
        path.write_text(text)
        return str(path)

    return written


def test_nothing_said_is_the_defaults():
    assert read() == read('--ros-args') == Numbers()


def test_rules_have_the_types_of_yaml():
    told = rules('name:=x y', 'count:=7', 'speed:=1', 'loud:=true', 'colour:=blue')
    assert told == Numbers('x y', 'blue', 7, 1.0, True)
    assert type(told.speed) is float
    assert rules('name:=a:=b').name == 'a:=b'
    assert rules('name:=').name == ''
    assert rules("name:='7'").name == '7'


def test_later_wins(write):
    path = write('program: {ros__parameters: {count: 4, name: file}}')
    told = read('--ros-args', '-p', 'count:=5', '--params-file', path)
    assert (told.count, told.name) == (4, 'file')
    assert read('--ros-args', '--params-file', path, '-p', 'count:=5').count == 5


@pytest.mark.parametrize('node', ['/**', '/*', 'program', '/program', '/**/program'])
def test_files_are_those_of_a_node(write, node):
    path = write(f'{node}:\n  ros__parameters:\n    count: 9\n')
    assert read('--ros-args', '--params-file', path).count == 9


def test_what_is_for_another_node_is_not_for_this_one(write):
    path = write('{policy: {ros__parameters: {checkpoint: x}}, program: {ros__parameters: {}}}')
    assert read('--ros-args', '--params-file', path, '-p', 'policy:count:=5') == Numbers()
    assert rules('program:count:=5').count == 5


def test_options_are_short_for_rules(write):
    assert read('--count', '7', '--name=7', '--loud', 'true') == Numbers('7', 'red', 7, 0.5, True)
    path = write('program: {ros__parameters: {count: 4}}')
    assert read(f'--params-file={path}', '-p', 'speed:=1').count == 4


def test_what_launch_gives_to_every_node_is_let_pass():
    assert read('--ros-args', '-r', '__node:=other', '-p', 'count:=2', '--').count == 2


@pytest.mark.parametrize(
    ('rule', 'reason'),
    [
        ('count:=0', '-p count:=0: count is 0; a whole number from 1 to 10 is needed'),
        ('count:=2.5', 'count is 2.5; a whole number'),
        ('count:=true', 'count is True; a whole number'),
        ('count:=two', "count is 'two'; a whole number"),
        ('count:=', 'count is None; a whole number'),
        ('speed:=2.1', 'speed is 2.1; a number from 0 to 2'),
        ('speed:=.nan', 'speed is nan; a number'),
        ('loud:=1', 'loud is 1; true or false'),
        ('name:=7', 'name is 7; text'),
        ('name:=[a]', r"name is \['a'\]; text"),
        ('colour:=green', "colour is 'green'; one of 'red', 'blue'"),
        ('cuont:=1', 'unknown setting cuont; did you mean count?'),
        ('zzz:=1', 'unknown setting zzz; known: name, colour'),
        ('count', "-p 'count' cannot be read; write -p NAME:=VALUE"),
        (':=3', 'write -p NAME:=VALUE'),
        ('name:={', 'is not YAML'),
    ],
)
def test_a_wrong_rule_is_told_with_the_way_out(rule, reason):
    with pytest.raises(ConfigError, match=reason):
        rules(rule)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-32', 'utf-16-le', 'gbk'])
def test_files_are_read_in_every_encoding_that_they_name(tmp_path, encoding):
    path = tmp_path / 'params.yaml'
    path.write_bytes('program: {ros__parameters: {count: 7}}  # 桌子\r\n'.encode(encoding))
    if encoding in ('utf-16-le', 'gbk'):
        with pytest.raises(ConfigError, match=r'params\.yaml is not .*; save it as UTF-8'):
            read('--ros-args', '--params-file', str(path))
    else:
        assert read('--ros-args', '--params-file', str(path)).count == 7


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', "has no parameters for program; they stand below 'program:'"),
        ('- a', 'has no parameters for program;'),
        ('count: 3', 'has no parameters for program; it has some for count;'),
        ('program: {count: 3}', 'program has no ros__parameters'),
        ('program: {ros__parameters: [count]}', 'program has no ros__parameters'),
        ('/**: {ros__parameters: {cuont: 3}}', r'a file.yaml: unknown setting cuont'),
        ('/**: {ros__parameters: {count: 33}}', r'a file.yaml: count is 33'),
        ('/**: {ros__parameters: {1: 33}}', 'unknown setting 1'),
        ('a: [', 'is not YAML'),
        ('!!python/object:os.system {}', 'is not YAML'),
        ('[' * 10_000, 'is not YAML'),
        ('a: 2001-99-99', 'is not YAML'),
    ],
)
def test_a_wrong_file_is_told_with_the_way_out(write, text, reason):
    with pytest.raises(ConfigError, match=reason):
        read('--ros-args', '--params-file', write(text))


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--cuont', '3'], '--cuont: unknown setting cuont; did you mean count'),
        (['--count'], '--count needs a value'),
        (['3'], "argument '3' is not known; see --help"),
        (['--ros-args', '-p'], '-p needs a value'),
        (['--ros-args', '--params-file', '/nowhere'], 'cannot be read'),
    ],
)
def test_wrong_arguments_are_told_with_the_way_out(arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        read(*arguments)


def test_help_names_everything():
    text = describe_settings(ServerSettings)
    for name, declared in list_settings(ServerSettings).items():
        assert f'  {name}: ' in text
        assert declared.description in text


def test_server_yaml_shows_every_default():
    values = yaml.safe_load((CONFIG / 'server.yaml').read_text())
    assert values['deploy_server']['ros__parameters'] == vars(ServerSettings())


@dataclass(frozen=True)
class Boxes:
    box: tuple[float, ...] = setting((0.0, 0.0, 1.0), 'A corner [m].', low=-2.0, high=2.0)


def test_vector_has_as_many_numbers_as_its_default(write):
    path = write('program: {ros__parameters: {box: [1, -2.0, 0.5]}}')
    told = read_settings(Boxes, ['--ros-args', '--params-file', path], 'program')

    assert told.box == (1.0, -2.0, 0.5)
    assert all(type(number) is float for number in told.box)
    assert read_settings(Boxes, ['--box', '[0, 0, 2]'], 'program').box == (0.0, 0.0, 2.0)
    assert list_settings(Boxes)['box'].is_vector
    assert 'box: (0.0, 0.0, 1.0) (3 numbers from -2 to 2)' in describe_settings(Boxes)


@pytest.mark.parametrize(
    'given',
    ['[1, 2]', '[1, 2, 3]', '[1, 2, true]', '[1, 2, x]', '[1, 2, .nan]', '1', 'abc', '[]', '{}'],
)
def test_vector_that_does_not_fit_is_refused(given):
    with pytest.raises(ConfigError, match=r'box is .*; 3 numbers from -2 to 2 are needed'):
        read_settings(Boxes, ['--box', given], 'program')


def test_names_are_no_vector():
    names = setting(('a', 'b'), 'Names.', choices=('a', 'b')).metadata['setting']

    assert not names.is_vector
    assert names.check(['b'], 'names') == ('b',)
