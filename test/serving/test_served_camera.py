"""A server that does the steps of LIBERO, and the policies and clients that ask it."""

import base64
import io
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image
import pytest
from websockets.sync.client import connect

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import ConfigError, ImageError, InputError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.camera import CameraSettings
from trt_openvla_ros.policy.remote import RemotePolicy

DATA = Path(__file__).parents[1] / 'data' / 'golden'
FRAME = np.load(DATA / 'libero' / 'golden.npz')
RAW, RESIZED, CROPPED = (FRAME[f'photo_{stage}'] for stage in ('raw', 'resized', 'cropped'))
WIDE = np.random.default_rng(2).integers(0, 256, (90, 130, 3), dtype=np.uint8)
LIBERO = {'center_crop': 'true', 'jpeg_round_trip': 'true', 'resize': 'lanczos3'}


class Seeing(Policy):
    """A policy that keeps the views that its vision engine was given."""

    def watch(self):
        encode, self.seen = self.engines.vision.encode, []
        self.engines.vision.encode = lambda views: self.seen.append(views) or encode(views)
        self.close = lambda: None  # it outlives each of the servers
        return self


@pytest.fixture(scope='module')
def policies():
    """Give a policy for settings of the camera; each is loaded once."""
    known = {}

    def load(**camera):
        key = tuple(camera.items())
        if key not in known:
            settings = CameraSettings(**camera)
            path = DATA / 'fused'
            policy = Seeing.from_checkpoint(path, 'toy_arm', device='cpu', camera=settings)
            known[key] = policy.watch()
        known[key].seen.clear()
        return known[key]

    return load


@pytest.fixture
def remote(serve, policies):
    """Serve a policy, and give it with the policy at that server."""
    running = []

    def start(served, **here):
        policy = policies(**served)
        server = serve(policy=policy)
        url = server.__enter__().url
        running.append(server)
        return policy, RemotePolicy(url, timeout=20.0, camera=CameraSettings(**here))

    yield start
    for server in running:
        server.__exit__(None, None, None)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG')
    return file.getvalue()


def test_every_dialect_goes_through_the_same_steps(serve, policies):
    policy = policies(**LIBERO, rotation=180)
    with serve(policy=policy) as server:
        image = base64.b64encode(png(RAW)).decode()
        assert server.act(image=image, instruction='go').status_code == 200
        upload = {'image': ('a.png', png(RAW))}
        answer = server.http.post('/act', files=upload, data={'instruction': 'go'})
        assert answer.status_code == 200
        packed = {
            '__numpy__': base64.b64encode(RAW.tobytes()).decode(), 'dtype': '|u1',
            'shape': list(RAW.shape),
        }  # fmt: skip
        assert server.act(image=packed, instruction='go').status_code == 200
        assert server.act(full_image=packed, instruction='go').status_code == 200
        with connect(f'ws://127.0.0.1:{server.port}', compression=None, max_size=None) as client:
            assert msgpack.unpackb(client.recv())['camera']['center_crop'] is True
            array = {
                b'__ndarray__': True, b'data': RAW.tobytes(), b'dtype': '|u1', b'shape': RAW.shape
            }  # fmt: skip
            client.send(msgpack.packb({'observation/image': array, 'prompt': 'go'}))
            assert isinstance(client.recv(), bytes)
        with Client(server.url, jpeg_quality=0) as client:
            client.predict(RAW, 'go')
    assert len(policy.seen) == 6
    for views in policy.seen:
        np.testing.assert_array_equal(views[0], CROPPED)


def test_the_server_states_what_it_does(serve, policies):
    with serve(policy=policies(**LIBERO)) as server:
        assert server.http.get('/metadata').json()['camera'] == {
            'region': [0, 0, 0, 0], 'rotation': 0, 'mirror': 'none', 'jpeg_round_trip': True,
            'resize': 'lanczos3', 'center_crop': True,
        }  # fmt: skip


