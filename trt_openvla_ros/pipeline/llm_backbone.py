"""LLM_backbone: the language model alone, as transformers' Auto classes load it."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
import shutil
from typing import Any

from tqdm import tqdm

from trt_openvla_ros.checkpoint import Checkpoint, LlamaConfig
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.tensor_files import Piece, write_tensors
from trt_openvla_ros.prompt import Tokenizer

TOKENIZER_FILES = (
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'added_tokens.json',
)
DTYPES = {'BF16': 'bfloat16', 'F16': 'float16', 'F32': 'float32'}


def llama_shapes(llm: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Names in transformers' layout to shapes; of tied embeddings, without the head."""
    hidden, inner = llm.hidden_size, llm.intermediate_size
    heads, kv = llm.num_heads * llm.head_dim, llm.num_kv_heads * llm.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        'model.embed_tokens.weight': (llm.vocab_size, hidden),
        'model.norm.weight': (hidden,),
    }
    if not llm.tie_word_embeddings:
        shapes['lm_head.weight'] = (llm.vocab_size, hidden)
    for index in range(llm.num_layers):
        at = f'model.layers.{index}.'
        shapes |= {
            f'{at}input_layernorm.weight': (hidden,),
            f'{at}self_attn.q_proj.weight': (heads, hidden),
            f'{at}self_attn.k_proj.weight': (kv, hidden),
            f'{at}self_attn.v_proj.weight': (kv, hidden),
            f'{at}self_attn.o_proj.weight': (hidden, heads),
            f'{at}post_attention_layernorm.weight': (hidden,),
            f'{at}mlp.gate_proj.weight': (inner, hidden),
            f'{at}mlp.up_proj.weight': (inner, hidden),
            f'{at}mlp.down_proj.weight': (hidden, inner),
        }
    return shapes


def check_language_tensors(checkpoint: Checkpoint, pieces: Mapping[str, Piece]) -> str:
    """Hold the stored tensors against config.json and the tokenizer.

    Args:
        checkpoint: Where they are from.
        pieces: Tensors of the language model, names as transformers has them.

    Returns:
        The dtype they are stored in: 'bfloat16', 'float16' or 'float32'.

    Raises:
        ConfigError: Names, shapes, dtypes or the vocabulary disagree.
    """
    llm = checkpoint.llm
    shapes = llama_shapes(llm)
    vocabulary = Tokenizer(checkpoint.path).vocab_size
    for name in ('model.embed_tokens.weight', 'lm_head.weight'):
        rows = pieces[name].shape[0] if name in pieces else llm.vocab_size
        if rows != llm.vocab_size:
            raise ConfigError(
                f'{checkpoint.path}: {name} has {rows} rows and config.json a vocab_size of '
                f'{llm.vocab_size}; set text_config.vocab_size to {rows} if the weights are right'
            )
    if vocabulary > llm.vocab_size:
        raise ConfigError(
            f'{checkpoint.path}: the tokenizer has {vocabulary} pieces and the embedding '
            f'{llm.vocab_size} rows; they are not of one checkpoint'
        )
    for name, shape in shapes.items():
        found = pieces.get(name)
        if found is None or found.shape != shape:
            how = 'missing' if found is None else f'of shape {found.shape}'
            raise ConfigError(
                f'{checkpoint.path}: language_model.{name} is {how}; config.json says {shape}'
            )
    extra = [name for name in pieces if name not in shapes and not _is_dropped(name)]
    if extra:
        raise ConfigError(
            f'{checkpoint.path}: language_model.{extra[0]} (and {len(extra) - 1} more) has no '
            f'place in the Llama of {llm.num_layers} layers that config.json describes'
        )
    kinds = {pieces[name].dtype for name in shapes}
    if len(kinds) != 1 or not kinds <= DTYPES.keys():
        raise ConfigError(
            f'{checkpoint.path}: the language model is stored as {", ".join(sorted(kinds))}; one '
            f'of {", ".join(DTYPES.values())} throughout is needed'
        )
    return DTYPES[kinds.pop()]


