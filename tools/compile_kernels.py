"""Compile the Triton kernels as openvla-7b calls them, without a GPU, and list what they take.

    python tools/compile_kernels.py --json docs/benchmarks/kernels.json

Registers and bytes that spill are read from the machine code. The least time is that of the bytes
which a kernel must read, at the bandwidth of an H100; nothing was run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Any

from kernel_cases import Case, cases
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trt_openvla_ros.evaluation.report import write_json

TARGETS = (80, 87, 89, 90)
# Bytes per second that an H100 reads at best: 95 % of nominal (arXiv 2605.30571).
BANDWIDTH = 3.18e12


def measure(case: Case, target: int) -> dict[str, Any]:
    """Compile a case for sm_TARGET, and read what its machine code takes."""
    names = case.kernel.arg_names
    kinds = {n: 'constexpr' if n in case.constants else case.types[n] for n in names}
    values = {(names.index(name),): value for name, value in case.constants.items()}
    # Torch aligns its tensors; the launcher tells the compiler so.
    aligned = {
        (index,): [['tt.divisibility', 16]]
        for index, name in enumerate(names)
        if kinds[name].startswith('*')
    }
    source = ASTSource(case.kernel, kinds, values, aligned)
    compiled = triton.compile(
        source, target=GPUTarget('cuda', target, 32), options=dict(case.options)
    )
    registers, spilled = _resources(compiled.asm['cubin'])
    return {
        **named(case),
        'target': f'sm_{target}',
        'registers': registers,
        'spilled_bytes': spilled,
        'shared_bytes': compiled.metadata.shared,
    }


def lacking(case: Case, target: int) -> str:
    """Say what a target lacks for a case; nothing if it can run it."""
    lacks = target < 89 and '*fp8e4nv' in case.types.values()
    return f'sm_{target} has no FP8; it comes with sm_89' if lacks else ''


def named(case: Case) -> dict[str, str]:
    """Name a case."""
    return {'kernel': case.kernel.__name__, 'use': case.use}


def facts(case: Case) -> dict[str, Any]:
    """Give what is the same for all targets."""
    return {
        **named(case),
        'constants': {k: v for k, v in case.constants.items() if v is not None},
        'options': case.options,
        'programs': case.programs,
        'read_bytes': case.read,
        'least_us': round(case.read / BANDWIDTH * 1e6, 2),
    }


def _resources(machine_code: bytes) -> tuple[int, int]:
    """Give the registers of a thread, and the bytes of its local memory: what spilled."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(machine_code)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, '--dump-resource-usage', file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r'REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)', text)
    registers, stack, local = map(int, found.groups())
    return registers, stack + local


def run(targets: tuple[int, ...]) -> dict[str, Any]:
    """Compile all cases for the targets."""
    kernels, compiled, skipped = [], [], []
    for case in cases():
        kernels.append(facts(case))
        for target in targets:
            reason = lacking(case, target)
            if reason:
                skipped.append({**named(case), 'reason': reason})
                continue
            compiled.append(measure(case, target))
            print(*compiled[-1].values())
    return {'kernels': kernels, 'compiled': compiled, 'skipped': skipped}


def main() -> None:
    """Compile, print, and fail if anything spills."""
    parser = argparse.ArgumentParser(description='Compile the kernels for GPUs that are not here.')
    parser.add_argument('--targets', type=int, nargs='+', choices=TARGETS, default=TARGETS)
    parser.add_argument('--json', type=Path, help='where to write the result')
    args = parser.parse_args()
    result = run(tuple(args.targets))
    if args.json:
        write_json(args.json, result, ['torch', 'triton'])
    spilling = [entry for entry in result['compiled'] if entry['spilled_bytes']]
    if spilling:
        sys.exit(f'{len(spilling)} of {len(result["compiled"])} kernels spill: {spilling}')


if __name__ == '__main__':
    main()
