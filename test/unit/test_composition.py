"""From the numbers of a step to a pose, against 4x4 matrices that are written out here."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.robot.composition import compose, to_step
from trt_openvla_ros.robot.meaning import Meaning

BRIDGE = Meaning(1.0, 1.0, 'euler_xyz', 'bridge', 'base', 'open', 5.0)
NONE = Rotation.identity()


def turned(axis, angle):
    """[4, 4] rotation about an axis of the frame, by its definition."""
    c, s = math.cos(angle), math.sin(angle)
    matrix = np.eye(4)
    others = [i for i in range(3) if i != axis]
    matrix[np.ix_(others, others)] = [[c, s], [-s, c]] if axis == 1 else [[c, -s], [s, c]]
    return matrix


def matrix_of(pose):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation.as_matrix(), pose.position
    return matrix


def shifted(position):
    matrix = np.eye(4)
    matrix[:3, 3] = position
    return matrix


COMMANDED = Pose(np.array([0.31, -0.02, 0.18]), Rotation.from_euler('xyz', [0.1, 0.4, -0.3]))
MEASURED = Pose(np.array([0.295, -0.012, 0.19]), Rotation.from_euler('xyz', [0.05, 0.3, -0.2]))
STEP = np.array([0.02, -0.03, 0.01, 0.1, -0.15, 0.2])


def test_bridge_turns_the_commanded_pose_about_the_measured_position():
    # As robot_base_env.py of bridge_data_robot: the delta turns in axes at the measured position,
    # and the commanded transform is what it turns.
    about = shifted(MEASURED.position)
    delta = turned(2, 0.2) @ turned(1, -0.15) @ turned(0, 0.1)
    expected = shifted(STEP[:3]) @ about @ delta @ np.linalg.inv(about) @ matrix_of(COMMANDED)

    step = to_step(STEP, BRIDGE, NONE)
    pose = compose(*step, 'bridge', 'base', COMMANDED, MEASURED)

    np.testing.assert_allclose(matrix_of(pose), expected, atol=1e-12)
    # Neither of the two simple ways is this one.
    for other in ('target', 'measured'):
        assert compose(*step, other, 'base', COMMANDED, MEASURED).distance(pose)[0] > 1e-3


def test_bridge_by_hand():
    # A quarter turn about z, 0.1 m beside the measured position: the arm swings from +x to +y.
    commanded = Pose(np.array([0.4, 0.0, 0.2]), NONE)
    measured = Pose(np.array([0.3, 0.0, 0.2]), NONE)
    step = to_step(np.array([0, 0, 0.05, 0, 0, math.pi / 2]), BRIDGE, NONE)

    pose = compose(*step, 'bridge', 'base', commanded, measured)

    np.testing.assert_allclose(pose.position, [0.3, 0.1, 0.25], atol=1e-12)
    np.testing.assert_allclose(pose.rotation.apply([1, 0, 0]), [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(('reference', 'start'), [('target', COMMANDED), ('measured', MEASURED)])
@pytest.mark.parametrize('frame', ['base', 'end_effector'])
def test_step_from_a_pose_in_its_axes(reference, start, frame):
    delta = turned(2, 0.2) @ turned(1, -0.15) @ turned(0, 0.1)
    at = matrix_of(start)
    if frame == 'base':
        expected = np.eye(4)
        expected[:3, :3] = delta[:3, :3] @ at[:3, :3]
        expected[:3, 3] = at[:3, 3] + STEP[:3]
    else:
        expected = at @ shifted(STEP[:3]) @ delta

    pose = compose(*to_step(STEP, BRIDGE, NONE), reference, frame, COMMANDED, MEASURED)

    np.testing.assert_allclose(matrix_of(pose), expected, atol=1e-12)


def test_shares_of_a_step_and_a_rotation_vector():
    libero = Meaning(0.05, 0.5, 'rotation_vector', 'measured', 'base', 'open', 20.0)

    translation, turn = to_step(np.array([1, -0.5, 0, 0, 0.6, 0.8]), libero, NONE)

    np.testing.assert_allclose(translation, [0.05, -0.025, 0])
    np.testing.assert_allclose(turn, [0, 0.3, 0.4])


def test_euler_angles_turn_about_fixed_axes_in_their_order():
    droid = Meaning(0.075, 0.15, 'euler_xyz', 'measured', 'base', 'open', 15.0)

    _, turn = to_step(np.array([0, 0, 0, 1.0, -1.0, 0.5]), droid, NONE)

    expected = (turned(2, 0.075) @ turned(1, -0.15) @ turned(0, 0.15))[:3, :3]
    np.testing.assert_allclose(Rotation.from_rotvec(turn).as_matrix(), expected, atol=1e-12)


def test_axes_of_the_data_set_are_turned_into_those_of_the_robot():
    half = Rotation.from_euler('xyz', [0, 0, math.pi])  # base in base_link of a UR

    translation, turn = to_step(np.array([0.1, 0.2, 0.3, 0.4, 0.0, 0.0]), BRIDGE, half)

    np.testing.assert_allclose(translation, [-0.1, -0.2, 0.3], atol=1e-12)
    np.testing.assert_allclose(turn, [-0.4, 0, 0], atol=1e-12)


def test_interpolation_is_linear_and_turns_about_one_axis():
    start = Pose(np.zeros(3), NONE)
    end = Pose(np.array([0.2, 0.0, -0.4]), Rotation.from_rotvec([0, 0, 1.0]))

    half = start.toward(end, 0.5)

    np.testing.assert_allclose(half.position, [0.1, 0, -0.2])
    np.testing.assert_allclose(half.rotation.as_rotvec(), [0, 0, 0.5], atol=1e-12)
    assert start.toward(end, 1.0) is end
    assert start.toward(end, 0.0).distance(start) == (0.0, 0.0)


@pytest.mark.parametrize(
    ('position', 'quaternion', 'reason'),
    [
        ((0, 0, math.nan), (0, 0, 0, 1), 'not finite'),
        ((0, 0, 0), (0, math.inf, 0, 1), 'not finite'),
        ((0, 0, 0), (0, 0, 0, 0), 'the length 0'),
        ((0, 0, 0), (0, 0, 0, 1.01), 'the length 1.01'),
        ((0, 0), (0, 0, 0, 1), '3 and 4 numbers'),
    ],
)
def test_what_is_no_pose_is_refused(position, quaternion, reason):
    with pytest.raises(InputError, match=reason):
        Pose.of(position, quaternion)


def test_quaternion_is_normalised():
    pose = Pose.of((1, 2, 3), (0, 0, 0.70715, 0.70715))

    np.testing.assert_allclose(np.linalg.norm(pose.quaternion), 1.0, rtol=1e-15)
