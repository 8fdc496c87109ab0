"""Which images are too old, by the node's clock: the machine's, or /clock."""

from builtin_interfaces.msg import Time
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
    # The default is half a second; this is far from it on either side.
    probe = graph.start(max_image_age=5.0)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    now = probe.node.get_clock().now()

    old = probe.send(golden.image('case20'), (now - Duration(seconds=60)).to_msg())
    probe.wait(lambda: any('image dropped' in log for log in probe.logs), 'warning')
    probe.act(golden.image('case20'))

    assert old not in [action.header.stamp for action in probe.actions]
