"""check_contract, on the stand-in, and on stand-ins in which something changed."""

from importlib import import_module
import inspect
import os
from pathlib import Path
import re
import subprocess
import sys

import numpy as np
import pytest

from trt_openvla_ros.engines.tensorrt_llm import check_contract
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract
from trt_openvla_ros.policy import Policy

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
    # All that differs is what we never give.
    assert status == 0
    assert (
        'not called: tensorrt_llm.runtime.ModelRunnerCpp.from_dir: '
        'fail_fast_on_attention_window_too_large is gone\n'
    ) in out
    assert 'not called: trtllm-build --auto_parallel is new\n' in out
    assert out.endswith('\nnothing that is called differs\n')


KEYWORD = inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(
    ('change', 'called', 'message'),
    [
        (lambda p: p.pop('cuda_graph_mode'), True, 'cuda_graph_mode is gone'),
        (lambda p: p.pop('medusa_choices'), False, 'medusa_choices is gone'),
        (
            lambda p: p.update(rank=p['rank'].replace(default=1)),
            False,
            'rank is 1 by default now, and was 0',
        ),
        (
            lambda p: p.update(use_runtime_defaults=inspect.Parameter('x', KEYWORD, default=None)),
            False,
            'use_runtime_defaults is None by default now, and was True',
        ),
        (
            lambda p: p.update(device=inspect.Parameter('device', KEYWORD)),
            True,
            'device is new, and has to be given',
        ),
        (
            lambda p: p.update(engine_dir=inspect.Parameter('engine_dir', KEYWORD)),
            True,
            'engine_dir is keyword-only now',
        ),
    ],
)
def test_a_changed_signature_is_named(stand_in, capsys, change, called, message):
    stand_in()
    runner = import_module('tensorrt_llm.runtime').ModelRunnerCpp
    parameters = dict(inspect.signature(runner.from_dir).parameters)
    change(parameters)
    parameters = [parameter.replace(name=name) for name, parameter in parameters.items()]
    owner = inspect.Parameter('cls', inspect.Parameter.POSITIONAL_OR_KEYWORD)
    runner.from_dir.__func__.__signature__ = inspect.Signature([owner, *parameters])
    status, out = report(capsys)
    assert status == called
    word = 'differs' if called else 'not called'
    assert f'{word}: tensorrt_llm.runtime.ModelRunnerCpp.from_dir: {message}\n' in out


@pytest.mark.parametrize(
    ('module', 'owner', 'name', 'called'),
    [
        ('tensorrt_llm.runtime', 'ModelRunnerCpp', 'generate', True),
        ('tensorrt_llm.runtime', 'ModelRunnerCpp', 'num_heads', False),
        ('tensorrt_llm.runtime', 'ModelRunner', 'vocab_size', True),
        ('tensorrt_llm.runtime', 'LogitsProcessorList', '__call__', False),
        ('tensorrt_llm.bindings.executor', 'Executor', 'shutdown', True),
        ('tensorrt', 'IExecutionContext', 'execute_async_v3', True),
        ('tensorrt', 'ICudaEngine', 'get_tensor_mode', False),
    ],
)
def test_what_is_gone_is_named(stand_in, monkeypatch, capsys, module, owner, name, called):
    stand_in()
    kind = getattr(import_module(module), owner)
    for base in kind.__mro__[:2]:
        # Where the contract has a function, None is as good as nothing.
        if name in vars(base):
            monkeypatch.delattr(base, name)
    if name == '__call__':
        monkeypatch.setattr(kind, name, None, raising=False)
    status, out = report(capsys)
    assert status == called
    word = 'differs' if called else 'not called'
    assert f'{word}: {module}.{owner}.{name} is gone' in out


def test_a_dropped_flag_is_named(stand_in, monkeypatch, capsys):
    stand_in()
    monkeypatch.setenv('WITHOUT', 'max_prompt_embedding_table_size,visualize_network')
    status, out = report(capsys)
    assert status == 1
    assert 'differs: trtllm-build --max_prompt_embedding_table_size is gone\n' in out
    assert out.endswith('not called: trtllm-build --visualize_network is gone\n1 difference\n')


def test_values_of_a_flag_count_where_a_build_passes_them():
    found = check_contract.flag_differences(
        {'gemm_plugin': ('auto', 'fp8', 'nvfp4'), 'lora_plugin': ('auto',), 'workers': ()},
        {'gemm_plugin': ('auto', 'nvfp4'), 'lora_plugin': ('x',), 'workers': ('1',), 'fast': ()},
    )
    assert list(found) == [
        ('trtllm-build --gemm_plugin no longer takes fp8', True),
        ('trtllm-build --lora_plugin no longer takes auto', False),
        ('trtllm-build --fast is new', False),
    ]
    found = check_contract.flag_differences(
        {'gemm_plugin': ('fp8', 'x')}, {'gemm_plugin': ('fp8',)}
    )
    assert list(found) == [('trtllm-build --gemm_plugin no longer takes x', False)]


@pytest.mark.parametrize('runner', ['ModelRunnerCpp', 'ModelRunner'])
def test_what_the_engine_gives_is_what_the_contract_calls(
    engine_artifact, stand_in, monkeypatch, runner
):
    artifact = engine_artifact('fused')
    stand_in()
    runtime = import_module('tensorrt_llm.runtime')
    if runner == 'ModelRunner':
        monkeypatch.delattr(runtime, 'ModelRunnerCpp')
    kind, given = getattr(runtime, runner), {}
    for name in ('from_dir', 'generate'):
        function = getattr(kind, name)

        def record(*args, _name=name, _function=function, **kwargs):
            given[_name] = {*kwargs, *(['engine_dir'] if _name == 'from_dir' else [])}
            return _function(*args, **kwargs)

        record.__signature__ = inspect.signature(function)
        if name == 'from_dir':
            monkeypatch.setattr(kind, name, staticmethod(record))
        else:
            monkeypatch.setattr(kind, name, record)
    policy = Policy.from_checkpoint(
        artifact, 'toy_arm', 'tensorrt_llm', 'cpu', vision_engine='torch'
    )
    policy.predict(np.zeros((48, 64, 3), np.uint8), 'pick up the cup')
    for name, keywords in given.items():
        called = set(CONTRACT.called[f'tensorrt_llm.runtime.{runner}.{name}'])
        # Of a GPU's number and its stream there are none on a CPU.
        assert called - {'device_ids', 'stream'} == keywords


def test_what_is_called_is_in_the_sources_and_the_rest_is_not():
    engines = ROOT / 'trt_openvla_ros' / 'engines'
    files = {
        'tensorrt': ('build', 'vision'),
        'tensorrt_llm': ('config', 'language', 'runner', 'steering'),
    }
    text = {
        part: ''.join((engines / part / f'{stem}.py').read_text() for stem in stems)
        for part, stems in files.items()
    }
    for part, source in text.items():
        facts = CONTRACT.data[part]
        names = list(facts['functions'])
        for owner, members in facts['attributes'].items():
            members = (
                members
                if part == 'tensorrt'
                else members['names'] + members.get('set_by_init', [])
            )
            names += [f'{owner}.{member}' for member in members]
        assert set(CONTRACT.called) & set(names) == set(facts['called'])
        uncalled = {name.split('.')[-1] for name in set(names) - set(facts['called'])}
        for name in facts['called']:
            owner, member = name.split('.')[-2:]
            assert re.search(rf'\b{owner if member == "__init__" else member}\b', source), name
            uncalled.discard(member)
        for member in uncalled - {'__call__'}:
            assert not re.search(rf'(_engine|_context|_runner|trt)\.(\w+\.)?{member}\b', source)


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
