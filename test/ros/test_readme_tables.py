"""The README's tables of topics and parameters against the running node."""

from pathlib import Path

import yaml

from trt_openvla_ros.nodes.parameters import SPECS

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()
HEADING = '| parameter | type | default | range | at run time | meaning |'


def parameter_rows() -> list[str]:
    rows = []
    for name, spec in SPECS.items():
        kind = {str: 'string', bool: 'bool', int: 'int', float: 'double'}[type(spec.default)]
        default = '' if spec.default == '' else f'`{str(spec.default).lower()}`'
        limits = f'{spec.low:g} to {spec.high:g}' if spec.low is not None else ''
        choices = ', '.join(f'`{choice}`' for choice in spec.choices if choice)
        change = '' if spec.read_only else 'yes'
        cells = [f'`{name}`', kind, default, limits or choices, change, spec.description]
        rows.append(f'| {" | ".join(cells)} |'.replace('|  |', '| |').replace('|  |', '| |'))
    return rows


def test_parameter_table_is_the_table_of_the_node():
    table = README.split(HEADING, 1)[1].split('\n\n', 1)[0].splitlines()[2:]
    assert table == parameter_rows(), '\n' + '\n'.join(parameter_rows())


def test_policy_yaml_shows_every_default():
    values = yaml.safe_load((ROOT / 'config' / 'policy.yaml').read_text())
    assert values['/**']['ros__parameters'] == {k: spec.default for k, spec in SPECS.items()}


def test_presets_set_parameters_that_exist():
    for path in (ROOT / 'config').glob('*.yaml'):
        assert yaml.safe_load(path.read_text())['/**']['ros__parameters'].keys() <= SPECS.keys()


def test_topic_table_is_what_the_node_has(graph):
    node = graph.add()
    assert graph.probe().transit('configure')
    name = node.get_name(), node.get_namespace()
    topics = dict(node.get_publisher_names_and_types_by_node(*name))
    topics |= dict(node.get_subscriber_names_and_types_by_node(*name))
    own = {
        topic.replace('/policy/', '~/') if topic.startswith('/policy') else topic: types[0]
        for topic, types in topics.items()
        if not topic.startswith(('/rosout', '/parameter_events', '/policy/transition_event'))
    }
    table = README.split('| topic | type |', 1)[1].split('\n\n', 1)[0].splitlines()[2:]
    documented = {}
    for line in table:
        topic, kind = (cell.strip(' `') for cell in line.split('|')[1:3])
        documented[topic if topic[0] in '~/' else f'/{topic}'] = kind
    assert documented == own
