"""Rows of a data set made from bags: which image, state and action belong together."""

from bag_writer import IMAGE, image, JOINTS, joints, make, POSE, pose
import numpy as np
import pytest
from recorded_rows import (
    answered,
    at,
    DOWN,
    episodes,
    HAND,
    LIFT,
    PIXELS,
    placed,
    PUSH,
    said,
    seen,
    steps,
)

from trt_openvla_ros.errors import ConfigError


def test_row_at_each_step_although_the_camera_is_never_exact(tmp_path):
    late = [0, 0.21, 0.395, 0.64, 0.8]
    (episode,) = found = list(episodes(tmp_path, [said(0, PUSH), *steps(*late)]))
    assert [row.action[0] for row in episode.rows] == [1, 2, 3, 4, 5]
    assert not any(row.held for row in episode.rows)
    assert [row.picture.stamp for row in episode.rows] == [at(time) for time in late]
    assert (found[0].task, len(found)) == (PUSH, 1)


def test_step_that_did_not_come_is_no_second_motion(tmp_path):
    made = episodes(tmp_path, [said(0, PUSH), *steps(0, 0.2, 0.8, 0.9, 1.0)])
    (episode,) = made
    assert [row.action[0] for row in episode.rows] == [1, 2, 0, 0, 3, 5]
    assert [row.held for row in episode.rows] == [False, False, True, True, False, False]
    # Only the motion is dropped: the gripper stays, and what the policy said.
    assert episode.rows[2].action[6] == 1
    assert episode.rows[2].unlimited[0] == 2
    assert made.left_out['rows without a step'] == 2
    assert made.left_out['steps between two rows'] == 1


def test_rows_by_step_are_as_many_as_steps(tmp_path):
    (episode,) = episodes(tmp_path, [said(0, PUSH), *steps(0, 0.1, 0.8, 0.9)], rows='steps')
    assert [row.action[0] for row in episode.rows] == [1, 2, 3, 4]


def test_images_before_and_between_instructions_are_in_no_episode(tmp_path):
    messages = [seen(-1), said(-0.5, PUSH), *steps(0, 0.2), said(0.3, ''), seen(0.4)]
    messages += [said(0.5, PUSH), *answered(0.6, 3), *answered(0.8, 4)]
    messages += [said(0.9, PUSH), *answered(1.0, 5)]  # said again is no news
    messages += [said(1.1, LIFT), *answered(1.2, 6), *answered(1.4, 7, LIFT)]
    messages += [*answered(1.6, 8, LIFT)]
    made = episodes(tmp_path, messages)
    found = [(one.task, [row.action[0] for row in one.rows]) for one in made]
    assert found == [(PUSH, [1, 2]), (PUSH, [3, 4, 5]), (LIFT, [7, 8])]
    assert made.left_out['actions for another instruction'] == 1
    assert made.left_out['images without an instruction'] == 2


def test_gap_and_a_clock_that_goes_back_end_an_episode(tmp_path):
    messages = [said(0, PUSH), *steps(0, 0.2, 3.0, 3.2, 1.0, 1.2, 9)]
    # The time of recording goes on; the stamps do what they do.
    going_on = [(topic, at(0.01 * n), one) for n, (topic, _, one) in enumerate(messages)]
    made = episodes(tmp_path, going_on)
    assert [[row.action[0] for row in one.rows] for one in made] == [[1, 2], [3, 4], [5, 6]]
    assert made.left_out['episodes of too few rows'] == 1


def test_actions_on_images_that_the_recorder_lost_are_counted(tmp_path):
    messages = [said(0, PUSH), *steps(0, 0.2, 0.4, 0.6)]
    del messages[5]  # an image
    made = episodes(tmp_path, messages)
    (episode,) = made
    assert [row.action[0] for row in episode.rows] == [1, 2, 0, 4]
    assert made.left_out['actions without an image'] == 1


def test_images_of_one_stamp_are_in_no_row(tmp_path):
    made = episodes(tmp_path, [said(0, PUSH), *steps(0, 0.2, 0.4, 0.4, 0.6)])
    (episode,) = made
    assert [row.action[0] for row in episode.rows] == [1, 2, 0, 5]
    assert made.left_out['images of which several have one stamp'] == 2


def test_step_that_the_gate_held_is_no_motion(tmp_path):
    messages = [said(0, PUSH), *steps(0, 0.2, 0.4)]
    for seconds, sequence, verdict in ((0.04, 1, 1), (0.24, 2, 2), (0.44, 3, 0), (0.9, 3, 2)):
        report = make('trt_openvla_ros/GateReport', sequence=sequence, verdict=verdict)
        messages.append(('/robot/gate', at(seconds), report))
    messages.sort(key=lambda one: one[1])
    made = episodes(tmp_path, messages)
    (episode,) = made
    # A later report on the same step is about its age.
    assert [row.action[0] for row in episode.rows] == [1, 0, 3]
    assert made.left_out['steps that the gate held'] == 1


def test_rate_is_that_of_the_data_set(tmp_path):
    meaning = make('trt_openvla_ros/ActionMeaning', control_rate=10.0)
    one = [said(0, PUSH), *answered(0, 1, meaning=meaning), *answered(0.1, 2, meaning=meaning)]
    assert episodes(tmp_path, one, fps=0).rate == 10
    with pytest.raises(ConfigError, match=r'fps is 0, .* do not say one whole rate \(none\)'):
        episodes(tmp_path, [said(0, PUSH), *steps(0, 0.2)], fps=0)


