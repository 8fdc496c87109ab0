"""The robot's limits and its gripper, seen on the published action."""

import json
import shutil

import numpy as np
import pytest

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.nodes.motion import Robot, to_action
from trt_openvla_ros.robot.meaning import Meaning

PUT = 'put the spoon on the towel'
METRES = Meaning(1.0, 1.0, 'euler_xyz', 'bridge', 'base', 'open', 5.0)
SHARES = Meaning(0.05, 0.5, 'rotation_vector', 'measured', 'base', 'open', 20.0)


def direction(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ('parameter', 'part', 'rest'),
    [
        ('max_translation', slice(0, 3), slice(3, 7)),
        ('max_rotation', slice(3, 6), [0, 1, 2, 6]),
    ],
)
def test_limit_shortens_and_keeps_the_direction(graph, golden, parameter, part, rest):
    probe = graph.start()
    probe.instruct(PUT)
    free = probe.act(golden.image('case20'))
    assert not free.limited
    length = np.linalg.norm(free.action[part])

    assert probe.set(**{parameter: length / 4})[0].successful
    limited = probe.act(golden.image('case20'))

    assert limited.limited
    np.testing.assert_allclose(np.linalg.norm(limited.action[part]), length / 4, rtol=1e-12)
    np.testing.assert_allclose(direction(limited.action[part]), direction(free.action[part]))
    assert list(limited.action[rest]) == list(free.action[rest])
    # What the model said stays on record.
    assert list(limited.normalised_action) == list(free.normalised_action)

    assert probe.set(**{parameter: length * 1.01})[0].successful
    loose = probe.act(golden.image('case20'))
    assert not loose.limited
    assert list(loose.action) == list(free.action)


@pytest.mark.parametrize('case', ['case00', 'case10', 'case01'])
def test_gripper_is_published_in_the_robots_unit(graph, golden, case):
    # A gripper that counts metres of opening, and for which closed is the larger number.
    probe = graph.start(gripper_closed=0.8, gripper_open=-0.04)
    probe.instruct(golden.instruction(case))

    action = probe.act(golden.image(case))

    # The reference says -0.13, 0.22 and 0.68; below 0 there is nothing left to close.
    expected = golden.action(case)
    expected[6] = 0.8 + expected[6] * (-0.04 - 0.8)
    np.testing.assert_allclose(action.action, expected, rtol=0, atol=1e-12)


def test_limiting_leaves_the_prediction_as_it_was():
    prediction = np.array([3.0, 0.0, 4.0, 0.3, 0.0, 0.4, 1.5])
    before = prediction.copy()

    action, limited = Robot(1.0, 0.1, 0.0, 100.0).limit(prediction, METRES)

    assert limited
    np.testing.assert_allclose(action, [0.6, 0.0, 0.8, 0.06, 0.0, 0.08, 100.0], rtol=1e-12)
    np.testing.assert_array_equal(prediction, before)


def test_no_motion_needs_no_limit():
    action, limited = Robot(1.0, 0.1, 0.0, 1.0).limit(np.zeros(7), METRES)

    assert not limited
    assert list(action) == [0.0] * 7


def test_unlimited_action_is_what_the_statistics_gave(graph, golden):
    probe = graph.start(max_translation=1e-4, gripper_closed=5.0, gripper_open=9.0)
    probe.instruct(golden.instruction('case20'))

    action = probe.act(golden.image('case20'))

    expected = golden.cases['case20']['toy_arm']
    np.testing.assert_allclose(action.unlimited_action, expected, rtol=0, atol=1e-12)
    assert action.limited


@pytest.mark.parametrize('ends', [(-1.0, 1.0), (0.0, 0.08)])
def test_gripper_that_is_no_opening_from_0_to_1_is_refused(graph, tmp_path, ends):
    checkpoint = tmp_path / 'fused'
    shutil.copytree(graph.DEFAULTS['checkpoint'], checkpoint)
    low, high = ends
    action = {'q01': [-1.0] * 6 + [low], 'q99': [1.0] * 6 + [high]}
    (checkpoint / 'dataset_statistics.json').write_text(json.dumps({'claw': {'action': action}}))
    graph.add(checkpoint=str(checkpoint), unnorm_key='claw')
    probe = graph.probe()

    assert not probe.transit('configure')

    probe.wait(lambda: any("gripper of 'claw'" in log for log in probe.logs), 'reason')


