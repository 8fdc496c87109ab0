"""openpi's websocket protocol, as its clients speak it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import pytest
from served import wait
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

WIRE = Path(__file__).parents[1] / 'data' / 'wire'
REQUEST = (WIRE / 'openpi.request.msgpack').read_bytes()
IMAGE = np.zeros((4, 4, 3), np.uint8)


def pack(value):
    return msgpack.packb(
        value,
        default=lambda a: {
            b'__ndarray__': True, b'data': a.tobytes(), b'dtype': a.dtype.str, b'shape': a.shape
        },
    )  # fmt: skip


def session(server, **options):
    # As WebsocketClientPolicy of openpi-client connects.
    options = {'compression': None, 'max_size': None, **options}
    return connect(f'ws://127.0.0.1:{server.port}', **options)


def test_recorded_observation_gets_the_recorded_answer(server):
    with session(server) as client:
        metadata = msgpack.unpackb(client.recv())
        assert metadata['unnorm_key'] == 'toy_arm'
        client.send(REQUEST)
        answer = msgpack.unpackb(client.recv())
        for timing in ('policy_timing', 'server_timing'):
            assert answer[timing].keys() == {'infer_ms'}
            assert answer[timing]['infer_ms'] > 0
            answer[timing]['infer_ms'] = 0.0
        assert msgpack.packb(answer) == (WIRE / 'openpi.answer.msgpack').read_bytes()
        client.send(REQUEST)
        answer = msgpack.unpackb(client.recv())
        assert answer['server_timing']['prev_total_ms'] > 0
        assert answer['actions'][b'shape'] == [1, 7]


@pytest.mark.parametrize(
    ('message', 'reason', 'code'),
    [
        ('text', 'a text frame', 1008),
        (b'', 'not msgpack', 1008),
        (b'\xc1', 'not msgpack', 1008),
        (b'\xdf\xff\xff\xff\xff', 'not msgpack', 1008),
        (b'\x91' * 100_000, 'not msgpack', 1008),
        (b'\x81\x80\x00', 'not msgpack', 1008),
        (pack([1]), 'a map, not list', 1008),
        (msgpack.packb(msgpack.ExtType(4, b'x')), 'extension type 4', 1008),
        (pack({'prompt': 'go'}), 'no image', 1008),
        (pack({'image': IMAGE}), 'prompt is missing', 1008),
        (pack({'image': IMAGE, 'prompt': 'go', 'unnorm_key': 3}), 'unnorm_key', 1008),
        (pack({'image': IMAGE, 'prompt': 'go', 'unnorm_key': 'x'}), "unnorm_key 'x'", 1008),
        (pack({'image': IMAGE.astype('f4'), 'prompt': 'go'}), 'dtype <f4', 1008),
        (pack({'image': IMAGE, 'prompt': 'x' * 2001}), '2001 characters', 1008),
        (pack({'image': np.zeros((3000, 3000), bool)[:1], 'prompt': 'go'}), '|b1', 1008),
        (msgpack.packb({b'__ndarray__': True}), 'dtype None', 1008),
        (msgpack.packb({b'__ndarray__': True, b'data': b'', b'dtype': '|O', b'shape': []}),
         "dtype '|O' is not allowed", 1008),
        (msgpack.packb({b'__ndarray__': True, b'data': b'x', b'dtype': '|u1', b'shape': [2]}),
         'is 2 bytes, not 1', 1008),
        (msgpack.packb({b'__npgeneric__': True, b'data': 'x', b'dtype': '<f8'}),
         'a number, not str', 1008),
    ],
)  # fmt: skip
def test_an_error_is_a_text_frame_and_the_end(server, message, reason, code):
    with session(server) as client:
        client.recv()
        client.send(message)
        answer = client.recv()
        assert isinstance(answer, str)
        assert reason in answer
        assert 'Traceback' not in answer
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd.code == code


def test_a_message_that_is_too_long_ends_the_connection(serve):
    with serve(max_body=100_000) as server, session(server) as client:
        client.recv()
        client.send(bytes(200_000))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd.code == 1009


def test_the_token_is_sent_as_openpi_does(serve):
    with serve(token='a-token-of-this-test') as server:
        headers = {'Authorization': 'Api-Key a-token-of-this-test'}
        with session(server, additional_headers=headers) as client:
            client.recv()
        for headers in ({}, {'Authorization': 'Api-Key wrong'}):
            with pytest.raises(InvalidStatus) as refused:
                session(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert b'send the token' in refused.value.response.body


def test_pages_of_other_sites_may_not_connect(server):
    with pytest.raises(InvalidStatus) as refused:
        session(server, origin='http://evil.example')
    assert refused.value.response.status_code == 403


def test_a_client_that_leaves_takes_its_request_out_of_the_line(server, gate):
    gate.shut()
    with ThreadPoolExecutor(1) as pool, session(server) as first, session(server) as second:
        first.recv(), second.recv()
        first.send(REQUEST)
        gate.inside.wait(30)
        second.send(REQUEST)
        wait(lambda: server.queue.waiting == 1)
        pool.submit(second.close)
        wait(lambda: server.queue.waiting == 0)
        gate.open()
        assert isinstance(first.recv(), bytes)
    wait(lambda: server.queue.inside == 0)


def test_when_all_places_are_taken_the_client_may_come_back(serve, gate):
    with serve(queue_size=1) as server:
        gate.shut()
        with session(server) as first, session(server) as second:
            first.recv(), second.recv()
            first.send(REQUEST)
            gate.inside.wait(30)
            second.send(REQUEST)
            assert 'all 1 places are taken' in second.recv()
            with pytest.raises(ConnectionClosed) as closed:
                second.recv()
            assert closed.value.rcvd.code == 1013
            gate.open()
            assert isinstance(first.recv(), bytes)
