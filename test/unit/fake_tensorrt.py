"""Stands in for the Python package tensorrt, with no more of it than TensorRT 10 and 11 share.

It holds our calls against the contract; whether TensorRT likes the graph it cannot say.
Source: the names and types of the Python bindings of TensorRT 10.14 and 11.4.
"""

from enum import IntEnum
from pathlib import Path

__version__ = '10.14.1.48'
graph_is_good = True
engine_is_built = True


class Logger:
    WARNING = 2

    def __init__(self, severity):
        assert severity == Logger.WARNING


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
        return memoryview(b'engine of ' + network.graph) if engine_is_built else None


class OnnxParser:
    num_errors = 2

    def __init__(self, network, logger):
        assert isinstance(logger, Logger)
        self.network = network

    def parse_from_file(self, path):
        assert isinstance(path, str)
        self.network.graph = Path(path).read_bytes()
        return graph_is_good

    def get_error(self, index):
        return f'node {index} is odd'
