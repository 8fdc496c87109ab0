"""Who may ask, and how much."""

import base64
import errno
import io
import json
import socket
import struct
import time
import zlib

import httpx
import numpy as np
from PIL import Image
import pytest

from trt_openvla_ros.client import TOKEN_VARIABLE
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.serving import main
from trt_openvla_ros.serving.settings import read_token, ServerSettings

TOKEN = 'a-token-of-this-test'
JSON = {'content-type': 'application/json'}


def png_of(width, height, data=b''):
    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def ask(image: bytes) -> dict:
    return {'image': base64.b64encode(image).decode(), 'instruction': 'go'}


def send(server, head: str, body: bytes = b'') -> bytes:
    """Send raw bytes and read the answer to its end."""
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as connection:
        connection.sendall(head.replace('\n', '\r\n').encode() + b'\r\n\r\n' + body)
        return b''.join(iter(lambda: connection.recv(65536), b''))


def head(server, *lines: str) -> str:
    return '\n'.join(
        ['POST /act HTTP/1.1', f'Host: 127.0.0.1:{server.port}',
         'Content-Type: application/json', *lines]
    )  # fmt: skip


def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(server):
    begun = time.monotonic()
    # None of it is sent: who waits for it would wait for ever.
    answer = send(server, head(server, 'Expect: 100-continue', 'Content-Length: 8388609'))
    assert answer.startswith(b'HTTP/1.1 413')
    assert b'connection: close' in answer
    assert b'longer than 8388608 bytes' in answer
    assert time.monotonic() - begun < 10


def test_who_sends_a_long_body_all_the_same_can_read_the_reason(server):
    response = server.http.post('/act', content=bytes(30 * 2**20), headers=JSON)
    assert response.status_code == 413
    assert 'longer than 8388608 bytes' in response.json()['error']


def test_a_body_without_a_length_is_cut_off_at_the_limit(serve):
    sent = []

    def endless():
        while True:
            sent.append(1)
            yield bytes(65536)

    with serve(max_body=2**20) as server:
        try:
            status = server.http.post('/act', content=endless(), headers=JSON).status_code
        except httpx.TransportError:  # it may be cut off while it sends
            status = 413
        assert status == 413
        metrics = server.http.get('/metrics').text
    assert 'trt_openvla_requests_total{dialect="unknown",status="413"} 1.0' in metrics


def test_a_slow_body_is_not_waited_for(serve):
    with serve(body_timeout=0.2) as server:
        answer = send(server, head(server, 'Content-Length: 100', 'Expect: none'), b'{"image')
        assert answer.startswith(b'HTTP/1.1 408')
        assert server.queue.inside == 0


def test_a_small_file_of_a_huge_image_is_refused_before_it_is_decoded(server):
    for width, height in ((60_000, 60_000), (8_388_609, 1), (4096, 2049)):
        response = server.act(**ask(png_of(width, height)))
        assert response.status_code == 413, response.text
        assert 'at most 8388608 are accepted' in response.json()['error']


def test_a_broken_png_is_refused(server):
    for data in (b'', b'\x00' * 10, b'\xff' * 1000):
        response = server.act(**ask(png_of(20, 20, data)))
        assert response.status_code == 400
        assert 'broken PNG' in response.json()['error']


def test_a_jpeg_that_would_take_for_ever_is_refused(server):
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, 'JPEG', progressive=True)
    assert server.act(**ask(file.getvalue())).status_code == 200
    data = file.getvalue()
    scans = data[data.rindex(b'\xff\xda') : -2] * 100
    response = server.act(**ask(data[:-2] + scans + data[-2:]))
    assert response.status_code == 400
    assert 'more than 64 scans' in response.json()['error']


def test_sixteen_bit_images_are_not_cut(server):
    file = io.BytesIO()
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257).save(file, 'PNG')
    sixteen = server.act(**ask(file.getvalue())).json()
    file = io.BytesIO()
    Image.fromarray(grey).save(file, 'PNG')
    assert sixteen['action'] == server.act(**ask(file.getvalue())).json()['action']


def test_a_token_is_asked_for(serve):
    with serve(token=TOKEN) as server:
        for path in ('/', '/healthz', '/docs', '/openapi.json', '/samples/coffee.jpg'):
            assert server.http.get(path).status_code == 200, path
        for headers in (
            {},
            {'authorization': TOKEN},
            {'authorization': f'Bearer {TOKEN}x'},
            {'authorization': f'Bearer {TOKEN[:-1]}'},
            {'authorization': 'Bearer'},
            {'authorization': f'Basic {TOKEN}'},
        ):
            for path in ('/metadata', '/metrics', '/act', '/nowhere'):
                response = server.http.get(path, headers=headers)
                assert response.status_code == 401, path
                assert response.headers['www-authenticate'] == 'Bearer'
                assert TOKEN not in response.text
            assert (
                server.http.post('/act', content=b'{}', headers={**JSON, **headers}).status_code
                == 401
            )
        for kind in ('Bearer', 'bearer', 'Api-Key'):
            given = {'authorization': f'{kind} {TOKEN}'}
            assert server.http.get('/metadata', headers=given).status_code == 200


