"""The judge of recordings: it finds what must not be, and nothing else."""

from faults.growth import growth, Sample
from faults.judge import judge, Limits, longest_gap, time_to_hold, time_to_say, travel
from faults.recording import Action, Command, moves, Place, Recording, Said
import numpy as np
import pytest

LIMITS = Limits(
    max_speed=0.3,
    max_angular_speed=1.0,
    max_image_age=1.0,
    max_action_age=0.2,
    max_pose_age=0.1,
    action_timeout=0.5,
    rate=50.0,
    workspace=(-1.0, -1.0, 0.0, 1.0, 1.0, 1.0),
    settle=0.02,
)
START = 1000.0  # [s] of stamps at time 0
GO, STILL = (0.1, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0,) * 6


def record(commands, until=2.0, actions=True, poses=True, delay=0.002):
    """Record a loop in which all is well; commands maps a time [s] to the numbers from then on."""
    seen = Recording()
    for time in np.arange(0.0, until, 0.02):
        numbers = next(one for since, one in reversed(commands.items()) if time >= since)
        seen.commands.append(Command(time + delay, START + time, numbers))
        if poses:
            seen.poses.append(Place(time + delay, START + time, (0.0, 0.0, 0.0)))
    for number, time in enumerate(np.arange(-0.1, until, 0.2) if actions else ()):
        seen.actions.append(Action(time, START + time - 0.1, START + time, number))
    seen.reports.append(Said(0.0, START, 'moving', ''))
    return seen


def rules(seen, limits=LIMITS):
    return {violation.rule for violation in judge(seen, limits)}


def test_a_loop_in_which_all_is_well_is_well():
    assert judge(record({0.0: GO}), LIMITS) == []
    assert judge(Recording(), LIMITS) == []


def test_commands_that_are_too_fast_or_no_numbers_are_found():
    found = judge(record({0.0: GO, 1.0: (0.2, 0.25, 0.0, 0.0, 0.0, 0.0), 1.02: GO}), LIMITS)
    assert [(v.rule, v.limit) for v in found] == [('speed', 0.3)]
    assert found[0].value == pytest.approx(np.hypot(0.2, 0.25))
    assert rules(record({0.0: (0.0, 0.0, 0.0, 0.8, 0.8, 0.0)})) == {'angular_speed'}
    assert rules(record({0.0: (np.nan, *STILL[1:])})) == {'finite'}


@pytest.mark.parametrize('by_stamps', [True, False])
def test_motion_after_the_last_action_is_found_once_it_is_too_old(by_stamps):
    limits = Limits(**{**vars(LIMITS), 'by_stamps': by_stamps})
    seen = record({0.0: GO, 1.4: STILL})
    # The last action is of 0.7 s, so motion may last until 1.4 s, one period and the ramp.
    seen.actions = [action for action in seen.actions if action.at < 0.75]
    assert rules(seen, limits) == set()
    seen = record({0.0: GO, 1.6: STILL})
    seen.actions = [action for action in seen.actions if action.at < 0.75]
    assert rules(seen, limits) == {'action_age'}
    assert {v.at > 1.4 for v in judge(seen, limits)} == {True}
    assert 'action_age' in rules(record({0.0: GO}, actions=False), limits)


def test_motion_on_an_old_image_or_pose_is_found():
    seen = record({0.0: GO})
    seen.actions = [action._replace(image=START - 0.5) for action in seen.actions]
    found = [v for v in judge(seen, LIMITS) if v.rule == 'image_age']
    assert found
    assert min(v.at for v in found) == pytest.approx(0.6, abs=0.05)
    assert rules(seen) == {'image_age'}
    seen = record({0.0: GO})
    seen.poses = [pose for pose in seen.poses if not 0.5 < pose.at < 0.9]
    assert rules(seen) == {'pose_age'}
    assert rules(record({0.0: GO}, poses=False)) == {'pose_age'}
    assert rules(record({0.0: STILL}, poses=False, actions=False)) == set()


def test_messages_that_come_late_to_the_observer_accuse_nobody():
    # Commands arrive half a second late; their stamps say when they were sent.
    assert judge(record({0.0: GO}, delay=0.5), LIMITS) == []


