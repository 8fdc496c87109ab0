"""The client that is imported, and the one that is run."""

from contextlib import suppress
import json
from pathlib import Path
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import ConfigError, EngineError, InputError
from trt_openvla_ros.serving import query

ROOT = Path(__file__).parents[2]
IMAGE = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
PHOTO = ROOT / 'test' / 'data' / 'coffee.jpg'


@pytest.fixture
def client(server):
    with Client(server.url, jpeg_quality=0) as client:
        yield client


def test_every_field_comes_across_as_it_is(client, policy):
    there = client.predict(IMAGE, 'Pick up the cup.', 'other_arm')
    here = policy.predict(IMAGE, 'Pick up the cup.', 'other_arm')
    for name in ('action', 'normalised_action', 'action_ids', 'generated_ids'):
        value = getattr(there, name)
        np.testing.assert_array_equal(value, getattr(here, name))
        assert value.dtype == getattr(here, name).dtype
    for name in ('reasoning', 'reasoning_fields', 'prompt', 'unnorm_key', 'out_of_range'):
        assert getattr(there, name) == getattr(here, name)
    assert there.timings['round_trip'] > there.timings['request'] > there.timings['total']


def test_jpeg_is_what_is_sent_unless_told_otherwise(server, policy):
    with Client(server.url) as client:
        sent = client.encode(IMAGE)
        assert sent.startswith(b'\xff\xd8')
        there = client.predict(IMAGE, 'go')
    from trt_openvla_ros.serving.pictures import read_picture

    np.testing.assert_array_equal(
        there.action, policy.predict(read_picture(sent, 10**6), 'go').action
    )


def test_one_connection_serves_many_requests(server, client):
    client.predict(IMAGE, 'go')
    first = client._http.sock.getsockname()
    client.predict(IMAGE, 'go')
    assert client._http.sock.getsockname() == first


def test_a_connection_that_the_server_closed_is_opened_again(client):
    client.predict(IMAGE, 'go')
    client._http.sock.shutdown(socket.SHUT_RDWR)
    assert client.predict(IMAGE, 'go').action.shape == (7,)


def test_what_the_server_refuses_is_the_error_that_the_policy_would_raise(client):
    with pytest.raises(InputError, match="unnorm_key 'x' is not in"):
        client.predict(IMAGE, 'go', 'x')
    with pytest.raises(InputError, match='is empty'):
        client.predict(IMAGE, ' ')
    with pytest.raises(InputError, match='uint8'):
        client.predict(IMAGE.astype(float), 'go')


def test_the_token_is_sent(serve, monkeypatch):
    with serve(token='a-token-of-this-test') as server:
        with pytest.raises(ConfigError, match='send the token'):
            Client(server.url).metadata()
        assert Client(server.url, token='a-token-of-this-test').metadata()['unnorm_keys']
        monkeypatch.setenv('TRT_OPENVLA_TOKEN', 'a-token-of-this-test')
        assert Client(server.url).metadata()['name'] == 'trt_openvla_ros'


@pytest.mark.parametrize('url', ['127.0.0.1:8000', 'ftp://x', 'http://', 'http://x:port'])
def test_an_impossible_url_is_named(url):
    with pytest.raises(ConfigError, match=r'x|URL'):
        Client(url)


def test_no_server_is_an_error_with_its_address():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EngineError, match=f'http://127.0.0.1:{port}: .*refused'):
        Client(f'http://127.0.0.1:{port}').metadata()


def test_a_late_answer_is_never_taken_for_that_to_the_next_question(server, gate, policy):
    with Client(server.url, timeout=0.4, jpeg_quality=0) as client:
        gate.shut()
        with pytest.raises(EngineError, match=r'no answer within 0\.4 s'):
            client.predict(np.zeros_like(IMAGE), 'go')
        gate.open()
        client.timeout = 30
        there = client.predict(IMAGE, 'go')
    np.testing.assert_array_equal(there.action, policy.predict(IMAGE, 'go').action)


