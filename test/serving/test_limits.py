"""The server's memory, connections and time have limits that clients cannot pass."""

from contextlib import suppress
import json
import logging
import socket
import struct
import threading
import time

import httpx
import msgpack
import numpy as np
import pytest
from served import wait
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.serving import connections
from trt_openvla_ros.serving.arrays import bytes_of_base64, read_json, read_msgpack, write_msgpack
from trt_openvla_ros.serving.budget import Budget
from trt_openvla_ros.serving.refusal import Refusal

IMAGE = np.zeros((48, 64, 3), np.uint8)


def idle(server, first=b''):
    connection = socket.create_connection(('127.0.0.1', server.port), 10)
    connection.sendall(first)
    return connection


def is_closed(connection):
    connection.settimeout(0.1)
    try:
        return connection.recv(100) == b''
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize('first', [b'', b'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: '])
def test_hundreds_of_idle_connections_keep_nobody_out(server, first):
    crowd = [idle(server, first) for _ in range(350)]
    try:
        # Not over the fixture's connection, which was idle too, and may have given way.
        assert httpx.get(f'{server.url}/healthz', timeout=30).status_code == 200
        wait(lambda: len(server.server.server_state.connections) <= connections._PER_ADDRESS)
        wait(lambda: is_closed(crowd[0]))  # the one that has asked nothing for longest gave way
        assert not is_closed(crowd[-1])
    finally:
        for connection in crowd:
            connection.close()


def test_a_connection_that_asks_nothing_is_closed(serve, monkeypatch):
    monkeypatch.setattr(connections, '_HEADER_TIME', 0.3)
    with serve() as server:
        asked = b'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
        for first in (b'', b'GET / HT', asked + b'GET / HTTP/1.1\r\nX: '):
            connection = idle(server, first)
            if first.startswith(asked):
                assert connection.recv(1000).startswith(b'HTTP/1.1 200')
            wait(lambda connection=connection: is_closed(connection))


def test_an_answer_that_takes_long_keeps_its_connection(serve, gate, monkeypatch):
    monkeypatch.setattr(connections, '_HEADER_TIME', 0.2)
    with serve() as server, Client(server.url) as client:
        gate.shut()
        started = time.monotonic()
        threading.Timer(0.8, gate.open).start()
        assert client.predict(IMAGE, 'pick up the cup').action.shape == (7,)
        assert time.monotonic() - started > 0.7


def test_endless_headers_end(server):
    connection = idle(server, b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n')
    line, sent = b'X-A: ' + b'a' * 60_000 + b'\r\n', 0
    with suppress(OSError):
        while sent < 500:
            connection.sendall(line)
            sent += 1
    assert sent < 500  # of which most lay in buffers of sockets


def test_a_budget_gives_back_what_it_gave():
    budget = Budget(100)
    with budget.hold(60):
        with pytest.raises(Refusal, match=r'hold 60 of 100 bytes, and this one needs 50; try'):
            budget.hold(50).__enter__()
        with pytest.raises(Refusal), budget.hold(10, share=0.5):
            pass
        assert budget.held == 60
    with pytest.raises(ZeroDivisionError), budget.hold(100):
        1 / 0  # noqa: B018
    assert budget.held == 0


def test_requests_together_get_no_more_than_the_budget(serve):
    with serve(max_memory=2**20, max_body=2**19) as server:
        small = {'image': '', 'instruction': 'x'}
        answer = server.act(**small, more='a' * 2**18)
        assert answer.status_code == 503, answer.text
        assert 'max_memory' in answer.json()['error']
        assert server.act(**small).status_code == 400  # it was read
        with connect(server.url.replace('http', 'ws')) as first:
            first.recv()
            with (
                pytest.raises((ConnectionClosed, InvalidStatus)),
                connect(server.url.replace('http', 'ws')) as second,
            ):
                second.recv()
        wait(lambda: server.app.state.service.budget.held == 0)


NESTED = [
    b'\xdd' + struct.pack('>I', 10**6) + b'\x90' * 10**6,  # a million empty lists in one
    (b'\xdc\x01\x00' + b'\x90' * 255) * 400 + b'\x90' * 400,  # 256 in each, one in another
    msgpack.packb([[[] for _ in range(200)] for _ in range(200)]),
    msgpack.packb({str(i): {str(j): {} for j in range(200)} for i in range(200)}),
    b'\x91' * 10**6 + b'\xc0',
]


@pytest.mark.parametrize('data', NESTED)
def test_msgpack_of_many_elements_is_refused_while_it_is_read(data):
    with pytest.raises(Refusal, match='is not msgpack'):
        read_msgpack(data)


@pytest.mark.parametrize(
    'text', ['[' + '[],' * 10**5 + '[]]', '{"a":' * 6000 + '1' + '}' * 6000, '[' * 10**5]
)
def test_json_of_many_elements_is_refused(text):
    for data in (text, text.encode()):
        with pytest.raises(Refusal, match=r'commas and brackets|nested too deeply'):
            read_json(data)


def test_what_clients_send_has_few_elements():
    state = [0.5] * 200
    packed = write_msgpack({'image': IMAGE, 'prompt': 'lift, the, cup', 'state': state})
    assert read_msgpack(packed)['state'] == state
    assert read_json(json.dumps({'state': state, 'text': ',' * 2000}))['state'] == state


@pytest.mark.parametrize(
    'text',
    [
        *('+/+/AAA=', '-_-_AAA', '+/+/\nAAA=\r\n', '-_-_AAA='),
        *('data:image/png;base64,+/+/ AAA=', '\n DATA:image/png;charset=x;BASE64,+/+/AAA='),
        'data:;base64,%2B/%2B/AAA%3D',
    ],
)
def test_base64_of_other_encoders_is_read(text):
    assert bytes_of_base64(text, 'image') == b'\xfb\xff\xbf\x00\x00'


@pytest.mark.parametrize('text', ['data:image/svg+xml,<svg/>', 'data:,AAAA'])
def test_a_data_url_without_base64_is_refused_with_its_head(text):
    with pytest.raises(Refusal, match=r"image is a data URL without base64 \('data:"):
        bytes_of_base64(text, 'image')


@pytest.mark.parametrize('text', ['a', '====', 'AA?A', 'AAAAA', 'data:AAAA', 'AAAA\ufeff', 'côté'])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(Refusal, match='image is not base64'):
        bytes_of_base64(text, 'image')


def test_no_token_in_an_address_reaches_a_log(server, caplog):
    with caplog.at_level(logging.INFO, logger='uvicorn.error'):
        with connect(f'{server.url.replace("http", "ws")}/?token=verysecret&x=1') as one:
            one.recv()
        server.http.get('/metadata?token=verysecret')
        server.http.get('/nothing?token=verysecret')
        wait(lambda: 'WebSocket' in caplog.text)
    lines = [record.getMessage() for record in caplog.records if record.name != 'httpx']
    assert not [line for line in lines if 'verysecret' in line], lines


@pytest.mark.parametrize(
    'url',
    ['http://me:verysecret@robot:8000', 'http://robot?token=verysecret', 'http://r/#verysecret'],
)
def test_a_client_takes_and_shows_no_token_in_its_url(url):
    with pytest.raises(ConfigError, match='has a user or a query') as caught:
        Client(url)
    assert 'verysecret' not in str(caught.value)
