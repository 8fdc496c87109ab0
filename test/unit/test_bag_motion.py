"""A policy compared with the motion in bags: actions in the units of its data set."""

import json

from bag_writer import IMAGE, image, INSTRUCTION, JOINTS, joints, POSE, pose, text
from evaluated_bag import BEGIN, LIFT, MEANING, PERIOD, PICTURES, PUSH, when
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trt_openvla_ros.errors import ConfigError


def turning(angle):
    return Rotation.from_euler('xyz', [np.pi, 0, angle])


def moved(steps, frame=None):
    """Images at 5 Hz and poses at 50 Hz, between which an arm moves evenly."""
    messages = [(INSTRUCTION, BEGIN - 1, text(PUSH))]
    for tick in range(10 * steps + 1):
        stamp = BEGIN + tick * PERIOD // 10
        place = np.array([0.3, 0, 0.1]) + tick / 10 * np.array([0.01, -0.02, 0.005])
        quaternion = turning(tick / 10 * 0.1 + 3.0).as_quat()
        messages.append((POSE, stamp, pose(place, quaternion, stamp)))
        messages.append((JOINTS, stamp, joints(stamp, finger=0.04 if tick < 20 else 0.0)))
        if tick % 10 == 0:
            messages.append((IMAGE, stamp, image(PICTURES[tick // 10 % 6], stamp)))
    return messages


GRIPPER = {'gripper_open': 0.04, 'compare': 'motion'}


@pytest.mark.parametrize('angles', ['subtract', 'compose'])
def test_motion_becomes_actions_in_the_units_of_the_data_set(compare, tmp_path, angles):
    facts = compare(moved(5), **GRIPPER, angles=angles, unnorm_key='toy_arm')
    results = [json.loads(line) for line in (tmp_path / 'out/frames.jsonl').open()][1:]
    # The motion behind the last image is not known.
    assert [result['number'] for result in results] == [0, 1, 2, 3, 4]
    wanted = np.array([result['wanted'] for result in results])
    # The yaw goes through pi, and the hand points down.
    step = np.array([0.01 / 0.05, -0.02 / 0.05, 0.005 / 0.05, 0, 0, 0.1 / 0.5])
    np.testing.assert_allclose(wanted[:, :6], np.tile(step, (5, 1)), atol=1e-9)
    assert wanted[:, 6].tolist() == [1, 0, 0, 0, 0]
    assert facts['warning'] == ''


@pytest.mark.parametrize('silent', [POSE, JOINTS])
def test_motion_behind_the_last_pose_or_opening_is_not_known(compare, silent):
    facts = compare([m for m in moved(5) if m[0] != silent or m[1] <= when(2)], **GRIPPER)
    assert facts['frames'] == 2
    assert facts['left_out']['without a pose or gripper now or a step later'] == 4


def test_motion_in_the_axes_of_the_end_effector(compare, tmp_path):
    file = tmp_path / 'meanings.yaml'
    file.write_text(MEANING.replace('frame: base', 'frame: end_effector'))
    compare(moved(1), **GRIPPER)
    _, result = map(json.loads, (tmp_path / 'out/frames.jsonl').open())
    expected = turning(3.0).inv().apply([0.01, -0.02, 0.005]) / 0.05
    np.testing.assert_allclose(result['wanted'][:3], expected, atol=1e-9)
    np.testing.assert_allclose(result['wanted'][3:6], [0, 0, -0.2], atol=1e-9)


def test_motion_of_a_camera_faster_than_the_steps_and_across_tasks(compare):
    messages = moved(5)
    extra = [
        (IMAGE, when(index) + 3, image(PICTURES[0], when(index) + PERIOD // 3))
        for index in range(5)
    ]
    messages = sorted([*messages, *extra], key=lambda one: one[1])
    messages.insert(
        next(i for i, one in enumerate(messages) if one[1] > when(2) + 3),
        (INSTRUCTION, when(2) + 4, text(LIFT)),
    )
    facts = compare(messages, **GRIPPER)
    assert facts['left_out']['between two steps'] == 4
    assert facts['left_out']['at the end of a task'] == 2
    assert facts['frames'] == 4


@pytest.mark.parametrize(
    ('messages', 'values', 'said'),
    [
        (
            [m for m in moved(1) if m[0] != INSTRUCTION],
            {},
            r"instruction_topic '/instruction' is missing",
        ),
        (moved(1), {'gripper_joint': 'thumb'}, r"'thumb' has no .* there: finger$"),
        (
            moved(1),
            {'action_meanings': ''},
            r"translation_unit and .* and frame of unnorm_key 'toy_arm', .* by --action-meanings$",
        ),
        (moved(0), {}, r'no action follows from the motion .* 1 images 1 without a pose'),
    ],
)
def test_bags_and_settings_that_do_not_fit_are_sentences(compare, messages, values, said):
    with pytest.raises(ConfigError, match=said):
        compare(messages, **GRIPPER | values)


@pytest.mark.parametrize(
    ('field', 'way_out'),
    [
        ('translation_unit', '--action-meanings'),
        ('rotation_unit', '--action-meanings'),
        ('rotation', '--action-meanings'),
        ('frame', '--action-meanings'),
        ('control_rate', 'set --control-rate'),
        ('reference', 'set --angles'),
    ],
)
def test_what_nobody_knows_of_the_numbers_is_not_guessed(compare, tmp_path, field, way_out):
    lines = [line for line in MEANING.splitlines() if f' {field}:' not in line]
    (tmp_path / 'meanings.yaml').write_text('\n'.join(lines))
    with pytest.raises(ConfigError, match=rf"nobody knows {field} of .*'toy_arm', .*{way_out}"):
        compare(moved(1), **GRIPPER)
    stated = {'control_rate': {'control_rate': 5.0}, 'reference': {'angles': 'compose'}}
    if field in stated:
        assert compare(moved(1), **GRIPPER, **stated[field])['frames'] == 1


def test_gripper_whose_meaning_nobody_knows_agrees_with_nothing(compare, tmp_path):
    file = tmp_path / 'meanings.yaml'
    file.write_text(MEANING.replace('gripper: open', 'gripper: unknown'))
    assert 'gripper_agreement' not in compare(moved(1), **GRIPPER)
