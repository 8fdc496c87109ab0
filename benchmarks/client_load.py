"""Send many requests to a running server, and measure whether its memory grows.

make serve &
python benchmarks/client_load.py --requests 10000 --json docs/benchmarks/serving.json
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
import http.client
import itertools
from pathlib import Path
import re
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from trt_openvla_ros.client import Client
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
    print(result)
    if args.json:
        checkpoint = Path(served['checkpoint']).name
        write_json(args.json, {'checkpoint': checkpoint, **result}, ('numpy', 'PIL'))


if __name__ == '__main__':
    main()
