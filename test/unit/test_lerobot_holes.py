"""Data sets of recordings in which poses or openings are missing, or are none."""

from bag_writer import JOINTS, joints, make, POSE
import numpy as np
import pytest
from recorded_rows import at, episodes, HAND, placed, PUSH, said, seen

from trt_openvla_ros.errors import ConfigError


def moving(*ticks):
    """Images at 5 Hz, and an arm that says at some ticks of 0.1 s where it is."""
    messages = [said(-0.1, PUSH), *(seen(time / 5) for time in range(16))]
    for tick in ticks:
        messages += placed(0.1 * tick, 0.1 * tick)
    return sorted(messages, key=lambda one: one[1])


@pytest.mark.parametrize('silent', [POSE, JOINTS])
def test_where_poses_or_gripper_stop_an_episode_ends(tmp_path, silent):
    quiet = range(11, 20), range(25, 40)
    messages = [
        one
        for one in moving(*range(40))
        if one[0] != silent or not any(at(0.1 * t) == one[1] for part in quiet for t in part)
    ]
    made = episodes(tmp_path, messages, **HAND)
    found = [[row.picture.number for row in episode.rows] for episode in made]
    # At 1.0 s and 2.4 s the state is known, and what came of it is not.
    assert found == [[0, 1, 2, 3, 4], [10, 11]]
    assert made.left_out['rows without a pose or gripper near them'] == 7
    assert made.left_out['rows without a pose or gripper a row later'] == 2


def test_slow_poses_are_no_holes(tmp_path):
    (episode,) = episodes(tmp_path, moving(*range(0, 40, 8)), **HAND)
    assert len(episode.rows) == 16


def test_samples_that_are_none_are_left_out(tmp_path):
    messages = moving(*range(40))
    for topic, when, message in messages:
        if topic == POSE and when == at(0.2):
            message.pose.position.x = np.nan
        if topic == POSE and when == at(0.6):
            message.pose.orientation.x = 0.0
        if topic == JOINTS and when == at(0.4):
            message.position[0] = np.nan
    (episode,) = episodes(tmp_path, messages, **HAND)
    states = np.array([row.state for row in episode.rows])
    np.testing.assert_allclose(states[:5, 0], [0, 0.1, 0.4, 0.5, 0.8])
    np.testing.assert_allclose(states[:5, 6], [0, 0.2, 0.3, 0.6, 0.8])


def test_arm_and_gripper_say_their_joints_on_one_topic(tmp_path):
    messages = moving(*range(40))
    arm = [(JOINTS, when + 1, joints(when, a=1, b=2)) for topic, when, _ in messages]
    silent = make('sensor_msgs/JointState', name=['finger'])
    messages = [(JOINTS, at(-0.05), silent), *messages, *arm]
    messages.sort(key=lambda one: one[1])
    (episode,) = episodes(tmp_path, messages, **HAND, gripper_joint='finger')
    np.testing.assert_allclose([row.state[6] for row in episode.rows[:3]], [0, 0.2, 0.4])
    for joint in ('', 'thumb'):
        with pytest.raises(ConfigError, match=rf"'{joint}' has no .* there: a, b, finger$"):
            episodes(tmp_path, messages, **HAND, gripper_joint=joint)
