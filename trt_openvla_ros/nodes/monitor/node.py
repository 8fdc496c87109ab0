"""`ros2 run trt_openvla_ros monitor`: a screen in a terminal, or a line each second in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
import select
import sys
import time

from rclpy.executors import SingleThreadedExecutor
from rich.console import Console, Group
from rich.live import Live

from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.monitor.screen import one_line, screen
from trt_openvla_ros.nodes.monitor.watching import MonitorNode
from trt_openvla_ros.nodes.run import joined

_LISTEN = 0.05  # [s] between two looks at the keyboard


def main() -> None:
    """Watch until q is pressed, the process is told to stop, or nobody reads the lines."""
    try:
        with joined(MonitorNode) as node:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            if sys.stdout.isatty():
                _show(node, executor)
            else:
                _print(node, executor)
    except BrokenPipeError:
        # Python flushes once more at the end, into the same pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(node: MonitorNode, executor: SingleThreadedExecutor) -> None:
    period = node.parameters.line_period
    due = time.monotonic() + period
    while True:
        executor.spin_once(timeout_sec=min(_LISTEN, max(due - time.monotonic(), 0)))
        if time.monotonic() >= due:
            due += period
            try:
                print(one_line(node.snapshot()), flush=True)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise InputError(
                    f'the line cannot be written ({error.strerror}); write to another file'
                ) from error


def _show(node: MonitorNode, executor: SingleThreadedExecutor) -> None:
    console = Console()
    period = 1 / node.parameters.refresh
    due = 0.0
    # rich would redraw in a thread of its own; here only this loop draws.
    with _keyboard() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not pressed('q'):
            executor.spin_once(timeout_sec=_LISTEN)
            now = time.monotonic()
            if now >= due:
                due = now + period
                width, height = console.size
                live.update(Group(*screen(node.snapshot(), width, height)), refresh=True)


@contextmanager
def _keyboard() -> Iterator:
    """Give a function that tells whether a key was pressed; the terminal is left as it was."""
    if not sys.stdin.isatty():
        yield lambda key: False
        return
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)  # keys come at once, and Ctrl-C is still a signal

        def pressed(key: str) -> bool:
            typed = b''
            while select.select([file], [], [], 0)[0]:
                found = os.read(file, 64)
                if not found:  # the terminal is gone
                    return True
                typed += found
            return key.encode() in typed.lower()

        yield pressed
    finally:
        with suppress(termios.error):
            termios.tcsetattr(file, termios.TCSADRAIN, before)
