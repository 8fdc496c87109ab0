"""The robot's limits and its gripper, seen on the published action."""

import json
import shutil

import numpy as np
import pytest

from trt_openvla_ros.nodes.motion import Robot

PUT = 'put the spoon on the towel'


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

    action, limited = Robot(1.0, 0.1, 0.0, 100.0).limit(prediction)

    assert limited
    np.testing.assert_allclose(action, [0.6, 0.0, 0.8, 0.06, 0.0, 0.08, 100.0], rtol=1e-12)
    np.testing.assert_array_equal(prediction, before)


def test_no_motion_needs_no_limit():
    action, limited = Robot(1.0, 0.1, 0.0, 1.0).limit(np.zeros(7))

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
