"""The node knows the protocol of a policy and nothing else."""

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
