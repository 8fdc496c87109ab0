"""Export of a quantised Llama, one layer at a time: memory holds one exported layer.

modelopt's own writer holds a second copy of the whole model. Here modelopt exports a model of one
layer, for each layer, and the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelopt.torch.export import torch_to_tensorrt_llm_checkpoint
import torch
from torch import nn

from trt_openvla_ros.checkpoints.llama import EMBEDDING, layer_prefix
from trt_openvla_ros.checkpoints.tensor_files import Piece
from trt_openvla_ros.errors import EngineError

# Name of a dtype in torch -> name in the file.
_DTYPES = {
    torch.float32: 'F32',
    torch.float16: 'F16',
    torch.bfloat16: 'BF16',
    torch.float8_e4m3fn: 'F8_E4M3',
    torch.int8: 'I8',
    torch.uint8: 'U8',
}
_BLOCK = 1 << 24  # elements that are copied at a time
_EMBEDDING = f'{EMBEDDING.trtllm}.weight'


class LayerExport:
    """What modelopt makes of a quantised model.

    Attributes:
        config: config.json of the TensorRT-LLM checkpoint.
        pieces: Its tensors by name. Reading them in this order exports each layer once.
    """

    config: dict[str, Any]
    pieces: dict[str, Piece]

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Export the first layer, whose tensors show what the other layers have.

        Args:
            model: Llama of transformers, quantised by modelopt. It is not changed.
            dtype: Precision of the weights that are not quantised.
        """
        self._model = model
        self._dtype = dtype
        self._layers = model.model.layers
        self._index, self._tensors = -1, {}
        self._load(0)
        self.config['num_hidden_layers'] = len(self._layers)
        # The largest elements first, because readers want them aligned.
        names = sorted(self._tensors, key=lambda name: -self._tensors[name].element_size())
        first = layer_prefix(0).trtllm
        once = [name for name in names if not name.startswith(first)]
        self.pieces = {name: self._piece(name, 0) for name in once}
        self.pieces[_EMBEDDING] = self._embedding()
        for index in range(len(self._layers)):
            for name in names:
                if name.startswith(first):
                    here = layer_prefix(index).trtllm + name.removeprefix(first)
                    self.pieces[here] = self._piece(name, index)

    def _piece(self, name: str, index: int) -> Piece:
        example = self._tensors[name]
        if example.dtype not in _DTYPES:
            raise EngineError(
                f'modelopt exported {name} as {example.dtype}; its release is not supported'
            )
        dtype, shape = example.dtype, example.shape

        def read() -> Iterator[bytes]:
            self._load(index)
            tensor = self._tensors.get(name)
            if tensor is None or (tensor.dtype, tensor.shape) != (dtype, shape):
                found = tensor if tensor is None else f'{tensor.dtype} {tuple(tensor.shape)}'
                raise EngineError(
                    f'modelopt quantised layer {index} otherwise than layer 0: {name} is {found} '
                    f'and not {dtype} {tuple(shape)}; calibrate on other frames'
                )
            for part in tensor.reshape(-1).split(_BLOCK):
                yield _bytes(part)

        return Piece(_DTYPES[dtype], tuple(shape), read)

    def _embedding(self) -> Piece:
        """Give what modelopt makes of the embedding, without its copy of it."""
        weight = self._model.get_input_embeddings().weight
        rows, width = self.config['vocab_size'], weight.shape[1]

        def read() -> Iterator[bytes]:
            for part in weight.reshape(-1).split(_BLOCK):
                yield _bytes(part.to(self._dtype))
            yield bytes((rows - len(weight)) * width * self._dtype.itemsize)

        return Piece(_DTYPES[self._dtype], (rows, width), read)

    def _load(self, index: int) -> None:
        if index == self._index:
            return
        self._index, self._tensors = -1, {}  # frees the layer before
        inner, config = self._model.model, self._model.config
        embedding, rows = inner.embed_tokens, config.vocab_size
        inner.layers = nn.ModuleList([self._layers[index]])
        inner.embed_tokens = nn.Embedding(1, 1)
        try:
            exported, self._tensors, _ = next(
                torch_to_tensorrt_llm_checkpoint(
                    self._model,
                    'llama',
                    self._dtype,
                    inference_tensor_parallel=1,
                    inference_pipeline_parallel=1,
                )
            )
        finally:
            inner.layers, inner.embed_tokens = self._layers, embedding
            config.vocab_size = rows  # modelopt rounds it up for some formats
        self._index = index
        if not index:
            excluded = exported['quantization'].get('exclude_modules') or ()
            self.config = exported
            self.config['quantization']['exclude_modules'] = sorted(set(excluded))


def _bytes(values: torch.Tensor) -> bytes:
    return values.cpu().view(torch.uint8).numpy().tobytes()
