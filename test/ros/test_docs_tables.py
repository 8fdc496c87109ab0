"""The tables of README.md and docs/*.md against the code, and those of the code against nodes."""

import json
from pathlib import Path
import re
import runpy
import subprocess
import sys

import pytest
import yaml

from trt_openvla_ros.nodes.parameters import PolicyParameters, SimParameters
from trt_openvla_ros.nodes.topics import POLICY_TOPICS, SIM_SERVICES, SIM_TOPICS
from trt_openvla_ros.settings import list_settings

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'docs' / 'tables.py'
POLICY, SIMULATION = list_settings(PolicyParameters), list_settings(SimParameters)


@pytest.fixture(scope='module')
def tables():
    """The names in docs/tables.py."""
    return runpy.run_path(str(SCRIPT))


def test_tables_are_those_of_the_code():
    command = [sys.executable, str(SCRIPT), '--check']
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, f'run make docs\n{checked.stdout}{checked.stderr}'


def test_every_table_is_on_a_page(tables):
    shown = ''.join(page.read_text() for page in tables['PAGES'])
    assert set(re.findall(r'<!-- table: (.+?) -->', shown)) == set(tables['TABLES'])


def test_change_of_a_table_is_stale(tables):
    page = (ROOT / 'docs' / 'node.md').read_text()
    assert tables['fill'](page) == page
    for changed in (
        page.replace('| `max_rotation` | double |', '| `max_rotation` | int |'),
        page.replace('| `~/action` |', '| `~/actions` |'),
    ):
        assert changed != page
        assert tables['fill'](changed) == page


@pytest.mark.parametrize('text', ['<!-- table: unheard of -->\n<!-- end of table -->', '\n'])
def test_table_that_is_unknown_or_does_not_end_is_refused(tables, text):
    with pytest.raises(SystemExit, match='unknown or does not end'):
        tables['fill'](f'<!-- table: policy topics -->\n{text}')


def test_policy_yaml_shows_every_default():
    values = yaml.safe_load((ROOT / 'config' / 'policy.yaml').read_text())
    defaults = {name: setting.default for name, setting in POLICY.items()}
    assert values['/**']['ros__parameters'] == defaults


def test_presets_set_parameters_that_exist():
    # These two are checked where they are tested.
    others = {ROOT / 'config' / f'{name}.yaml' for name in ('server', 'diagnostics_aggregator')}
    for path in set((ROOT / 'config').glob('*.yaml')) - others:
        assert yaml.safe_load(path.read_text())['/**']['ros__parameters'].keys() <= POLICY.keys()


def graph_names(tables, entries) -> dict[str, str]:
    """Give names as they are in the graph except for '~', and types."""
    return {
        e.name if e.name[0] in '~/' else f'/{e.name}': tables['interface'](e.type) for e in entries
    }


def topics_of(node, name: str) -> dict[str, str]:
    topics = dict(node.get_publisher_names_and_types_by_node(name, '/'))
    topics |= dict(node.get_subscriber_names_and_types_by_node(name, '/'))
    ours = ('/rosout', '/parameter_events', f'/{name}/transition_event')
    return {
        topic.replace(f'/{name}/', '~/') if topic.startswith(f'/{name}/') else topic: types[0]
        for topic, types in topics.items()
        if not topic.startswith(ours)
    }


def values_of(node, settings) -> dict:
    """Give what a node declared of these, which is all that it declared."""
    own = {'use_sim_time', 'start_type_description_service'}
    declared = {name for name in node.get_parameters_by_prefix('') if '.' not in name} - own
    assert declared == settings.keys()
    return {name: node.get_parameter(name).value for name in settings}


def test_topics_and_parameters_are_what_the_policy_node_has(graph, tables):
    node = graph.add()
    assert graph.probe().transit('configure')
    assert graph_names(tables, POLICY_TOPICS) == topics_of(node, 'policy')
    given = graph.DEFAULTS | {'autostart': False}
    for name, value in values_of(node, POLICY).items():
        assert name in given or value == POLICY[name].default


def test_topics_services_and_parameters_are_what_the_simulation_has(play, tables):
    node = play(publish_clock=True).node
    found = topics_of(node, 'sim')
    # Only where tf2_msgs is there.
    transforms = {name: found.pop(name, 'none') for name in ('/tf', '/tf_static')}
    assert set(transforms.values()) <= {'none', 'tf2_msgs/msg/TFMessage'}
    assert graph_names(tables, SIM_TOPICS) == found
    services = {
        name.replace('/sim/', '~/'): types[0]
        for name, types in node.get_service_names_and_types_by_node('sim', '/')
        if not types[0].startswith(('rcl_interfaces/', 'type_description_interfaces/'))
    }
    assert graph_names(tables, SIM_SERVICES) == services


def test_parameters_are_what_the_simulation_has(graph):
    from trt_openvla_ros.nodes.sim_node import SimNode

    node = SimNode(context=graph.context)
    try:
        for name, value in values_of(node, SIMULATION).items():
            assert value == SIMULATION[name].default
    finally:
        node.destroy_node()


def test_layouts_show_topics_and_services_that_exist(tables):
    known = {f'/policy/{name}' for name in ('action', 'reasoning')}
    for entries in (SIM_TOPICS, SIM_SERVICES):
        known |= {name.replace('~/', '/sim/') for name in graph_names(tables, entries)}
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
