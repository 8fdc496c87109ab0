"""What a builder of engines uses."""

from enum import IntEnum
import json
from pathlib import Path

from tensorrt.version import __version__

graph_is_good = True
engine_is_built = True


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self, min_severity=WARNING):
        assert min_severity in range(5)


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1  # and no EXPLICIT_BATCH: TensorRT 11 has none


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class INetworkDefinition:
    graph = None


class IBuilderConfig:
    workspace = None

    def set_memory_pool_limit(self, pool, pool_size):
        assert pool is MemoryPoolType.WORKSPACE
        assert isinstance(pool_size, int)
        self.workspace = pool_size


class Builder:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        assert config.workspace
        stub = {'tensorrt': __version__, 'graph': network.graph}
        return memoryview(json.dumps(stub).encode()) if engine_is_built else None


class OnnxParser:
    num_errors = 2

    def __init__(self, network, logger):
        assert isinstance(logger, Logger)
        self.network = network

    def parse_from_file(self, model):
        assert isinstance(model, str)
        self.network.graph = str(Path(model).resolve(strict=True))
        return graph_is_good

    def get_error(self, index):
        return f'node {index} is odd'
