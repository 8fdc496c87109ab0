"""A program that commands the simulated arm in the language of its controllers."""

import time

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rcl_interfaces.msg import Log
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

RATE = 50.0  # [Hz] of commands


class Commander:
    """Streams the command that is set, from the executor of a player.

    Attributes:
        command: Function that gives a message to publish, or None.
        statuses: Status messages of Servo.
        ahead: Seconds by which the stamps are in the future.
    """

    def __init__(self, player):
        self.player, self.node = player, player.node
        self.command, self.statuses, self.logs, self.ahead = None, [], [], 0.0
        self._publishers = {}
        latched = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(Log, '/rosout', lambda m: self.logs.append(m.msg), latched)
        self.node.create_timer(1.0 / RATE, self._send)

    def _send(self):
        if self.command is not None:
            self.command()

    def publish(self, topic, message):
        """Publish a message, stamped now, to somebody who listens."""
        publisher = self._publishers.get(topic)
        if publisher is None:
            publisher = self.node.create_publisher(type(message), topic, 10)
            self._publishers[topic] = publisher
            self.player.wait(publisher.get_subscription_count, f'subscriber of {topic}')
        now = self.node.get_clock().now() + Duration(seconds=self.ahead)
        message.header.stamp = now.to_msg()
        publisher.publish(message)

    def stream(self, topic, message):
        """Publish a message at RATE until the next call; None ends it."""
        self.command = None
        if message is not None:
            self.publish(topic, message)
            self.command = lambda: self.publish(topic, message)

    def run(self, seconds):
        """Go on for some time, in which nothing is awaited: measuring is the point."""
        end = time.monotonic() + seconds
        self.player.wait(lambda: time.monotonic() > end, 'end of the time')

    def listen_to_status(self):
        from moveit_msgs.msg import ServoStatus

        self.node.create_subscription(ServoStatus, 'servo_node/status', self.statuses.append, 10)
        self.player.wait(lambda: self.statuses, 'status of Servo')

    def switch(self, kind):
        from moveit_msgs.srv import ServoCommandType

        request = ServoCommandType.Request(command_type=getattr(ServoCommandType.Request, kind))
        answer = self.call(ServoCommandType, 'servo_node/switch_command_type', request)
        assert answer.success

    def pause(self, on):
        answer = self.call(SetBool, 'servo_node/pause_servo', SetBool.Request(data=on))
        assert answer.success

    def call(self, kind, name, request):
        client = self.node.create_client(kind, name)
        self.player.wait(client.service_is_ready, f'service {name}')
        future = client.call_async(request)
        self.player.wait(future.done, f'answer of {name}')
        return future.result()

    def place(self):
        """[3] m: the newest place of the hand, which is not older than this call."""
        return np.array(self._path(1)[0][1])

    def speed(self, seconds=0.4):
        """[3] m/s: mean velocity of the hand over the next seconds."""
        begin, end = (self._path(1)[0], None)
        self.run(seconds)
        end = self._path(1)[0]
        return (end[1] - begin[1]) / (end[0] - begin[0])

    def moves_at(self, velocity, tolerance):
        """Wait until the hand moves with [3] m/s; a busy machine halts it now and then."""

        def moves():
            return np.abs(self.speed(0.3) - velocity).max() < tolerance

        self.player.wait(moves, f'motion with {velocity} m/s')

    def _path(self, count):
        self.player.poses.clear()
        self.player.wait(lambda: len(self.player.poses) >= count, 'poses')
        return [
            (
                m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec,
                np.array([m.pose.position.x, m.pose.position.y, m.pose.position.z]),
            )
            for m in self.player.poses[-count:]
        ]

    def warned(self, text):
        self.player.wait(lambda: any(text in log for log in self.logs), f'warning {text!r}')

    def gripper(self, kind):
        """A client of the gripper's action."""
        client = ActionClient(self.node, kind, 'gripper_controller/gripper_cmd')
        self.player.wait(client.server_is_ready, 'gripper')
        return client

    def send_goal(self, client, goal):
        """Send a goal; give its handle."""
        future = client.send_goal_async(goal)
        self.player.wait(future.done, 'answer to the goal')
        return future.result()

    def result(self, handle):
        """Wait for the end of a goal: status and result."""
        future = handle.get_result_async()
        self.player.wait(future.done, 'result of the goal')
        return future.result().status, future.result().result


def twist(linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0), frame='base_link'):
    message = TwistStamped()
    message.header.frame_id = frame
    vector = message.twist.linear
    vector.x, vector.y, vector.z = map(float, linear)
    vector = message.twist.angular
    vector.x, vector.y, vector.z = map(float, angular)
    return message


def pose(place, quaternion=(0.0, 0.0, 0.0, 1.0), frame='base_link'):
    message = PoseStamped()
    message.header.frame_id = frame
    at, turn = message.pose.position, message.pose.orientation
    at.x, at.y, at.z = map(float, place)
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion)
    return message
