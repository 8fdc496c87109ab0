"""The names of the language model's tensors on disk, in both formats, and their shapes.

D: width, I: inner width of the MLP, V: rows of the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from trt_openvla_ros.checkpoints.llama_config import LlamaConfig


class Names(NamedTuple):
    """The names of one weight.

    Attributes:
        hugging_face: Names in transformers, without '.weight'. If there are several, TensorRT-LLM
            stores these weights as one, with their rows one below the other.
        trtllm: Name in a TensorRT-LLM checkpoint, without '.weight'.
    """

    hugging_face: tuple[str, ...]
    trtllm: str


# Prefix of the language model's tensors in a checkpoint.
PREFIX = 'language_model.'
EMBEDDING = Names(('model.embed_tokens',), 'transformer.vocab_embedding')
NORM = Names(('model.norm',), 'transformer.ln_f')
HEAD = Names(('lm_head',), 'lm_head')
# Full names in transformers.
EMBEDDING_WEIGHT, NORM_WEIGHT, HEAD_WEIGHT = (
    f'{one.hugging_face[0]}.weight' for one in (EMBEDDING, NORM, HEAD)
)
# TensorRT-LLM's name of a layer's attention; the names of its cache scales begin with it.
ATTENTION = 'attention'
# Weights of each layer; layer_prefix gives the beginning of their names. TensorRT-LLM calls the
# gate projection fc, and the up projection gate.
LAYER = {
    'input_norm': Names(('input_layernorm',), 'input_layernorm'),
    'qkv': Names(('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), f'{ATTENTION}.qkv'),
    'out': Names(('self_attn.o_proj',), f'{ATTENTION}.dense'),
    'mlp_norm': Names(('post_attention_layernorm',), 'post_layernorm'),
    'gate': Names(('mlp.gate_proj',), 'mlp.fc'),
    'up': Names(('mlp.up_proj',), 'mlp.gate'),
    'down': Names(('mlp.down_proj',), 'mlp.proj'),
}
# Buffers of old releases; the configuration already determines their content.
_BUFFER = 'rotary_emb.inv_freq'


def layer_prefix(index: int) -> Names:
    """Give the beginning of the names of a layer's tensors."""
    return Names((f'model.layers.{index}.',), f'transformer.layers.{index}.')


def layer_of(name: str) -> int | None:
    """Give the number of the layer that a tensor of transformers belongs to; None if to none."""
    start, _, rest = name.partition('model.layers.')
    return int(rest.partition('.')[0]) if rest and not start else None


def is_buffer(name: str) -> bool:
    """Tell whether a tensor of transformers is a buffer that nobody needs."""
    return name.endswith(_BUFFER)


def layer_rows(llm: LlamaConfig) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Give the shapes of a layer's weights by key of LAYER: one shape for each name."""
    hidden, inner = llm.hidden_size, llm.intermediate_size
    return {
        'input_norm': ((hidden,),),
        'qkv': ((llm.query_width, hidden), (llm.kv_width, hidden), (llm.kv_width, hidden)),
        'out': ((hidden, llm.query_width),),
        'mlp_norm': ((hidden,),),
        'gate': ((inner, hidden),),
        'up': ((inner, hidden),),
        'down': ((hidden, inner),),
    }


def hugging_face_shapes(llm: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Give the shape of each tensor in transformers; tied embeddings have no head."""
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING_WEIGHT: (llm.vocab_size, llm.hidden_size),
        NORM_WEIGHT: (llm.hidden_size,),
    }
    if not llm.tie_word_embeddings:
        shapes[HEAD_WEIGHT] = (llm.vocab_size, llm.hidden_size)
    for index in range(llm.num_layers):
        at = layer_prefix(index).hugging_face[0]
        for key, parts in layer_rows(llm).items():
            for name, shape in zip(LAYER[key].hugging_face, parts, strict=True):
                shapes[f'{at}{name}.weight'] = shape
    return shapes


def trtllm_names(layers: int) -> dict[str, list[str]]:
    """Map the tensors of an unquantised TensorRT-LLM checkpoint to those of transformers.

    Returns:
        Names in transformers by name in the TensorRT-LLM checkpoint, which joins their tensors.
    """
    names = {
        f'{one.trtllm}.weight': [f'{one.hugging_face[0]}.weight']
        for one in (EMBEDDING, NORM, HEAD)
    }
    for index in range(layers):
        at = layer_prefix(index)
        for one in LAYER.values():
            names[f'{at.trtllm}{one.trtllm}.weight'] = [
                f'{at.hugging_face[0]}{name}.weight' for name in one.hugging_face
            ]
    return names