def test_pages_of_other_sites_may_not_ask(server):
    for origin in ('http://evil.example', 'null', f'https://127.0.0.1:{server.port + 1}'):
        response = server.http.post('/act', json={}, headers={'origin': origin})
        assert response.status_code == 403
    assert server.http.post('/act', json={}, headers={'origin': server.url}).status_code == 400


def test_this_machine_has_no_other_names(server, serve):
    for host, status in (
        ('evil.example', 403), ('127.0.0.1.evil.example', 403), ('', 403), ('[', 403),
        ('localhost', 200), (f'localhost:{server.port}', 200), ('[::1]:8000', 200),
        # The address in the examples of openvla's, openvla-oft's and openpi's clients.
        ('127.8.8.8', 200), ('0.0.0.0:8000', 200), ('[::]:8000', 200),
    ):  # fmt: skip
        response = server.http.get('/metadata', headers={'host': host})
        assert response.status_code == status, host
    with serve(token=TOKEN) as guarded:
        headers = {'host': 'robot.lab', 'authorization': f'Bearer {TOKEN}'}
        assert guarded.http.get('/metadata', headers=headers).status_code == 200


def test_pages_may_load_nothing_from_elsewhere(server):
    for path in ('/', '/docs'):
        response = server.http.get(path)
        policy = response.headers['content-security-policy']
        assert "default-src 'none'" in policy
        assert 'http' not in policy
        assert 'https://' not in response.text.replace('https://127', '')


def test_unknown_paths_and_methods_have_reasons(server):
    for method, path, status in (
        ('GET', '/act', 405), ('PUT', '/act', 405), ('GET', '/samples/../app.py', 404),
        ('GET', '/samples/%2e%2e%2fapp.py', 404), ('GET', '/samples/nothing.jpg', 404),
        ('GET', '/ACT', 404), ('POST', '/', 405),
    ):  # fmt: skip
        response = server.http.request(method, path)
        assert response.status_code == status, path
        assert response.json()['error']


def test_what_is_no_http_is_refused(server):
    assert send(server, 'HELLO').startswith(b'HTTP/1.1 400')


@pytest.fixture
def environment(monkeypatch):
    """Set the token of the environment; None sets none."""

    def make(token):
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
        if token is not None:
            monkeypatch.setenv(TOKEN_VARIABLE, token)

    make(None)
    return make


@pytest.mark.parametrize('host', ['0.0.0.0', '::', '192.168.1.5', 'robot.lab'])
def test_others_need_a_token_unless_it_is_waived(environment, host):
    with pytest.raises(ConfigError, match='there is no token; set TRT_OPENVLA_TOKEN'):
        read_token(ServerSettings(host=host))
    assert read_token(ServerSettings(host=host, allow_no_token=True)) is None
    environment(TOKEN)
    assert read_token(ServerSettings(host=host)) == TOKEN


def test_the_token_comes_from_the_environment_or_a_file(environment, tmp_path):
    path = tmp_path / 'token'
    path.write_text(f'{TOKEN}\n')
    told = ServerSettings(token_file=str(path))
    assert read_token(told) == TOKEN
    with pytest.raises(ConfigError, match='cannot be read'):
        read_token(ServerSettings(token_file=str(tmp_path / 'nothing')))
    environment('of-the-environment')
    assert read_token(told) == 'of-the-environment'
    for bad in ('', 'short', 'two words are no token', 'ümlaute-sind-nicht-erlaubt'):
        environment(bad)
        with pytest.raises(ConfigError, match='at least 16 printable'):
            read_token(told)


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', '::1', '127.3.2.1'])
def test_this_machine_needs_none(environment, host):
    assert read_token(ServerSettings(host=host)) is None


def test_a_port_that_is_taken_is_known_before_loading(server):
    with pytest.raises(ConfigError, match=f'cannot listen on 127.0.0.1, port {server.port}'):
        main.serve(ServerSettings(checkpoint='/nowhere', port=server.port))


def test_nobody_waits_for_a_model_that_loads(policy, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as free:
        address = free.getsockname()
    refused, others = [], []

    def load(settings):
        with socket.socket() as client:
            refused.append(client.connect_ex(address))
        others.append(socket.create_server(address))  # another one is faster
        return policy

    monkeypatch.setattr(main, 'open_policy', load)
    with pytest.raises(ConfigError, match=f'cannot listen on 127.0.0.1, port {address[1]}'):
        main.serve(ServerSettings(port=address[1]))
    others[0].close()
    assert refused == [errno.ECONNREFUSED]


def test_an_unexpected_error_is_told_without_its_traceback(server, policy, monkeypatch):
    def fail(views):
        raise ValueError('secret')

    monkeypatch.setattr(policy.engines.vision, 'encode', fail)
    body = json.dumps(ask(png_of(2, 2, bytes(14)))).encode()
    response = server.http.post('/act', content=body, headers=JSON)
    assert response.status_code == 500
    assert response.json() == {'error': "internal error; the server's log has it"}
