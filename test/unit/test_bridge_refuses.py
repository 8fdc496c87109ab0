"""What the gate of the bridge says of single actions."""

from dataclasses import replace
from itertools import product
import math

import numpy as np
import pytest
from robot_rig import DOWN, HOME, METRES, Rig, TICK

from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.safety.verdicts import Verdict

UNITS = ('translation_unit', 'rotation_unit', 'control_rate')
FREE = {'max_speed': 1.0, 'max_acceleration': 1000.0, 'max_angular_acceleration': 1e4}


def near(pose, position, tolerance=1e-6):
    np.testing.assert_allclose(pose.position, position, atol=tolerance)


@pytest.mark.parametrize(
    ('rule', 'changes', 'reason'),
    [
        ('finite', {'numbers': (math.nan,)}, 'not finite'),
        ('finite', {'numbers': (1e9,)}, 'not finite'),
        ('finite', {'image_age': math.inf}, 'the age of the image is inf s'),
        ('finite', {'age': math.nan}, 'the age of the action is nan s'),
        ('finite', {'chunk': np.zeros((0, 7))}, 'have shape [0, 7], not [1 to 200, 7]'),
        ('finite', {'chunk': np.zeros((3, 6))}, 'have shape [3, 6], not'),
        ('finite', {'chunk': np.zeros((201, 7))}, 'have shape [201, 7], not'),
        ('finite', {'meaning': replace(METRES, rotation_unit=-1.0)}, 'rotation_unit of'),
        ('finite', {'meaning': replace(METRES, control_rate=math.inf)}, 'control rate of'),
        ('meaning', {'meaning': replace(METRES, rotation='')}, "'' is not euler_xyz or rotation_"),
        ('meaning', {'meaning': replace(METRES, frame='tool')}, "'tool' is not base or end_eff"),
        (
            'meaning',
            {'meaning': replace(METRES, reference='absolute')},
            "'absolute' is not bridge",
        ),
        ('frame', {'frame': 'camera'}, "in 'camera', and 'base_link' is needed"),
        ('meaning', {'meaning': Meaning()}, 'nobody knows the metres'),
        ('forced_tokens', {'out_of_range': 2}, '2 tokens of the action were forced'),
        ('image_age', {'image_age': 1.5}, 'the image is 1.500 s old'),
        ('image_age', {'image_age': -0.2}, 'the image lies 0.200 s in the future'),
        ('action_age', {'age': 0.5}, 'the action is 0.500 s old'),
        ('keep_out', {'numbers': (0.1,)}, 'keep-out box 1 is on the way'),
    ],
)
def test_action_that_is_refused_holds_the_robot(rule, changes, reason):
    rig = Rig(keep_out_1=(0.33, -0.1, 0.0, 0.35, 0.1, 0.4), max_speed=1.0).enabled()
    rig.act(0.01)
    rig.run(0.1)

    report = rig.act(*changes.pop('numbers', ()), **changes)

    assert (report.state, report.verdict) == ('holding', Verdict.HOLD)
    assert reason in report.reason
    ruling = rig.ruling(rule)
    assert (ruling.verdict, ruling.count) == (Verdict.HOLD, 1)
    # The next good one moves it again, and does not jump.
    before = rig.run(0.1).pose
    assert rig.act(0.01).state == 'moving'
    assert rig.run().pose.distance(before)[0] < 1.0 * TICK


@pytest.mark.parametrize(
    ('field', 'number'),
    [
        ('control_rate', 1e-320),
        *product(
            ('translation_unit', 'rotation_unit', 'control_rate'), (math.inf, math.nan, -5, 1e9)
        ),
    ],
)
def test_meaning_that_no_data_set_has_is_refused_and_nothing_breaks(field, number):
    rig = Rig(max_action_rate=100.0).enabled()

    report = rig.act(0.01, 0.0, 0.0, 0.1, meaning=replace(METRES, **{field: number}))

    assert report.verdict is Verdict.HOLD
    assert rig.run(0.5).pose.distance(HOME) == (0.0, 0.0)


def test_step_that_was_refused_is_no_last_one():
    rig = Rig(max_jump=0.05, max_speed=1.0).enabled()

    jump = np.zeros((2, 7))
    jump[1, 0] = 0.1
    assert rig.act(chunk=jump).verdict is Verdict.HOLD

    assert rig.act(-0.02).state == 'moving'


