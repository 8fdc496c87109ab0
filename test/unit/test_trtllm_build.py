"""The command line of trtllm-build, against the flags of every release that is supported.

The executable here is stand_in/trtllm_build.py: these are tests of the contract, and not of
TensorRT-LLM.
"""

from dataclasses import replace
import json
from pathlib import Path

import pytest

from trt_openvla_ros.engines.tensorrt_llm.build import (
    Build,
    flags,
    parse_help,
    read_features,
    run_build,
)
from trt_openvla_ros.engines.tensorrt_llm.contract import Contract
from trt_openvla_ros.errors import ConfigError, EngineError

CONTRACT = Contract()
FORMATS = ('bf16', 'fp8', 'int4_awq', 'int8_sq')


def openvla(name='fp8', **changes):
    build = Build(
        checkpoint=Path('/a b/trtllm_checkpoint'),
        output=Path('/a b/language_engine'),
        format=name,
        fp8_cache=name == 'fp8',
        capability=(9, 0),
        image_tokens=256,
        max_batch_size=1,
        max_input_len=512,
        max_seq_len=544,
        max_num_tokens=512,
        multiple_profiles=True,
    )
    return replace(build, **changes)


def pairs(words):
    assert len(words) % 2 == 0
    return dict(zip(words[::2], words[1::2], strict=True))


def test_line_for_openvla_on_hopper():
    assert pairs(flags(openvla(), CONTRACT.flags('1.2.1'))) == {
        '--checkpoint_dir': '/a b/trtllm_checkpoint',
        '--output_dir': '/a b/language_engine',
        '--max_batch_size': '1',
        '--max_beam_width': '1',
        '--max_input_len': '512',
        '--max_seq_len': '544',
        '--max_num_tokens': '512',
        '--max_prompt_embedding_table_size': '256',
        '--gpt_attention_plugin': 'auto',
        '--remove_input_padding': 'enable',
        '--context_fmha': 'enable',
        '--use_paged_context_fmha': 'enable',
        '--use_fp8_context_fmha': 'enable',
        '--gemm_plugin': 'disable',
        '--low_latency_gemm_plugin': 'fp8',
        '--multiple_profiles': 'enable',
        '--logits_dtype': 'float32',
        '--workers': '1',
    }


@pytest.mark.parametrize(
    ('build', 'expected'),
    [
        (openvla('bf16'), {'gemm_plugin': 'auto', 'use_fp8_context_fmha': 'disable'}),
        (openvla('int4_awq'), {'gemm_plugin': 'auto', 'low_latency_gemm_plugin': 'disable'}),
        (openvla(fp8_cache=False), {'use_fp8_context_fmha': 'disable', 'gemm_plugin': 'disable'}),
        # Only Hopper has low-latency kernels: neither Ada before it nor Blackwell after it.
        *(
            (
                openvla(capability=capability),
                {'gemm_plugin': 'fp8', 'low_latency_gemm_plugin': 'disable'},
            )
            for capability in ((8, 9), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1))
        ),
        # TensorRT-LLM builds integer engines for these.
        (openvla('int4_awq', capability=(8, 6)), {'gemm_plugin': 'auto'}),
        (openvla('int4_awq', capability=(12, 0)), {'gemm_plugin': 'auto'}),
        (
            openvla(max_batch_size=4, max_num_tokens=2048),
            {'max_prompt_embedding_table_size': '1024', 'max_batch_size': '4'},
        ),
        (openvla(multiple_profiles=False), {'multiple_profiles': 'disable'}),
        (
            openvla(overrides=('gemm_plugin fp8', '--low_latency_gemm_plugin  disable')),
            {'gemm_plugin': 'fp8', 'low_latency_gemm_plugin': 'disable'},
        ),
        (openvla(overrides=('tokens_per_block 64',)), {'tokens_per_block': '64'}),
    ],
)
def test_line_follows_the_settings(build, expected):
    line = pairs(flags(build, CONTRACT.flags('1.2.1')))
    assert {name: line[f'--{name}'] for name in expected} == expected


def test_overrides_may_add_a_switch_and_leave_a_flag_out():
    build = openvla(overrides=('dry_run', 'workers default'))
    line = flags(build, CONTRACT.flags('1.2.1'))
    assert line[-1] == '--dry_run'
    assert '--workers' not in line


