"""Configure, activate, deactivate, cleanup, as a controller asks for them."""

import gc
import weakref

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.lifecycle import LifecyclePublisher

from trt_openvla_ros.policy import Policy

PUT = 'put the spoon on the towel'


def living(kind):
    gc.collect()
    return [weakref.ref(thing) for thing in gc.get_objects() if type(thing) is kind]


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'checkpoint': '/nowhere/at-all'}, "'/nowhere/at-all'"),
        ({'checkpoint': ''}, 'parameter checkpoint is empty'),
        ({'unnorm_key': 'toy_leg'}, "unnorm_key 'toy_leg' is not in"),
        ({'unnorm_key': ''}, 'no unnorm_key for'),
        ({'engine': 'steam'}, "unknown engine 'steam'"),
        ({'device': 'toaster'}, 'toaster'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_failed_configure_says_why_and_leaves_unconfigured(graph, parameters, reason):
    graph.add(**parameters)
    probe = graph.probe()

    assert not probe.transit('configure')

    assert probe.state() == 'unconfigured'
    probe.wait(lambda: any(reason in log for log in probe.logs), f'log of {reason!r}')
    if 'unnorm_key' in parameters:
        # The way out: every key there is, with the ranges by which a user recognises it.
        shown = next(log for log in probe.logs if reason in log)
        assert 'toy_arm: [-0.0287, 0.0283]' in shown
        assert 'other_arm: [-1, 1]' in shown


def test_broken_weights_are_refused_at_configure(graph, edited_checkpoint):
    def poison(weights):
        weights['language_model.lm_head.weight'][:] = float('nan')

    graph.add(checkpoint=edited_checkpoint('fused', poison))
    probe = graph.probe()

    assert not probe.transit('configure')

    probe.wait(lambda: any('not finite' in log for log in probe.logs), 'reason')


def test_failed_configure_is_in_diagnostics_until_it_succeeds(graph):
    graph.add(unnorm_key='toy_leg')
    probe = graph.probe()
    assert not probe.transit('configure')
    failed = probe.status(lambda status: 'toy_leg' in status.message)
    assert failed.level == DiagnosticStatus.ERROR
    assert failed.message.startswith('unconfigured')

    assert all(result.successful for result in probe.set(unnorm_key='toy_arm'))
    assert probe.transit('configure')

    fixed = probe.status(lambda status: status.message.startswith('inactive'))
    assert fixed.level == DiagnosticStatus.OK
    assert 'toy_leg' not in fixed.message


def test_configured_but_inactive_node_does_not_infer(graph, held, golden):
    graph.add(engine='held', max_image_age=0.0)
    probe = graph.probe()
    assert probe.transit('configure')
    probe.connect()
    assert probe.state() == 'inactive'
    probe.instruct(PUT)

    inactive = [probe.send(golden.image('case20')) for _ in range(3)]
    probe.counted(images_received=3)
    assert held.calls == 2, 'inference ran in the inactive state'

    assert probe.transit('activate')
    probe.act(golden.image('case20'))
    assert probe.actions[0].header.stamp not in inactive


def test_deactivate_during_inference_publishes_nothing_more(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    in_progress = probe.begin_step(held, golden.image('case20'))
    waiting = probe.send(golden.image('case20'))
    # It returns while the step goes on: stopping must not wait for a slow model.
    assert probe.transit('deactivate')
    held.gate.set()

    # Activated again at once, while the old step may still be on its way.
    assert probe.transit('activate')
    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))
    stamps = [action.header.stamp for action in probe.actions]
    assert in_progress not in stamps
    assert waiting not in stamps
    assert action.sequence == 1, 'the sequence counts from activation'


def test_cleanup_frees_the_policy_and_its_topics(graph, golden):
    policies = living(Policy)
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    assert len(living(Policy)) == len(policies) + 1

    assert probe.transit('deactivate')
    assert probe.transit('cleanup')

    assert probe.state() == 'unconfigured'
    assert len(living(Policy)) == len(policies)
    probe.wait(lambda: not probe.images.get_subscription_count(), 'end of the subscription')
    probe.wait(lambda: not probe.results[0].get_publisher_count(), 'end of the publisher')


def test_configuring_again_and_again_keeps_no_publishers(graph):
    graph.add()
    probe = graph.probe()
    counts = []
    for _ in range(3):
        assert probe.transit('configure')
        assert probe.transit('cleanup')
        counts.append(len(living(LifecyclePublisher)))

    assert counts[1:] == counts[:1] * 2


def test_second_life_acts_like_the_first(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    for transition in ('deactivate', 'cleanup'):
        assert probe.transit(transition)
    probe.wait(lambda: not probe.images.get_subscription_count(), 'end of the subscription')

    assert all(result.successful for result in probe.set(unnorm_key='other_arm'))
    for transition in ('configure', 'activate'):
        assert probe.transit(transition)
    probe.connect()
    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))

    expected = golden.action('case20', 'other_arm')
    np.testing.assert_allclose(action.action, expected, rtol=0, atol=1e-12)
    assert action.sequence == 1
    probe.counted(actions=1)


def test_cleanup_forgets_the_instruction(graph, held, golden):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    for transition in ('deactivate', 'cleanup', 'configure', 'activate'):
        assert probe.transit(transition)
    probe.connect()
    calls = held.calls

    probe.send(golden.image('case20'))
    probe.counted(images_received=1, actions=0)

    assert held.calls == calls


@pytest.mark.parametrize(
    ('state', 'transitions'),
    [('unconfigured', []), ('inactive', ['configure']), ('active', ['configure', 'activate'])],
)
def test_shutdown_from_any_state_frees_the_policy(graph, state, transitions):
    policies = living(Policy)
    graph.add()
    probe = graph.probe()
    for transition in transitions:
        assert probe.transit(transition)
    assert probe.state() == state

    assert probe.transit(f'{state}_shutdown')

    assert probe.state() == 'finalized'
    assert len(living(Policy)) == len(policies)


def test_impossible_transition_is_refused(graph):
    graph.add()
    probe = graph.probe()

    assert not probe.transit('activate')

    assert probe.state() == 'unconfigured'
