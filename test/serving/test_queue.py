"""Waiting, and not waiting for ever."""

import base64
from concurrent.futures import ThreadPoolExecutor
import io

import httpx
import numpy as np
from PIL import Image
import pytest
from served import wait


def ask(value=0):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, 'PNG')
    return {'image': base64.b64encode(file.getvalue()).decode(), 'instruction': 'go'}


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_a_newer_request_of_a_client_takes_the_place_of_its_older_one(server, policy, gate, pool):
    def act(value, name=None):
        headers = {'x-client-id': name} if name else {}
        return server.http.post('/act', json=ask(value), headers=headers)

    gate.shut()
    first = pool.submit(act, 1, 'arm')
    gate.inside.wait(30)
    older = pool.submit(act, 2, 'arm')
    wait(lambda: server.queue.waiting == 1)
    other = pool.submit(act, 3, 'another arm')
    nameless = [pool.submit(act, 4), pool.submit(act, 5)]
    wait(lambda: server.queue.waiting == 4)
    newer = pool.submit(act, 6, 'arm')
    assert older.result(30).status_code == 409
    assert 'a newer request' in older.result().json()['error']
    gate.open()
    answers = [answer.result(30).json() for answer in (first, other, *nameless, newer)]
    # Only now: the policy is not for two threads at once.
    for value, answer in zip((1, 3, 4, 5, 6), answers, strict=True):
        expected = policy.predict(np.full((8, 8, 3), value, np.uint8), 'go').action.tolist()
        assert answer['action'] == expected
    assert 'left_total{reason="superseded"} 1.0' in server.http.get('/metrics').text


def test_when_all_places_are_taken_clients_are_told_when_to_come_back(serve, gate, pool):
    with serve(queue_size=2) as server:
        gate.shut()
        held = [pool.submit(server.act, **ask(value)) for value in range(2)]
        wait(lambda: server.queue.inside == 2)
        response = server.act(**ask())
        assert response.status_code == 503
        assert int(response.headers['retry-after']) >= 1
        assert 'all 2 places are taken' in response.json()['error']
        # But not the page, or what watches.
        assert server.http.get('/healthz').status_code == 200
        assert 'trt_openvla_inside 2.0' in server.http.get('/metrics').text
        gate.open()
        assert [answer.result(30).status_code for answer in held] == [200, 200]
        assert server.act(**ask()).status_code == 200


def test_a_full_house_lets_a_client_replace_its_own_request(serve, gate, pool):
    def act(server, value, name):
        return server.http.post('/act', json=ask(value), headers={'x-client-id': name})

    with serve(queue_size=2) as server:
        gate.shut()
        held = pool.submit(act, server, 1, 'a')
        gate.inside.wait(30)
        older = pool.submit(act, server, 2, 'b')
        wait(lambda: server.queue.waiting == 1)
        newer = pool.submit(act, server, 3, 'b')
        assert older.result(30).status_code == 409
        gate.open()
        assert held.result(30).status_code == newer.result(30).status_code == 200


def test_nobody_waits_longer_than_the_timeout(serve, gate, pool):
    with serve(timeout=0.3) as server:
        gate.shut()
        computed = pool.submit(server.act, **ask(1))
        gate.inside.wait(30)
        waiting = pool.submit(server.act, **ask(2))
        assert computed.result(30).status_code == 504
        assert 'no answer within 0.3 s' in computed.result().json()['error']
        assert waiting.result(30).status_code == 503
        assert 'retry-after' in waiting.result().headers
        wait(lambda: server.http.get('/healthz').status_code == 503)
        gate.open()
        wait(lambda: server.http.get('/healthz').status_code == 200)
        assert server.queue.inside == server.queue.waiting == 0


def test_the_request_of_a_client_that_left_takes_no_time(server, policy, gate, pool):
    def left():
        text = server.http.get('/metrics').text
        return sum(
            'status="499"' in line and float(line.split()[-1]) for line in text.splitlines()
        )

    before = left()
    gate.shut()
    held = pool.submit(server.act, **ask(1))
    gate.inside.wait(30)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f'{server.url}/act', json=ask(2), timeout=0.3)
    wait(lambda: server.queue.waiting == 0)
    gate.open()
    assert held.result(30).status_code == 200
    wait(lambda: server.queue.inside == 0)
    assert left() > before


def test_a_client_id_is_short(server):
    response = server.http.post('/act', json=ask(), headers={'x-client-id': 'x' * 65})
    assert response.status_code == 400
    assert 'X-Client-Id has 65 characters' in response.json()['error']


def test_open_requests_are_answered_before_the_server_ends(serve, gate, pool):
    with serve() as server:
        gate.shut()
        held = [pool.submit(server.act, **ask(value)) for value in range(3)]
        wait(lambda: server.queue.inside == 3)
        server.stop()
        wait(lambda: not _accepts(server))
        gate.open()
        assert [answer.result(30).status_code for answer in held] == [200] * 3


def test_a_server_that_may_not_wait_refuses_who_is_left(serve, gate, pool):
    with serve(shutdown_timeout=1) as server:
        gate.shut()
        held = [pool.submit(server.act, **ask(value)) for value in range(2)]
        wait(lambda: server.queue.inside == 2)
        server.stop()
        # Cut off, or told that the server is going.
        errors = [answer.exception(30) for answer in held]
        gate.open()
        for answer, error in zip(held, errors, strict=True):
            assert isinstance(error, httpx.TransportError) or answer.result().status_code == 503


def _accepts(server):
    try:
        return httpx.get(f'{server.url}/healthz', timeout=2).status_code == 200
    except httpx.TransportError:
        return False
