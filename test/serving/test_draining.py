"""A server that was told to stop answers what is open, in every protocol, and then goes."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
import time

import httpx
import msgpack
import pytest
from served import wait
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

REQUEST = (Path(__file__).parents[1] / 'data' / 'wire' / 'openpi.request.msgpack').read_bytes()
PHOTO = (Path(__file__).parents[1] / 'data' / 'coffee.jpg').read_bytes()
ASK = {'image': base64.b64encode(PHOTO).decode(), 'instruction': 'pick up the cup'}


@contextmanager
def conversation(server):
    with connect(f'ws://127.0.0.1:{server.port}', compression=None) as client:
        client.recv()
        yield client


def open_questions(server, client, gate, pool):
    """Ask over both protocols; two questions are open then, one of them being computed."""
    gate.shut()
    client.send(REQUEST)
    gate.inside.wait(30)
    asked = pool.submit(server.act, **ASK)
    wait(lambda: server.queue.inside == 2)
    return asked


def test_open_questions_get_their_actions(serve, gate):
    with (
        serve(shutdown_timeout=30) as server,
        ThreadPoolExecutor(1) as pool,
        conversation(server) as client,
        conversation(server) as idle,
    ):
        asked = open_questions(server, client, gate, pool)
        server.stop()
        wait(lambda: server.queue.closing)
        gate.open()

        assert msgpack.unpackb(client.recv(30))['actions'][b'shape'] == [1, 7]
        assert asked.result(30).status_code == 200
        for left in (client, idle):
            with pytest.raises(ConnectionClosed) as closed:
                left.recv(30)
            assert closed.value.rcvd.code == 1012  # the service restarts


def test_questions_that_would_take_too_long_are_told_so(serve, gate):
    with ThreadPoolExecutor(1) as pool:
        with serve(shutdown_timeout=0) as server, conversation(server) as client:
            asked = open_questions(server, client, gate, pool)
            server.stop()

            assert 'the server is shutting down' in client.recv(30)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(30)
            assert closed.value.rcvd.code == 1013  # try again later
            answer = asked.result(30)
            assert (answer.status_code, answer.headers['retry-after']) == (503, '5')
            assert 'the server is shutting down' in answer.text
            # Although the policy is still deep in the first question.
            begun = time.monotonic()
        assert time.monotonic() - begun < 15
        gate.open()


def test_new_questions_of_open_connections_are_refused(serve, gate):
    with (
        serve(shutdown_timeout=30) as server,
        ThreadPoolExecutor(1) as pool,
        conversation(server) as client,
        conversation(server) as other,
        httpx.Client(base_url=server.url) as health,
    ):
        assert health.get('/healthz').status_code == 200
        asked = open_questions(server, client, gate, pool)
        server.stop()
        wait(lambda: server.queue.closing)

        other.send(REQUEST)
        assert 'the server is shutting down' in other.recv(30)
        answer = health.get('/healthz')  # over the same connection, because there are no new ones
        assert answer.status_code == 503
        assert 'the server is shutting down' in answer.text
        gate.open()
        assert asked.result(30).status_code == 200
