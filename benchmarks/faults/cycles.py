"""Many life cycles of the robot node: what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time
from typing import Any

from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
import numpy as np

from faults.observer import Observer
from faults.processes import descriptors, executable, Processes, resident, threads

_WHOLE = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)


def cycle(
    domain: int,
    cycles: int,
    logs: Path,
    every: int = 20,
    on_sample: Callable[[dict[str, Any]], None] = lambda sample: None,
) -> dict[str, Any]:
    """Take a robot node of its own through its life cycle, by its services.

    Args:
        domain: ROS domain.
        cycles: Number of times from configure to cleanup.
        logs: Directory for its output.
        every: Cycles between two samples.
        on_sample: Takes each sample.

    Returns:
        The samples (cycle, memory in MB, file descriptors, threads), time of a cycle, and the
        slope of the memory [kB per cycle] after the first fifth.

    Raises:
        RuntimeError: A transition failed.
    """
    preset = Path(get_package_share_directory('trt_openvla_ros')) / 'config/robots/sim.yaml'
    processes = Processes({'ROS_DOMAIN_ID': str(domain)}, logs)
    observer = Observer(domain, (TwistStamped, '/servo_node/delta_twist_cmds'))
    samples = []
    try:
        words = ['--ros-args', '--log-level', 'warn', '--params-file', str(preset)]
        words += ['-p', 'autostart:=false', '-p', 'controller:=servo_twist']
        processes.start('robot', [executable('robot_node'), *words])
        begun = time.monotonic()
        for number in range(cycles + 1):
            if number:
                for transition in _WHOLE:
                    if not observer.change_state(transition):
                        raise RuntimeError(f'cycle {number}: transition {transition} failed')
            else:
                observer.change_state(0)  # waits until it is there; there is no such transition
                begun = time.monotonic()
            if number % every == 0:
                pid = processes.number('robot')
                samples.append(
                    {
                        'cycle': number,
                        'memory_mb': round(resident(pid), 2),
                        'descriptors': descriptors(pid),
                        'threads': threads(pid),
                    }
                )
                on_sample(samples[-1])
        seconds = time.monotonic() - begun
    finally:
        processes.close()
        observer.close()
    warm = [s for s in samples if s['cycle'] >= cycles / 5] or samples
    slope = 0.0
    if len(warm) > 2:
        slope = 1024 * float(
            np.polyfit([s['cycle'] for s in warm], [s['memory_mb'] for s in warm], 1)[0]
        )
    return {
        'cycles': cycles,
        'ms_per_cycle': round(1e3 * seconds / max(cycles, 1), 1),
        'memory_kb_per_cycle': round(slope, 2),
        'samples': samples,
    }
