"""The node knows the protocol of a policy and nothing else."""

from dataclasses import replace

from lying_server import lying
import numpy as np
import pytest
from stand_in_policy import DESCRIPTION, StandInPolicy
from std_msgs.msg import String

from trt_openvla_ros.errors import BrokenEngineError, OutputError
from trt_openvla_ros.nodes import policy_node

IMAGE = np.full((48, 64, 3), 128, np.uint8)


@pytest.fixture
def acting(graph, monkeypatch):
    """Start a node with a policy of the test's own; give its probe."""

    def start(policy, **parameters):
        monkeypatch.setattr(policy_node, 'load_policy', lambda parameters: policy)
        return graph.start(**{'unnorm_key': '', **parameters})

    return start


def test_what_the_policy_says_is_published(acting):
    policy = StandInPolicy(np.linspace(-0.5, 0.5, 7))
    probe = acting(policy)
    probe.instruct('go')

    action = probe.act(IMAGE)

    wanted = policy.predict(IMAGE, 'go')
    np.testing.assert_array_equal(action.unlimited_action, wanted.action)
    np.testing.assert_array_equal(action.normalised_action, wanted.normalised_action)
    for name in ('checkpoint', 'engine', 'dtype', 'device', 'unnorm_key'):
        assert getattr(action, name) == getattr(DESCRIPTION, name)
    assert action.inference_time == wanted.timings['total']


def test_the_key_is_an_argument_of_each_prediction(acting):
    policy = StandInPolicy()
    probe = acting(policy)
    probe.instruct('go')
    assert probe.act(IMAGE).unnorm_key == 'first_arm'

    assert probe.set(unnorm_key='second_arm')[0].successful
    assert probe.act(IMAGE).unnorm_key == 'second_arm'

    assert [call.unnorm_key for call in policy.calls][-1] == 'second_arm'
    assert policy.description is not None
    # Empty stands for the only key, and there are two.
    (refused,) = probe.set(unnorm_key='')
    assert not refused.successful
    assert 'no unnorm_key for' in refused.reason


def test_a_policy_that_finds_no_action_is_counted(acting):
    policy = StandInPolicy()
    probe = acting(policy)
    probe.instruct('go')
    policy.error = OutputError('the model wrote no action')
    probe.send(IMAGE)
    probe.counted(output_errors=1)
    policy.error = None
    probe.act(IMAGE)


BAD = {
    'nan': {'actions': np.array([[0.0, 0.0, np.nan, 0.0, 0.0, 0.0, 0.0]])},
    'inf': {'actions': np.array([[np.inf, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])},
    'outside': {'actions': np.full((1, 7), 0.5)},
    'short': {'actions': np.zeros((1, 6))},
    'long': {'actions': np.zeros((2, 7))},
    'float32': {'actions': np.zeros((1, 7), np.float32)},
    'normalised': {'normalised_actions': np.full((1, 7), np.nan)},
    'forced': {'out_of_range': 7},
    'impossible': {'out_of_range': -1},
    'unannounced': {'unnorm_key': 'third_arm'},
}


@pytest.mark.parametrize('changes', BAD.values(), ids=BAD)
def test_what_fails_at_the_gate_is_counted_and_the_next_action_published(
    acting, monkeypatch, changes
):
    policy = StandInPolicy(np.zeros(7))
    probe = acting(policy, publish_prompt_image=True, max_forced_tokens=6)
    probe.instruct('go')
    good = policy.predict
    monkeypatch.setattr(policy, 'predict', lambda *a, **k: replace(good(*a, **k), **changes))
    probe.send(IMAGE)
    probe.counted(output_errors=1, actions=0, internal_errors=0)
    assert any('no action: ' in log for log in probe.logs)
    monkeypatch.setattr(policy, 'predict', good)

    assert probe.act(IMAGE).sequence == 1
    assert len(probe.reasonings) <= len(probe.actions)
    assert all(np.isfinite(action.action).all() for action in probe.actions)


def test_a_server_that_lies_moves_nothing(graph):
    lies = [{'action': [0.5] * 7}, {'action': [float('nan')] * 7}, {'out_of_range': 7}]
    with lying(answer=lambda answer: answer.update(lies.pop(0) if lies else {})) as url:
        probe = graph.start(
            engine='remote', checkpoint='', unnorm_key='', remote_url=url, remote_timeout=20.0
        )
        probe.instruct('go')
        probe.send(IMAGE)
        probe.counted(output_errors=1, actions=0)
        probe.send(IMAGE)
        probe.counted(engine_errors=1, actions=0)
        probe.send(IMAGE)
        probe.counted(output_errors=2, actions=0)
        probe.act(IMAGE)


def test_a_policy_that_breaks_is_closed(acting):
    policy = StandInPolicy()
    probe = acting(policy)
    probe.instruct('go')
    policy.error = BrokenEngineError('it broke')
    probe.send(IMAGE)
    probe.wait(lambda: probe.state() == 'unconfigured', 'way out of active')
    assert policy.closed


def test_reasoning_is_told_as_it_grows(acting):
    probe = acting(StandInPolicy(reasoning='move left'))
    heard = []
    topic = f'{probe.target}/reasoning_stream'
    subscription = probe.node.create_subscription(String, topic, heard.append, 100)
    probe.wait(subscription.get_publisher_count, 'publisher of the stream')
    probe.instruct('go')
    probe.act(IMAGE)
    probe.wait(lambda: len(heard) >= 2, 'stream')
    assert [message.data for message in heard][:2] == ['move', 'move left']
