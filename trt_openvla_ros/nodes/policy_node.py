"""The policy as a lifecycle node: images and instructions in, actions and reasoning out."""

from __future__ import annotations

from functools import partial
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from trt_openvla_ros.contracts import BasePolicy
from trt_openvla_ros.engines.memory import free_memory
from trt_openvla_ros.errors import (
    BrokenEngineError,
    EngineError,
    InputError,
    OutputError,
    PolicyError,
)
from trt_openvla_ros.nodes.conversions import stamp_of, to_rgb
from trt_openvla_ros.nodes.diagnostics import counter_of, describe, origin_of, Statistics
from trt_openvla_ros.nodes.frames import Frame
from trt_openvla_ros.nodes.inputs import Inputs
from trt_openvla_ros.nodes.lifecycle import PatientLifecycleNode
from trt_openvla_ros.nodes.loading import load_policy, why_unfit
from trt_openvla_ros.nodes.outputs import Outputs, Step
from trt_openvla_ros.nodes.parameters import declare, PolicyParameters, read, why_no_choice
from trt_openvla_ros.nodes.qos import warn_of_unused
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.nodes.stamps import why_stale
from trt_openvla_ros.nodes.topics import DIAGNOSTICS
from trt_openvla_ros.nodes.worker import Worker
from trt_openvla_ros.version import package_version

_THROTTLE = 2.0  # [s] between two warnings of one kind
_GRACE = 0.5  # [s] for the running step when the process ends; a step of a 7B model on a GPU
_ALARM = 30.0  # [s] between two errors about an engine that hangs
_STUCK = (
    'the engine did not return from its last step, and keeps its memory; restart the process, or '
    'configure again after it returned'
)


