"""The arm that runs on between two images, under a controller."""

from __future__ import annotations

from collections.abc import Callable
import time

from rclpy.node import Node

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.parameters import SimParameters
from trt_openvla_ros.nodes.sim_controllers.cartesian import CartesianMotion, Crisp
from trt_openvla_ros.nodes.sim_controllers.controller import Controller
from trt_openvla_ros.nodes.sim_controllers.gripper import (
    Gripper,
    GripperCommand,
    ParallelGripperCommand,
)
from trt_openvla_ros.nodes.sim_controllers.servo import Servo
from trt_openvla_ros.sim.arm import Arm, SUBSTEP
from trt_openvla_ros.sim.world import World

CONTROLLERS: dict[str, type[Controller]] = {
    'servo': Servo,
    'cartesian': CartesianMotion,
    'crisp': Crisp,
}
GRIPPERS: dict[str, type[Gripper]] = {
    'gripper_command': GripperCommand,
    'parallel_gripper_command': ParallelGripperCommand,
}
_SLICE = 4  # steps of the physics between two looks of the controller, at most
_LONGEST = 0.25  # [s] that are made up for; time in which the process was stopped is lost


class RunningArm:
    """Moves the hand of a world in real time, as its controllers say.

    Attributes:
        nodes: Nodes of the controllers, for the executor.
    """

    def __init__(
        self, owner: Node, world: World, parameters: SimParameters, clock: Callable[[], int]
    ) -> None:
        """Start the controllers that the parameters name.

        Raises:
            ConfigError: A package of messages is not installed, or the rate is that of lock-step.
        """
        if not parameters.rate:
            raise ConfigError(
                f'controller {parameters.controller} runs in real time, and rate 0 is lock-step; '
                'set rate to 5, or controller to direct'
            )
        self._world, self._arm = world, Arm(world)
        self.nodes: list[Node] = []
        try:
            self._controller = CONTROLLERS[parameters.controller](owner, clock)
            self.nodes.append(self._controller)
            self._gripper: Gripper | None = None
            if parameters.gripper in GRIPPERS:
                self._gripper = GRIPPERS[parameters.gripper](owner, clock)
                self.nodes.append(self._gripper)
        except BaseException:
            self.destroy()
            raise
        self._per_image = max(1, round(1.0 / parameters.rate / SUBSTEP))
        self._left = self._per_image  # steps of the physics until the next image
        self._debt, self._last = 0.0, time.monotonic()

    def restart(self) -> None:
        """Begin anew in a new scene, with the next image at once."""
        self._arm.rest()
        self._controller.restart(self._arm)
        if self._gripper:
            self._gripper.release()
        self._left, self._debt, self._last = 0, 0.0, time.monotonic()

    def run(self) -> bool:
        """Go on until now, or until the next image is due; tell whether it is."""
        now = time.monotonic()
        self._debt = min(self._debt + now - self._last, _LONGEST)
        self._last = now
        while self._left and self._debt >= SUBSTEP:
            substeps = min(_SLICE, self._left, int(self._debt / SUBSTEP))
            seconds = substeps * SUBSTEP
            wanted = self._controller.update(self._arm, seconds)
            self._arm.go(self._arm.commanded if wanted is None else wanted, substeps)
            if self._gripper:
                self._gripper.drive(self._world, seconds)
            self._left -= substeps
            self._debt -= seconds
        if self._left:
            return False
        self._left = self._per_image
        return True

    def destroy(self) -> None:
        """Destroy the nodes of the controllers."""
        for node in self.nodes:
            node.destroy_node()
        self.nodes.clear()
