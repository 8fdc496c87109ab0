"""A lifecycle node that outlives a transition which its state does not have."""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


class PatientLifecycleNode(LifecycleNode):
    """Refuses an impossible transition; rclpy raises in the executor, which ends the process.

    `ros2 lifecycle set` with a second activate is enough. The service that rclpy makes has no
    other door than its callback.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments are those of rclpy's LifecycleNode."""
        super().__init__(*args, **kwargs)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._change_state_if_possible

    def _change_state_if_possible(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return self._change_state(request, response)
        except rclpy_implementation.RCLError as error:
            self.get_logger().warning(f'transition refused: {error}')
            response.success = False
            return response
