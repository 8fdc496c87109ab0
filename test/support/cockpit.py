"""What stands around a robot node: a policy, an arm, a person at the switch, and a recorder."""

from contextlib import suppress
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.msg import Log
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from trt_openvla_ros.msg import ActionMeaning, GateReport, VlaAction

PATIENCE = 20.0  # [s] before a test fails; only a broken node or a drowned machine needs it
HOME = (0.3, 0.0, 0.2)
UP = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)
METRES = {
    'translation_unit': 1.0,
    'rotation_unit': 1.0,
    'rotation': 'euler_xyz',
    'reference': 'target',
    'frame': 'base',
    'gripper': 'open',
    'control_rate': 5.0,
    'source': 'this test',
}


class Cockpit:
    """Publishes poses all the time in a thread of its own, and keeps everything that comes.

    Attributes:
        position: [3] m of the arm, which moves only if a test says so; None publishes no poses.
        follows: Whether the arm is at once where the newest command wants it.
        commands: Arrival [s, steady] and message of each command.
    """

    def __init__(self, context, namespace=''):
        self.node = Node('cockpit', context=context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self.position, self.quaternion, self.frame = list(HOME), (1.0, 0.0, 0.0, 0.0), 'base_link'
        self.follows, self.pose_age = False, 0.0
        self.commands, self.reports, self.targets, self.statuses = [], [], [], []
        self.logs, self._sequence, self._twist = [], 0, None
        publish, subscribe = self.node.create_publisher, self.node.create_subscription
        self.poses = publish(PoseStamped, 'pose', qos_profile_sensor_data)
        self.actions = publish(VlaAction, 'policy/action', 10)
        self.words = publish(String, 'instruction', 10)
        self.switch = publish(Bool, 'robot/deadman', 10)
        self.joystick = publish(Joy, 'joy', 10)
        self.joints = publish(JointState, 'joint_states', 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(GateReport, 'robot/gate', self._keep(self.reports), latched)
        subscribe(PoseStamped, 'robot/target', self._keep(self.targets), 10)
        subscribe(DiagnosticArray, '/diagnostics', self._keep(self.statuses), 10)
        logs = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(Log, '/rosout', self._take_log, logs)
        self._clients = {
            name: self.node.create_client(kind, f'robot/{name}')
            for name, kind in (
                ('enable', SetBool),
                ('stop', Trigger),
                ('change_state', ChangeState),
                ('get_state', GetState),
            )
        }
        self.node.create_timer(0.02, self._publish_pose)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def record(self, kind, topic):
        """Keep the commands on a topic from now on."""
        self.node.create_subscription(kind, topic, self._take_command, 100)

    def close(self):
        self._closing.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()

    def wait(self, condition, what, timeout=PATIENCE):
        """Wait until condition() is true, and give its value; fail with `what` if it never is."""
        with self._changed:
            deadline = time.monotonic() + timeout
            while not (value := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f'after {timeout} s still no {what}; {self.logs[-10:]}'
                self._changed.wait(min(left, 0.05))
            return value

    def connect(self):
        """Wait until the robot node and this have found each other."""
        for publisher in (self.actions, self.words):
            self.wait(publisher.get_subscription_count, f'subscription to {publisher.topic_name}')
        self.wait(lambda: self.reports, 'report')

    def call(self, name, **fields):
        client = self._clients[name]
        self.wait(client.service_is_ready, f'service {client.srv_name}')
        future = client.call_async(client.srv_type.Request(**fields))
        self.wait(future.done, f'answer of {client.srv_name}')
        return future.result()

    def transit(self, name):
        label = getattr(Transition, f'TRANSITION_{name.upper()}')
        return self.call('change_state', transition=Transition(id=label)).success

    def enable(self, on=True):
        """Call ~/enable until it succeeds, as a person would who waits for the first pose."""
        deadline = time.monotonic() + PATIENCE
        while not (answer := self.call('enable', data=on)).success:
            assert time.monotonic() < deadline, answer.message
        return answer.message

    def say(self, text='put the spoon on the towel'):
        self.words.publish(String(data=text))

    def act(self, step=UP, age=0.05, meaning=METRES, **fields):
        """Publish one action on an image of this age [s]; give its sequence."""
        self._sequence += 1
        stamp = self.node.get_clock().now().nanoseconds - round(1e9 * age)
        message = VlaAction(action=np.asarray(step, float), sequence=self._sequence)
        message.meaning = ActionMeaning(**meaning)
        message.header.frame_id = self.frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.image_age = age
        for name, value in fields.items():
            setattr(message, name, value)
        self.actions.publish(message)
        return message.sequence

    def act_until(self, condition, what, step=UP, period=0.2, **fields):
        """Publish actions at a rate until condition() is true; give its value."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.act(step, **fields)
            with suppress(AssertionError):
                return self.wait(condition, what, period)
        return self.wait(condition, what, 0.01)

    def rise(self, height, **fields):
        """Let the arm follow, and act until it is commanded to be so high [m]."""
        self.follows = True
        return self.act_until(
            lambda: self.commands and self.commands[-1][1].pose.position.z > height,
            f'height {height}',
            **fields,
        )

    def held(self):
        """Wait until the last two poses are equal; give their height [m]."""

        def last():
            return [message.pose.position.z for _, message in self.commands[-2:]]

        self.wait(lambda: len(set(last())) == 1 == len(last()) - 1, 'held pose')
        return last()[0]

    def report(self, condition, what='such report'):
        """Wait for a report, from now on, that meets the condition."""
        count = len(self.reports)
        return self.wait(
            lambda: next((r for r in self.reports[max(count - 1, 0) :] if condition(r)), None),
            what,
        )

    def state(self, state):
        """Wait until the newest report says so; give it."""
        self.wait(
            lambda: self.reports and self.reports[-1].state == state,
            f'{state}; last {self.reports[-1:]}',
        )
        return self.reports[-1]

    def rule(self, name, report=None):
        """Give what the newest report says of a rule."""
        rules = (report or self.reports[-1]).rules
        return next(rule for rule in rules if rule.rule == name)

    def status(self, part, condition=lambda status: True):
        """Wait for a status of a part, from now on, that meets the condition."""
        count = len(self.statuses)

        def found():
            for message in self.statuses[count:]:
                for status in message.status:
                    if status.name == f'/robot: {part}' and condition(status):
                        return status
            return None

        return self.wait(found, f'such status of {part}; last {self.statuses[-1:]}')

    def logged(self, text):
        return self.wait(lambda: any(text in log for log in self.logs), f'log of {text!r}')

    def _keep(self, into):
        def take(message):
            with self._changed:
                into.append(message)
                self._changed.notify_all()

        return take

    def _take_command(self, message):
        with self._changed:
            self.commands.append((time.monotonic(), message))
            if self.follows:
                self._follow(message)
            self._changed.notify_all()

    def _follow(self, message):
        if isinstance(message, PoseStamped):
            place = message.pose.position
            self.position = [place.x, place.y, place.z]
            return
        # A twist holds from its stamp to that of the next, but for 0.1 s at most, as with Servo.
        stamp, twist = message.header.stamp, message.twist
        now = stamp.sec + 1e-9 * stamp.nanosec
        before, speed, turn = self._twist or (now, np.zeros(3), np.zeros(3))
        lasted = min(now - before, 0.1)
        self.position = list(np.asarray(self.position) + speed * lasted)
        turned = Rotation.from_rotvec(turn * lasted) * Rotation.from_quat(self.quaternion)
        self.quaternion = tuple(map(float, turned.as_quat()))
        self._twist = (
            now,
            *(
                np.array([vector.x, vector.y, vector.z])
                for vector in (twist.linear, twist.angular)
            ),
        )

    def _take_log(self, message):
        if message.name.endswith('robot'):
            with self._changed:
                self.logs.append(message.msg)
                self._changed.notify_all()

    def _publish_pose(self):
        position = self.position
        if position is None:
            return
        message = PoseStamped()
        stamp = self.node.get_clock().now().nanoseconds - round(1e9 * self.pose_age)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.header.frame_id = self.frame
        place, turn = message.pose.position, message.pose.orientation
        place.x, place.y, place.z = map(float, position)
        turn.x, turn.y, turn.z, turn.w = self.quaternion
        self.poses.publish(message)

    def _spin(self):
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.05)
