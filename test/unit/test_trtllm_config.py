"""An engine's config.json against what will be asked of the engine: one error with all of it."""

from dataclasses import replace
import json
from pathlib import Path

import pytest

from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Lengths
from trt_openvla_ros.engines.tensorrt_llm.config import check_engine, EngineConfig, Machine
from trt_openvla_ros.errors import ConfigError

LLM = LlamaConfig(
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=11008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_dim=128,
    max_positions=2048,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    tie_word_embeddings=False,
)
CHECKPOINT = TrtllmCheckpoint(
    path=Path('/robot/artifact/trtllm_checkpoint'),
    llm=LLM,
    rows=32064,
    format='fp8',
    dtype='bfloat16',
    fp8_cache=True,
    group_size=128,
    excluded=('lm_head',),
)
# What trtllm-build 1.2.1 writes for it, with the flags of the stage build_engine.
CONFIG = {
    'version': '1.2.1',
    'pretrained_config': {
        'architecture': 'LlamaForCausalLM',
        'dtype': 'bfloat16',
        'vocab_size': 32064,
        'hidden_size': 4096,
        'num_hidden_layers': 32,
        'num_attention_heads': 32,
        'num_key_value_heads': 32,
        'mapping': {'world_size': 1},
        'quantization': {'quant_algo': 'FP8', 'kv_cache_quant_algo': 'FP8'},
    },
    'build_config': {
        'max_batch_size': 1,
        'max_input_len': 512,
        'max_seq_len': 544,
        'max_num_tokens': 512,
        'max_prompt_embedding_table_size': 256,
        'kv_cache_type': 'PAGED',
        'plugin_config': {'tokens_per_block': 32, 'remove_input_padding': True},
    },
}
ACTION = Lengths(prompt=20, answer=7)
HERE = Machine('1.2.1', '9.0')


def opened(tmp_path, **changes):
    """Write CONFIG with changes, by 'part__name' or 'part__inner__name', and open it."""
    config = json.loads(json.dumps(CONFIG))
    for name, value in changes.items():
        *parts, last = name.split('__')
        table = config
        for part in parts:
            table = table[part]
        table[last] = value
    (tmp_path / 'config.json').write_text(json.dumps(config))
    return EngineConfig.open(tmp_path)


def refusals(config, checkpoint=CHECKPOINT, image=256, lengths=ACTION, built=HERE, here=HERE):
    with pytest.raises(ConfigError) as caught:
        check_engine(config, checkpoint, image, lengths, built, here)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f'engine {config.path} does not fit; build it again')
    return [line.strip() for line in lines]


