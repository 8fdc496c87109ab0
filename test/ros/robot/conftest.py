import gc

from cockpit import Cockpit
import pytest
import rclpy
from rclpy.parameter import Parameter
from spun import Spun

from trt_openvla_ros.nodes.robot.node import RobotNode

# Room for the arm of the tests, without which nothing moves.
ROOM = {'workspace': [0.0, -0.5, 0.0, 0.8, 0.5, 0.6]}


class Bench:
    """Robot nodes and whatever stands around them, each spun by a thread of its own.

    Attributes:
        DEFAULTS: Parameters of every robot node, where a test does not say otherwise.
    """

    # A machine that is busy with other tests must not look like a fault.
    DEFAULTS = {  # noqa: RUF012 - nobody changes it
        **ROOM,
        'controller': 'cartesian_pose',
        'max_tick_gap': 1.0,
        'max_action_age': 1.0,
        'max_pose_age': 1.0,
        'stop_after': 0.0,
    }

    def __init__(self, domain):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self._running, self._cockpits = [], []

    def add(self, **parameters):
        """Start an unconfigured robot node; parameters are changes to DEFAULTS."""
        values = {**self.DEFAULTS, **parameters}
        node = RobotNode(
            context=self.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self.spin(node)
        return node

    def spin(self, node):
        """Spin a node in a thread until the test ends."""
        self._running.append(Spun(node))
        return self._running[-1]

    def drop(self, node):
        """End a node before the test ends."""
        next(running for running in self._running if running.node is node).close()

    def cockpit(self):
        self._cockpits.append(Cockpit(self.context))
        return self._cockpits[-1]

    def start(self, record=None, **parameters):
        """Start an active robot node and a cockpit, which records commands: (type, topic)."""
        cockpit = self.cockpit()
        if record:
            cockpit.record(*record)
        self.add(**parameters)
        assert cockpit.transit('configure'), cockpit.logs
        assert cockpit.transit('activate'), cockpit.logs
        cockpit.connect()
        return cockpit

    def close(self):
        while self._running:
            self._running.pop().close()
        while self._cockpits:
            self._cockpits.pop().close()
        self.context.try_shutdown()


@pytest.fixture
def bench(domain, lean_garbage):
    gc.collect()
    bench = Bench(domain)
    yield bench
    bench.close()
    gc.collect()
