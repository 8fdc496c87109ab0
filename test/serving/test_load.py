"""Many clients at once, and for long."""

from concurrent.futures import ThreadPoolExecutor
import threading

from client_load import many_requests, mixed_load
import numpy as np

from trt_openvla_ros.client import Client


def test_each_of_64_clients_gets_the_answer_to_its_own_image(server, policy):
    """Images whose actions all differ, each asked for by a client of its own, all at once."""
    images = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 3), np.uint8)
    expected = [policy.predict(image, 'pick up the cup').action.tolist() for image in images]
    assert len(set(map(tuple, expected))) == 64
    together = threading.Barrier(64)

    def ask(image):
        with Client(server.url, jpeg_quality=0, timeout=120) as client:
            client.metadata()
            together.wait(60)
            return [client.predict(image, 'pick up the cup').action.tolist() for _ in range(2)]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, images))
    assert answers == [[action, action] for action in expected]


def test_memory_stays_flat(server):
    result = many_requests(server.url, requests=400, clients=8)
    assert result['answered'] == 400
    # What grows with requests would grow by MB; an image is 150 kB.
    assert result['growth_mib'] < 20, result


def test_good_bad_and_leaving_clients_all_at_once(server, capsys):
    result = mixed_load(server.url, clients=64, each=4)
    with capsys.disabled():
        print(f'\nmixed load of 64 clients: {result}')
    assert (result['lost'], result['crossed'], result['broken']) == (0, 0, 0), result
    assert result['refused'] + result['left'] + result['answered'] + result['busy'] == 256
    assert result['answered'] > 64, result
