import fcntl
import gc
from itertools import pairwise
import json
import os
from pathlib import Path
import subprocess
import tempfile

from ament_index_python.packages import get_package_prefix
from held_vision import HeldVision
import numpy as np
from player import Player, Table
from probe import Probe
import pytest
import rclpy
from rclpy.parameter import Parameter
from spun import Spun

from trt_openvla_ros.engines import registry
from trt_openvla_ros.nodes.policy_node import PolicyNode
from trt_openvla_ros.sim.world import World

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.fixture(scope='session')
def domain():
    """A ROS domain that no other run of these tests on this machine has."""
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    # Above 101 the ports of DDS meet those that Linux gives to clients.
    for number in range(1, 102):
        with (Path(tempfile.gettempdir()) / f'ros_domain_{number}.lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield number
            return
    pytest.fail('every ROS domain is taken')


class Graph:
    """Policy nodes, each spun by a thread as its process would, and a probe for each.

    Attributes:
        DEFAULTS: Parameters of every node, where a test does not say otherwise.
    """

    DEFAULTS = {  # noqa: RUF012 - nobody changes it
        'checkpoint': str(GOLDEN / 'fused'),
        'unnorm_key': 'toy_arm',
        'device': 'cpu',
        'action_meanings': str(GOLDEN / 'action_meanings.yaml'),
    }

    def __init__(self, domain):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self._running, self._probes = [], []

    def add(self, namespace='', remap=None, **parameters):
        """Start an unconfigured node; parameters are changes to DEFAULTS."""
        arguments = [f'{old}:={new}' for old, new in (remap or {}).items()]
        node = PolicyNode(
            context=self.context,
            namespace=namespace,
            cli_args=['--ros-args', *(x for rule in arguments for x in ('-r', rule))],
            parameter_overrides=[
                Parameter(name, value=value)
                for name, value in {**self.DEFAULTS, **parameters}.items()
            ],
        )
        self._running.append(Spun(node))
        return node

    def probe(self, **kwargs):
        """Make a probe for the node of that namespace; arguments are those of Probe."""
        probe = Probe(self.context, **kwargs)
        self._probes.append(probe)
        return probe

    def start(self, **parameters):
        """Start an active node; give its probe. Images of any age do, unless a test says."""
        self.add(**{'max_image_age': 0.0, **parameters})
        probe = self.probe()
        assert probe.transit('configure'), probe.logs
        assert probe.transit('activate'), probe.logs
        probe.connect()
        return probe

    def close(self):
        while self._probes:
            self._probes.pop().close()
        while self._running:
            self._running.pop().close()
        self.context.try_shutdown()


@pytest.fixture(scope='session')
def lean_garbage():
    """Keep what was imported out of the garbage collector, which runs after each test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def graph(domain, lean_garbage):
    # What is left of a node goes with the garbage, and takes the /rosout of a later node of that
    # name with it unless it goes first.
    gc.collect()
    graph = Graph(domain)
    yield graph
    graph.close()
    gc.collect()


@pytest.fixture
def execute(domain):
    """Start an installed executable with arguments and parameters; the test's end ends it."""
    directory = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros'
    processes = []

    def start(name, *arguments, environment=None, **parameters):
        values = [x for key, value in parameters.items() for x in ('-p', f'{key}:={value}')]
        process = subprocess.Popen(
            [directory / name, '--ros-args', *values, *arguments],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain), **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def forward_checkpoint(edited_checkpoint):
    """A checkpoint that always reasons 'forward', and the action ids behind that."""
    # Pieces of 'forward ACTION:', the last one as a byte because ':' ends the prompt already,
    # and then an action. Each token's embedding has a direction of its own, which only the head
    # of the token behind it looks for; attention is nearly silent, but the image still matters.
    words, ids = [514, 653, 669, 378, 664, 485, 61], [1000, 960, 896, 850, 800, 780, 1010]
    chain = [656, *words, *ids]

    def write(weights):
        for name, tensor in weights.items():
            if name.endswith(('o_proj.weight', 'down_proj.weight')):
                tensor *= 1e-3
        weights['language_model.lm_head.weight'] *= 1e-2
        for axis, (now, following) in enumerate(pairwise(chain)):
            weights['language_model.model.embed_tokens.weight'][now] = 0
            weights['language_model.model.embed_tokens.weight'][now, axis] = 1
            weights['language_model.lm_head.weight'][following] = 0
            weights['language_model.lm_head.weight'][following, axis] = 10

    return edited_checkpoint('single', write), ids


@pytest.fixture
def held(graph, monkeypatch):
    """The engine 'held', whose inference lasts until the test opens its gate."""
    HeldVision.reset()
    here = f'{HeldVision.__module__}:{HeldVision.__name__}'
    monkeypatch.setitem(registry.VISION_ENGINES, 'held', here)
    monkeypatch.setitem(registry.LANGUAGE_ENGINES, 'held', registry.LANGUAGE_ENGINES['torch'])
    yield HeldVision
    # Before the graph goes, which waits for the step that is running.
    HeldVision.reset()


@pytest.fixture
def play(graph):
    """Start a simulation with parameters, in lock-step unless they say; give its player."""
    running = []

    def start(**parameters):
        running.append(Table(graph.context, {'rate': 0.0, **parameters}))
        acts = parameters.get('controller', 'direct') == 'direct'
        running.append(Player(graph.context, acts))
        return running[-1]

    yield start
    while running:
        running.pop().close()


@pytest.fixture(scope='session')
def mirror():
    """A world of the test's own, to do in it what the node should have done."""
    world = World()
    yield world
    world.close()


class Golden:
    """Images and the reference implementation's numbers of the fused golden checkpoint."""

    def __init__(self):
        cases = json.loads((GOLDEN / 'fused' / 'golden.json').read_text())
        self.cases = {case['case']: case for case in cases}
        self._arrays = np.load(GOLDEN / 'fused' / 'golden.npz')

    def image(self, case):
        """[H, W, 3] uint8 RGB; case20 and case21 have the smallest."""
        return self._arrays[f'{case[:5]}0_image']

    def tower_image(self, case):
        """[S, S, 3] uint8 RGB: what the first tower was shown of that image."""
        config = json.loads((GOLDEN / 'fused' / 'preprocessor_config.json').read_text())
        normalise = config['tvf_normalize_params'][0]
        pixels = self._arrays[f'{case[:5]}0_pixel_values'][0, :3].transpose(1, 2, 0)
        return np.rint(255 * (pixels * normalise['std'] + normalise['mean'])).astype(np.uint8)

    def instruction(self, case):
        return self.cases[case]['prompt'].split('take to ')[1].split('?')[0]

    def action(self, case, unnorm_key='toy_arm'):
        """[7] as published: the reference's, with the gripper kept within 0 and 1."""
        action = np.array(self.cases[case][unnorm_key])
        action[6] = np.clip(action[6], 0, 1)
        return action


@pytest.fixture(scope='session')
def golden():
    return Golden()
