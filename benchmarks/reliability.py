"""Break the loop policy, robot node and controller in every way, and measure what comes of it.

Each part is an installed executable or a driver in a process of its own. The observer is another
process; it records commands, actions, poses and reports, and a judge reads that afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import random
import sys
import tempfile
from typing import Any

from faults.cases import Case, CASES
from faults.cycles import cycle
from faults.measuring import strike, summarise
from faults.processes import end_by_signals
from faults.rig import Rig, Setup

from trt_openvla_ros.evaluation.report import write_json


def measure(
    cases: list[Case],
    repeats: int,
    domain: int,
    logs: Path,
    on_row: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Let each fault happen so often; those with one loop share it. on_row gets each row."""
    rows: dict[Case, dict[str, Any]] = {}
    rng = random.Random(0)
    for number, setup in enumerate(dict.fromkeys(case.setup for case in cases)):
        of_setup = [case for case in cases if case.setup == setup]
        for case in of_setup:
            rows[case] = {'fault': case.name, 'controller': setup.controller, 'error': 'not run'}
        rig, outcomes = None, []
        try:
            for case in of_setup:
                outcomes = []
                try:
                    for _ in range(repeats):
                        rig = rig or Rig(setup, domain, logs / f'{number}-{setup.controller}')
                        outcomes.append(strike(rig, case, rng))
                except (TimeoutError, RuntimeError) as error:
                    rows[case] = {**rows[case], 'error': str(error)}
                    if rig is not None:
                        rig.close()
                    rig = None
                if len(outcomes) == repeats:
                    rows[case] = summarise(case, outcomes)
                elif outcomes:
                    rows[case] = {**summarise(case, outcomes), 'error': rows[case]['error']}
                rows[case]['load'] = round(os.getloadavg()[0], 1)
                rows[case]['command'] = sys.argv[1:]
                on_row(rows[case])
        finally:
            if rig is not None:
                rig.close()
    return [rows[case] for case in cases]


class Record:
    """The file for the result, which is written after each row: an interrupted run keeps all."""

    def __init__(self, path: Path | None, keeps: bool) -> None:
        """Begin, with what stands in the file if that is to be kept."""
        self._path = path
        self._faults: dict[tuple[str, str], dict[str, Any]] = {}
        self._cycles: dict[str, Any] = {}
        if keeps and path is not None and path.is_file():
            old = json.loads(path.read_text())
            self._cycles = old['lifecycle']
            self._faults = {(row['fault'], row['controller']): row for row in old['faults']}

    def has(self, case: Case) -> bool:
        """Tell whether a fault was measured as often as it should."""
        row = self._faults.get((case.name, case.setup.controller))
        return row is not None and 'error' not in row

    def add(self, row: dict[str, Any]) -> None:
        """Take a row, print it and write all."""
        print(json.dumps(row), flush=True)
        self._faults[row['fault'], row['controller']] = row
        self._write()

    def add_cycles(self, cycles: dict[str, Any]) -> None:
        """Take the life cycles, and write all."""
        self._cycles = cycles
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        order = {(case.name, case.setup.controller): n for n, case in enumerate(CASES)}
        rows = sorted(self._faults.items(), key=lambda item: order.get(item[0], len(order)))
        result = {'faults': [row for _, row in rows], 'lifecycle': self._cycles}
        write_json(self._path, {'setup': _described(), **result}, ('numpy', 'mujoco', 'torch'))


def main() -> int:
    """Run the benchmark; give 1 if a command broke a limit, or motion did not come as designed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=5, help='times that each fault happens')
    parser.add_argument('--cycles', type=int, default=1000, help='life cycles of the robot node')
    parser.add_argument('--only', default='', help='part of the names of the faults to run')
    parser.add_argument(
        '--keep',
        action='store_true',
        help='keep what stands in the file, and measure what is missing there (or --only)',
    )
    parser.add_argument('--json', type=Path, help='file for the result')
    args = parser.parse_args()
    end_by_signals()
    domain = int(os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100)))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    logs = Path(tempfile.mkdtemp(prefix='reliability_'))
    print(f'output of the processes: {logs}', flush=True)
    record = Record(args.json, args.keep)
    chosen = [
        case
        for case in CASES
        if args.only in f'{case.name} {case.setup.controller}'
        and not (args.keep and not args.only and record.has(case))
    ]
    faults = measure(chosen, args.repeats, domain, logs, record.add)
    if args.cycles:
        every = max(1, args.cycles // 50)
        record.add_cycles(cycle(domain, args.cycles, logs / 'cycles', every, print))
    bad = [
        row['fault']
        for row in faults
        if 'error' in row or row['violations'] or row['returned'] < row['repeats']
    ]
    print(f'{len(faults)} faults; not as designed: {bad or "none"}')
    return 1 if bad else 0


def _described() -> dict[str, str]:
    return {
        'domain': 'one machine, Fast DDS over loopback',
        'policy': 'models/tiny_openvla at 5 Hz',
        'preset': f'config/robots/sim.yaml, changed: {Setup().robot or "max_pose_age 0.2 s"}',
    }


if __name__ == '__main__':
    sys.exit(main())
