"""MoveIt Servo and grippers as a robot node sees them: their services, status and answers.

They move nothing. The simulated controllers, which do, have tests of their own.
"""

import threading
import time

from control_msgs.action import GripperCommand, ParallelGripperCommand
from moveit_msgs.msg import ServoStatus
from moveit_msgs.srv import ServoCommandType
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from std_srvs.srv import SetBool


class FakeServo(Node):
    """Paused, and of no command type, until it is told; it reports its status while unpaused.

    Attributes:
        calls: What was asked, in order: ('pause', bool) and ('type', int).
        code, message: Status that is reported.
        silent: Whether nothing is reported all the same.
    """

    def __init__(self, context, units='speed_units', linear=0.6, rotational=2.0, timeout=0.1):
        super().__init__('servo_node', context=context)
        self.calls, self.code, self.message = [], ServoStatus.NO_WARNING, 'No warnings'
        self.paused, self.silent = True, False
        for name, value in (
            ('command_in_type', units),
            ('scale.linear', linear),
            ('scale.rotational', rotational),
            ('incoming_command_timeout', timeout),
        ):
            self.declare_parameter(f'moveit_servo.{name}', value)
        self.create_service(SetBool, '~/pause_servo', self._pause)
        self.create_service(ServoCommandType, '~/switch_command_type', self._switch)
        self._statuses = self.create_publisher(ServoStatus, '~/status', 10)
        self.create_timer(0.02, self._report)

    def _pause(self, request, answer):
        self.calls.append(('pause', request.data))
        self.paused, answer.success = request.data, True
        return answer

    def _switch(self, request, answer):
        self.calls.append(('type', request.command_type))
        answer.success = True
        return answer

    def _report(self):
        if not (self.paused or self.silent):
            self._statuses.publish(ServoStatus(code=self.code, message=self.message))


class FakeGripper(Node):
    """An action server that ends each goal as it is told to.

    Attributes:
        goals: Arrival [s, steady] and goal.
        outcome: 'reached', 'stalled' (aborted, as ros2_controllers do at an object), 'missed'
            (aborted) or 'refused'.
    """

    def __init__(self, context, name='gripper_controller/gripper_cmd', parallel=False):
        super().__init__('fake_gripper', context=context)
        self.goals, self.outcome = [], 'reached'
        self._lock = threading.Lock()
        self._kind = ParallelGripperCommand if parallel else GripperCommand
        self.server = ActionServer(
            self,
            self._kind,
            name,
            self._execute,
            goal_callback=self._take,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def destroy_node(self):
        self.server.destroy()
        super().destroy_node()

    def _take(self, goal):
        with self._lock:
            self.goals.append((time.monotonic(), goal))
        return GoalResponse.REJECT if self.outcome == 'refused' else GoalResponse.ACCEPT

    def _execute(self, handle):
        result = self._kind.Result(
            stalled=self.outcome == 'stalled', reached_goal=self.outcome == 'reached'
        )
        if self.outcome == 'reached':
            handle.succeed()
        else:
            handle.abort()
        return result
