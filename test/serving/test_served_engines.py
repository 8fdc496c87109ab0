"""The server on the stand-in of TensorRT-LLM: actions of the reference, and a broken engine."""

import json

import numpy as np
import pytest
from test_process import run, started

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.policy import Policy


@pytest.fixture
def case(golden_dir):
    """Give an image, what is asked, and the reference's numbers."""
    case = json.loads((golden_dir / 'fused' / 'golden.json').read_text())[0]
    image = np.load(golden_dir / 'fused' / 'golden.npz')[f'{case["case"]}_image']
    return image, case['prompt'].split('take to ')[1].split('?')[0], case


def test_a_process_serves_the_references_actions(exact_artifact, case):
    image, instruction, wanted = case
    rules = (f'checkpoint:={exact_artifact()}', 'engine:=tensorrt_llm', 'unnorm_key:=toy_arm')
    process = run(*rules, 'port:=0', 'device:=cpu')
    try:
        with Client(started(process), timeout=120, jpeg_quality=0) as client:
            assert client.metadata()['engine'] == 'tensorrt_llm'
            prediction = client.predict(image, instruction)
        process.terminate()
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    np.testing.assert_allclose(prediction.action, wanted['toy_arm'], rtol=0, atol=1e-12)
    assert prediction.action_ids.tolist() == wanted['generated_ids'][:7]
    assert process.returncode == 0, output
    assert 'Traceback' not in output


def test_a_broken_engine_is_an_error_and_unhealthy(
    exact_artifact, serve, case, monkeypatch, caplog
):
    image, instruction, _ = case
    policy = Policy.from_checkpoint(exact_artifact(), 'toy_arm', 'tensorrt_llm', 'cpu')

    def fail(**arguments):
        raise RuntimeError('CUDA error: out of memory')

    with serve(policy=policy, engine='tensorrt_llm') as server, Client(server.url) as client:
        client.predict(image, instruction)
        assert server.http.get('/healthz').status_code == 200
        monkeypatch.setattr(policy.engines.language._runner, 'generate', fail)
        with pytest.raises(EngineError, match='the engine broke; start the server again'):
            client.predict(image, instruction)
        health = server.http.get('/healthz')
    assert health.status_code == 503
    assert 'the engine broke' in health.json()['error']
    assert 'out of memory' in caplog.text
