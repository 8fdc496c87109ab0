"""The Triton kernels, run in Triton's interpreter on a CPU.

Triton decides when it is imported whether it interprets, so the checks run in processes of their
own.
"""

import os
from pathlib import Path
import subprocess
import sys

import pytest

FOLDER = Path(__file__).parents[1] / 'interpreted'
ROOT = FOLDER.parents[1]


@pytest.mark.parametrize('name', ['product', 'rows', 'attention', 'pick', 'calls'])
def test_kernels_compute_what_torch_does(name):
    assert len(list(FOLDER.glob('check_*.py'))) == 5
    variables = {'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    # The sources stand first, so that an installed copy is not tested instead.
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    variables['PYTHONPATH'] = os.pathsep.join(paths)
    command = [sys.executable, '-m', 'pytest', '-q', '--noconftest', '-p', 'no:cacheprovider']
    ended = subprocess.run(
        [*command, FOLDER / f'check_{name}.py'],
        cwd=FOLDER,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
