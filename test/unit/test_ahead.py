"""What is done with the waiting frame while a step runs, and when."""

import threading

import numpy as np
import pytest

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.frames import Frame
from trt_openvla_ros.nodes.worker import Foresight, Worker

PATIENCE = 10


class Steps:
    """A worker whose steps and preparations last until the test lets them go."""

    def __init__(self, preparing=False):
        self.begun, self.delivered, self.prepared = [], [], []
        self._change = threading.Condition()
        self._free, self._holds = 0, preparing
        self.worker = Worker(self._step, self._deliver, pytest.fail, lambda: None, self._prepare)

    def finish(self):
        """Let one step end."""
        with self._change:
            self._free += 1
            self._change.notify_all()

    def release(self):
        """Let preparations end."""
        with self._change:
            self._holds = False
            self._change.notify_all()

    def wait(self, condition):
        with self._change:
            assert self._change.wait_for(condition, PATIENCE), vars(self)

    def close(self):
        self.release()
        self.finish()
        assert self.worker.close(PATIENCE)

    def _step(self, frame):
        with self._change:
            self.begun.append(frame)
            self._change.notify_all()
            assert self._change.wait_for(lambda: self._free, PATIENCE)
            self._free -= 1
        return frame

    def _deliver(self, frame):
        with self._change:
            self.delivered.append(frame)
            self._change.notify_all()

    def _prepare(self, frame):
        with self._change:
            self.prepared.append(frame)
            self._change.notify_all()
            assert self._change.wait_for(lambda: not self._holds, PATIENCE)


def test_the_waiting_frame_is_prepared_while_a_step_runs():
    steps = Steps()
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    steps.worker.offer('second')
    steps.wait(lambda: steps.prepared == ['second'])
    assert steps.delivered == []
    steps.finish()
    steps.wait(lambda: steps.begun == ['first', 'second'])
    steps.close()
    # No step ran when the first one came, so it had its own at once.
    assert steps.prepared == ['second']


def test_frames_that_come_during_a_preparation_are_dropped_but_the_last():
    steps = Steps(preparing=True)
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    steps.worker.offer('second')
    steps.wait(lambda: steps.prepared == ['second'])
    assert [steps.worker.offer(name) for name in ('third', 'fourth')] == [True, True]
    steps.release()
    steps.wait(lambda: steps.prepared == ['second', 'fourth'])
    steps.finish()
    steps.wait(lambda: steps.begun == ['first', 'fourth'])
    steps.close()


def test_a_step_begins_with_the_newest_frame_though_an_older_one_is_being_prepared():
    steps = Steps(preparing=True)
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    steps.worker.offer('second')
    steps.wait(lambda: steps.prepared == ['second'])
    steps.worker.offer('third')
    steps.finish()
    steps.wait(lambda: steps.begun == ['first', 'third'])
    steps.close()


def test_a_frame_that_is_revoked_is_prepared_no_more():
    steps = Steps(preparing=True)
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    steps.worker.offer('second')
    steps.wait(lambda: steps.prepared == ['second'])
    steps.worker.offer('third')
    steps.worker.revoke()
    steps.release()
    steps.worker.offer('fourth')
    steps.wait(lambda: steps.prepared == ['second', 'fourth'])
    steps.close()


def test_a_frame_is_not_prepared_long_before_the_step_will_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    steps = Steps()
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    now[0] = 1000.0
    steps.finish()
    steps.wait(lambda: steps.delivered == ['first'])
    steps.worker.offer('second')
    steps.wait(lambda: steps.begun == ['first', 'second'])
    steps.worker.offer('third')
    now[0] = 1951.0
    steps.worker.offer('fourth')
    steps.wait(lambda: steps.prepared == ['fourth'])
    steps.close()


def test_the_end_is_expected_after_the_median_of_the_last_steps():
    foresight = Foresight()
    foresight.begin_step()
    assert foresight.wait(0.0) == 0
    for seconds in (9.0, 9.0, 9.0, 9.0, 0.1, 0.9, *[1.0] * 4, 1.1, 5.0):
        foresight.end_step(seconds)
    foresight.note_preparation(0.05)
    # Of the last eight, less a twentieth, and twice the preparation.
    assert foresight.wait(0.0) == pytest.approx(0.85)
    assert foresight.wait(0.8) == pytest.approx(0.05)
    assert foresight.wait(0.9) == 0


def test_a_step_that_does_not_end_costs_few_preparations():
    steps = Steps()
    steps.worker.offer('first')
    steps.wait(lambda: steps.begun == ['first'])
    for number in range(4):
        steps.worker.offer(number)
        steps.wait(lambda n=number: steps.prepared[-1:] == [n])
    steps.worker.offer('no more')
    steps.finish()
    steps.wait(lambda: steps.begun == ['first', 'no more'])
    steps.worker.offer('next')
    steps.wait(lambda: steps.prepared == [0, 1, 2, 3, 'next'])
    steps.close()


def test_a_frame_is_converted_and_prepared_once():
    calls = []

    def convert(message):
        calls.append(message)
        return np.zeros((2, 2, 3), np.uint8)

    frame = Frame('message', convert)
    frame.prepare(lambda image: ('prepared', image.shape))
    image, given = frame.open()
    assert given == ('prepared', (2, 2, 3))
    assert image.shape == (2, 2, 3)
    plain = Frame('other', convert)
    image, given = plain.open()
    assert given is image
    assert plain.open()[0] is image
    assert calls == ['message', 'other']


@pytest.mark.parametrize('ahead', [False, True])
def test_an_error_is_raised_when_the_step_begins(ahead):
    def convert(message):
        raise InputError('not an image')

    frame = Frame('message', convert)
    if ahead:
        frame.prepare(pytest.fail)
    with pytest.raises(InputError, match='not an image'):
        frame.open()


def test_a_step_waits_for_the_preparation_that_has_begun():
    begun, free, opened = threading.Event(), threading.Event(), []

    def prepare(image):
        begun.set()
        assert free.wait(PATIENCE)
        return 'prepared'

    frame = Frame('message', lambda message: np.zeros((2, 2, 3), np.uint8))
    preparing = threading.Thread(target=frame.prepare, args=[prepare])
    preparing.start()
    assert begun.wait(PATIENCE)
    stepping = threading.Thread(target=lambda: opened.append(frame.open()[1]))
    stepping.start()
    assert opened == []
    free.set()
    stepping.join(PATIENCE)
    preparing.join(PATIENCE)
    assert opened == ['prepared']
