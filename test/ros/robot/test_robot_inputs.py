"""The deadman, joint states and a robot's own word that it is ready: each can hold the arm."""

from geometry_msgs.msg import PoseStamped
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

POSES = (PoseStamped, 'target_pose')


def move(cockpit):
    cockpit.enable()
    cockpit.rise(cockpit.position[2] + 0.03)


def test_deadman_on_a_topic(bench):
    cockpit = bench.start(POSES, deadman='topic', deadman_timeout=3.0)
    refused = cockpit.call('enable', data=True)
    assert not refused.success
    assert 'deadman' in refused.message
    holding = cockpit.node.create_timer(0.05, lambda: cockpit.switch.publish(Bool(data=True)))
    move(cockpit)

    holding.cancel()
    cockpit.switch.publish(Bool(data=False))

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    assert 'deadman is not pressed' in cockpit.state('holding').reason


def test_deadman_on_a_joystick_that_falls_silent(bench):
    cockpit = bench.start(POSES, deadman='joy', deadman_button=1, deadman_timeout=0.3)
    pressing = cockpit.node.create_timer(
        0.05, lambda: cockpit.joystick.publish(Joy(buttons=[0, 1]))
    )
    move(cockpit)

    pressing.cancel()

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    assert 'deadman was not heard' in cockpit.state('holding').reason
    cockpit.joystick.publish(Joy(buttons=[1]))
    cockpit.logged('deadman_button is 1, but')


def test_silent_joint_states_hold(bench):
    cockpit = bench.start(POSES, joint_states_topic='joint_states')

    def publish():
        message = JointState(name=['a'], position=[0.0])
        message.header.stamp = cockpit.node.get_clock().now().to_msg()
        cockpit.joints.publish(message)

    publishing = cockpit.node.create_timer(0.02, publish)
    move(cockpit)

    publishing.cancel()

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    assert 'no joint states on /joint_states' in cockpit.state('holding').reason


@pytest.mark.parametrize('latched', [True, False])
def test_robot_that_is_not_ready_holds(bench, latched):
    cockpit = bench.start(POSES, ready_topic='ready')
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    qos = QoSProfile(depth=1, durability=durability)
    ready = cockpit.node.create_publisher(Bool, 'ready', qos)
    refused = cockpit.call('enable', data=True)
    assert not refused.success
    assert '/ready does not say' in refused.message
    cockpit.wait(lambda: ready.get_subscription_count() >= 1 + latched, 'subscriptions')
    ready.publish(Bool(data=True))
    move(cockpit)

    ready.publish(Bool(data=False))

    cockpit.act_until(lambda: cockpit.reports[-1].state == 'holding', 'hold')
    assert '/ready does not say' in cockpit.state('holding').reason
