"""LLM_backbone: the language model alone, in the form that transformers' Auto classes load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from trt_openvla_ros.checkpoints.json_files import write_json
from trt_openvla_ros.checkpoints.llama import (
    EMBEDDING_WEIGHT,
    HEAD_WEIGHT,
    hugging_face_shapes,
    is_buffer,
    PREFIX,
)
from trt_openvla_ros.checkpoints.llama_config import write_text_config
from trt_openvla_ros.checkpoints.released import Checkpoint, CONFIG, GENERATION
from trt_openvla_ros.checkpoints.tensor_files import DTYPES, Piece, write_shards
from trt_openvla_ros.checkpoints.tokenizer import copy_tokenizer, Tokenizer
from trt_openvla_ros.errors import ConfigError


def check_language_tensors(checkpoint: Checkpoint, pieces: Mapping[str, Piece]) -> str:
    """Check the stored tensors against config.json and the tokenizer.

    Args:
        checkpoint: Checkpoint that stores the tensors.
        pieces: Tensors of the language model, by their names in transformers.

    Returns:
        The dtype of the tensors: 'bfloat16', 'float16' or 'float32'.

    Raises:
        ConfigError: Names, shapes, dtypes or the vocabulary disagree.
    """
    llm = checkpoint.llm
    shapes = hugging_face_shapes(llm)
    vocabulary = Tokenizer(checkpoint.path).vocab_size
    for name in (EMBEDDING_WEIGHT, HEAD_WEIGHT):
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
                f'{checkpoint.path}: {PREFIX}{name} is {how}; config.json says {shape}'
            )
    extra = [name for name in pieces if name not in shapes and not _is_dropped(name)]
    if extra:
        raise ConfigError(
            f'{checkpoint.path}: {PREFIX}{extra[0]} (and {len(extra) - 1} more) has no '
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
        directory: Directory for the files, which does not exist yet.
        checkpoint: Checkpoint that the language model is taken from.
        shards: Tensors of the language model, one dict for each file of the checkpoint.
        dtype: Precision of the tensors, from `check_language_tensors`.
        bar: Progress bar, which advances by the bytes written.
    """
    directory.mkdir()
    kept = hugging_face_shapes(checkpoint.llm)
    shards = [{name: shard[name] for name in shard if name in kept} for shard in shards]
    write_shards(directory, [shard for shard in shards if shard], bar)
    special = _special_ids(checkpoint)
    config = write_text_config(checkpoint.llm, checkpoint.architecture, dtype)
    write_json(directory / CONFIG, {**config, **special})
    write_json(directory / GENERATION, {'_from_model_config': True, **special})
    copy_tokenizer(checkpoint.path, directory)


def _special_ids(checkpoint: Checkpoint) -> dict[str, int]:
    tokenizer = Tokenizer(checkpoint.path)
    pad = tokenizer.vocab_size if checkpoint.pad_id is None else checkpoint.pad_id
    return {
        'bos_token_id': tokenizer.bos_id,
        'eos_token_id': tokenizer.eos_id,
        # transformers cannot load a padding id past the rows.
        'pad_token_id': pad if pad < checkpoint.llm.vocab_size else tokenizer.eos_id,
    }


def _is_dropped(name: str) -> bool:
    # Buffers, and the head that tied embeddings store twice.
    return is_buffer(name) or name == HEAD_WEIGHT
