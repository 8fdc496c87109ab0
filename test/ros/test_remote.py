"""The node with the policy elsewhere: engine remote."""

from contextlib import contextmanager
from pathlib import Path
import socket
import threading
import time

import numpy as np
from probe import values_of
import pytest

from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.camera import CameraSettings

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
TOKEN = 'a-token-of-this-test'
PUT = 'put the spoon on the towel'


@contextmanager
def running(engine='torch', port=0, **camera):
    """Run a server of the golden checkpoint, with settings of the camera; give its port."""
    from trt_openvla_ros.serving.app import create_app
    from trt_openvla_ros.serving.main import Server, uvicorn_config
    from trt_openvla_ros.serving.settings import ServerSettings

    policy = Policy.from_checkpoint(
        GOLDEN / 'fused', 'other_arm', engine, device='cpu', camera=CameraSettings(**camera)
    )
    settings = ServerSettings()
    listener = socket.create_server(('127.0.0.1', port))
    server = Server(uvicorn_config(create_app(policy, settings, TOKEN), settings))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv('TRT_OPENVLA_TOKEN', TOKEN)


def remote(port, **parameters):
    return {
        'engine': 'remote', 'checkpoint': '', 'remote_url': f'http://127.0.0.1:{port}',
        'remote_jpeg_quality': 0, 'remote_timeout': 20.0, **parameters,
    }  # fmt: skip


def test_actions_are_those_of_the_server(graph, golden):
    with running() as port:
        probe = graph.start(**remote(port, publish_prompt_image=True))
        probe.instruct(golden.instruction('case00'))
        action = probe.act(golden.image('case00'))
        probe.wait(lambda: probe.prompt_images, 'image of the prompt')
    expected = golden.action('case00', 'toy_arm')
    np.testing.assert_allclose(action.action, expected, rtol=0, atol=1e-12)
    assert (action.unnorm_key, action.engine, action.device) == ('toy_arm', 'remote', 'cpu')
    assert action.checkpoint.endswith(f'fused at http://127.0.0.1:{port}')
    assert action.inference_time > action.vision_time > 0
    assert (probe.prompt_images[0].height, probe.prompt_images[0].width) == (224, 224)


def test_steps_of_the_picture_are_shared_with_the_server(graph):
    frame = np.load(GOLDEN / 'libero' / 'golden.npz')
    libero = {'center_crop': 'true', 'jpeg_round_trip': 'true', 'resize': 'lanczos3'}
    with running(**libero) as port:
        given = {'rotation': 180, 'remote_jpeg_quality': 90, 'publish_prompt_image': True}
        probe = graph.start(**remote(port, **given))
        probe.instruct(PUT)
        probe.act(frame['libero_raw'])
        probe.wait(lambda: probe.prompt_images, 'image of the prompt')
    shown = np.frombuffer(probe.prompt_images[0].data, np.uint8).reshape(224, 224, 3)
    np.testing.assert_array_equal(shown, frame['libero_cropped'])


def test_a_late_answer_is_dropped_and_the_next_frame_gets_its_own(graph, golden, held):
    with running('held') as port:
        probe = graph.start(**remote(port, remote_timeout=0.5))
        probe.instruct(PUT)
        late = probe.begin_step(held, golden.image('case00'))
        probe.counted(engine_errors=1)
        assert any('no answer within 0.5 s' in log for log in probe.logs)
        held.gate.set()
        action = probe.act(golden.image('case20'))
        expected = golden.action('case20', 'toy_arm')
        np.testing.assert_allclose(action.action, expected, rtol=0, atol=1e-12)
        assert all(a.header.stamp != late for a in probe.actions)


def test_a_server_that_comes_back_is_used_again(graph, golden):
    with running() as port:
        probe = graph.start(**remote(port))
        probe.instruct(PUT)
        probe.act(golden.image('case20'))
    probe.send(golden.image('case20'))
    probe.status(lambda status: int(values_of(status)['engine_errors']) > 0)
    with running(port=port):
        probe.act(golden.image('case20'))


def test_an_instruction_that_the_model_cannot_read_stops_as_with_a_model_here(graph):
    with running() as port:
        probe = graph.start(**remote(port))
        probe.instruct('say </s>')
        probe.counted(instructions_rejected=1)
        assert any('special token' in log for log in probe.logs)


def test_without_a_server_configuring_fails_with_its_address(graph):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    graph.add(**remote(port))
    probe = graph.probe()
    assert not probe.transit('configure')
    probe.wait(lambda: any(f'127.0.0.1:{port}' in log for log in probe.logs), 'the address')


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'remote_url': ''}, 'engine remote needs parameter remote_url'),
        ({'remote_url': 'rack'}, 'is no URL of a server'),
        ({'unnorm_key': 'nobody'}, "unnorm_key 'nobody' is not in"),
        ({'center_crop': 'true'}, 'center_crop is true here, and the server serves with false'),
    ],
)
def test_impossible_parameters_are_named(graph, parameters, reason):
    with running() as port:
        graph.add(**remote(port, **parameters))
        probe = graph.probe()
        assert not probe.transit('configure')
        probe.wait(lambda: any(reason in log for log in probe.logs), reason)


def test_the_token_is_read_from_a_file(graph, monkeypatch, tmp_path):
    monkeypatch.delenv('TRT_OPENVLA_TOKEN')
    path = tmp_path / 'token'
    with running() as port:
        graph.add(**remote(port, remote_token_file=str(path)))
        probe = graph.probe()
        assert not probe.transit('configure')
        probe.wait(lambda: any('cannot be read' in log for log in probe.logs), 'reason')
        path.write_text('not-the-token-of-it')
        assert not probe.transit('configure')
        probe.wait(lambda: any('send the token' in log for log in probe.logs), 'reason')
        path.write_text(f'{TOKEN}\n')
        assert probe.transit('configure'), probe.logs
