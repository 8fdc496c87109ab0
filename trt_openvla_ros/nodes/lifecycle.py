"""A lifecycle node that survives wrong transitions and a broken policy, and really ends."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn


class PatientLifecycleNode(LifecycleNode):
    """A lifecycle node that refuses an impossible transition.

    A plain rclpy node raises in the executor, which ends the process: activating it twice with
    `ros2 lifecycle set` is enough. So this node replaces the callback of rclpy's service, which is
    the only way in.

    Attributes:
        broken: Reason to configure the node again; '' if there is none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the node; the arguments are those of rclpy's LifecycleNode."""
        super().__init__(*args, **kwargs)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._change_state_if_possible
        self.broken = ''
        # Transitions belong to the executor's thread, but a policy may break in any thread.
        self._breakdown = self.create_guard_condition(self._leave)

    def break_down(self, reason: str) -> None:
        """Go from active or inactive to unconfigured, through on_error; callable in any thread."""
        self.broken = reason
        self._breakdown.trigger()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer ERROR if something broke, because only a failed transition leads to on_error."""
        answer = super().on_deactivate(state)
        return TransitionCallbackReturn.ERROR if self.broken else answer

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer ERROR if something broke, as on_deactivate does."""
        answer = super().on_cleanup(state)
        return TransitionCallbackReturn.ERROR if self.broken else answer

    def destroy_node(self) -> None:
        """Destroy the node, and its state machine, which rclpy lets keep the node in the graph."""
        machine = self.__dict__.pop('_state_machine', None)  # a half-made node has none
        super().destroy_node()
        if machine is not None:
            machine.destroy_when_not_in_use()

    def _leave(self) -> None:
        # Another transition may have come first, and ended in on_error or in a shutdown.
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