@pytest.mark.parametrize(
    ('field', 'way_out'),
    [('rotation', 'rotation'), ('frame', 'frame'), ('reference', 'parameter reference')],
)
def test_what_is_unknown_of_a_meaning_is_named(field, way_out):
    rig = Rig().enabled()

    report = rig.act(0.01, meaning=Meaning(1.0, 1.0, **({**KNOWN, field: 'unknown'})))

    assert way_out in report.reason
    assert 'action_meanings' in report.reason


KNOWN = {
    'rotation': 'euler_xyz',
    'reference': 'target',
    'frame': 'base',
    'control_rate': 5.0,
}


def test_settings_say_what_the_meaning_does_not():
    meaning = Meaning(1.0, 1.0, 'euler_xyz', frame='base')
    assert Rig().enabled().act(0.01, meaning=meaning).state == 'holding'

    rig = Rig(**FREE, reference='target', control_rate=10.0, gripper_meaning='closed').enabled()

    assert rig.act(0.01, meaning=meaning).state == 'moving'
    near(rig.run(0.1).pose, [0.31, 0, 0.2])
    assert rig.command.opening == 0.0


def test_step_in_the_tools_axes():
    meaning = Meaning(1.0, 1.0, 'euler_xyz', 'target', 'end_effector', 'open', 5.0)
    assert "and '' is needed" in Rig().enabled().act(0.01, meaning=meaning, frame='tool0').reason
    rig = Rig(**FREE, tool_frame='tool0').enabled()

    rig.act(0.0, 0.0, 0.04, meaning=meaning, frame='tool0')

    near(rig.run(0.2).pose, [0.3, 0, 0.16])  # the tool points down


def test_flood_and_errors_in_a_row():
    rig = Rig().enabled()
    for _ in range(11):
        rig.now += 0.005
        report = rig.act(0.001)
    assert report.state == 'moving'
    for _ in range(5):
        report = rig.act(0.001)
    assert report.state == 'stopped'
    assert rig.ruling('action_rate').count == 5
    assert rig.ruling('errors').verdict is Verdict.STOP
    assert '5 actions in a row were refused: ' in report.reason


def test_jump_is_refused():
    rig = Rig(max_jump=0.05).enabled()
    rig.act(0.04)
    rig.run(0.2)

    assert 'differs from the last by 0.080' in rig.act(-0.04).reason
    assert rig.act(-0.04).state == 'moving'  # after a hold nothing is a jump


def test_jump_is_that_of_the_policy_and_not_of_the_steps_that_were_shortened():
    rig = Rig(max_step=0.05).enabled()
    rig.act(1000.0)
    rig.run(0.2)

    assert 'differs from the last by 2000' in rig.act(-1000.0).reason
    assert rig.ruling('jump').verdict is Verdict.HOLD


def test_clips_keep_the_direction():
    rig = Rig(max_step=0.05, max_speed=10.0, max_step_angle=0.1).enabled()

    report = rig.act(0.06, 0.08, 0.0, 0.0, 0.0, -0.3)

    target = rig.run().target
    near(target, [0.33, 0.04, 0.2])
    turn = (target.rotation * DOWN.inv()).as_rotvec()
    np.testing.assert_allclose(turn, [0, 0, -0.1], atol=1e-12)
    assert report.verdict is Verdict.CLIP
    assert rig.ruling('step').value == pytest.approx(0.1)
    assert rig.ruling('step').reason == 'step of 0.100 shortened to 0.05'


def test_workspace_moves_the_target_inside():
    rig = Rig(workspace=(0.0, -0.4, 0.18, 0.8, 0.4, 0.6), max_speed=1.0).enabled()

    rig.act(0.04, 0.0, -0.06)

    near(rig.run(1.0).pose, [0.34, 0.0, 0.18], 1e-4)
    assert rig.ruling('workspace').value == pytest.approx(0.04)
    assert 'z is 0.140 m, and the workspace 0.18 to 0.6 m' in rig.ruling('workspace').reason


def test_cone_turns_the_tool_less():
    rig = Rig(max_tilt=0.2, max_angular_speed=5.0).enabled()

    rig.act(0.0, 0.0, 0.0, 0.4)

    tilt = math.acos(-rig.run(1.0).pose.rotation.apply([0, 0, 1])[2])
    assert 0.19 < tilt <= 0.2 + 1e-9
    assert rig.ruling('tilt').value == pytest.approx(0.4)
