"""Send many requests to a running server, and measure whether its memory grows.

make serve &
python benchmarks/client_load.py --requests 10000 --json docs/benchmarks/serving.json
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import http.client
import itertools
from pathlib import Path
import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from trt_openvla_ros.client import Client
from trt_openvla_ros.errors import EngineError
from trt_openvla_ros.evaluation.report import percentiles, write_json


def colours(count: int) -> list[np.ndarray]:
    """Make images [224, 224, 3] uint8, each of another colour."""
    rng = np.random.default_rng(0)
    return [np.full((224, 224, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(count)]


def resident(url: str) -> float:
    """Read the memory of the server's process [MiB] from its metrics."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request('GET', '/metrics')
    text = connection.getresponse().read().decode()
    connection.close()
    return float(re.search(r'^process_resident_memory_bytes (\S+)', text, re.M)[1]) / 2**20


def many_requests(url: str, requests: int, clients: int) -> dict[str, Any]:
    """Send `requests` requests over `clients` connections.

    Returns:
        requests, clients: The arguments.
        answered, rate_hz, latency: Number, rate and latency of the answers.
        resident_mib: Memory [MiB] of the server after each tenth of the requests.
        growth_mib: Growth of the memory [MiB] in the second half. In the first half, libraries
            prepare for each new length of prompt.
    """
    numbers = itertools.count()
    images = colours(16)
    seconds: list[float] = []
    memory: list[float] = []
    every = max(1, requests // 10)

    def ask(_: int) -> None:
        with Client(url, timeout=120) as client:
            while (number := next(numbers)) < requests:
                begun = time.perf_counter()
                client.predict(images[number % 16], f'move to place {number}')
                seconds.append(time.perf_counter() - begun)
                if number % every == every - 1:
                    memory.append(round(resident(url), 1))

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return {
        'requests': requests,
        'clients': clients,
        'answered': len(seconds),
        'rate_hz': round(requests / (time.perf_counter() - begun), 1),
        'latency': percentiles(seconds),
        'resident_mib': memory,
        'growth_mib': round(memory[-1] - memory[len(memory) // 2 - 1], 1),
    }


def mixed_load(url: str, clients: int, each: int) -> dict[str, Any]:
    """Let clients ask all at once: good questions, bad ones, and some whose client leaves.

    Args:
        url: URL of the server.
        clients: Number of clients.
        each: Questions of each client.

    Returns:
        asked, answered, refused, left: Numbers of questions: all, with an action, bad ones that
            were told why, and those whose client left.
        lost: Good questions without an answer, other than for want of a place (busy).
        crossed: Answers to the question of another client.
        broken: Answers with a status from 500 on, other than for want of a place.
        busy: Good questions that got no place.
        peak_mib: Most memory of the server's process that was seen [MiB].
    """
    counts: Counter[str] = Counter()
    lock = threading.Lock()
    images = colours(clients)
    together = threading.Barrier(clients)
    peak = [resident(url)]
    alone = []
    with Client(url, timeout=120, jpeg_quality=0) as client:
        alone = [client.predict(image, 'pick up the cup').action.tolist() for image in images]

    def ask(number: int) -> None:
        mine: Counter[str] = Counter()
        together.wait(60)
        for turn in range(each):
            kind = (number + turn) % 4
            mine['asked'] += 1
            if kind == 3:
                mine[_leave(url)] += 1
            elif kind == 2:
                mine[_bad(url)] += 1
            else:
                with Client(url, timeout=120, jpeg_quality=0) as client:
                    mine[_good(client, images[number], alone[number])] += 1
        with lock:
            counts.update(mine)
            peak.append(resident(url))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    names = ('asked', 'answered', 'refused', 'left', 'lost', 'crossed', 'broken', 'busy')
    return {**{name: counts[name] for name in names}, 'peak_mib': round(max(peak), 1)}


def _good(client: Client, image: np.ndarray, expected: list[float]) -> str:
    try:
        action = client.predict(image, 'pick up the cup').action.tolist()
    except EngineError as error:
        return 'busy' if '503' in str(error) else 'lost'
    return 'answered' if action == expected else 'crossed'


def _bad(url: str) -> str:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request('POST', '/act', b'{"image": "no"}', {'Content-Type': 'application/json'})
    status = connection.getresponse().status
    connection.close()
    return 'refused' if status < 500 else 'busy' if status == 503 else 'broken'


def _leave(url: str) -> str:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.putrequest('POST', '/act')
    connection.putheader('Content-Type', 'application/json')
    connection.putheader('Content-Length', '100000')
    connection.endheaders(b'{"image": "')
    connection.close()
    return 'left'


def main() -> None:
    """Run the benchmark, print the result, and write it if --json is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--url', default='http://127.0.0.1:8000')
    parser.add_argument('--requests', type=int, default=10_000)
    parser.add_argument('--clients', type=int, default=8)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    with Client(args.url) as client:
        served = client.metadata()
    result = many_requests(args.url, args.requests, args.clients)
    result['mixed'] = mixed_load(args.url, clients=64, each=16)
    print(result)
    if args.json:
        checkpoint = Path(served['checkpoint']).name
        write_json(args.json, {'checkpoint': checkpoint, **result}, ('numpy', 'PIL'))


if __name__ == '__main__':
    main()
