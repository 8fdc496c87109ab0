"""How many embeddings an image has, from the shape of one weight, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint

_PATCHES = 'vision_backbone.featurizer.patch_embed.proj.weight'


def count_image_tokens(checkpoint: Checkpoint) -> int:
    """Count the patches of an image: the first tower's; fused towers have as many each.

    Raises:
        ConfigError: The weights are missing.
    """
    from safetensors import safe_open, SafetensorError

    for shard, lost in checkpoint.shards:
        name = _PATCHES.removeprefix(lost)
        try:
            with safe_open(shard, framework='np') as file:
                if name in file.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                    patch = file.get_slice(name).get_shape()[-1]
                    return (checkpoint.towers[0].image_size // patch) ** 2
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f'{shard} cannot be read: {error}; after a clone, `git lfs pull` brings it'
            ) from error
    raise ConfigError(f'{checkpoint.path} has no weight {_PATCHES}')
