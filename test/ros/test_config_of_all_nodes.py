"""Files of config/ that name what every node does, against those nodes.

They are the policy of SROS 2, rule by rule, and the groups of diagnostic_aggregator.
"""

from importlib.util import find_spec
import os
from pathlib import Path
import time
from xml.etree import ElementTree

from diagnostic_msgs.msg import DiagnosticArray
from permissions import granted, needed, TF, to_profile
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
import yaml

from trt_openvla_ros.nodes.overlay.topics import OVERLAY_TOPICS

ROOT = Path(__file__).parents[2]
POLICY = ROOT / 'config' / 'security' / 'policies.xml'
AGGREGATOR = ROOT / 'config' / 'diagnostics_aggregator.yaml'
SIM = ROOT / 'config' / 'robots' / 'sim.yaml'
PATIENCE = 30.0  # [s] for processes to start and to be discovered
CAMERA = ['-r', 'image:=camera/image_raw', '-r', 'camera_info:=camera/camera_info']
HAND = ['-r', 'pose:=hand/pose']
# The robot node's pose comes from a topic here; the overlay node listens wherever tf2_ros is.
UNUSED = {'/robot': TF, '/overlay': set() if find_spec('tf2_ros') else TF}


@pytest.fixture
def observer(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node('observer', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def wait(condition):
        deadline = time.monotonic() + PATIENCE
        while not condition() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)

    node.wait = wait
    yield node
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def assert_exact(observer, enclave, *nodes):
    """Compare what nodes do with what they may; too much fails as well as too little.

    The nodes are all of the enclave, unless some are named.
    """
    profiles = granted(POLICY)[enclave]
    for node in nodes or profiles:
        unused = UNUSED.get(node, set())
        assert unused <= profiles[node]
        rules = profiles[node] - unused
        observer.wait(lambda node=node, rules=rules: does(observer, node) == rules)
        found = does(observer, node)
        assert found == rules, (
            f'{enclave}, {node}: missing {sorted(found - rules)}; '
            f'too much {sorted(rules - found)}; exactly right is\n{to_profile(node, found)}'
        )


def does(observer, node):
    try:
        return needed(observer, node)
    except rclpy.node.NodeNameNonExistentError:
        return set()


def test_nodes_do_what_they_may_and_report_what_is_expected(observer, execute):
    reported = set()
    observer.create_subscription(
        DiagnosticArray,
        '/diagnostics',
        lambda message: reported.update(status.name for status in message.status),
        10,
    )
    sim = ['--params-file', SIM]
    checkpoint = ROOT / 'models' / 'tiny_openvla'
    execute('sim_node', *sim)
    execute('policy_node', *sim, *CAMERA, checkpoint=checkpoint, device='cpu')
    execute('robot_node', *sim)
    execute('task_node')
    execute('overlay_node', *CAMERA, *HAND)
    execute('monitor', *CAMERA, *HAND)
    # The overlay node takes pictures only while somebody looks.
    for topic in OVERLAY_TOPICS:
        if topic.type is Image and topic.direction.startswith('out'):
            name = topic.name.replace('~', 'overlay')
            observer.create_subscription(Image, name, lambda _: None, 1)
    sim = '/trt_openvla_ros/sim'
    assert_exact(observer, sim, '/sim', '/cartesian_motion_controller', '/gripper_controller')
    for enclave in ('policy', 'robot', 'task', 'overlay', 'monitor'):
        assert_exact(observer, f'/trt_openvla_ros/{enclave}')

    expected = {name for group in analyzers().values() for name in group.get('expected', ())}
    observer.wait(lambda: reported >= expected)
    assert reported == expected


@pytest.mark.parametrize(
    ('controller', 'node'), [('servo', '/servo_node'), ('crisp', '/cartesian_controller')]
)
def test_simulation_behind_other_controllers_may_do_what_it_does(
    observer, execute, controller, node
):
    execute('sim_node', controller=controller, gripper='parallel_gripper_command')
    assert_exact(observer, '/trt_openvla_ros/sim', '/sim', node, '/gripper_controller')


def test_overlay_may_listen_to_tf(observer, execute, monkeypatch):
    # For the camera without tf2_ros installed: a stand-in that listens as it does.
    monkeypatch.setitem(UNUSED, '/overlay', set())
    path = os.pathsep.join((str(ROOT / 'test' / 'stand_in'), os.environ.get('PYTHONPATH', '')))
    execute('overlay_node', *CAMERA, *HAND, environment={'PYTHONPATH': path})
    observer.create_subscription(Image, '/overlay/overlay', lambda _: None, 1)
    assert_exact(observer, '/trt_openvla_ros/overlay')


def test_robot_node_with_moveit_servo_may_do_what_it_does(observer, execute):
    execute(
        'robot_node',
        controller='servo_twist',
        gripper='parallel_gripper_command',
        pose_topic='hand/pose',
        deadman='topic',
        deadman_timeout=0.5,
    )
    assert_exact(observer, '/trt_openvla_ros/robot_servo')


def test_operator_may_be_a_node_and_what_others_offer(observer):
    enclaves = granted(POLICY)
    rules = enclaves.pop('/trt_openvla_ros/operator')['/operator']
    node = Node('operator', context=observer.context)
    observer.wait(lambda: len(does(observer, '/operator')) > 8)
    own = does(observer, '/operator')
    node.destroy_node()
    assert own <= rules
    offered = {rule for nodes in enclaves.values() for rules in nodes.values() for rule in rules}
    answer = {
        'publish': 'subscribe',
        'subscribe': 'publish',
        'request': 'reply',
        'call': 'execute',
    }
    for rule, name in rules - own:
        assert (answer[rule], name) in offered


def test_policy_keeps_the_rules_of_the_schema():
    # Those of policy.xsd of ros2/sros2 at version 0.2.0, in words.
    root = ElementTree.parse(POLICY).getroot()
    assert (root.tag, root.attrib) == ('policy', {'version': '0.2.0'})
    (enclaves,) = root
    assert enclaves.tag == 'enclaves'
    names = [enclave.get('path') for enclave in enclaves]
    assert len(names) == len(set(names)) > 0
    rules = {
        'topics': {'publish', 'subscribe'},
        'services': {'reply', 'request'},
        'actions': {'call', 'execute'},
    }
    for enclave in enclaves:
        assert (enclave.tag, set(enclave.attrib)) == ('enclave', {'path'})
        (profiles,) = enclave
        assert (profiles.tag, profiles.attrib) == ('profiles', {})
        for profile in profiles:
            assert (profile.tag, set(profile.attrib)) == ('profile', {'ns', 'node'})
            for group in profile:
                assert set(group.attrib) <= rules[group.tag]
                assert set(group.attrib.values()) == {'ALLOW'}
                assert len(group) > 0
                for entry in group:
                    assert (entry.tag, entry.attrib) == (group.tag[:-1], {})
                    assert '*' not in entry.text


def analyzers():
    """Give the groups of the aggregator: the parameters that are no values."""
    parameters = yaml.safe_load(AGGREGATOR.read_text())['analyzers']['ros__parameters']
    return {name: value for name, value in parameters.items() if isinstance(value, dict)}


def test_aggregator_has_parameters_that_it_reads():
    # Those of Aggregator and GenericAnalyzer of ros/diagnostics 3.2.0, and their types.
    top = {'path': str, 'pub_rate': float, 'critical': bool}
    content = yaml.safe_load(AGGREGATOR.read_text())
    assert content.keys() == {'analyzers'}  # the node's name, without which nothing is read
    assert content['analyzers'].keys() == {'ros__parameters'}
    for name, value in content['analyzers']['ros__parameters'].items():
        assert isinstance(value, top.get(name, dict))
    kinds = {'path': str, 'timeout': float, 'discard_stale': bool}
    for group in analyzers().values():
        assert group.pop('type') == 'diagnostic_aggregator/GenericAnalyzer'
        (names,) = [group.pop(key) for key in ('expected', 'contains') if key in group]
        assert names
        assert all(isinstance(name, str) for name in names)
        assert {'path', 'timeout'} <= group.keys() <= kinds.keys()
        assert all(isinstance(value, kinds[key]) for key, value in group.items())
