from pathlib import Path
import shutil

import pytest
from safetensors.torch import load_file, save_file

from trt_openvla_ros.policy import Policy

GOLDEN = Path(__file__).parent / 'data' / 'golden'


def pytest_addoption(parser):
    parser.addoption(
        '--tokenizer-dir',
        help='directory with the tokenizer of openvla-7b, for the tests of its ids',
    )


@pytest.fixture(scope='session')
def golden_dir():
    return GOLDEN


@pytest.fixture(scope='session')
def fused():
    """The policy of the golden checkpoint with two towers and the In:/Out: prompt."""
    return Policy.from_checkpoint(GOLDEN / 'fused', 'toy_arm', device='cpu')


@pytest.fixture(scope='session')
def single():
    """The policy of the golden checkpoint with one tower, which reasons."""
    return Policy.from_checkpoint(GOLDEN / 'single', 'toy_arm', device='cpu')


@pytest.fixture
def edited_checkpoint(tmp_path):
    """Copy a golden checkpoint, by name, or another, and change its weights, a dict, in place."""

    def copy(source, edit):
        path = tmp_path / 'edited'
        shutil.copytree(GOLDEN / source, path)
        weights = load_file(path / 'model.safetensors')
        edit(weights)
        save_file(weights, path / 'model.safetensors', {'format': 'pt'})
        return str(path)

    return copy
