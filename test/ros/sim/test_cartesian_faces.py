"""What FZI's and CRISP's controllers in front of the simulated arm take."""

from commander import Commander, pose
from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

MIDDLE = np.array((0.0, 0.0, 0.12))
FZI = 'cartesian_motion_controller/target_frame'


@pytest.fixture
def arm(play):
    def start(controller):
        return Commander(play(controller=controller, seed=1, rate=5.0, gripper='none'))

    return start


def off(*displacement):
    return MIDDLE + np.array(displacement)


def arrives(arm, place):
    arm.player.wait(lambda: np.allclose(arm.place(), place, atol=2e-3), f'hand at {place}')


def test_fzi_follows_the_last_target_for_ever_whatever_its_stamp(arm):
    arm = arm('cartesian')
    arm.ahead = -1e6
    arm.publish(FZI, pose(MIDDLE))
    arrives(arm, MIDDLE)
    # From the table upwards: nobody publishes any more, and it goes all the way.
    arm.publish(FZI, pose(off(0.0, 0.2, 0.05)))
    arrives(arm, off(0.0, 0.2, 0.05))


def test_fzi_compares_the_frame_as_text_and_refuses_nan(arm):
    arm = arm('cartesian')
    start = arm.place()
    for frame in ('/base_link', '', 'hand'):
        arm.publish(FZI, pose(MIDDLE, frame=frame))
    arm.warned('wrong reference frame. Expected: base_link')
    arm.publish(FZI, pose((np.nan, 0.0, 0.1)))
    arm.warned('NaN detected')
    np.testing.assert_allclose(arm.place(), start, atol=1e-3)
    # One metre and more: the arm goes as far as it reaches.
    arm.publish(FZI, pose((5.0, 0.0, 0.12)))
    arm.player.wait(lambda: arm.place()[0] > 0.2, 'end of the reach')
    assert arm.place()[0] < 0.25


def test_crisp_reads_no_frame_and_ignores_everybody_once_there_are_two(arm):
    arm = arm('crisp')
    arm.publish('target_pose', pose(MIDDLE, frame='anything'))
    arrives(arm, MIDDLE)
    arm.publish('target_pose', pose((np.inf, 0.0, 0.1)))
    arm.warned('a real arm would trip')
    second = arm.node.create_publisher(PoseStamped, 'target_pose', 1)
    arm.player.wait(lambda: arm.node.count_publishers('target_pose') > 1, 'second publisher')
    arm.stream('target_pose', pose(off(0.05, 0.0, 0.0)))
    arm.warned('publishers on target_pose')
    np.testing.assert_allclose(arm.place(), MIDDLE, atol=2e-3)
    arm.node.destroy_publisher(second)
    arrives(arm, off(0.05, 0.0, 0.0))


@pytest.mark.parametrize(
    ('controller', 'name', 'values'),
    [
        ('crisp', 'cartesian_controller/filter.target_pose', (1.5, np.nan, -0.1)),
        ('servo', 'servo_node/moveit_servo.incoming_command_timeout', (np.nan, -1.0, np.inf)),
    ],
)
def test_number_that_is_out_of_range_is_refused(play, controller, name, values):
    commander = Commander(play(controller=controller, rate=5.0, gripper='none'))
    node, _, name = name.partition('/')
    for value in values:
        number = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=number)])
        (answer,) = commander.call(SetParameters, f'{node}/set_parameters', request).results
        assert not answer.successful
        assert 'out of range' in answer.reason


def test_images_go_on_while_the_arm_is_under_way(arm):
    arm = arm('cartesian')
    arm.publish(FZI, pose(MIDDLE))
    arrives(arm, MIDDLE)
    arm.publish(FZI, pose(off(0.0, 0.2, 0.0)))
    first, second = arm.player.next_image(), arm.player.next_image()
    assert first.data != second.data
    # Poses come between images, and one has the very stamp of each image.
    stamps = [m.header.stamp for m in arm.player.poses]
    between = stamps.index(second.header.stamp) - stamps.index(first.header.stamp)
    assert between > 8