def test_motion_after_a_stop_is_found_unless_somebody_enabled_it():
    seen = record({0.0: GO, 0.5: STILL, 1.5: GO})
    seen.reports += [Said(0.5, START + 0.5, 'stopped', 'x'), Said(1.4, START + 1.4, 'moving', '')]
    assert rules(seen) == {'enabled'}
    seen.enabled.append(1.3)
    assert rules(seen) == set()
    seen = record({0.0: GO, 0.5: STILL, 1.0: GO})
    seen.reports.append(Said(0.5, START + 0.5, 'stopped', 'x'))
    assert rules(seen) == {'stopped'}
    seen.enabled.append(0.3)  # before the stop
    assert rules(seen) == {'stopped'}


def pose(x, *turn):
    return (x, 0.0, 0.5, *(turn or (0.0, 0.0, 0.0, 1.0)))


def test_poses_move_if_they_change_and_may_not_leave_the_workspace():
    commands = [
        Command(0.02 * number, START + 0.02 * number, pose(x))
        for number, x in enumerate((0.0, 0.0, 0.005, 0.01, 0.01))
    ]
    assert moves(commands).tolist() == [False, False, True, True, False]
    turned = [*commands, commands[-1]._replace(numbers=pose(0.01, 0.0, 0.0, 0.0, -1.0))]
    assert not moves(turned)[-1]
    # Enabled between the third and the fourth: the hand may be elsewhere.
    assert moves(commands, [0.05]).tolist() == [False, False, True, False, False]
    assert rules(record({0.0: pose(0.0), 1.0: pose(0.002)})) == set()
    assert rules(record({0.0: pose(0.0), 1.0: pose(0.05)})) == {'speed'}
    assert rules(record({0.0: pose(0.0), 1.0: pose(0.0, 0.0, 0.0, 0.1, 0.995)})) == {
        'angular_speed'
    }
    assert rules(record({0.0: pose(-1.001)})) == {'workspace'}


def test_the_time_to_hold_is_that_of_the_last_motion():
    seen = record({0.0: GO, 0.5: STILL, 0.6: GO, 0.8: STILL}, delay=0.0)
    assert time_to_hold(seen, 0.45, 1.5) == pytest.approx(0.35, abs=0.021)
    assert time_to_hold(seen, 0.45, 0.7) is None
    assert time_to_hold(seen, 0.45, 0.58) == pytest.approx(0.05, abs=0.021)
    assert time_to_hold(Recording(), 0.0, 1.0) is None
    seen.reports.append(Said(0.9, START, 'holding', 'why'))
    assert time_to_say(seen, 0.45, 1.5) == pytest.approx(0.45)
    assert time_to_say(seen, 1.0, 1.5) is None
    seen.commands = [command for command in seen.commands if not 0.6 < command.at < 0.9]
    assert longest_gap(seen, 0.45, 1.5) == pytest.approx(0.3, abs=0.021)
    seen.hands = [Place(0.1 * n, 0.0, (min(n, 5) * 0.01, 0.0, 0.0)) for n in range(10)]
    assert travel(seen, 0.2, 0.9) == pytest.approx((0.03, 0.3))


def samples(grows, lives=1, minutes=30):
    rng = np.random.default_rng(0)
    return [
        Sample(at, 'robot', number, 100.0 + grows * (at % 1e5) / 3600.0 + rng.normal(0.0, 0.2))
        for number in range(lives)
        for at in np.arange(0.0, 60.0 * minutes, 10.0) + number * 1e5
    ]


def test_memory_that_grows_is_found_and_noise_is_not():
    flat, grown = growth(samples(0.0))['robot'], growth(samples(40.0))['robot']
    assert not flat['grows']
    assert abs(flat['slope_mb_per_h']) < 1.0
    assert grown['grows']
    assert grown['slope_mb_per_h'] == pytest.approx(40.0, abs=1.0)
    # A process that is killed and begins again with little memory hides nothing.
    several = growth(samples(40.0, lives=3))['robot']
    assert several['lives'] == 3
    assert several['grows']
    assert several['slope_mb_per_h'] == pytest.approx(40.0, abs=1.0)
    short = growth(samples(400.0, minutes=1))['robot']
    assert (short['slope_mb_per_h'], short['grows']) == (None, False)