def write_backbone(
    directory: Path, checkpoint: Checkpoint, shards: list[dict[str, Piece]], dtype: str, bar: tqdm
) -> None:
    """Write configuration, tokenizer and weights.

    Args:
        directory: Made.
        checkpoint: Where the language model is from.
        shards: Its tensors, file by file as they are stored there.
        dtype: As check_language_tensors gives it.
        bar: Advances by the bytes written.
    """
    directory.mkdir()
    kept = llama_shapes(checkpoint.llm)
    shards = [{name: shard[name] for name in shard if name in kept} for shard in shards]
    shards = [shard for shard in shards if shard]
    weight_map = {}
    for index, shard in enumerate(shards, 1):
        name = 'model.safetensors'
        if len(shards) > 1:
            name = f'model-{index:05d}-of-{len(shards):05d}.safetensors'
        write_tensors(directory / name, shard, bar)
        weight_map |= dict.fromkeys(shard, name)
    if len(shards) > 1:
        total = sum(piece.size for shard in shards for piece in shard.values())
        index = {'metadata': {'total_size': total}, 'weight_map': dict(sorted(weight_map.items()))}
        write_json(directory / 'model.safetensors.index.json', index)
    write_json(directory / 'config.json', _hugging_face(checkpoint, dtype))
    special = _special_ids(checkpoint)
    write_json(directory / 'generation_config.json', {'_from_model_config': True, **special})
    copy_tokenizer(checkpoint, directory)


def copy_tokenizer(checkpoint: Checkpoint, directory: Path) -> None:
    """Copy the tokenizer, without what would make transformers run the checkpoint's own code."""
    for name in TOKENIZER_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, directory / name)
    path = directory / 'tokenizer_config.json'
    config = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
    config.pop('auto_map', None)
    config.pop('processor_class', None)
    if not (directory / 'tokenizer.model').is_file():
        # It makes transformers build the fast tokenizer from that file, and tokenizer.json has it.
        config.pop('add_prefix_space', None)
    # Without these, transformers 5 leaves <s> out where there is only tokenizer.model.
    config.setdefault('tokenizer_class', 'LlamaTokenizer')
    config.setdefault('add_bos_token', True)
    config.setdefault('add_eos_token', False)
    config.setdefault('legacy', True)
    write_json(path, config)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people too."""
    path.write_text(json.dumps(value, indent=2) + '\n', encoding='utf-8')


def _hugging_face(checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    """config.json with every value written out: defaults differ between readers."""
    llm = checkpoint.llm
    kind = (checkpoint.config.get('text_config') or {}).get('model_type', 'llama')
    config = {
        'architectures': [{'llama': 'LlamaForCausalLM', 'mistral': 'MistralForCausalLM'}[kind]],
        'model_type': kind,
        'vocab_size': llm.vocab_size,
        'hidden_size': llm.hidden_size,
        'intermediate_size': llm.intermediate_size,
        'num_hidden_layers': llm.num_layers,
        'num_attention_heads': llm.num_heads,
        'num_key_value_heads': llm.num_kv_heads,
        'head_dim': llm.head_dim,
        'hidden_act': 'silu',
        'max_position_embeddings': llm.max_positions,
        'rms_norm_eps': llm.rms_norm_eps,
        'rope_theta': llm.rope_theta,
        'rope_scaling': None,
        'attention_bias': False,
        'mlp_bias': False,
        'tie_word_embeddings': llm.tie_word_embeddings,
        'use_cache': True,
        'torch_dtype': dtype,
        **_special_ids(checkpoint),
    }
    if kind == 'mistral':
        config['sliding_window'] = None
    return config


def _special_ids(checkpoint: Checkpoint) -> dict[str, int]:
    tokenizer = Tokenizer(checkpoint.path)
    pad = checkpoint.config.get('pad_token_id', tokenizer.vocab_size)
    return {
        'bos_token_id': tokenizer.bos_id,
        'eos_token_id': tokenizer.eos_id,
        # A padding id past the rows would not load.
        'pad_token_id': pad if pad < checkpoint.llm.vocab_size else tokenizer.eos_id,
    }


def _is_dropped(name: str) -> bool:
    # Buffers of old releases, and the head that tied embeddings store twice.
    return name.endswith('rotary_emb.inv_freq') or name == 'lm_head.weight'
