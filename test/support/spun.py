"""A node that a thread spins, as its process would."""

from contextlib import suppress
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor


class Spun:
    """A running node.

    Attributes:
        node: The node.
    """

    def __init__(self, node):
        self.node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def close(self):
        # The thread ends between two spins: rclpy does not stand a shutdown within one.
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            self._executor.shutdown()
            self.node.destroy_node()

    def _spin(self):
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.05)
