"""Memory that engines leave behind."""

from __future__ import annotations

from contextlib import suppress
import gc
import sys


def free_memory() -> None:
    """Give the device back the memory of engines that nothing refers to."""
    gc.collect()
    # If no engine imported it, there is nothing to free, and no reason to import it.
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available():
        # After some errors CUDA answers no more. The caller must go on all the same: a life cycle
        # node whose on_error raises cannot be configured again.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
