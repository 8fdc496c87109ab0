"""Which images are too old, by the node's clock: the machine's, or /clock."""

import signal
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from rclpy.duration import Duration
from rclpy.time import Time as ClockTime
from rosgraph_msgs.msg import Clock

PUT = 'put the spoon on the towel'


def stamp(seconds):
    return ClockTime(nanoseconds=round(seconds * 1e9)).to_msg()


@pytest.fixture
def simulated(graph, golden):
    """An acting node whose time is /clock, and a function that sets it [s]."""
    probe = graph.start(use_sim_time=True, max_image_age=0.5)
    probe.instruct(PUT)
    clock = probe.node.create_publisher(Clock, '/clock', 10)
    probe.wait(clock.get_subscription_count, 'subscription to /clock')

    def set_time(seconds):
        clock.publish(Clock(clock=stamp(seconds)))
        # The clock has no order with the images; this waits until the node has seen it.
        count = len(probe.actions)
        probe.send(golden.image('case20'), stamp(seconds))
        probe.wait(lambda: len(probe.actions) > count, 'action at that time')

    return probe, set_time


@pytest.mark.parametrize('age', [0.0, 0.25, 0.5, -0.25, -0.5])
def test_age_within_the_limit_is_acted_on(simulated, golden, age):
    probe, set_time = simulated
    set_time(100.0)

    probe.send(golden.image('case20'), stamp(100.0 - age))
    probe.wait(lambda: len(probe.actions) == 2, 'action')

    assert probe.actions[-1].header.stamp == stamp(100.0 - age)
    assert probe.actions[-1].image_age == pytest.approx(age, abs=1e-9)


@pytest.mark.parametrize(('age', 'hint'), [(0.51, 'use_sim_time'), (-0.51, 'in the future')])
def test_age_beyond_the_limit_is_dropped_and_counted(simulated, golden, age, hint):
    probe, set_time = simulated
    set_time(100.0)

    probe.send(golden.image('case20'), stamp(100.0 - age))
    probe.counted(images_stale=1, actions=1)

    assert any(f'{age:.3f} s old, limit 0.5 s' in log and hint in log for log in probe.logs)
    # The same image is fine at its own time, and with another limit.
    assert probe.set(max_image_age=0.6)[0].successful
    probe.send(golden.image('case20'), stamp(100.0 - age))
    probe.wait(lambda: len(probe.actions) == 2, 'action')


def test_clock_that_moves_on_ages_the_images(simulated, golden):
    probe, set_time = simulated
    set_time(100.0)
    set_time(200.0)

    probe.send(golden.image('case20'), stamp(100.0))
    probe.counted(images_stale=1, actions=2)


def test_zero_limit_accepts_any_stamp(graph, golden):
    probe = graph.start(max_image_age=0.0)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    for any_stamp in (Time(), Time(sec=2**31 - 1), Time(sec=1, nanosec=1)):
        probe.send(golden.image('case20'), any_stamp)
        probe.wait(lambda s=any_stamp: probe.actions[-1].header.stamp == s, 'action')


def test_default_limit_by_the_machines_clock(graph, golden):
    # Far from the limit on either side.
    probe = graph.start(max_image_age=5.0)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    now = probe.node.get_clock().now()

    old = probe.send(golden.image('case20'), (now - Duration(seconds=60)).to_msg())
    probe.wait(lambda: any('image dropped' in log for log in probe.logs), 'warning')
    probe.act(golden.image('case20'))

    assert old not in [action.header.stamp for action in probe.actions]


def test_limit_holds_when_the_action_is_published(graph, held, golden):
    probe = graph.start(engine='held', max_image_age=0.5)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    # Young when its step began, and old when the engine came back.
    late = probe.begin_step(held, golden.image('case20'))
    old = ClockTime.from_msg(late) + Duration(seconds=0.6)
    probe.wait(lambda: probe.node.get_clock().now() > old, 'age')
    held.gate.set()

    status = probe.counted(actions_late=1, images_stale=0)
    assert 'limit 0.5 s (max_image_age)' in status.message
    assert status.level == DiagnosticStatus.WARN
    assert any('no action' in log and 'of it for inference' in log for log in probe.logs)
    probe.act(golden.image('case20'))
    assert late not in [action.header.stamp for action in probe.actions]
    assert all(action.image_age <= 0.5 for action in probe.actions)


def test_limit_at_publication_is_of_the_simulated_clock(simulated, golden):
    probe, set_time = simulated
    set_time(100.0)
    count = len(probe.actions)

    # A paused simulation ages nothing, however long the step takes.
    probe.send(golden.image('case20'), stamp(99.8))
    probe.wait(lambda: len(probe.actions) > count, 'action')
    assert probe.actions[-1].image_age == pytest.approx(0.2)


def test_process_that_was_stopped_acts_on_no_old_image(graph, execute, golden):
    process = execute('policy_node', **graph.DEFAULTS, max_image_age=0.5)
    probe = graph.probe()
    probe.connect()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    def film(seconds):
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            probe.send(golden.image('case20'))
            probe.executor.spin_once(timeout_sec=0.005)

    for _ in range(4):
        film(0.3)  # so that the stop is in the middle of a step
        process.send_signal(signal.SIGSTOP)
        film(1.0)
        process.send_signal(signal.SIGCONT)
        fresh = probe.send(golden.image('case20'))
        probe.wait(lambda s=fresh: s in [a.header.stamp for a in probe.actions], 'action')

    assert max(action.image_age for action in probe.actions) <= 0.5


def test_clock_that_has_not_started_is_told_from_the_future(graph, golden):
    probe = graph.start(use_sim_time=True, max_image_age=0.5)
    probe.instruct(PUT)

    probe.send(golden.image('case20'))
    status = probe.counted(images_stale=1)

    for text in (status.message, *probe.logs[-1:]):
        assert 'no message has come on /clock' in text
        assert '`ros2 bag play --clock`' in text
        assert 'future' not in text


def test_recording_without_clock_is_told_how_to_be_played(graph, golden):
    probe = graph.start(max_image_age=0.5)
    probe.instruct(PUT)

    probe.send(golden.image('case20'), stamp(1.6e9))
    status = probe.counted(images_stale=1)

    for text in (status.message, *probe.logs[-1:]):
        assert '`ros2 bag play --clock`' in text
        assert 'max_image_age' in text


def test_stamp_before_1970_is_dropped_like_any_other(graph, golden):
    probe = graph.start(max_image_age=0.5)
    probe.instruct(PUT)

    probe.send(golden.image('case20'), Time(sec=-7))

    assert 'its stamp is -7' in probe.counted(images_stale=1, internal_errors=0).message
