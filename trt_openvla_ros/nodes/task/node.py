"""The task node: a lifecycle node with the action server of one policy."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, ShutdownException
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.nodes.lifecycle import PatientLifecycleNode
from trt_openvla_ros.nodes.parameters import declare
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.server import TaskServer
from trt_openvla_ros.nodes.task.topics import HEALTH
from trt_openvla_ros.version import package_version

_DEACTIVATED = ExecuteInstruction.Result.DEACTIVATED
_FAREWELL = 0.1  # [s] for a result to leave a process that ends


class TaskNode(PatientLifecycleNode):
    """Goals are accepted while the node is active; whatever ends that ends the goal.

    Its parts belong to one thread: that of the executor.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
        """
        self._server: TaskServer | None = None  # for rclpy, which destroys half-made nodes
        self._state = 'unconfigured'
        self._version = package_version()
        super().__init__('task', **kwargs)
        declare(self, TaskParameters)
        self._diagnostics = self.create_publisher(HEALTH.type, HEALTH.name, HEALTH.qos)
        # A steady clock: the report goes on while a simulation is paused.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Make the server, which accepts no goal yet."""
        self._release()  # on_error left it
        self._server = TaskServer(self)
        self._state = 'inactive'
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Accept goals."""
        self._server.accepts = True
        self._state = 'active'
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the goal, and accept none."""
        self._close('the task node was deactivated')
        self._state = 'inactive'
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Remove the server."""
        self._release()
        self._state = 'unconfigured'
        return super().on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the goal; the node can be configured again."""
        self.get_logger().error('unconfigured: a transition failed')
        self._close('a transition of the task node failed')
        self._state = 'unconfigured'
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the goal, in any state."""
        self._close('the task node was shut down')
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the goal, and let its result leave, before the node is destroyed."""
        if self._server is not None and self._server.progress is not None:
            self._close('the task node was shut down')
            with suppress(ExternalShutdownException, ShutdownException):
                self._server.flush(_FAREWELL)
        self._release()
        super().destroy_node()

    def _close(self, sentence: str) -> None:
        """End the goal, and accept none.

        The server stays: rclpy sends a result in a later turn of the executor.
        """
        if self._server is not None:
            self._server.accepts = False
            self._server.end(_DEACTIVATED, sentence)

    def _release(self) -> None:
        self._close('the task node was shut down')
        if self._server is not None:
            self._server.destroy()
        self._server = None

    def _report(self) -> None:
        progress = self._server.progress if self._server is not None else None
        instruction = progress.goal.instruction if progress is not None else ''
        message = self._state
        if progress is not None:
            message += f', following {instruction!r:.300}'
        elif self._state == 'active':
            message += ', waiting for a goal'
        values = {
            'instruction': instruction,
            'steps': str(progress.steps if progress is not None else 0),
            **{k: str(n) for k, n in (self._server.outcomes if self._server else {}).items()},
            'version': self._version,
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name=f'{self.get_fully_qualified_name()}: task',
            message=message,
            hardware_id='none',
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        report = DiagnosticArray(status=[status])
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)


def main() -> None:
    """Run the node until it is interrupted."""
    run(TaskNode)
