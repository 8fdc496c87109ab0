"""An engine that hangs, and a worker that died: seen, and outlived."""

import ctypes
import threading
import time

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

PUT = 'put the spoon on the towel'


@pytest.fixture
def hanging(graph, held, golden):
    """A node whose engine does not return, and its probe."""
    probe = graph.start(engine='held', max_step_time=0.6)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.begin_step(held, golden.image('case20'))
    return probe


def test_engine_that_hangs_is_an_error_until_it_returns(hanging, held, golden):
    status = hanging.status(lambda status: status.level == DiagnosticStatus.ERROR)

    assert status.message.startswith('active: the engine has worked on one step for ')
    assert 'limit 0.6 s (max_step_time)' in status.message
    hanging.wait(lambda: any('the engine has worked' in log for log in hanging.logs), 'log')
    held.gate.set()
    hanging.wait(lambda: len(hanging.actions) == 2, 'action')
    hanging.act(golden.image('case20'))
    assert hanging.status(lambda s: s.message == 'active').level == DiagnosticStatus.OK


def test_cleanup_of_an_engine_that_hangs_ends_and_says_so(hanging, held, golden):
    assert hanging.transit('deactivate')
    begin = time.monotonic()
    assert not hanging.transit('cleanup')
    assert time.monotonic() - begin < 3.0

    assert hanging.state() == 'unconfigured'
    status = hanging.status()
    assert status.level == DiagnosticStatus.ERROR
    assert 'the engine did not return' in status.message
    # A second model would not fit beside the first.
    assert not hanging.transit('configure')
    hanging.wait(lambda: any('not configured: the engine did' in x for x in hanging.logs), 'log')

    held.gate.set()
    thread = [t for t in threading.enumerate() if t.name == 'policy_worker'][-1]
    thread.join(10)
    assert hanging.transit('configure')
    assert hanging.transit('activate')
    hanging.connect()
    hanging.instruct(PUT)
    hanging.act(golden.image('case20'))
    assert not [log for log in hanging.logs if 'step failed' in log]


@pytest.mark.parametrize('transition', ['active_shutdown', 'destroy'])
def test_shutdown_with_an_engine_that_hangs_is_quick(graph, hanging, transition):
    begin = time.monotonic()

    if transition == 'destroy':
        graph.close()
    else:
        assert hanging.transit(transition)
        assert hanging.state() == 'finalized'

    assert time.monotonic() - begin < 3.0


def test_cleanup_waits_for_a_step_that_is_only_slow(graph, held, golden):
    probe = graph.start(engine='held', max_step_time=30.0)
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.begin_step(held, golden.image('case20'))
    assert probe.transit('deactivate')

    threading.Timer(1.0, held.gate.set).start()

    assert probe.transit('cleanup')
    assert probe.transit('configure')


def test_worker_that_died_is_not_active(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    (thread,) = [t for t in threading.enumerate() if t.name == 'policy_worker']

    # What may end a thread between two steps; it takes effect when the thread wakes up.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    probe.send(golden.image('case20'))
    thread.join(10)

    status = probe.status(lambda status: status.message.startswith('unconfigured'))
    assert status.level == DiagnosticStatus.ERROR
    assert 'the worker ended: SystemExit' in status.message
    assert probe.state() == 'unconfigured'
    for transition in ('configure', 'activate'):
        assert probe.transit(transition)
    probe.connect()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))


@pytest.mark.parametrize('error', [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_whatever_a_step_raises_the_next_one_is_done(graph, held, golden, monkeypatch, error):
    def fail(*_):
        raise error

    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    with monkeypatch.context() as patch:
        patch.setattr(held, 'encode', fail)
        probe.send(golden.image('case20'))
        probe.status(lambda s: 'errors' in s.message)

    if probe.state() == 'active':
        probe.act(golden.image('case20'))
    else:
        assert probe.state() == 'unconfigured'
