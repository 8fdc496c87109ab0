"""Serve the golden checkpoint by two replicas of Ray Serve, and see that both answer right.

Run it by hand, because Ray is large: pip install 'ray[serve]', then
python test/by_hand/check_ray.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import http.client
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import msgpack
import numpy as np
from websockets.sync.client import connect

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import EngineError, InputError
from trt_openvla_ros.policy import Policy

DATA = Path(__file__).parents[1] / 'data'
CHECKPOINT = DATA / 'golden' / 'fused'
PORT = 8431
URL = f'http://127.0.0.1:{PORT}'
REQUESTS = 200


def metrics() -> str:
    """Read the metrics of one replica."""
    connection = http.client.HTTPConnection('127.0.0.1', PORT, timeout=30)
    connection.request('GET', '/metrics')
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def answers() -> bool:
    """Tell whether the application answers."""
    try:
        Client(URL, timeout=5).metadata()
    except EngineError:
        return False
    return True


def check() -> None:
    """Ask from eight clients, and find both replicas."""
    policy = Policy.from_checkpoint(CHECKPOINT, 'toy_arm', device='cpu')
    images = np.random.default_rng(0).integers(0, 256, (REQUESTS, 32, 32, 3), np.uint8)

    def ask(part: np.ndarray) -> list[np.ndarray]:
        with Client(URL, jpeg_quality=0, timeout=300) as client:
            return [client.predict(image, 'pick up the cup').action for image in part]

    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = np.concatenate(list(pool.map(ask, np.split(images, 8))))
    elapsed = time.monotonic() - begun
    expected = [policy.predict(image, 'pick up the cup').action for image in images]
    np.testing.assert_array_equal(answers, expected)
    print(f'{REQUESTS} requests, each with its own action, {REQUESTS / elapsed:.1f} Hz')
    answered: dict[str, float] = {}
    for _ in range(60):
        text = metrics()
        begun_at = re.search(r'^process_start_time_seconds (\S+)', text, re.M)[1]
        found = re.search(r'requests_total\{dialect="modern",status="200"\} (\S+)', text)
        answered[begun_at] = float(found[1]) if found else 0.0
    print(f'answered by each replica: {sorted(answered.values())}')
    assert len(answered) == 2
    assert sum(answered.values()) == REQUESTS
    assert min(answered.values()) > 0
    try:
        Client(URL).predict(images[0], ' ')
    except InputError as error:
        print(f'refused with its reason: {error}')
    with connect(f'ws://127.0.0.1:{PORT}', compression=None, max_size=None) as client:
        client.recv()
        client.send((DATA / 'wire' / 'openpi.request.msgpack').read_bytes())
        print(f'openpi: {msgpack.unpackb(client.recv())["actions"][b"shape"]}')


def main() -> None:
    """Start, check, stop."""
    command = [sys.executable, '-m', 'trt_openvla_ros.serving.ray_app', '--ros-args']
    rules = (
        f'checkpoint:={CHECKPOINT}', 'unnorm_key:=toy_arm', 'device:=cpu', f'port:={PORT}',
        'replicas:=2', 'body_timeout:=300.0', 'timeout:=300.0',
    )  # fmt: skip
    process = subprocess.Popen(
        [*command, *(x for rule in rules for x in ('-p', rule))],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    try:
        deadline = time.monotonic() + 600
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit('it does not answer')
            time.sleep(2)
        check()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(300)
    print('ok')


if __name__ == '__main__':
    main()
