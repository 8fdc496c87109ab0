"""check_contract, on the stand-in, and on stand-ins in which something changed."""

from importlib import import_module
import inspect
import os
from pathlib import Path
import subprocess
import sys

import pytest

from trt_openvla_ros.pipeline import check_contract
from trt_openvla_ros.pipeline.trtllm_contract import Contract

ROOT = Path(__file__).parents[2]
CONTRACT = Contract()


def report(capsys):
    status = check_contract.report(CONTRACT)
    return status, capsys.readouterr().out


@pytest.mark.parametrize('release', CONTRACT.releases)
def test_a_release_agrees_with_itself(stand_in, capsys, release):
    stand_in(release)
    assert report(capsys) == (
        0,
        f'TensorRT-LLM {release}, which the contract has\nnothing that is called differs\n',
    )


def test_a_release_does_not_agree_with_another(stand_in, monkeypatch, capsys):
    stand_in('0.21.0')
    monkeypatch.setattr(CONTRACT.__class__, 'nearest', lambda self, version: '1.2.1')
    status, out = report(capsys)
    assert status == 1
    assert (
        'differs: tensorrt_llm.runtime.ModelRunnerCpp.from_dir: '
        'fail_fast_on_attention_window_too_large is gone\n'
    ) in out
    assert 'new, and not used: trtllm-build --auto_parallel\n' in out


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda p: p.pop('cuda_graph_mode'), 'from_dir: cuda_graph_mode is gone'),
        (
            lambda p: p.update(rank=p['rank'].replace(default=1)),
            'from_dir: rank is 1 by default now, and was 0',
        ),
        (
            lambda p: p.update(device=inspect.Parameter('device', inspect.Parameter.KEYWORD_ONLY)),
            'from_dir: device is new, and has to be given',
        ),
        (
            lambda p: p.update(
                engine_dir=inspect.Parameter('engine_dir', inspect.Parameter.KEYWORD_ONLY)
            ),
            'from_dir: engine_dir is keyword-only now',
        ),
    ],
)
def test_a_changed_signature_is_named(stand_in, capsys, change, message):
    stand_in()
    runner = import_module('tensorrt_llm.runtime').ModelRunnerCpp
    parameters = dict(inspect.signature(runner.from_dir).parameters)
    change(parameters)
    owner = inspect.Parameter('cls', inspect.Parameter.POSITIONAL_OR_KEYWORD)
    runner.from_dir.__func__.__signature__ = inspect.Signature([owner, *parameters.values()])
    status, out = report(capsys)
    assert status == 1
    assert f'differs: tensorrt_llm.runtime.ModelRunnerCpp.{message}\n' in out


@pytest.mark.parametrize(
    ('module', 'owner', 'name'),
    [
        ('tensorrt_llm.runtime', 'ModelRunnerCpp', 'generate'),
        ('tensorrt_llm.runtime', 'LogitsProcessorList', '__call__'),
        ('tensorrt_llm.bindings.executor', 'Executor', 'shutdown'),
        ('tensorrt', 'IExecutionContext', 'execute_async_v3'),
    ],
)
def test_what_is_gone_is_named(stand_in, monkeypatch, capsys, module, owner, name):
    stand_in()
    monkeypatch.setattr(getattr(import_module(module), owner), name, None)
    if name == 'shutdown':
        monkeypatch.delattr(getattr(import_module(module), owner), name)
    status, out = report(capsys)
    assert status == 1
    assert f'differs: {module}.{owner}.{name} is gone' in out


def test_a_dropped_flag_is_named(stand_in, monkeypatch, capsys):
    stand_in()
    monkeypatch.setenv('WITHOUT', 'max_prompt_embedding_table_size')
    status, out = report(capsys)
    assert status == 1
    assert 'differs: trtllm-build --max_prompt_embedding_table_size is gone\n1 difference\n' in out
    lost, new = check_contract.flag_differences(
        {'gemm_plugin': ('auto', 'fp8'), 'workers': ()},
        {'gemm_plugin': ('auto',), 'workers': ('1',), 'fast': ()},
    )
    assert lost == ['trtllm-build --gemm_plugin no longer takes fp8']
    assert new == ['trtllm-build --fast']


def test_a_broken_trtllm_build_is_one_difference(stand_in, monkeypatch, capsys):
    stand_in()
    monkeypatch.setenv('WITHOUT', 'no_such_flag')
    status, out = report(capsys)
    assert status == 1
    assert "--help` ended with 1: KeyError: 'no_such_flag'" in out


def test_a_release_without_engines_is_told_so(stand_in, monkeypatch, capsys):
    stand_in()
    monkeypatch.setattr(import_module('tensorrt_llm'), '__version__', '1.4.0rc1')
    monkeypatch.setitem(sys.modules, 'tensorrt_llm.runtime.model_runner_cpp', None)
    monkeypatch.setenv('PATH', '')
    status, out = report(capsys)
    assert status == 1
    assert out.startswith('TensorRT-LLM 1.4.0rc1, compared with 1.2.1\n')
    assert 'model_runner_cpp is gone; 1.2.1 is the last stable release that has engines' in out
    assert 'trtllm-build is not on the PATH' in out


@pytest.mark.parametrize(
    ('version', 'release'),
    [
        ('0.19.0', '0.20.0'),
        ('1.1.0rc6', '1.1.0'),
        ('1.2.0.post1', '1.2.0'),
        ('1.2.1', '1.2.1'),
        ('1.3.0rc20', '1.2.1'),
    ],
)
def test_the_nearest_release_is_compared_with(version, release):
    assert CONTRACT.nearest(version) == release


def test_without_tensorrt_llm_the_command_names_the_container():
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'}
    command = [sys.executable, str(ROOT / 'scripts' / 'check_contract')]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith('check_contract: TensorRT-LLM is not installed here; its cont')
    assert 'docker compose -f docker/compose.yaml run --rm policy ros2 run' in ended.stderr
    assert ended.stderr.count('\n') == 1


def test_the_command_finds_the_stand_in(stand_in):
    stand_in('1.1.0')
    path = f'{ROOT}:{os.environ["PYTHONPATH"]}'
    command = [sys.executable, str(ROOT / 'scripts' / 'check_contract')]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert 'nothing that is called differs' in ended.stdout