def test_motion_leads_from_the_newest_pose_to_the_newest_a_row_later(tmp_path):
    messages = [said(-0.1, PUSH), *(seen(time / 10) for time in range(8))]
    for tick in range(3, 20):
        messages += placed(0.05 * tick, 0.05 * tick)
    messages.sort(key=lambda one: one[1])
    made = episodes(tmp_path, messages, **HAND)
    (episode,) = made
    assert made.left_out['rows without a pose or gripper near them'] == 1
    assert [row.picture.number for row in episode.rows] == [2, 4, 6]
    states = np.array([row.state for row in episode.rows])
    np.testing.assert_allclose(states[:, 0], [0.2, 0.4, 0.6])
    np.testing.assert_allclose(states[:, 6], [0.2, 0.4, 0.6])
    actions = np.array([row.action for row in episode.rows])
    np.testing.assert_allclose(actions[:, :6], np.tile([0.2, 0, 0, 0, 0, 0], (3, 1)), atol=1e-9)
    np.testing.assert_allclose(actions[:, 6], [0.4, 0.6, 0.8])


def test_action_that_is_not_finite_is_no_step(tmp_path):
    messages = [said(0, PUSH), *steps(0, 0.2, 0.4, 0.6)]
    messages[4][2].action[1] = np.nan
    messages[6][2].unlimited_action[2] = np.inf
    made = episodes(tmp_path, messages)
    (episode,) = made
    assert [row.action[0] for row in episode.rows] == [1, 0, 0, 4]
    assert all(np.isfinite([*row.action, *row.unlimited]).all() for row in episode.rows)
    assert made.left_out['actions that are not finite'] == 2
    assert made.unnorm_key == 'toy_arm'


def test_target_is_what_was_sent_before_the_next_row(tmp_path):
    messages = [said(-0.1, PUSH), *(seen(time / 5) for time in range(4))]
    for tick in range(10):
        messages += placed(0.1 * tick, 0.1 * tick)
        if tick > 2:
            sent = at(0.1 * tick + 0.05)
            messages.append(('/robot/target', sent, pose((tick, 0, 0), DOWN, sent)))
    messages.sort(key=lambda one: one[1])
    made = episodes(tmp_path, messages, pose_topic=POSE, action='target')
    (episode,) = made
    assert [row.action[0] for row in episode.rows] == [3, 5, 7]
    assert made.left_out['rows before the first target'] == 1


@pytest.mark.parametrize(
    ('messages', 'values', 'said_so'),
    [
        (steps(0), {}, r"instruction_topic '/instruction' is missing"),
        ([said(0, PUSH), seen(0)], {}, r"action_topic '/policy/action' is missing"),
        ([said(0, PUSH), *steps(0)], HAND, r"pose_topic '/pose' is missing"),
        ([said(0, PUSH), *steps(0)], {'action': 'motion'}, r'action motion needs poses'),
        ([said(0, PUSH), *steps(0), *placed(0)], {**HAND, 'rows': 'steps'}, r'it needs policy'),
        (
            [said(0, PUSH), seen(0), *placed(0)],
            {**HAND, 'gripper_topic': ''},
            r'gripper_topic is empty',
        ),
        (
            [said(0, PUSH), seen(0), *placed(0)],
            {**HAND, 'gripper_closed': 1.0},
            r'gripper_open and gripper_closed are both 1',
        ),
        (
            [
                said(0, PUSH),
                seen(0),
                (POSE, at(0), pose((0, 0, 0), (0, 0, 0, 2), 5)),
                placed(0)[1],
            ],
            HAND,
            r'no message of /pose in .* is a pose: the quaternion .* has the length 2; 1 is',
        ),
        (
            [said(0, PUSH), seen(0), (POSE, at(0), pose((0, 0, 0), DOWN, 0)), placed(0)[1]],
            HAND,
            r'the stamps of /pose in .* are all 0; set clock to received',
        ),
        (
            [said(0, PUSH), seen(0), (POSE, at(0), pose((0, 0, 0), DOWN, 9e9)), placed(0)[1]],
            HAND,
            r'/pose in .* 9\.000 to 9\.000 s, .* images 1700000000\.000 .* set clock to received$',
        ),
        (
            [said(0, PUSH), seen(0), placed(0)[0], (JOINTS, 5, make('std_msgs/Float32'))],
            HAND,
            r'/joint_states in .* 0\.000 to 0\.000 s, .* different clocks; set clock to received$',
        ),
        (
            [said(0, PUSH), seen(0), placed(0)[0], (JOINTS, at(0), joints(at(0), finger=np.nan))],
            HAND,
            r'no value of /joint_states in .* is finite',
        ),
        (
            [said(0, PUSH), *answered(0, 1, chunk=np.zeros(28))],
            {},
            r'are chunks of 4 steps, .*; set action to motion or target',
        ),
        (
            [said(0, PUSH), *steps(0), *answered(0.2, 2, unnorm_key='droid')],
            {},
            r'are of several data sets: droid, toy_arm',
        ),
    ],
)
def test_bags_and_settings_that_do_not_fit_are_sentences(tmp_path, messages, values, said_so):
    with pytest.raises(ConfigError, match=said_so):
        list(episodes(tmp_path, messages, **values))


def test_stamps_that_stand_do_not_matter_where_the_time_of_recording_counts(tmp_path):
    messages = [said(-0.1, PUSH), *((IMAGE, at(time / 5), image(PIXELS, 0)) for time in range(4))]
    for tick in range(10):
        messages.append((POSE, at(0.1 * tick), pose((0.1 * tick, 0, 0), DOWN, 0)))
        messages.append((JOINTS, at(0.1 * tick), joints(0, finger=1)))
    messages.sort(key=lambda one: one[1])
    (episode,) = episodes(tmp_path, messages, **HAND, clock='received')
    assert [row.picture.number for row in episode.rows] == [0, 1, 2, 3]
    np.testing.assert_allclose([row.action[0] for row in episode.rows], 0.2)
