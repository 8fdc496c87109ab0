"""A lifecycle node that outlives an impossible transition, and what it is made of."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn


class PatientLifecycleNode(LifecycleNode):
    """Refuses an impossible transition; rclpy raises in the executor, which ends the process.

    `ros2 lifecycle set` with a second activate is enough. The service that rclpy makes has no
    other door than its callback.

    Attributes:
        broken: Why the node has to be configured again; '' where it has not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments are those of rclpy's LifecycleNode."""
        super().__init__(*args, **kwargs)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._change_state_if_possible
        self.broken = ''
        # Transitions belong to the executor's thread; what breaks does so in any.
        self._breakdown = self.create_guard_condition(self._leave)

    def break_down(self, reason: str) -> None:
        """Leave active or inactive for unconfigured, by way of on_error; from any thread."""
        self.broken = reason
        self._breakdown.trigger()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer ERROR where something broke: on_error has no other door than a transition."""
        answer = super().on_deactivate(state)
        return TransitionCallbackReturn.ERROR if self.broken else answer

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer as on_deactivate does."""
        answer = super().on_cleanup(state)
        return TransitionCallbackReturn.ERROR if self.broken else answer

    def _leave(self) -> None:
        # Or someone was faster, whose transition then ended in on_error or in a shutdown.
        state = self._state_machine.current_state[1]
        if self.broken and state == 'active':
            self.trigger_deactivate()
        elif self.broken and state == 'inactive':
            self.trigger_cleanup()

    def _change_state_if_possible(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return self._change_state(request, response)
        except rclpy_implementation.RCLError as error:
            self.get_logger().warning(f'transition refused: {error}')
            response.success = False
            return response
