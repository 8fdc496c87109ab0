"""Policy, robot node, controller and simulated arm as four processes: a goal is reached."""

import pytest

from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.msg import GateReport
from trt_openvla_ros.nodes.closed_loop import closed_loop

pytest.importorskip('moveit_msgs', reason='no moveit_msgs; make test builds what tests need')
pytest.importorskip('control_msgs', reason='no control_msgs; make test builds what tests need')


# The way through FZI's controller is that of the preset, in test_robot_launch.py.
def test_policy_reaches_through_robot_node_and_servo(domain, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    with closed_loop(shipped_model('tiny_openvla'), 'servo') as loop:
        states = []
        loop.node.create_subscription(
            GateReport, 'robot/gate', lambda m: states.append(m.state), 10
        )
        episode = loop.episode(1_000_009, 'reach the green sphere')

    assert episode.reached, states
    assert 'moving' in states
    # The camera saw the hand on its way, and the actions were few.
    assert episode.actions > 3
    assert len({tuple(step.hand.round(3)) for step in episode.steps}) > 3
