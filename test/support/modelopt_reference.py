"""A small Llama, quantised and exported by modelopt, and modelopt's own emulation of it.

What the readers of TensorRT-LLM checkpoints are compared with, without the pipeline's help.
"""

from __future__ import annotations

import copy
from pathlib import Path
import shutil
from typing import Any
import warnings

from recorded import record
from reference import llama
from safetensors.torch import save_file
import torch
from torch import nn
import transformers

from trt_openvla_ros.checkpoints.artifact import (
    LLM_BACKBONE,
    PROJECTOR,
    TRTLLM_CHECKPOINT,
    VISION,
)
from trt_openvla_ros.checkpoints.llama import PREFIX
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.tensor_files import WEIGHTS
from trt_openvla_ros.checkpoints.vision import PROJECTOR as PROJECTOR_PREFIX
from trt_openvla_ros.checkpoints.vision import TOWERS

_CONFIGS = {
    'fp8': 'FP8_DEFAULT_CFG',
    'int4_awq': 'INT4_AWQ_CFG',
    'int8_sq': 'INT8_SMOOTHQUANT_CFG',
}
FORMATS = ('bf16', *_CONFIGS)
# AWQ shares a scale among 128 inputs, so no width may be less.
LLAMA = {
    'hidden_size': 128,
    'intermediate_size': 384,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'vocab_size': 320,
    'max_position_embeddings': 128,
    'rms_norm_eps': 1e-5,
    'rope_theta': 500.0,
}


def random_llama(dtype: torch.dtype, **changes: Any) -> transformers.LlamaForCausalLM:
    """Build a Llama with random weights; what no format quantises is bfloat16 numbers."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**LLAMA, **changes}, attn_implementation='sdpa')
    model = transformers.LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        random = torch.randn(weight.shape)
        random = random * weight.shape[1] ** -0.5 if weight.ndim == 2 else 1 + 0.2 * random
        # Many bfloat16 numbers fall between two of FP8, and modelopt's emulation and its export
        # round some of these to opposite sides; float32 numbers hardly ever do.
        weight.data = random if '_proj' in name else random.bfloat16()
    # Outliers, which a language model has and which AWQ and SmoothQuant are there for.
    model.model.norm.weight.data[::17] *= 4
    for layer in model.model.layers:
        layer.input_layernorm.weight.data[5::31] *= 8
        layer.post_attention_layernorm.weight.data[7::29] *= 8
    return model.to(dtype).eval()


def quantise(
    model: nn.Module, name: str, embeddings: torch.Tensor | None, directory: Path
) -> None:
    """Quantise in place, calibrated on [B, L, D] embeddings, and export a TensorRT-LLM checkpoint.

    Afterwards the model is modelopt's emulation of what was exported, FP8 cache included.
    """
    model.config.architectures = ['LlamaForCausalLM']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import modelopt.torch.export as mte
        import modelopt.torch.quantization as mtq

        if name != 'bf16':
            config = copy.deepcopy(getattr(mtq, _CONFIGS[name]))
            if name == 'fp8':
                cache = mtq.FP8_KV_CFG['quant_cfg']
                if isinstance(cache, dict):  # up to modelopt 0.43
                    config['quant_cfg'].update(cache)
                else:
                    config['quant_cfg'].extend(cache)
            mtq.quantize(
                model, config, lambda model: [model(inputs_embeds=e[None]) for e in embeddings]
            )
        with torch.inference_mode():
            mte.export_tensorrt_llm_checkpoint(
                model,
                'llama',
                torch.bfloat16,
                export_dir=directory,
                inference_tensor_parallel=1,
                inference_pipeline_parallel=1,
            )
    for name, module in model.named_modules():
        # It calibrates the cache, and exports no scale below 1 whatever it found.
        if name.endswith(('k_bmm_quantizer', 'v_bmm_quantizer')) and module.is_enabled:
            module.amax = torch.clamp(module.amax.float(), min=448.0)
        # It exports bfloat16, whatever the model had.
        if getattr(module, '_pre_quant_scale', None) is not None:
            module._pre_quant_scale.data = module._pre_quant_scale.bfloat16().to(
                module._pre_quant_scale
            )


def write_artifact(checkpoint: Checkpoint, directory: Path, name: str) -> Path:
    """Write what engines read of an artifact, calibrated on random image embeddings."""
    directory.mkdir(parents=True)
    for file in checkpoint.path.iterdir():
        if file.suffix in ('.json', '.model'):
            shutil.copy(file, directory)
    for file, prefix in (
        (directory / VISION, TOWERS),
        (directory / PROJECTOR, PROJECTOR_PREFIX),
        (directory / LLM_BACKBONE / WEIGHTS, PREFIX),
    ):
        file.parent.mkdir(exist_ok=True)
        kept = '' if prefix == PREFIX else prefix
        save_file({kept + key: value for key, value in checkpoint.tensors(prefix)}, file)
    torch.manual_seed(0)
    embeddings = torch.randn(8, 64, checkpoint.llm.hidden_size)
    quantise(llama(checkpoint), name, embeddings, directory / TRTLLM_CHECKPOINT)
    return record(directory)
