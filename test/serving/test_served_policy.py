"""The server knows the protocol of a policy and nothing else; so does the policy at a server."""

import base64
import io
import json

import json_numpy
import msgpack
import numpy as np
from PIL import Image
import pytest
from stand_in_policy import DESCRIPTION, StandInPolicy
from websockets.sync.client import connect

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import ConfigError, EngineError, InputError, OutputError
from trt_openvla_ros.policy.remote import RemotePolicy

IMAGE = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
CHUNK = np.linspace(-1, 1, 21).reshape(3, 7)


@pytest.fixture
def remote(serve):
    """Serve a policy, and give the policy at that server."""
    running = []

    def start(policy, **arguments):
        server = serve(policy=policy)
        running.append((server, RemotePolicy(server.__enter__().url, **arguments)))
        return running[-1][1]

    yield start
    for server, policy in running:
        policy.close()
        server.__exit__(None, None, None)


def test_a_policy_at_a_server_answers_as_the_served_one(remote):
    here = StandInPolicy()
    there = remote(here, jpeg_quality=0, timeout=20.0)
    for asked in (None, 'second_arm', 'first_arm'):
        found, wanted = there.predict(IMAGE, 'go', asked), here.predict(IMAGE, 'go', asked)
        np.testing.assert_array_equal(found.actions, wanted.actions)
        assert found.unnorm_key == wanted.unnorm_key
        assert found.timings['total'] == found.timings['round_trip']
    assert there.description.engine == 'remote'
    assert there.description.checkpoint.startswith('/models/stand_in at http://')
    assert there.description.statistics.keys() == DESCRIPTION.statistics.keys()
    np.testing.assert_array_equal(there.preview(IMAGE), here.preview(IMAGE))


def test_the_key_of_a_policy_at_a_server_is_its_own(remote):
    there = remote(StandInPolicy(), unnorm_key='second_arm', timeout=20.0)
    assert there.predict(IMAGE, 'go').unnorm_key == 'second_arm'
    assert there.predict(IMAGE, 'go', 'first_arm').unnorm_key == 'first_arm'


def test_what_the_policy_at_a_server_cannot_say_is_refused_here(remote):
    here = StandInPolicy()
    there = remote(here, timeout=20.0)
    for given, reason in (
        ({'wrist_images': [IMAGE]}, 'wrist image'),
        ({'state': np.zeros(3)}, 'state'),
        ({'verbatim': True}, 'prompt of a known style'),
    ):
        with pytest.raises(InputError, match=reason):
            there.predict(IMAGE, 'go', **given)
    with pytest.raises(ConfigError, match="'nobody' is not in"):
        there.predict(IMAGE, 'go', 'nobody')
    assert here.calls == []
    prompt = DESCRIPTION.prompt.format(instruction='go')
    assert there.predict(IMAGE, prompt, verbatim=True).prompt == prompt


def test_a_chunk_of_actions_reaches_every_client(serve):
    policy = StandInPolicy(CHUNK)
    wanted = policy.predict(IMAGE, 'go').actions
    with serve(policy=policy) as server:
        with Client(server.url) as client:
            np.testing.assert_array_equal(client.predict(IMAGE, 'go').actions, wanted)
            assert client.metadata()['horizon'] == 3
        asked = {'full_image': json.loads(json_numpy.dumps(IMAGE)), 'instruction': 'go'}
        rows = server.http.post('/act', json=asked).json()
        found = [json_numpy.loads(json.dumps(row)) for row in rows]
        np.testing.assert_array_equal(found, wanted)
        with connect(f'ws://127.0.0.1:{server.port}', compression=None) as openpi:
            openpi.recv()
            image = {
                b'__ndarray__': True,
                b'data': IMAGE.tobytes(),
                b'dtype': '|u1',
                b'shape': IMAGE.shape,
            }
            openpi.send(msgpack.packb({'image': image, 'prompt': 'go'}))
            actions = msgpack.unpackb(openpi.recv())['actions']
            assert actions[b'shape'] == [3, 7]
            assert actions[b'data'] == wanted.tobytes()


def test_a_server_before_a_server_says_which_dialect_it_cannot_answer(remote, serve):
    there = remote(StandInPolicy(), timeout=20.0)
    original = {'image': json_numpy.dumps(IMAGE), 'instruction': 'go'}
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, 'PNG')
    modern = {'image': base64.b64encode(file.getvalue()).decode(), 'instruction': 'go'}
    with serve(policy=there) as server:
        answer = server.http.post('/act', json=original)
        assert (answer.status_code, list(answer.json())) == (501, ['error'])
        assert server.http.post('/act', json=modern).status_code == 200


@pytest.mark.parametrize('error', [OutputError('no action'), EngineError('no engine')])
def test_an_error_of_the_policy_stays_one_of_its_kind(remote, error):
    policy = StandInPolicy()
    there = remote(policy, timeout=20.0)
    policy.error = error
    with pytest.raises(type(error), match=str(error)):
        there.predict(IMAGE, 'go')
