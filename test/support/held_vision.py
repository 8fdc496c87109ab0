"""The real vision engine, made slow on demand: a test decides when inference ends."""

import threading

from trt_openvla_ros.engines.torch.vision import TorchVision


class HeldVision(TorchVision):
    """Does not return from encode while its gate is shut.

    Attributes:
        gate: Set: encode passes. Cleared: it stays inside.
        inside: Set once a call of encode found the gate shut.
        busy: Compute while the gate is shut, instead of waiting.
        calls: How often encode was called; two of them are the self-test of a load.
    """

    gate = threading.Event()
    inside = threading.Event()
    busy = False
    calls = 0

    @classmethod
    def reset(cls):
        cls.gate.set()
        cls.inside.clear()
        cls.busy = False
        cls.calls = 0

    @classmethod
    def shut(cls, busy=False):
        cls.busy = busy
        cls.inside.clear()
        cls.gate.clear()

    def encode(self, views):
        type(self).calls += 1
        if not self.gate.is_set():
            self.inside.set()
            while self.busy and not self.gate.is_set():
                super().encode(views)
            self.gate.wait(timeout=60)
        return super().encode(views)
