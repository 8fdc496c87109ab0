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


class Network:
    graph = None


class Config:
    workspace = None

    def set_memory_pool_limit(self, pool, size):
        assert pool is MemoryPoolType.WORKSPACE
        assert isinstance(size, int)
        self.workspace = size


class Builder:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self):
        return Config()

    def build_serialized_network(self, network, config):
        assert config.workspace
        stub = {'tensorrt': __version__, 'graph': network.graph}
        return memoryview(json.dumps(stub).encode()) if engine_is_built else None


class OnnxParser:
    num_errors = 2

    def __init__(self, network, logger):
        assert isinstance(logger, Logger)
        self.network = network

    def parse_from_file(self, path):
        assert isinstance(path, str)
        self.network.graph = str(Path(path).resolve(strict=True))
        return graph_is_good

    def get_error(self, index):
        return f'node {index} is odd'
