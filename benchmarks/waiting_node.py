"""The policy node with an engine that waits, as the host waits for a GPU: a policy of 5 Hz."""

import sys
import time

from trt_openvla_ros.engines import registry
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.nodes.policy_node import main

WAIT = 0.18  # [s]


class WaitingVision(TorchVision):
    """Encodes, and then does nothing for a while."""

    def encode(self, views):
        """Map views to embeddings, late."""
        embeddings = super().encode(views)
        time.sleep(WAIT)
        return embeddings


if __name__ == '__main__':
    registry.VISION_ENGINES['waiting'] = f'{__name__}:{WaitingVision.__name__}'
    registry.LANGUAGE_ENGINES['waiting'] = registry.LANGUAGE_ENGINES['torch']
    sys.exit(main())