def test_a_client_that_resized_is_not_resized_again(serve, policies):
    # As openvla's LIBERO evaluation and openvla-oft's prepare pictures before they send them.
    policy = policies(**LIBERO)
    with serve(policy=policy) as server, Client(server.url, jpeg_quality=0) as client:
        client.predict(RESIZED, 'go')
    np.testing.assert_array_equal(policy.seen[0][0], CROPPED)


REGION = {'region_x': 5, 'region_y': 7, 'region_width': 80, 'region_height': 60}
CAMERA = {'rotation': 90, 'mirror': 'vertical', **REGION}


@pytest.mark.parametrize(
    ('served', 'here'),
    [
        (LIBERO, {}),
        (LIBERO, {'rotation': 180}),
        (LIBERO, CAMERA),
        (LIBERO, {**CAMERA, **LIBERO}),
        ({**LIBERO, **CAMERA}, {}),
        ({**LIBERO, 'jpeg_round_trip': 'false'}, CAMERA),
        ({'jpeg_round_trip': 'true', 'center_crop': 'true'}, CAMERA),
    ],
    ids=str,
)
def test_a_policy_at_a_server_sees_what_one_here_sees(remote, policies, served, here):
    """Each step is done once, by one of both, and no JPEG of the wire comes between."""
    policy, there = remote(served, **here)
    alone = policies(**{**served, **here}) if here else policy
    policy.seen.clear()
    for image in (WIDE, there.prepare(WIDE)):
        there.predict(image, 'go')
        np.testing.assert_array_equal(policy.seen.pop(), alone.spec.views(WIDE))
        np.testing.assert_array_equal(there.preview(image), alone.preview(WIDE))
    assert there.description.camera == alone.description.camera


def test_the_reference_pictures_arrive(remote):
    policy, there = remote(LIBERO, rotation=180)
    there.predict(RAW, 'go')
    np.testing.assert_array_equal(policy.seen[-1][0], CROPPED)
    np.testing.assert_array_equal(there.preview(RAW), CROPPED)


def test_a_jpeg_on_the_wire_is_in_the_preview(remote):
    policy, there = remote({}, rotation=270)
    there.predict(WIDE, 'go')
    np.testing.assert_array_equal(there.preview(WIDE), policy.seen[-1][0])
    assert (there.preview(WIDE) != policy.spec.views.preview(np.rot90(WIDE))).any()


@pytest.mark.parametrize(
    ('served', 'here', 'reason'),
    [
        ({}, LIBERO, 'center_crop is true here, and the server serves with false'),
        (LIBERO, {'center_crop': 'false'}, 'center_crop is false here, and the server .* true'),
        (LIBERO, {'resize': 'processor'}, 'resize is processor here, .* serves with lanczos3'),
        ({'rotation': 180}, {'rotation': 180}, 'are rotation 180, and those of the server rot'),
        ({'rotation': 180}, REGION, 'here the steps of the camera are region 80 x 60 at 5, 7'),
        ({}, {'rotation': 17}, 'rotation is 17; one of'),
    ],
    ids=str,
)
def test_sides_that_do_not_agree_are_refused(remote, served, here, reason):
    with pytest.raises(ConfigError, match=reason):
        remote(served, **here)


def test_a_region_outside_is_the_fault_of_who_set_it(remote, serve, policies):
    outside = {**REGION, 'region_x': 100}
    _, there = remote({}, **outside)
    for ask in (there.prepare, there.preview, lambda image: there.predict(image, 'go')):
        with pytest.raises(ImageError, match=r'80 x 60 px at 100, 7 is outside .* 130 x 90'):
            ask(WIDE)
    with serve(policy=policies(**outside)) as server, Client(server.url) as client:
        with pytest.raises(InputError, match='400: the region of 80 x 60 px at 100, 7'):
            client.predict(WIDE, 'go')
        big = np.zeros((480, 640, 3), np.uint8)
        assert client.predict(big, 'go').actions.shape == (1, 7)


def test_steps_of_the_description_are_the_servers_own(policies):
    assert policies(**LIBERO).description.camera == CameraSteps(
        jpeg_round_trip=True, resize='lanczos3', center_crop=True
    )
