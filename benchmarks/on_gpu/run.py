"""The whole run: the model of the time, tokens, rates, rows, report."""

from __future__ import annotations

from argparse import Namespace
import time
from typing import Any

import numpy as np
import torch

from on_gpu.bandwidth import measure_rates
from on_gpu.correctness import check_tokens, is_right, PHOTO
from on_gpu.engines import known_formats
from on_gpu.machine import describe_machine, name_of, nominal_rates, read_clocks, slug
from on_gpu.measure import Measured, Measuring, result_of
from on_gpu.models import make_model, SIZES
from on_gpu.profiling import profile_one
from on_gpu.report import print_model, print_rows, write_json, write_svg
from on_gpu.rows import list_rows, Row
from on_gpu.time_left import end_process_after, TimeLeft
from on_gpu.time_model import compare, count_model, Counted, expected_everywhere, work_of
from trt_openvla_ros.pictures import read_picture_file

# Parts of the whole time, and of what is then left, that these may take.
_TOKENS = 0.2
_SHARES = (0.55, 0.6, 0.9)  # of each group of rows
_GRACE = 60.0  # [s] after which a process that hangs is ended
_TINY_SAMPLES = 3
_PROFILE = 10.0  # [s] that a profile may take at most


class Run:
    """One run, whose report is on disk after each step."""

    def __init__(self, args: Namespace, start: float) -> None:
        """Begin.

        Args:
            args: Arguments of the program.
            start: When the program began, by time.monotonic() [s].
        """
        cuda = torch.cuda.is_available()
        self.device = torch.device(args.device or ('cuda' if cuda else 'cpu'))
        self.size = args.model or ('7b' if self.device.type == 'cuda' else None)
        self.left = TimeLeft(60 * args.minutes, start)
        self.minutes = args.minutes
        file = args.json or args.out / f'gpu_{slug(name_of(self.device))}.json'
        self.json, self.svg = file, args.out / file.with_suffix('.svg').name
        self.formats = known_formats()
        self.wanted = args.rows
        self.counted: dict[tuple[str, str], Counted] = {}
        self._saved = 0.0
        self.logits: dict[str, np.ndarray] = {}
        self.report: dict[str, Any] = {
            **describe_machine(self.device),
            'model': self.size,
            'minutes': args.minutes,
            'formats': ['bfloat16', *self.formats],
            'time_model': {},
            'work': {},
            'correctness': [],
            'rates': {},
            'nominal': None,
            'clocks': {},
            'rows': {},
            'skipped': {},
            'profiles': {},
        }

    def save(self) -> None:
        """Write the report."""
        self.report['seconds'] = round(self.left.spent, 1)
        write_json(self.json, self.report)
        self._saved = time.monotonic()

    def count(self) -> None:
        """Count the work of both models in all formats, and print what it means."""
        everywhere = self.report['time_model']
        cpu = torch.device('cpu')  # the tensors are fake ones
        for name, size in SIZES[self.size or '7b'].items():
            model = make_model(name, size, cpu, torch.bfloat16)
            try:
                found = count_model(model, ('bfloat16', *self.formats))
            except Exception as error:  # noqa: BLE001 - the measuring must still run
                reason = f'{type(error).__name__}: {str(error)[:200]}'
                self.report['work'][name] = {'failed': reason}
                continue
            for weights, counted in found.items():
                self.counted[name, weights] = counted
                self.report['work'][f'{name} {weights}'] = work_of(counted)
                everywhere[f'{name} {weights}'] = expected_everywhere(counted)
        self.save()

    def check(self) -> bool:
        """Check the tokens; tell whether they are right."""
        begun = TimeLeft(_TOKENS * 60 * self.minutes)
        for result in check_tokens(self.device, self.formats, begun):
            verdict = _verdict(result)
            print(f'{self.left.spent:6.1f} s  tokens {verdict}: {_text(result)}', flush=True)
            self.report['correctness'].append(result)
            self.save()
        return all(map(is_right, self.report['correctness']))

    def measure(self) -> None:
        """Measure rates and rows."""
        nominal = nominal_rates(name_of(self.device))
        self.report['nominal'] = nominal and nominal._asdict()
        self.report['clocks']['before'] = read_clocks(self.device)
        try:
            self.report['rates'] = measure_rates(self.device, torch.bfloat16)
        except Exception as error:  # noqa: BLE001 - the rows must still be measured
            print(f'rates not measured: {type(error).__name__}: {str(error)[:300]}', flush=True)
        self.save()
        image = read_picture_file(PHOTO)
        measuring = Measuring(
            self.size,
            self.device,
            torch.bfloat16,
            image,
            self.left,
            self._tell,
            self._skip,
            self._profile,
        )
        most = _TINY_SAMPLES if self.size == 'tiny' else None
        self._image = image
        for rows, share in zip(list_rows(), _SHARES, strict=True):
            measuring.run([row for row in rows if self.wanted in row.name], share, most)
            self.report['clocks']['after'] = read_clocks(self.device)
            self.save()

    def _tell(self, one: Measured) -> None:
        result = result_of(one)
        known = self.logits.setdefault(one.row.model, one.logits)
        apart = np.linalg.norm(one.logits - known) / np.linalg.norm(known)
        result['logits_apart'] = round(float(apart), 5)
        counted = self.counted.get((one.row.model, one.row.weights))
        if counted and one.row.engine == 'ours' and self.report['rates']:
            nominal = nominal_rates(name_of(self.device))
            result['against_roof'] = compare(counted, result, nominal, self.report['rates'])
        self.report['rows'][one.row.name] = result
        if time.monotonic() - self._saved > 1:
            self.save()

    def _profile(self, one: Measured) -> None:
        """Profile rows that show what to do next, if time is left."""
        row = one.row
        if (row.model, row.variant, row.accepted) != ('openvla', 'captured', None) or row.again:
            return
        if self.left.seconds < _PROFILE:
            return
        trace = self.svg.with_name(f'trace_{row.weights}.json.gz')
        try:
            self.report['profiles'][row.name] = profile_one(one.loaded.runner, self._image, trace)
        except Exception as error:  # noqa: BLE001 - a profiler may be forbidden here
            self.report['profiles'][row.name] = f'{type(error).__name__}: {str(error)[:200]}'

    def _skip(self, row: Row, reason: str) -> None:
        self.report['skipped'][row.name] = reason
        print(f'{self.left.spent:6.1f} s  not measured: {row.name}: {reason}', flush=True)
        self.save()


def _verdict(result: dict[str, Any]) -> str:
    if 'skipped' in result:
        return 'not checked'
    return 'right' if is_right(result) else 'WRONG'


def _text(result: dict[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in result.items())


def run(args: Namespace, start: float) -> int:
    """Run all of it; give 0 if no token was wrong, else 1."""
    one = Run(args, start)

    def broken_off() -> None:
        print('the run hangs and is ended; what was measured is in', one.json)

    end_process_after(one.left.seconds + _GRACE, broken_off)
    print(f'{name_of(one.device)}, {args.minutes:g} minutes', flush=True)
    one.count()
    right = True
    if one.size is None:
        print_model(one.report['time_model'])
        print(
            '\nThere is no GPU here, so nothing was measured. On a machine with one, the same '
            'command measures.\n--device cpu --model tiny runs every row on a tiny model here.'
        )
    else:
        right = args.skip_tokens or one.check()
        one.measure()
        print_model(one.report['time_model'])
        print_rows(one.report)
        write_svg(one.svg, one.report)
    one.save()
    print(f'\n{one.left.spent:.0f} s; report: {one.json}')
    return 0 if right else 1