def test_limits_are_metres_and_radians_whatever_the_unit():
    action = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0])  # 0.05 m and 0.5 rad

    limited, shortened = Robot(0.02, 0.25, 0.0, 1.0).limit(action, SHARES)

    assert shortened
    np.testing.assert_allclose(limited, [0.4, 0.0, 0.0, 0.0, 0.5, 0.0, 1.0])
    assert not Robot(0.05, 0.5, 0.0, 1.0).limit(action, SHARES)[1]


@pytest.mark.parametrize(
    ('given', 'ends', 'value', 'published'),
    [
        ('open', (0.0, 1.0), 0.3, 'open'),
        ('open', (1.0, 0.0), 0.7, 'closed'),
        ('open', (0.8, -0.04), 0.8 - 0.3 * 0.84, 'unknown'),
        ('closed', (0.0, 1.0), 0.7, 'open'),
        ('none', (0.0, 1.0), 0.3, 'none'),
        ('unknown', (0.0, 1.0), 0.3, 'unknown'),
    ],
)
def test_meaning_of_the_gripper_is_that_of_the_published_number(given, ends, value, published):
    robot, meaning = Robot(0.0, 0.0, *ends), Meaning(gripper=given)

    action, _ = robot.limit(np.array([0.0] * 6 + [0.3]), meaning)

    assert action[6] == pytest.approx(value)
    assert robot.as_published(meaning).gripper == published


def test_chunk_has_all_steps_each_limited():
    steps = np.array([[0.2, 0, 0, 0, 0, 0, 1], [1.0, 0, 0, 0, 0, 2.0, 0.2]])
    timings = dict.fromkeys(('preprocess', 'vision', 'prefill', 'decode', 'total'), 0.0)
    ids = np.zeros(0, np.int64)
    prediction = Prediction(steps, steps / 2, ids, ids, '', '', 'libero_10', timings)

    message = to_action(prediction, Robot(0.02, 0.25, 0.0, 1.0), SHARES)

    assert list(message.action) == [0.2, 0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(message.chunk[7:], [0.4, 0, 0, 0, 0, 0.5, 0.2])
    assert list(message.chunk[:7]) == list(message.action)
    assert message.limited
    one = Prediction(steps[:1], steps[:1], ids, ids, '', '', 'libero_10', timings)
    assert list(to_action(one, Robot(0.0, 0.0, 0.0, 1.0), SHARES).chunk) == []


def test_action_says_what_its_numbers_are(graph, golden):
    probe = graph.start(unnorm_key='other_arm')
    probe.instruct(PUT)

    meaning = probe.act(golden.image('case20')).meaning

    assert (meaning.translation_unit, meaning.rotation_unit) == (0.05, 0.5)
    assert (meaning.rotation, meaning.reference) == ('rotation_vector', 'measured')
    assert (meaning.frame, meaning.gripper, meaning.control_rate) == ('base', 'open', 20.0)
    assert meaning.source.endswith('action_meanings.yaml')


def test_limit_in_metres_of_an_unknown_unit_is_refused(graph):
    graph.add(action_meanings='', max_rotation=0.1)
    probe = graph.probe()

    assert not probe.transit('configure')
    probe.wait(
        lambda: any('state rotation_unit of toy_arm' in log for log in probe.logs), 'reason'
    )


def test_limit_of_an_unknown_unit_cannot_be_set_at_run_time(graph):
    probe = graph.start(action_meanings='')

    answer = probe.set(max_translation=0.05)[0]

    assert not answer.successful
    assert "nobody knows how much a unit of 'toy_arm' is" in answer.reason


def test_broken_file_of_meanings_ends_configure_before_the_model_is_loaded(graph, tmp_path):
    (tmp_path / 'mine.yaml').write_text('toy_arm: {gripper: ajar}')
    graph.add(action_meanings=str(tmp_path / 'mine.yaml'), checkpoint='/nowhere')
    probe = graph.probe()

    assert not probe.transit('configure')
    wanted = "mine.yaml: toy_arm: gripper is 'ajar'"
    probe.wait(lambda: any(wanted in log for log in probe.logs), 'reason')
