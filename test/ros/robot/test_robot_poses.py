"""Where the robot node takes the pose of the end effector from."""

from pathlib import Path
import sys

from geometry_msgs.msg import PoseStamped, TransformStamped
import pytest
from tf2_msgs.msg import TFMessage

STAND_IN = Path(__file__).parents[2] / 'stand_in'


def transform(parent, child, place, stamp=None):
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    if stamp is not None:
        message.header.stamp = stamp
    where = message.transform.translation
    where.x, where.y, where.z = place
    # Half a turn about x: a tool that points down.
    message.transform.rotation.x, message.transform.rotation.w = 1.0, 0.0
    return message


@pytest.fixture
def tf(monkeypatch):
    """tf2_ros, a stand-in: no wheel has the real one, which is not run here."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    yield
    sys.modules.pop('tf2_ros', None)


def test_pose_from_tf(bench, tf):
    cockpit = bench.start(
        (PoseStamped, 'target_pose'),
        pose_source='tf',
        base_frame='arm/base_link',
        tool_frame='arm/hand',
    )
    refused = cockpit.call('enable', data=True)
    assert not refused.success
    assert 'no pose was heard' in refused.message
    trouble = cockpit.status('pose', lambda status: 'no transform' in status.message)
    assert 'arm/hand' in trouble.message
    dynamic = cockpit.node.create_publisher(TFMessage, '/tf', 100)
    heights = [0.2]

    def publish():
        now = cockpit.node.get_clock().now().to_msg()
        dynamic.publish(
            TFMessage(
                transforms=[
                    transform('arm/base_link', 'arm/wrist', (0.3, 0.0, heights[-1] + 0.1), now),
                    transform('arm/wrist', 'arm/hand', (0.0, 0.0, 0.1), now),
                ]
            )
        )

    publishing = cockpit.node.create_timer(0.02, publish)

    cockpit.enable()

    cockpit.wait(lambda: cockpit.commands, 'held pose')
    held = cockpit.commands[-1][1].pose
    # The wrist points down, and the hand is 0.1 m along its z axis.
    assert (held.position.x, held.position.z) == pytest.approx((0.3, 0.2), abs=1e-9)
    assert abs(held.orientation.w) == pytest.approx(1.0, abs=1e-9)
    publishing.cancel()
    cockpit.wait(lambda: 'the pose is' in cockpit.reports[-1].reason, 'old pose')


def test_pose_that_is_none_is_refused_with_the_reason(bench):
    cockpit = bench.start()
    cockpit.quaternion = (1.0, 0.0, 0.0, 0.5)

    trouble = cockpit.status('pose', lambda status: 'length' in status.message)

    assert '1 is needed' in trouble.message
    assert not cockpit.call('enable', data=True).success