class PolicyNode(PatientLifecycleNode):
    """The policy node: configure loads, activate acts, deactivate stops, cleanup frees memory.

    A worker thread predicts, so services and parameters answer during a prediction. If an engine
    breaks there, the node goes to unconfigured through on_error.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
        """
        # Before rclpy's part, because from Kilted on it destroys nodes that were only half made.
        self._policy: BasePolicy | None = None
        self._worker: Worker | None = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._stuck: Worker | None = None  # one that did not end, with its policy
        self._origin = origin_of(None)
        self._instruction = ''
        self._heard: str | None = None  # the last message; None before the first
        self._state, self._failure = 'unconfigured', ''
        self._version = package_version()
        self._statistics = Statistics()
        super().__init__('policy', **kwargs)
        self._warn_once = partial(self.get_logger().warning, once=True)
        self.add_on_set_parameters_callback(self._check_parameters)
        declare(self, PolicyParameters)
        self._diagnostics = self.create_publisher(
            DIAGNOSTICS.type, DIAGNOSTICS.name, DIAGNOSTICS.qos
        )
        # A steady clock: the report goes on while a simulation is paused.
        self._diagnostics_timer = self.create_timer(
            1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint; on failure say why and stay unconfigured."""
        try:
            parameters = read(self, PolicyParameters)
            if self._is_stuck():
                raise EngineError(_STUCK)
            self._policy = load_policy(parameters)
            self._connect(parameters)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow the reason
            known = isinstance(error, PolicyError)
            self._failure = str(error) if known else traceback.format_exc()
            self.get_logger().error(f'not configured: {self._failure}')
        else:
            self._state, self._failure, self.broken = 'inactive', '', ''
            self.get_logger().info('views: {camera}; loaded {checkpoint}'.format_map(self._origin))
            return TransitionCallbackReturn.SUCCESS
        # After the handler, because the error there still holds references to the model.
        self._release()
        free_memory()
        return TransitionCallbackReturn.FAILURE

    def _connect(self, parameters: PolicyParameters) -> None:
        self._origin = origin_of(self._policy.description)
        self._statistics = Statistics()
        self._outputs = Outputs(self, self._policy, parameters.action_meanings)
        self._inputs = Inputs(
            self, parameters, self._statistics, self._on_image, self._on_instruction
        )
        warn_of_unused(self)
        self._convert = partial(to_rgb, max_pixels=parameters.max_pixels, warn=self._warn_once)
        ahead = partial(Frame.prepare, prepare=self._policy.prepare)
        step = self._predict, self._publish, self._note_failure
        self._worker = Worker(*step, self._policy.close, ahead)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Act as soon as there is an instruction."""
        self._outputs.restart()
        self._state = 'active'
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop: no action is published after this returns.

        The node drops its instruction too: a stopped robot must not go on by itself.
        """
        self._state, self._instruction = 'inactive', ''
        self._heard = ''
        self._inputs.forget_latched()
        self._worker.revoke()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model's memory; an engine that hangs keeps it, and makes this an error."""
        limit = self.get_parameter('max_step_time').value
        self._release(max(_GRACE, limit - self._worker.busy))
        if self._is_stuck():
            self.broken = _STUCK
        return super().on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free a policy that broke; the node can be configured again."""
        self._failure = self.broken or 'a transition failed'
        self.get_logger().error(f'unconfigured: {self._failure}')
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free memory, in any state."""
        self._release()
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop and free memory before the node is destroyed."""
        self._release()
        super().destroy_node()

    def _release(self, patience: float = _GRACE) -> None:
        """Drop the policy, after waiting for its running step for so long [s]."""
        self._state, self._instruction, self._heard = 'unconfigured', '', None
        if self._worker is None and self._policy is not None:
            self._policy.close()
        elif self._worker is not None and not self._worker.close(patience):
            self.get_logger().error(_STUCK)
            self._stuck = self._worker
        if self._inputs is not None:
            self._inputs.destroy()
        if self._outputs is not None:
            self._outputs.destroy()
        self._policy = self._worker = self._inputs = self._outputs = None

    def _is_stuck(self) -> bool:
        return self._stuck is not None and self._stuck.alive

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        reasons = [why_no_choice(c.name, c.value, PolicyParameters) for c in changes]
        if self._policy is not None and not any(reasons):
            wanted = read(self, PolicyParameters, changes)
            names = {change.name for change in changes}
            reasons.append(why_unfit(self._policy.description, wanted, names))
        reason = next(filter(None, reasons), '')
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._state == 'active' and self._instruction:
            dropped = self._worker.offer(Frame(message, self._convert))
            self._statistics.count('images_dropped', dropped)

    def _on_instruction(self, message: String) -> None:
        if message.data == self._heard:
            return  # said again, as senders do that cannot know whether they were heard
        self._heard = message.data
        instruction = message.data if message.data.strip() else ''
        try:
            if instruction:
                self._policy.check(instruction)
            state = (
                f'instruction: {instruction!r}' if instruction else 'empty instruction: stopped'
            )
            self.get_logger().info(state)
        except InputError as error:
            # The sender does not want the old instruction any more.
            self._statistics.count('instructions_rejected', reason=str(error))
            self.get_logger().warning(f'stopped: {error}')
            instruction = ''
        self._instruction = instruction
        if not instruction:
            self._worker.revoke()

    def _predict(self, frame: Frame) -> Step | None:
        parameters, instruction = read(self, PolicyParameters), self._instruction
        # Held here, because cleanup may give up waiting for this step.
        policy, worker, outputs = self._policy, self._worker, self._outputs
        if not instruction or self._is_stale(frame.message, parameters.max_image_age):
            return None
        try:
            _, image = frame.open()
        except InputError as error:
            self._statistics.count('images_rejected')
            self.get_logger().warning(f'image ignored: {error}', throttle_duration_sec=_THROTTLE)
            return None
        prediction = policy.predict(
            image,
            instruction,
            parameters.unnorm_key or None,
            # The engine need not stream if nobody listens.
            on_reasoning=partial(worker.unless_revoked, outputs.stream)
            if outputs.streams
            else None,
        )
        return Step(frame.message, image, instruction, prediction)

    def _publish(self, step: Step) -> None:
        reason = self._outputs.publish(step, read(self, PolicyParameters))
        if reason:
            self._statistics.count('actions_late', reason=reason)
            self.get_logger().warning(f'no action: {reason}', throttle_duration_sec=_THROTTLE)
            return
        self._statistics.count('actions')
        self._statistics.count('out_of_range_tokens', step.prediction.out_of_range)
        self._statistics.time(step.prediction.timings)

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, OutputError | InputError | EngineError):
            self._statistics.count(counter_of(error), reason=str(error))
            self.get_logger().warning(f'no action: {error}', throttle_duration_sec=_THROTTLE)
            if isinstance(error, BrokenEngineError):
                self.break_down(str(error))
        elif self.context.ok():  # else a shutdown interrupted the model
            self._statistics.count('internal_errors')
            text = ''.join(traceback.format_exception(error))
            self.get_logger().error(f'step failed: {text}', throttle_duration_sec=_THROTTLE)

    def _is_stale(self, message: Image | CompressedImage, limit: float) -> bool:
        clock = self.get_clock()
        reason = why_stale(
            stamp_of(message), clock.now().nanoseconds, limit, clock.ros_time_is_active
        )
        if reason:
            self._statistics.count('images_stale', reason=reason)
            self.get_logger().warning(reason, throttle_duration_sec=_THROTTLE)
        return bool(reason)

    def _report(self) -> None:
        silence = self._inputs.silence(self._state == 'active') if self._inputs else ''
        hung = _STUCK if self._is_stuck() else ''
        if self._worker is not None:
            hung = self._worker.trouble(self.get_parameter('max_step_time').value)
            if not self._worker.alive:
                self.break_down(hung)
        if hung:
            self.get_logger().error(hung, throttle_duration_sec=_ALARM)
        level, text = describe(self._state, self._failure or hung, silence, self._instruction)
        key = self.get_parameter('unnorm_key').value
        facts = {
            **self._origin,
            'unnorm_key': key or (self._policy.description.unnorm_key if self._policy else ''),
            'instruction': self._instruction,
            'camera rate [Hz]': self._inputs.camera_rate if self._inputs else '',
            'version': self._version,
        }
        name = self.get_fully_qualified_name()
        message = DiagnosticArray(status=[self._statistics.status(name, level, text, facts)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Run the node until it is interrupted."""
    run(PolicyNode)
