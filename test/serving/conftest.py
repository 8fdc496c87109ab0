from contextlib import contextmanager
from pathlib import Path

import pytest
from served import Gate, Served

from trt_openvla_ros.policy import Policy
from trt_openvla_ros.serving.settings import ServerSettings

DATA = Path(__file__).parents[1] / 'data'


@pytest.fixture(scope='session')
def policy():
    policy = Policy.from_checkpoint(DATA / 'golden' / 'fused', 'toy_arm', device='cpu')
    policy.close = lambda: None  # it outlives each of the servers
    return policy


@pytest.fixture(scope='session')
def serve(policy):
    """Start a server: a context manager; arguments are parameters of deploy_server."""

    @contextmanager
    def started(token=None, policy=policy, **settings):
        served = Served(policy, token, ServerSettings(**settings))
        try:
            yield served
        finally:
            served.close()

    return started


@pytest.fixture(scope='session')
def server(serve):
    with serve() as served:
        yield served


@pytest.fixture
def gate(policy):
    gate = Gate(policy)
    yield gate
    gate.undo()
