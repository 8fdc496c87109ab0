"""The installed executable, as a launch file or a user starts it."""

import signal

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest

PUT = 'put the spoon on the towel'


@pytest.fixture
def launch(graph, execute):
    """Start the policy node's executable with changes to the parameters of every test."""
    return lambda *arguments, **changes: execute(
        'policy_node', *arguments, **{**graph.DEFAULTS, **changes}
    )


def test_autostart_acts_and_ends_on_interrupt(graph, golden, launch):
    process = launch()
    probe = graph.probe()
    probe.connect()
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))

    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    assert probe.state() == 'active'
    assert any(log.startswith('prompt style openvla: llm_backbone_id') for log in probe.logs)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


def test_process_runs_the_engines_that_python_finds(graph, golden, launch, exact_artifact):
    # A stand-in, by PYTHONPATH; in the container it is TensorRT-LLM.
    process = launch(checkpoint=exact_artifact(), engine='tensorrt_llm')
    probe = graph.probe()
    probe.connect()
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))

    assert action.engine == 'tensorrt_llm'
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


def test_without_autostart_it_waits_to_be_configured(graph, launch):
    process = launch(autostart=False)
    probe = graph.probe()

    assert probe.state() == 'unconfigured'
    assert probe.transit('configure')
    assert probe.state() == 'inactive'
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM), errors
    assert 'Traceback' not in errors


def test_failed_autostart_stays_to_be_asked_and_configured(graph, launch):
    launch(unnorm_key='toy_leg')
    probe = graph.probe()

    status = probe.status(lambda status: status.level == DiagnosticStatus.ERROR)

    assert "unnorm_key 'toy_leg'" in status.message
    assert probe.state() == 'unconfigured'
    assert probe.set(unnorm_key='toy_arm')[0].successful
    assert probe.transit('configure')


def test_impossible_parameter_ends_it_with_the_reason(launch):
    process = launch(max_new_tokens=0)

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert 'max_new_tokens' in errors
    assert 'Traceback' not in errors


def test_missing_parameter_file_ends_it_with_the_reason(launch):
    process = launch('--params-file', '/nowhere/robot.yaml')

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert '/nowhere/robot.yaml' in errors
    assert 'Traceback' not in errors
