"""Newest frame only, and a node that answers while the model computes."""

import statistics
import threading
import time

import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.time import Time

from trt_openvla_ros.nodes.conversions import to_message
from trt_openvla_ros.nodes.worker import Worker
from trt_openvla_ros.policy import Policy

PUT = 'put the spoon on the towel'


def test_newest_frame_is_acted_on_and_the_others_counted(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    first = probe.act(golden.image('case20')).header.stamp

    working = probe.begin_step(held, golden.image('case20'))
    passed_over = [probe.send(golden.image('case20')) for _ in range(4)]
    newest = probe.send(golden.image('case20'))
    probe.counted(images_received=len(probe.sent), images_dropped=4)
    held.gate.set()
    probe.wait(lambda: probe.actions[-1].header.stamp == newest, 'action on the newest image')

    assert [action.header.stamp for action in probe.actions] == [first, working, newest]
    assert not set(map(str, passed_over)) & {str(a.header.stamp) for a in probe.actions}
    assert [action.sequence for action in probe.actions] == [1, 2, 3]


@pytest.fixture
def preparations(monkeypatch):
    """The names of the threads in which images were prepared, in order."""
    names, prepare = [], Policy.prepare

    def noted(self, image):
        names.append(threading.current_thread().name)
        return prepare(self, image)

    monkeypatch.setattr(Policy, 'prepare', noted)
    return names


def test_waiting_image_is_prepared_during_the_step_and_acted_on_as_ever(
    graph, held, golden, preparations
):
    probe = graph.start(engine='held')
    probe.instruct(golden.instruction('case21'))
    probe.act(golden.image('case20'))
    preparations.clear()

    probe.begin_step(held, golden.image('case20'))
    newest = probe.send(golden.image('case21'))
    probe.wait(lambda: 'policy_ahead' in preparations, 'preparation')
    held.gate.set()
    probe.wait(lambda: probe.actions[-1].header.stamp == newest, 'action on the newest image')

    assert preparations == ['policy_worker', 'policy_ahead']
    wanted = golden.action('case21')
    np.testing.assert_allclose(probe.actions[-1].action, wanted, rtol=0, atol=1e-12)


def test_image_that_grows_old_while_it_waits_prepared_is_dropped(
    graph, held, golden, preparations
):
    probe = graph.start(engine='held', max_image_age=0.5)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.begin_step(held, golden.image('case20'))
    waiting = probe.send(golden.image('case20'))
    probe.wait(lambda: 'policy_ahead' in preparations, 'preparation')
    old = Time.from_msg(waiting) + Duration(seconds=0.6)
    probe.wait(lambda: probe.node.get_clock().now() > old, 'age')
    held.gate.set()

    probe.counted(images_stale=1, actions_late=1)
    probe.act(golden.image('case20'))
    assert waiting not in [action.header.stamp for action in probe.actions]


def test_waiting_image_that_cannot_be_read_counts_only_if_it_gets_its_step(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    depth = to_message(golden.image('case20'))
    depth.encoding = '32FC1'

    probe.begin_step(held, golden.image('case20'))
    probe.send(depth)
    newest = probe.send(golden.image('case20'))
    probe.counted(images_dropped=1, images_rejected=0)
    held.gate.set()
    probe.wait(lambda: probe.actions[-1].header.stamp == newest, 'action on the newest image')

    probe.begin_step(held, golden.image('case20'))
    probe.send(depth)
    held.gate.set()
    probe.counted(images_dropped=1, images_rejected=1, internal_errors=0)


@pytest.mark.parametrize('busy', [False, True], ids=['waiting', 'computing'])
def test_services_answer_during_inference(graph, held, golden, busy):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    held.shut(busy)
    in_progress = probe.send(golden.image('case20'))
    probe.wait(held.inside.is_set, 'inference')
    round_trips = []
    for _ in range(20):
        start = time.perf_counter()
        (value,) = probe.call('get_parameters', names=['max_image_age']).values
        round_trips.append(time.perf_counter() - start)
        assert value.double_value == 0.0
    assert probe.set(max_rotation=0.5)[0].successful
    assert probe.state() == 'active'

    # The median, because a busy machine delays some call of any program.
    assert statistics.median(round_trips) < 0.1
    assert in_progress not in [action.header.stamp for action in probe.actions]
    held.gate.set()
    probe.wait(lambda: probe.actions[-1].header.stamp == in_progress, 'action')


def test_step_that_raises_is_counted_and_the_next_one_done(graph, held, golden, monkeypatch):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    with monkeypatch.context() as patch:
        patch.setattr(held, 'encode', lambda self, views: 1 / 0)
        probe.send(golden.image('case20'))
        probe.counted(internal_errors=1)

    assert any('step failed' in log and 'ZeroDivisionError' in log for log in probe.logs)
    assert probe.act(golden.image('case20')).sequence == 2


def test_publishing_that_raises_is_counted_and_the_next_step_done(graph, golden, monkeypatch):
    probe = graph.start(publish_prompt_image=True)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    with monkeypatch.context() as patch:
        patch.setattr('trt_openvla_ros.nodes.outputs.to_message', lambda image: 1 / 0)
        probe.send(golden.image('case20'))
        probe.counted(internal_errors=1)

    probe.act(golden.image('case20'))


def test_worker_delivers_nothing_that_was_revoked():
    started, release, done = threading.Event(), threading.Event(), threading.Event()
    delivered = []

    def deliver(frame):
        delivered.append(frame)
        done.set()

    def step(frame):
        started.set()
        assert release.wait(10)
        return frame

    worker = Worker(step, deliver, pytest.fail, lambda: None)
    assert not worker.offer('revoked')
    assert started.wait(10)
    assert not worker.offer('waiting')
    worker.revoke()
    # Nobody dropped what was revoked.
    assert not worker.offer('next')
    assert worker.offer('after')
    release.set()
    assert done.wait(10)
    assert worker.close(10)

    assert delivered == ['after']


def test_worker_ends_its_thread():
    before = threading.active_count()

    finished = []
    worker = Worker(lambda frame: None, pytest.fail, pytest.fail, lambda: finished.append(1))

    assert worker.close(10)
    assert threading.active_count() == before
    assert finished == [1]


def test_what_raises_is_told_and_the_next_frame_worked_on():
    failures, delivered, done = [], [], threading.Event()

    def deliver(result):
        delivered.append(result)
        done.set()

    def failed(error):
        failures.append(str(error))
        done.set()

    worker = Worker(lambda frame: 1 / frame, deliver, failed, lambda: None)
    worker.offer(0)
    assert done.wait(10)
    done.clear()
    worker.offer(2)
    assert done.wait(10)
    assert worker.close(10)

    assert failures == ['division by zero']
    assert delivered == [0.5]