@pytest.mark.parametrize('release', CONTRACT.releases)
@pytest.mark.parametrize('name', FORMATS)
def test_every_release_accepts_the_line(trtllm_build, tmp_path, release, name):
    executable = trtllm_build(release)
    features = read_features(executable)
    assert features == CONTRACT.flags(release)
    checkpoint, output = tmp_path / 'a b' / 'checkpoint', tmp_path / 'a b' / 'engine'
    checkpoint.mkdir(parents=True)
    (checkpoint / 'config.json').write_text('{"mapping": {"world_size": 1}, "dtype": "bfloat16"}')
    (tmp_path / 'scratch').mkdir()
    words = flags(openvla(name, checkpoint=checkpoint, output=output), features)
    run_build(executable, words, tmp_path / 'scratch')
    seen = json.loads((output / 'config.json').read_text())
    assert seen['build_config']['max_prompt_embedding_table_size'] == 256
    assert seen['build_config']['plugin_config']['remove_input_padding'] is True
    assert seen['pretrained_config']['logits_dtype'] == 'float32'
    assert json.loads((output / 'rank0.engine').read_text())['flags'] == {
        k.removeprefix('--'): v for k, v in pairs(words).items()
    }
    assert (tmp_path / 'scratch' / 'model.cache').is_file()


def test_the_fake_refuses_what_a_release_does_not_know(trtllm_build, tmp_path):
    fake = trtllm_build('1.2.1')
    with pytest.raises(EngineError, match='unrecognized arguments: --max_output_len 7'):
        run_build(fake, ['--max_output_len', '7'], tmp_path)
    with pytest.raises(EngineError, match='unrecognized arguments: --auto_parallel 1'):
        run_build(fake, ['--auto_parallel', '1'], tmp_path)
    with pytest.raises(EngineError, match="invalid choice: 'fast'"):
        run_build(fake, ['--gemm_plugin', 'fast'], tmp_path)


def test_a_flag_that_a_release_lacks_is_left_out_where_its_default_will_do():
    features = CONTRACT.flags('1.2.1')
    del features['low_latency_gemm_plugin'], features['logits_dtype']
    features['gemm_plugin'] = ('auto', 'fp8')
    line = pairs(flags(openvla(), features))
    assert not {'--low_latency_gemm_plugin', '--logits_dtype', '--gemm_plugin'} & line.keys()
    del features['max_prompt_embedding_table_size']
    message = 'does not know --max_prompt_embedding_table_size; releases 0.20'
    with pytest.raises(EngineError, match=message):
        flags(openvla(), features)


@pytest.mark.parametrize(
    ('build', 'error', 'message'),
    [
        (openvla(capability=(8, 6)), EngineError, 'fp8 needs .* this one has 8.6; quantise to bf'),
        *(
            (
                openvla('int4_awq', capability=(major, minor)),
                EngineError,
                f'no int4_awq engine for compute capability {major}.{minor}; quantise to bf16 or',
            )
            for major, minor in ((10, 0), (10, 3), (11, 0))
        ),
        (openvla(max_input_len=256), ConfigError, 'max_input_len is 256, and the image .* 256;'),
        (openvla(max_seq_len=512), ConfigError, 'leaves no token for the answer'),
        (openvla(max_num_tokens=511), ConfigError, 'is 511; a prompt of max_input_len 512'),
        (openvla(overrides=('gemm_plugn fp8',)), ConfigError, 'does not know --gemm_plugn'),
        (
            openvla(overrides=('gemm_plugin fast',)),
            ConfigError,
            "--gemm_plugin is 'fast'; it may be auto, float16",
        ),
        (openvla(overrides=('output_dir /tmp',)), ConfigError, '--output_dir cannot be changed'),
    ],
)
def test_what_cannot_be_built_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        flags(build, CONTRACT.flags('1.2.1'))


def test_help_is_read_where_flags_are_described_and_nowhere_else():
    text = """\
[TensorRT-LLM] TensorRT-LLM version: 1.2.1
usage: trtllm-build [-h] [--not_described X] [--max_seq_len MAX_SEQ_LEN]
                    [--profiling_verbosity {layer_names_only,detailed,none}]

options:
  -h, --help            show this help message and exit
  --max_seq_len MAX_SEQ_LEN, --max_decoder_seq_len MAX_SEQ_LEN
                        Longest. --in_prose is not known. (default: None)
  --strip_plan          Enable stripping, see ``--also_prose enable`` (default: False)

Plugin config arguments:
  --gemm_plugin {auto,fp8,disable}
                        The GEMM plugin (default: None)
"""
    assert parse_help(text) == {
        'max_seq_len': (),
        'max_decoder_seq_len': (),
        'strip_plan': (),
        'gemm_plugin': ('auto', 'fp8', 'disable'),
    }


@pytest.mark.parametrize(
    ('script', 'message'),
    [
        ('echo "ImportError: libnvinfer.so.10" >&2; exit 1', 'ended with 1: ImportError: libnvin'),
        ('exit 0', 'ended with 0: no output'),
    ],
)
def test_an_executable_that_does_not_answer_is_named(tmp_path, script, message):
    path = tmp_path / 'trtllm-build'
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    with pytest.raises(EngineError, match=message):
        read_features(str(path))
    path.chmod(0o644)
    with pytest.raises(EngineError, match='cannot be started'):
        read_features(str(path))
