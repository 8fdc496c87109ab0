"""Run the loop for hours, break it again and again, and see whether it stays within its limits.

Every line of the record is on the disk when it is written, so an interrupted soak keeps all.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import json
import os
from pathlib import Path
import random
import sys
import tempfile
import threading
import time
from typing import Any

from faults.cases import Case, CASES, SERVO
from faults.growth import growth, Sample
from faults.measuring import strike
from faults.processes import end_by_signals
from faults.rig import Rig, Setup

from trt_openvla_ros.evaluation.report import write_json

# Faults by name, and how often each is drawn; those that end long-lived processes are rare.
_DRAWN = {
    'camera killed': 6,
    'policy stopped (SIGSTOP)': 12,
    'policy killed (SIGKILL)': 1,
    'pose driver killed': 6,
    'pose frozen, its stamps go on': 9,
    'robot node: SIGTERM': 1,
    'camera stopped for a moment': 12,
    'policy stopped for a moment': 12,
    'robot node stopped (SIGSTOP)': 6,
    'blank instruction': 9,
    'second publisher of commands': 6,
    'deadman released': 9,
    'deadman silent': 9,
    'Servo says that it halts': 9,
    'Servo silent': 9,
}
_QUIET = (1.0, 8.0)  # [s] between two faults
_SAMPLE = 10.0  # [s] between two samples of the memory


class Record:
    """Lines of JSON in a file, each flushed."""

    def __init__(self, path: Path) -> None:
        """Open a new file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = path.open('w'), threading.Lock()
        self._begun = time.monotonic()

    def write(self, kind: str, **fields: Any) -> None:
        """Write a line with the time since the begin."""
        line = {'t': round(time.monotonic() - self._begun, 2), 'kind': kind, **fields}
        with self._lock:
            self._file.write(json.dumps(line) + '\n')
            self._file.flush()
            os.fsync(self._file.fileno())


class Soak:
    """One run.

    Attributes:
        counts: Number of each thing that happened.
        samples: Samples of the memory.
    """

    def __init__(self, setup: Setup, domain: int, seed: int, record: Record) -> None:
        """Prepare; nothing runs yet."""
        self._setup, self._domain, self._record = setup, domain, record
        self._rng = random.Random(seed)
        self._logs = Path(tempfile.mkdtemp(prefix='soak_'))
        self.counts: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self._rig: Rig | None = None

    def run(self, cases: list[tuple[Case, int]], seconds: float) -> None:
        """Break the loop for so long; each case has the weight with which it is drawn."""
        end = time.monotonic() + seconds
        known, weights = zip(*cases, strict=True)
        try:
            with self._sampling():
                while time.monotonic() < end:
                    self._rig = self._rig or Rig(self._setup, self._domain, self._logs)
                    case = self._rng.choices(known, weights)[0]
                    try:
                        self._strike(self._rig, case)
                    except (TimeoutError, RuntimeError) as error:
                        self.counts['errors'] += 1
                        self._record.write('error', fault=case.name, error=str(error))
                        self._close()
        finally:
            self._close()

    def _strike(self, rig: Rig, case: Case) -> None:
        rig.begin()
        rig.observer.watch(self._rng.uniform(*_QUIET))
        self._count(rig, 'quiet', {'violations': rig.judge()})
        outcome = strike(rig, case, self._rng)
        self.counts['faults'] += 1
        self.counts['not as designed'] += not outcome.returned
        fields = {
            'hold_s': outcome.hold,
            'state': outcome.state,
            'returned': outcome.returned,
            'violations': outcome.violations,
        }
        self._count(rig, case.name, fields)

    def _count(self, rig: Rig, name: str, fields: dict[str, Any]) -> None:
        violations = fields['violations']
        commands = len(rig.observer.seen.commands)
        self.counts['commands'] += commands
        self.counts['actions'] += len(rig.observer.seen.actions)
        self.counts['violations'] += len(violations)
        shown = [violation._asdict() for violation in violations[:5]]
        self._record.write(
            'episode', fault=name, commands=commands, **{**fields, 'violations': shown}
        )

    def _close(self) -> None:
        rig, self._rig = self._rig, None
        if rig is not None:
            rig.close()

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._sample, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample(self, done: threading.Event) -> None:
        while not done.wait(_SAMPLE):
            rig = self._rig
            if rig is not None:
                now, memory = time.monotonic(), rig.processes.memory()
                self.samples += [Sample(now, name, *one) for name, one in memory.items()]
                self._record.write('memory', mb={n: round(mb, 2) for n, (_, mb) in memory.items()})


def main() -> int:
    """Run; give 1 if a command was out of limits, motion came undesigned, or memory grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--hours', type=float, default=2.0)
    parser.add_argument('--seed', type=int, default=0, help='seed of the faults')
    parser.add_argument('--record', type=Path, default=Path('build/soak.jsonl'))
    parser.add_argument('--json', type=Path, help='file for the summary')
    args = parser.parse_args()
    end_by_signals()
    domain = int(os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100)))
    held = next(case.setup for case in CASES if case.name == 'deadman silent')
    setup = replace(held, devices=(*held.devices, 'rival'))
    drawn = [
        (case, _DRAWN[case.name])
        for case in CASES
        if case.name in _DRAWN and case.setup.controller == SERVO.controller
    ]
    record, begun = Record(args.record), time.monotonic()
    soak, interrupted = Soak(setup, domain, args.seed, record), False
    try:
        soak.run(drawn, 3600.0 * args.hours)
    except KeyboardInterrupt:
        interrupted = True
    memory = growth(soak.samples)
    summary = {
        'asked_h': args.hours,
        'ran_h': round((time.monotonic() - begun) / 3600.0, 3),
        'interrupted': interrupted,
        'seed': args.seed,
        **{name: soak.counts[name] for name in ('faults', 'commands', 'actions', 'violations')},
        'not_as_designed': soak.counts['not as designed'],
        'errors': soak.counts['errors'],
        'memory': memory,
        'load_of_the_machine': [round(value, 1) for value in os.getloadavg()],
    }
    record.write('summary', **summary)
    print(json.dumps(summary, indent=1))
    if args.json:
        write_json(args.json, summary, ('numpy', 'mujoco', 'torch'))
    grows = [name for name, one in memory.items() if one['grows']]
    bad = summary['violations'] or summary['not_as_designed'] or summary['errors'] or grows
    return 1 if bad or not summary['faults'] else 0


if __name__ == '__main__':
    sys.exit(main())