def answer_with(content: bytes, drip: float = 0.0):
    """Start a server that answers one request with these bytes; give its port."""
    listener = socket.create_server(('127.0.0.1', 0))

    def run():
        with listener, listener.accept()[0] as connection:
            connection.settimeout(5)
            connection.recv(65536)
            size = 1 if drip else 65536
            with suppress(OSError):
                for at in range(0, len(content), size):
                    connection.sendall(content[at : at + size])
                    time.sleep(drip)
                connection.shutdown(socket.SHUT_WR)
                # Closed with a part of the question unread, it would reset the connection.
                while connection.recv(65536):
                    pass

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def http_of(body: bytes, *headers: bytes) -> bytes:
    length = b'Content-Length: %d' % len(body)
    return b'\r\n'.join((b'HTTP/1.1 200 OK', length, *headers, b'', body))


@pytest.mark.parametrize('headers', [(), (b'X-A: ' + b'a' * 500,)], ids=['body', 'head'])
def test_an_answer_that_drips_does_not_outlast_the_timeout(headers):
    port = answer_with(http_of(b'{' + b' ' * 500, *headers), drip=0.05)
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r'no answer within 0\.5 s'):
        Client(f'http://127.0.0.1:{port}', timeout=0.5).metadata()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'RemoteDisconnected|closed'),
        (b'SSH-2.0-OpenSSH\r\n', 'SSH'),
        (http_of(b'"error"'), 'is it a server of trt_openvla_ros'),
        (http_of(b'<html>'), 'is it a server of trt_openvla_ros'),
        (http_of(b'{}'), "gives no prediction: KeyError\\('action'\\)"),
        (http_of(b'{"action": [1]}'), 'gives no prediction'),
        (http_of(b'{}', b'X-Question-Id: another'), 'the answer is to another question'),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{', 'is it a server|IncompleteRead'),
    ],
)
def test_what_is_no_answer_is_an_error(content, reason):
    with pytest.raises(EngineError, match=reason):
        Client(f'http://127.0.0.1:{answer_with(content)}', timeout=5).predict(IMAGE, 'go')


@pytest.mark.parametrize('bad', ['NaN', 'Infinity', '"x"', 'null'])
def test_an_action_that_is_not_finite_is_none(server, client, monkeypatch, bad):
    answer = json.dumps(client._request('GET', '/metadata'))  # any object will do
    fields = {
        'action': f'[{bad}]', 'normalised_action': '[0]', 'action_ids': '[1]',
        'generated_ids': '[1]', 'reasoning': '""', 'prompt': '""', 'unnorm_key': '""',
        'reasoning_fields': '{}', 'out_of_range': '0', 'timings': '{}', 'more': answer,
    }  # fmt: skip
    body = '{' + ','.join(f'"{key}":{value}' for key, value in fields.items()) + '}'
    port = answer_with(http_of(body.encode()))
    with pytest.raises(EngineError, match='gives no prediction'):
        Client(f'http://127.0.0.1:{port}').predict(IMAGE, 'go')


def test_the_client_imports_neither_torch_nor_servers():
    code = (
        'import sys; import trt_openvla_ros.client; '
        "print([m for m in ('torch', 'timm', 'fastapi', 'httpx', 'rclpy') if m in sys.modules])"
    )
    command = [sys.executable, '-c', f'import sys; sys.path.insert(0, {str(ROOT)!r}); {code}']
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == '[]\n'


def test_query_server_shows_the_action_and_percentiles(server, capsys):
    query.main(
        ['--image', str(PHOTO), '--instruction', 'go', '--port', str(server.port), '--repeat', '3']
    )
    shown = capsys.readouterr().out
    assert shown.startswith('action ')
    assert 'as toy_arm has it' in shown
    assert '3 requests: p50' in shown


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--image', 'nothing.jpg'], 'image nothing.jpg cannot be read: No such file'),
        (['--image', str(PHOTO), '--unnorm-key', 'x'], "400: unnorm_key 'x' is not in"),
        (['--image', str(PHOTO), '--url', 'rack'], 'is no URL'),
        (['--image', str(PHOTO), '--quality', '101'], 'jpeg_quality is 101'),
    ],
)
def test_query_server_ends_with_one_sentence(server, arguments, reason):
    arguments = ['--port', str(server.port), '--instruction', 'go', *arguments]
    with pytest.raises(SystemExit) as ended:
        query.main(arguments)
    assert reason in str(ended.value)
