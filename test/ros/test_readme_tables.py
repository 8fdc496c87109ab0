"""The README's tables of topics, services and parameters against the running nodes."""

import json
from pathlib import Path
import re

import pytest
import yaml

from trt_openvla_ros.nodes.parameters import SIM_SPECS, SPECS

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()
POLICY, SIMULATION = README.split('## Simulation\n')
PARAMETERS = '| parameter | type | default | range | at run time | meaning |'


def table(text: str, heading: str) -> list[str]:
    return text.split(heading, 1)[1].split('\n\n', 1)[0].splitlines()[2:]


def parameter_rows(specs) -> list[str]:
    rows = []
    for name, spec in specs.items():
        kind = {str: 'string', bool: 'bool', int: 'int', float: 'double'}[type(spec.default)]
        default = '' if spec.default == '' else f'`{str(spec.default).lower()}`'
        limits = f'{spec.low:g} to {spec.high:g}' if spec.low is not None else ''
        choices = ', '.join(f'`{choice}`' for choice in spec.choices if choice)
        change = '' if spec.read_only else 'yes'
        cells = [f'`{name}`', kind, default, limits or choices, change, spec.description]
        rows.append(f'| {" | ".join(cells)} |'.replace('|  |', '| |').replace('|  |', '| |'))
    return rows


@pytest.mark.parametrize(
    ('text', 'specs'), [(POLICY, SPECS), (SIMULATION, SIM_SPECS)], ids=['policy', 'sim']
)
def test_parameter_table_is_the_table_of_the_node(text, specs):
    rows = parameter_rows(specs)
    assert table(text, PARAMETERS) == rows, '\n' + '\n'.join(rows)


def test_policy_yaml_shows_every_default():
    values = yaml.safe_load((ROOT / 'config' / 'policy.yaml').read_text())
    assert values['/**']['ros__parameters'] == {k: spec.default for k, spec in SPECS.items()}


def test_presets_set_parameters_that_exist():
    # The server's are checked where it is tested.
    for path in set((ROOT / 'config').glob('*.yaml')) - {ROOT / 'config' / 'server.yaml'}:
        assert yaml.safe_load(path.read_text())['/**']['ros__parameters'].keys() <= SPECS.keys()


def named_in(text: str, heading: str) -> dict[str, str]:
    """Give the first two columns, names as they are in the graph except for '~'."""
    rows = [[cell.strip(' `') for cell in line.split('|')[1:3]] for line in table(text, heading)]
    return {name if name[0] in '~/' else f'/{name}': kind for name, kind in rows}


def topics_of(node, name: str) -> dict[str, str]:
    topics = dict(node.get_publisher_names_and_types_by_node(name, '/'))
    topics |= dict(node.get_subscriber_names_and_types_by_node(name, '/'))
    ours = ('/rosout', '/parameter_events', f'/{name}/transition_event')
    return {
        topic.replace(f'/{name}/', '~/') if topic.startswith(f'/{name}/') else topic: types[0]
        for topic, types in topics.items()
        if not topic.startswith(ours)
    }


def test_topic_table_is_what_the_policy_node_has(graph):
    node = graph.add()
    assert graph.probe().transit('configure')
    assert named_in(POLICY, '| topic | type |') == topics_of(node, 'policy')


def test_topic_and_service_tables_are_what_the_simulation_has(play):
    node = play(publish_clock=True).node
    assert named_in(SIMULATION, '| topic | type |') == topics_of(node, 'sim')
    services = {
        name.replace('/sim/', '~/'): types[0]
        for name, types in node.get_service_names_and_types_by_node('sim', '/')
        if not types[0].startswith(('rcl_interfaces/', 'type_description_interfaces/'))
    }
    assert named_in(SIMULATION, '| service | type |') == services


def test_layouts_show_topics_and_services_that_exist():
    known = {f'/policy/{name}' for name in ('action', 'reasoning')}
    for heading in ('| topic |', '| service |'):
        named = named_in(SIMULATION, heading)
        known |= {name.replace('~/', '/sim/') for name in named}
    rviz = yaml.safe_load((ROOT / 'config' / 'demo.rviz').read_text())
    shown = {
        display['Topic']['Value']
        for display in rviz['Visualization Manager']['Displays']
        if 'Topic' in display
    }
    foxglove = json.loads((ROOT / 'config' / 'demo_foxglove.json').read_text())
    panels = json.dumps(foxglove['configById'])
    named = set(re.findall(r'"(/[a-z_/]+)[".]', panels))
    assert {'/camera/image_raw', '/hand/pose'} <= shown <= known
    assert {'/camera/image_raw', '/policy/reasoning', '/instruction'} <= named <= known

    def leaves(part):
        return [part] if isinstance(part, str) else leaves(part['first']) + leaves(part['second'])

    assert sorted(leaves(foxglove['layout'])) == sorted(foxglove['configById'])
