"""Why an image is too old, in words, and which frames never came."""

import numpy as np
import pytest

from trt_openvla_ros.nodes.stamps import Cadence, why_late, why_stale

NOW = 1_800_000_000 * 10**9  # [ns] of a real clock


def stale(stamp, now, simulated):
    """Seconds in, the reason out."""
    return why_stale(round(stamp * 1e9), round(now * 1e9), 1.0, simulated)


@pytest.mark.parametrize(
    ('stamp', 'now', 'simulated', 'said'),
    [
        # A recording, played without --clock: an hour ago, a year ago, some seconds ago.
        (1.8e9 - 3600, 1.8e9, False, 'recording needs `ros2 bag play --clock` and use_sim_time'),
        (1.77e9, 1.8e9, False, 'or max_image_age 0'),
        (1.8e9 - 2, 1.8e9, False, 'a slow camera needs a larger max_image_age'),
        # use_sim_time, and nobody publishes /clock: not in the future, there is no clock.
        (1.8e9, 0, True, 'no message has come on /clock; play a recording with `ros2 bag play'),
        (12.0, 0, True, 'no message has come on /clock'),
        # In the future.
        (1.8e9 + 2, 1.8e9, False, 'its stamp lies in the future; synchronise the clocks'),
        (1.8e9 + 2, 1.8e9, True, 'its stamp lies in the future; /clock is behind'),
        (17.0, 12.0, True, 'its stamp lies in the future; /clock is behind'),
        # Two clocks.
        (12.0, 1.8e9, False, 'of a simulated clock; set use_sim_time here too'),
        (1.8e9, 12.0, True, "of the machine's clock, and /clock is at 12.000 s"),
        (12.0, 1.8e9, True, 'and /clock from 1970'),
        # A driver that stamps nothing, or nonsense.
        (0, 1.8e9, False, 'its stamp is 0: the camera must set it'),
        (0, 12.0, True, 'its stamp is 0: the camera must set it'),
        (-5, 1.8e9, False, 'its stamp is -5'),
        # Old by /clock.
        (10.0, 12.0, True, 'is the camera stamping with this clock (use_sim_time)?'),
    ],
)
def test_cause_is_told_apart(stamp, now, simulated, said):
    reason = stale(stamp, now, simulated)

    assert said in reason
    assert ('lies in the future' in reason) == ('lies in the future' in said)


def test_what_is_within_the_limit_is_fine():
    assert not stale(1.8e9 - 1, 1.8e9, False)
    assert not stale(1.8e9 + 1, 1.8e9, False)
    assert not stale(0.5, 0, True)
    assert not why_stale(0, NOW, 0.0, True)
    assert not why_late(1.0, 0.9, 1.0)
    assert not why_late(9.0, 0.9, 0.0)


def test_late_action_names_the_age_its_part_and_the_parameter():
    assert 'image is 5.210 s old, 5.100 s of it for inference, limit 1.0 s (max_image_age)' in (
        why_late(5.21, 5.1, 1.0)
    )
    # A recording that starts over takes its clock back.
    assert why_late(-30.0, 0.2, 1.0)


def lost_of(stamps):
    cadence = Cadence()
    return sum(cadence.see(round(1e9 * stamp)) for stamp in stamps), cadence.period


def steady(count, period=0.1):
    return 1.8e9 + period * np.arange(count)


def test_steady_camera_loses_nothing():
    jitter = np.random.default_rng(0).normal(0, 0.01, 200)

    lost, period = lost_of(steady(200) + jitter)

    assert lost == 0
    assert period == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize('share', [0.05, 0.2, 0.3])
def test_frames_that_never_came_are_counted(share):
    kept = np.random.default_rng(1).random(500) > share
    kept[[*range(12), 499]] = True  # the camera shows its period first

    lost, period = lost_of(steady(500, 1 / 30)[kept])

    assert lost == 500 - kept.sum()
    assert period == pytest.approx(1 / 30, rel=1e-4)


def test_gap_of_seconds_counts_every_frame():
    assert lost_of(np.delete(steady(100), range(40, 70)))[0] == 30


@pytest.mark.parametrize(
    'stamps',
    [
        np.concatenate([steady(50), steady(50)]),  # a recording that starts over
        np.concatenate([steady(50), steady(50) + 3600]),  # a camera that was off
        np.concatenate([np.arange(50.0), steady(50)]),  # a clock that was set
        np.repeat(steady(50), 3),  # each frame three times
        np.zeros(50),  # no stamps
        1.8e9 + np.cumsum(np.random.default_rng(2).exponential(1.0, 200)),  # on demand
        np.delete(steady(12), [3, 4]),
    ],
    ids=['again', 'off', 'set', 'repeated', 'none', 'on demand', 'few'],
)
def test_what_is_no_loss_counts_nothing(stamps):
    assert lost_of(stamps)[0] == 0


def test_camera_that_slows_down_is_followed():
    stamps = np.concatenate([steady(100, 1 / 30), 1.8e9 + 3.4 + np.arange(100) / 15])

    lost, period = lost_of(stamps)

    assert period == pytest.approx(1 / 15, rel=1e-4)
    # Until half of the window has the new period, each frame is taken for the second of two.
    assert lost < 30
