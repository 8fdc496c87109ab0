"""Pictures in requests: every door reads the same, and none for a client that left."""

import base64
import json
import socket
import threading
import time

import numpy as np
from picture_files import encoded, READ, REFUSED, RGB
import pytest
from served import wait
from stand_in_policy import StandInPolicy

from trt_openvla_ros import pictures
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.serving import query


@pytest.fixture(scope='module')
def asked():
    return StandInPolicy()


@pytest.fixture(scope='module')
def picture_server(serve, asked):
    with serve(policy=asked) as server:
        yield server


def by_json(server, data, directory):
    image = base64.b64encode(data).decode()
    return server.act(image=image, instruction='go').raise_for_status()


def by_form(server, data, directory):
    files = {'image': ('a.jpg', data, 'image/jpeg')}
    return server.http.post('/act', files=files, data={'instruction': 'go'}).raise_for_status()


def by_query_server(server, data, directory):
    (directory / 'a').write_bytes(data)
    query.main(
        ['--port', str(server.port), '--instruction', 'go', '--quality', '0',
         '--image', str(directory / 'a')]
    )  # fmt: skip


DOORS = {'json': by_json, 'form': by_form, 'query_server': by_query_server}


@pytest.mark.parametrize('name', READ)
@pytest.mark.parametrize('door', DOORS)
def test_every_door_gives_the_same_pixels(door, name, picture_server, asked, tmp_path):
    data, expected = READ[name]
    DOORS[door](picture_server, data, tmp_path)
    np.testing.assert_array_equal(asked.calls[-1].image, expected)


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('door', ['json', 'form'])
def test_every_door_refuses_with_the_same_sentence(door, name, picture_server, tmp_path):
    data, reason = REFUSED[name]
    with pytest.raises(PolicyError, match=reason) as refused:
        pictures.read_picture(data)
    with pytest.raises(Exception) as again:  # noqa: PT011 - httpx's, with the response
        DOORS[door](picture_server, data, tmp_path)
    response = again.value.response
    assert response.json()['error'] == str(refused.value)
    assert response.status_code == (413 if 'at most' in reason else 400)


@pytest.mark.parametrize('name', REFUSED)
def test_query_server_says_so_before_it_asks(name, picture_server, tmp_path):
    data, _ = REFUSED[name]
    with pytest.raises(PolicyError) as refused:
        pictures.read_picture(data)
    with pytest.raises(SystemExit) as ended:
        by_query_server(picture_server, data, tmp_path)
    assert str(refused.value) in str(ended.value)
    assert 'image ' in str(ended.value)


def test_reading_ends_when_its_client_leaves(serve, asked, monkeypatch):
    # 30 Mpixel in 10 scans, twice: seconds of work, in pieces of at most 64 KiB.
    large = encoded(np.tile(RGB, (100, 100, 1)), 'JPEG', progressive=True, quality=50)
    begun, ended, read = threading.Event(), [], pictures.read_picture

    def watched(data, max_pixels, stopped):
        begun.set()
        try:
            return read(data, max_pixels, stopped)
        except PolicyError as error:
            ended.append(str(error))
            raise

    monkeypatch.setattr(pictures, 'read_picture', watched)
    before = len(asked.calls)
    with serve(policy=asked, max_pixels=2**26, max_body=2**26) as server:
        body = json.dumps({'image': base64.b64encode(large).decode(), 'instruction': 'go'})
        with socket.create_connection(('127.0.0.1', server.port)) as client:
            head = (
                f'POST /act HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n'
                f'Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
            )
            client.sendall((head + body).encode())
            assert begun.wait(20)
        left = time.monotonic()
        wait(lambda: ended)
        assert 'nobody waits' in ended[0]
        assert time.monotonic() - left < 2
        wait(lambda: server.queue.inside == 0)
        assert 'status="499"' in server.http.get('/metrics').text
    assert len(asked.calls) == before
