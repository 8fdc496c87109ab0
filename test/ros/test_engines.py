"""The node on the stand-in of TensorRT-LLM, engines that break, and reasoning as it is written."""

from itertools import pairwise

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from std_msgs.msg import String

from trt_openvla_ros.engines.tensorrt_llm.language import TensorrtLlm

PUT = 'put the spoon on the towel'


@pytest.fixture
def breaking(monkeypatch):
    """Let the runner of TensorRT-LLM fail from the next step on, until that is undone."""

    def start():
        def fail(self, arguments, streams):
            self._runner.generate = out_of_memory
            return outputs(self, arguments, streams)

        def out_of_memory(**arguments):
            raise RuntimeError('CUDA error: out of memory')

        outputs = TensorrtLlm._outputs
        monkeypatch.setattr(TensorrtLlm, '_outputs', fail)

    yield start
    monkeypatch.undo()


def test_actions_through_both_engines_are_the_references(graph, golden, exact_artifact):
    probe = graph.start(checkpoint=str(exact_artifact()), engine='tensorrt_llm')
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))

    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    assert action.engine == 'tensorrt_llm'
    assert action.prefill_time > 0


def test_engine_that_breaks_leads_to_unconfigured_and_can_be_configured_again(
    graph, golden, exact_artifact, breaking, monkeypatch
):
    probe = graph.start(checkpoint=str(exact_artifact()), engine='tensorrt_llm')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    breaking()
    probe.send(golden.image('case20'))

    probe.wait(lambda: probe.state() == 'unconfigured', 'way out of active')
    status = probe.status(lambda status: status.level == DiagnosticStatus.ERROR)
    assert status.message.startswith(
        'unconfigured: TensorRT-LLM failed: CUDA error: out of memory'
    )
    probe.wait(lambda: not probe.images.get_subscription_count(), 'end of the subscription')
    # As long as the GPU is full it stays so, and says so.
    assert not probe.transit('configure')

    monkeypatch.undo()
    assert probe.transit('configure')
    assert probe.transit('activate')
    probe.connect()
    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    assert probe.status().level == DiagnosticStatus.OK


def test_engine_that_breaks_after_deactivate_leads_to_unconfigured_too(
    graph, golden, held, monkeypatch
):
    probe = graph.start(engine='held')
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.begin_step(held, golden.image('case20'))
    assert probe.transit('deactivate')

    def fail(self, views):
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    monkeypatch.setattr('trt_openvla_ros.engines.torch.vision.TorchVision.encode', fail)
    held.gate.set()

    probe.wait(lambda: probe.state() == 'unconfigured', 'way out of inactive')
    monkeypatch.undo()
    assert any('illegal memory access' in log for log in probe.logs)


def test_reasoning_is_published_while_it_is_written(graph, golden, forward_checkpoint):
    probe = graph.start(checkpoint=forward_checkpoint[0])
    heard = []
    topic = f'{probe.target}/reasoning_stream'
    subscription = probe.node.create_subscription(String, topic, heard.append, 100)
    probe.wait(subscription.get_publisher_count, 'publisher of the stream')
    probe.instruct(PUT)

    probe.act(golden.image('case00'))

    probe.wait(lambda: probe.reasonings, 'reasoning')
    texts = [message.data for message in heard]
    assert len(texts) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1].startswith(probe.reasonings[0].data)
