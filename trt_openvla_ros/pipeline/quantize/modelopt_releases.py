"""What differs between releases of nvidia-modelopt, and between machines that it runs on.

Tested with 0.37 (TensorRT-LLM 1.2.1 has it) to 0.47, by tools/test_modelopt.sh.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import copy
import reprlib
import sys
from types import ModuleType
from typing import Any

from trt_openvla_ros.errors import EngineError

_RECIPES = {
    'fp8': 'FP8_DEFAULT_CFG',
    'int4_awq': 'INT4_AWQ_CFG',
    'int8_sq': 'INT8_SMOOTHQUANT_CFG',
}
TESTED = 'pip install "nvidia-modelopt>=0.37,<0.48"'


def make_recipe(
    quantization: ModuleType, qformat: str, *, fp8_cache: bool, awq_block_size: int
) -> dict[str, Any]:
    """Compose what modelopt's quantize() takes.

    The settings of quantisers are a dict by name up to modelopt 0.43, and from 0.44 on a list, of
    which the last entry for a quantiser wins.

    Args:
        quantization: Module modelopt.torch.quantization.
        qformat: Format of the weights: 'fp8', 'int4_awq' or 'int8_sq'.
        fp8_cache: Whether to quantise keys and values to FP8 as well.
        awq_block_size: Number of weights that share a scale in int4_awq.

    Raises:
        EngineError: This modelopt lacks the recipe, or has it in another form.
    """
    recipe = _find(quantization, _RECIPES[qformat])
    if fp8_cache:
        cache = _find(quantization, 'FP8_KV_CFG')['quant_cfg']
        if isinstance(recipe['quant_cfg'], list):
            recipe['quant_cfg'] += cache
        else:
            recipe['quant_cfg'].update(cache)
    if qformat == 'int4_awq':
        for settings in _settings_of('*weight_quantizer', recipe['quant_cfg']):
            settings['block_sizes'][-1] = awq_block_size
    return recipe


@contextlib.contextmanager
def without_tensorrt_llm() -> Iterator[None]:
    """Let modelopt believe that tensorrt_llm is not installed.

    Where it is, modelopt's export asks it for config.json. That starts MPI in this process, and
    gives other keys than the path that runs without it, which the tests compare.
    """
    there = [name for name in sys.modules if name.split('.')[0] == 'tensorrt_llm']
    hidden = {name: sys.modules[name] for name in there}
    sys.modules.update(dict.fromkeys([*there, 'tensorrt_llm']))  # None makes an import fail
    try:
        yield
    finally:
        sys.modules.pop('tensorrt_llm', None)
        sys.modules.update(hidden)


def _find(quantization: ModuleType, name: str) -> dict[str, Any]:
    found = copy.deepcopy(getattr(quantization, name, None))
    if not isinstance(found, dict) or not isinstance(found.get('quant_cfg'), (dict, list)):
        raise EngineError(
            f'this nvidia-modelopt has no {name} as releases 0.37 to 0.47 have it, but '
            f'{reprlib.repr(found)}; {TESTED}'
        )
    return found


def _settings_of(quantiser: str, entries: dict[str, Any] | list[Any]) -> list[dict[str, Any]]:
    if isinstance(entries, dict):
        found = [entries.get(quantiser)]
    else:
        named = [
            e for e in entries if isinstance(e, dict) and e.get('quantizer_name') == quantiser
        ]
        found = [entry.get('cfg') for entry in named]
    if not found or not all(isinstance(s, dict) and 'block_sizes' in s for s in found):
        raise EngineError(
            f'this nvidia-modelopt sets no block_sizes for {quantiser} as releases 0.37 to 0.47 '
            f'do, but {reprlib.repr(found)}; {TESTED}'
        )
    return found
