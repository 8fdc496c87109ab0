"""The policy as a lifecycle node: images and instructions in, actions and reasoning out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.engines import free_memory
from trt_openvla_ros.errors import (
    BrokenEngineError,
    EngineError,
    InputError,
    OutputError,
    PolicyError,
)
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes import parameters
from trt_openvla_ros.nodes.conversions import to_message, to_rgb, why_stale
from trt_openvla_ros.nodes.diagnostics import describe, Statistics
from trt_openvla_ros.nodes.lifecycle import PatientLifecycleNode
from trt_openvla_ros.nodes.loading import load_policy, why_unfit
from trt_openvla_ros.nodes.motion import Robot, to_action
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.nodes.worker import Worker
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.remote import RemotePolicy

_THROTTLE = 2.0  # [s] between two warnings of one kind
_COUNTS = {OutputError: 'output_errors', InputError: 'instructions_rejected'}


class PolicyNode(PatientLifecycleNode):
    """Loads in configure, acts in activate, stops in deactivate, frees memory in cleanup.

    Inference runs in a worker thread, so that services and parameters answer meanwhile. An engine
    that breaks there leads to unconfigured, by way of on_error.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare parameters; arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
        """
        super().__init__('policy', **kwargs)
        self._policy: Policy | RemotePolicy | None = None
        self._worker: Worker | None = None
        self._inputs: list[Subscription] = []
        self._outputs: dict[str, LifecyclePublisher] = {}
        self._origin = {'engine': '', 'checkpoint': '', 'dtype': '', 'device': ''}
        self._instruction = ''
        self._state, self._failure = 'unconfigured', ''
        self._images_seen = 0
        self._version = version('trt_openvla_ros')
        self._statistics = Statistics()
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Steady: a paused simulation is no reason to fall silent.
        self._diagnostics_timer = self.create_timer(
            1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint; on failure say why and stay unconfigured."""
        try:
            self._policy = load_policy(self._value)
            self._connect()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow the reason
            known = isinstance(error, PolicyError)
            self._failure = str(error) if known else traceback.format_exc()
            self.get_logger().error(f'not configured: {self._failure}')
        else:
            self._state, self._failure, self.broken = 'inactive', '', ''
            self.get_logger().info(f'loaded {self._origin["checkpoint"]}')
            return TransitionCallbackReturn.SUCCESS
        # Behind the handler, where the error no longer holds what had been loaded.
        self._release()
        free_memory()
        return TransitionCallbackReturn.FAILURE

    def _connect(self) -> None:
        self._applied_key = self._value('unnorm_key')
        self._origin = {
            'engine': self._value('engine'),
            **self._policy.origin,
        }
        self._statistics = Statistics()
        self._outputs = {
            'action': self.create_lifecycle_publisher(VlaAction, '~/action', 10),
            'reasoning': self.create_lifecycle_publisher(String, '~/reasoning', 10),
            'reasoning_stream': self.create_lifecycle_publisher(String, '~/reasoning_stream', 10),
            'prompt_image': self.create_lifecycle_publisher(Image, '~/prompt_image', 1),
        }
        # Like image_transport, beside the raw topic after its remapping.
        kind, topic = Image, self.resolve_topic_name('image')
        if self._value('image_transport') == 'compressed':
            kind, topic = CompressedImage, f'{topic}/compressed'
        self._inputs = [
            self.create_subscription(kind, topic, self._on_image, qos_profile_sensor_data),
            self.create_subscription(String, 'instruction', self._on_instruction, 10),
        ]
        self._worker = Worker(lambda message: self._guard(self._act, message))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act, as soon as there is an instruction."""
        self._sequence = 0
        self._state = 'active'
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop: when this returns, no further action is published.

        The instruction goes too, so that a robot that was stopped does not go on by itself.
        """
        self._state, self._instruction = 'inactive', ''
        self._worker.revoke()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model's memory."""
        self._release()
        return super().on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what is left of a policy that broke; the node can be configured again."""
        self._failure = self.broken or 'a transition failed'
        self.get_logger().error(f'unconfigured: {self._failure}')
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, whatever the state was."""
        self._release()
        self._state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop and free before the node goes."""
        self._release()
        super().destroy_node()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _release(self) -> None:
        self._state, self._instruction = 'unconfigured', ''
        if self._worker is not None:
            self._worker.close()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        if self._policy is not None:
            self._policy.close()
        self._policy, self._worker, self._inputs, self._outputs = None, None, [], {}

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            reason = parameters.check_choice(change.name, change.value)
            if change.name == 'unnorm_key' and self._policy is not None:
                reason = why_unfit(self._policy, change.value)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._statistics.count('images_received')
        if self._state == 'active' and self._instruction and self._worker.offer(message):
            self._statistics.count('images_dropped')

    def _on_instruction(self, message: String) -> None:
        instruction = message.data if message.data.strip() else ''
        try:
            if instruction:
                self._policy.check_instruction(instruction)
            state = (
                f'instruction: {instruction!r}' if instruction else 'empty instruction: stopped'
            )
            self.get_logger().info(state)
        except InputError as error:
            # Going on with the old instruction is not what its sender wants.
            self._statistics.count('instructions_rejected')
            self.get_logger().warning(f'stopped: {error}')
            instruction = ''
        self._instruction = instruction
        if not instruction:
            self._worker.revoke()

    def _guard(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return work(*args)
        except (OutputError, InputError, EngineError) as error:
            self._statistics.count(_COUNTS.get(type(error), 'engine_errors'))
            self.get_logger().warning(f'no action: {error}', throttle_duration_sec=_THROTTLE)
            if isinstance(error, BrokenEngineError):
                self.break_down(str(error))
        except Exception:  # noqa: BLE001 - one bad frame must not end the node
            if not self.context.ok():  # interrupted while the model computed
                return None
            self._statistics.count('internal_errors')
            self.get_logger().error(
                f'step failed: {traceback.format_exc()}', throttle_duration_sec=_THROTTLE
            )
        return None

    def _act(self, message: Image | CompressedImage) -> Callable[[], None] | None:
        instruction = self._instruction
        if not instruction or self._is_stale(message):
            return None
        try:
            image = to_rgb(message)
        except InputError as error:
            self._statistics.count('images_rejected')
            self.get_logger().warning(f'image ignored: {error}', throttle_duration_sec=_THROTTLE)
            return None
        key = self._value('unnorm_key')
        if key != self._applied_key:
            self._policy.set_unnorm_key(key or None)
            self._applied_key = key
        # Where nobody listens, the engine need not stream.
        listened = self._outputs['reasoning_stream'].get_subscription_count()
        prediction = self._policy.predict(
            image, instruction, on_reasoning=self._stream if listened else None
        )
        return lambda: self._guard(self._publish, message, image, instruction, prediction)

    def _stream(self, reasoning: str) -> None:
        publish = self._outputs['reasoning_stream'].publish
        self._worker.meanwhile(lambda: publish(String(data=reasoning)))

    def _is_stale(self, message: Image | CompressedImage) -> bool:
        reason = why_stale(self._age(message), self._value('max_image_age'))
        if reason:
            self._statistics.count('images_stale')
            self.get_logger().warning(reason, throttle_duration_sec=_THROTTLE)
        return bool(reason)

    def _age(self, message: Image | CompressedImage) -> float:
        return (self.get_clock().now() - Time.from_msg(message.header.stamp)).nanoseconds * 1e-9

    def _publish(
        self, source: Image | CompressedImage, image: np.ndarray, instruction: str, p: Prediction
    ) -> None:
        self._sequence += 1
        message = to_action(p, Robot.from_parameters(self._value))
        message.header.stamp = source.header.stamp
        message.header.frame_id = self._value('action_frame')
        message.camera_frame = source.header.frame_id
        message.instruction = instruction
        message.sequence = self._sequence
        message.image_age = self._age(source)
        for name in ('checkpoint', 'engine', 'dtype', 'device'):
            setattr(message, name, self._origin[name])
        self._outputs['action'].publish(message)
        self._outputs['reasoning'].publish(String(data=p.reasoning))
        if self._value('publish_prompt_image'):
            preview = to_message(self._policy.preview(image))
            preview.header = source.header
            self._outputs['prompt_image'].publish(preview)
        self._statistics.count('actions')
        self._statistics.count('out_of_range_tokens', p.out_of_range)
        self._statistics.time(p.timings)

    def _report(self) -> None:
        seen = self._statistics.counts['images_received']
        silent = self._inputs and seen == self._images_seen
        self._images_seen = seen
        topic = self._inputs[0].topic_name if silent else ''
        level, text = describe(self._state, self._failure, topic, self._instruction)
        facts = {
            **self._origin,
            'unnorm_key': self._policy.unnorm_key if self._policy else self._value('unnorm_key'),
            'instruction': self._instruction,
            'version': self._version,
        }
        name = self.get_fully_qualified_name()
        message = DiagnosticArray(status=[self._statistics.status(name, level, text, facts)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Run the node until it is interrupted."""
    run(PolicyNode)