def test_an_engine_that_fits_is_taken(tmp_path):
    config = opened(tmp_path)
    check_engine(config, CHECKPOINT, 256, ACTION, HERE, HERE)
    # What is not known disagrees with nothing.
    check_engine(config, CHECKPOINT, 256, ACTION, Machine('1.2.1', None), Machine(None, '8.9'))
    # 544 tokens are 17 blocks, and one is to spare.
    assert config.cache_tokens == 18 * 32


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        (
            {'build_config__max_batch_size': 2048},
            'max_prompt_embedding_table_size 256 over max_batch_size 2048 leaves 0 image '
            'embeddings for a request, and an image has 256: --max_batch_size 1 '
            '--max_prompt_embedding_table_size 256',
        ),
        (
            {'build_config__max_input_len': 256},
            'max_input_len is 256, and a short prompt takes 276 with its image: '
            '--max_input_len 276 or, for longer instructions, more',
        ),
        (
            {'build_config__max_num_tokens': 64},
            'max_num_tokens is 64, and a short prompt takes 276 with its image: '
            '--max_num_tokens 276 or, for longer instructions, more',
        ),
        (
            {'build_config__max_seq_len': None},
            'max_seq_len is 0, and a short prompt with an answer of up to 7 tokens takes 283: '
            '--max_seq_len 283 or more, or a smaller max_new_tokens of the policy',
        ),
        (
            {'pretrained_config__vocab_size': 32000},
            'vocab_size is 32000, and 32064 in /robot/artifact/trtllm_checkpoint: '
            '--checkpoint_dir /robot/artifact/trtllm_checkpoint',
        ),
        (
            {'pretrained_config__hidden_size': 2048},
            'hidden_size is 2048, and 4096 in /robot/artifact/trtllm_checkpoint: '
            '--checkpoint_dir /robot/artifact/trtllm_checkpoint',
        ),
        (
            {'pretrained_config__quantization__quant_algo': None},
            'quant_algo is None, and FP8 in /robot/artifact/trtllm_checkpoint: '
            '--checkpoint_dir /robot/artifact/trtllm_checkpoint',
        ),
        (
            {'pretrained_config__quantization': None},
            'kv_cache_quant_algo is None, and FP8 in /robot/artifact/trtllm_checkpoint: '
            '--checkpoint_dir /robot/artifact/trtllm_checkpoint',
        ),
        (
            {'pretrained_config__mapping': {'world_size': 2}},
            'built for 2 GPUs, and one runs it: --checkpoint_dir of one rank',
        ),
        (
            {'build_config__max_draft_len': 5},
            'max_draft_len is 5, for drafts, and nothing drafts: without --max_draft_len and '
            '--speculative_decoding_mode',
        ),
        (
            {'build_config__kv_cache_type': 'DISABLED'},
            'kv_cache_type is disabled, and the runner needs a paged one: --kv_cache_type paged',
        ),
        (
            {'build_config__kv_cache_type': 'CONTINUOUS'},
            'kv_cache_type is continuous, and the runner needs a paged one: --kv_cache_type paged',
        ),
        (
            {'build_config__plugin_config__remove_input_padding': False},
            'remove_input_padding is off, and is needed: --remove_input_padding enable',
        ),
    ],
)
def test_each_disagreement_is_named_with_its_flag(tmp_path, changes, reason):
    assert reason in refusals(opened(tmp_path, **changes))


def test_all_disagreements_come_in_one_error(tmp_path):
    config = opened(
        tmp_path,
        version='1.1.0',
        pretrained_config__num_hidden_layers=24,
        build_config__max_input_len=200,
    )
    reasons = refusals(config, lengths=Lengths(20, 1024), here=Machine('1.2.1', '8.9'))
    assert reasons == [
        'built by TensorRT-LLM 1.1.0, and 1.2.1 is installed: build it here',
        'built for compute capability 9.0, and the GPU here has 8.9: build it here',
        'num_hidden_layers is 24, and 32 in /robot/artifact/trtllm_checkpoint: '
        '--checkpoint_dir /robot/artifact/trtllm_checkpoint',
        'max_input_len is 200, and a short prompt takes 276 with its image: '
        '--max_input_len 276 or, for longer instructions, more',
        'max_seq_len is 544, and a short prompt with an answer of up to 1024 tokens takes 1300: '
        '--max_seq_len 1300 or more, or a smaller max_new_tokens of the policy',
    ]


def test_padded_rows_count_and_not_the_vocabulary(tmp_path):
    padded = replace(CHECKPOINT, rows=32128)
    config = opened(tmp_path, pretrained_config__vocab_size=32128)
    check_engine(config, padded, 256, ACTION, HERE, HERE)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        (None, 'is missing'),
        ('{', 'is not JSON'),
        ('[]', 'holds a list'),
        ('{"builder_config": {}}', 'has no pretrained_config and build_config'),
    ],
)
def test_what_is_no_engine_is_refused(tmp_path, text, reason):
    if text is not None:
        (tmp_path / 'config.json').write_text(text)
    with pytest.raises(ConfigError, match=f'{reason}.*; build the engine again'):
        EngineConfig.open(tmp_path)
