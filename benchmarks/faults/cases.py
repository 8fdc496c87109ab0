"""The faults, each with its loop, and with what is designed to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import signal
import time

from faults.rig import Rig, Setup

# What must come of a fault.
STOPS = 'stop until enable'  # holds, and stops if it lasts: only ~/enable lets the robot move
RESUMES = 'moves again by itself'  # holds for a moment, or because somebody wanted it
GOES_ON = 'moves on, or holds'  # no age is beyond its limit, so nothing has to hold
ENDS = 'disabled until enable'  # the process of the robot node ended

SERVO = Setup()
CARTESIAN = Setup('cartesian_pose')
_HELD = Setup(
    devices=('deadman', 'status'),
    robot=('deadman:=topic', 'deadman_timeout:=0.3'),
    rules=('/servo_node/status:=/driver/status',),
)
_STUCK = Setup(devices=('stuck_pose',))
_REMOTE = Setup(remote=True)
_SIGNALS = {signal.SIGTERM: 'SIGTERM', signal.SIGINT: 'SIGINT', signal.SIGKILL: 'SIGKILL'}


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: What happens, in words.
        setup: Loop that it happens to.
        strike: Makes it happen; gives the time right before [s, steady].
        heal: Undoes it.
        limit: Rule that must notice it, in words; '' if it must end nothing.
        limit_s: Its limit [s]; None if that is no time.
        returns: What must come of it; '' if that is not looked at.
        lasts: Time until it is undone [s].
        detail: Tells what else was measured; '' for nothing.
    """

    name: str
    setup: Setup
    strike: Callable[[Rig], float]
    heal: Callable[[Rig], object]
    limit: str
    limit_s: float | None
    returns: str = STOPS
    lasts: float = 2.5
    detail: Callable[[Rig], str] = lambda rig: ''


def _kills(name: str) -> Callable[[Rig], float]:
    return lambda rig: rig.processes.kill(name)


def _starts(name: str) -> Callable[[Rig], object]:
    return lambda rig: rig.processes.start(name)


def _sends(name: str, number: int) -> Callable[[Rig], float]:
    return lambda rig: rig.processes.send(name, number)


def _breaks(name: str) -> Callable[[Rig], float]:
    return lambda rig: rig.break_device(name)


def _mends(name: str) -> Callable[[Rig], float]:
    return lambda rig: rig.mend_device(name)


def _frozen(name: str) -> tuple[Callable[[Rig], float], Callable[[Rig], float]]:
    return _sends(name, signal.SIGSTOP), _sends(name, signal.SIGCONT)


def _ends_robot(number: int) -> Callable[[Rig], float]:
    def strike(rig: Rig) -> float:
        now = rig.processes.send('robot', number)
        rig.processes.wait('robot')
        return now

    return strike


def _says_nothing(rig: Rig) -> float:
    now = time.monotonic()
    rig.observer.say('')
    return now


def _says_again(rig: Rig) -> None:
    rig.observer.say(rig.instruction)


def _rivals(rig: Rig) -> float:
    """Let a second node command; the fault begins when its publisher is there."""
    before = len(rig.processes.output('rival').splitlines())
    rig.break_device('rival')
    lines = rig.observer.wait(
        lambda: rig.processes.output('rival').splitlines()[before:], 'publisher of the rival'
    )
    return float(lines[0])


def _under_flood(rig: Rig) -> str:
    came = rig.processes.output('sink').splitlines()[-1:]
    return f'{"".join(came)}; ~/stop answered after {1e3 * rig.observer.stop():.0f} ms'


def _offset(rig: Rig) -> str:
    stamp = rig.observer.seen.commands[-1].stamp
    return f'{stamp - time.time():+.0f} s between the stamps of commands and the time of day'


def _gripper(rig: Rig) -> str:
    return rig.observer.statuses['/robot: gripper'].message


_POLICY = 'action_timeout, from the last action'
_POSE = 'max_pose_age'
_NONE = 'none: the process itself commands it'


def _common(setup: Setup) -> tuple[Case, ...]:
    """Give the faults that every controller is tested with."""
    return (
        Case('camera killed', setup, _kills('camera'), _starts('camera'), _POLICY, 0.5),
        Case('policy stopped (SIGSTOP)', setup, *_frozen('policy'), _POLICY, 0.5),
        Case('policy killed (SIGKILL)', setup, _kills('policy'), _starts('policy'), _POLICY, 0.5),
        Case('pose driver killed', setup, _kills('pose'), _starts('pose'), _POSE, 0.2),
        Case(
            'pose frozen, its stamps go on',
            *(setup, _breaks('pose'), _mends('pose')),
            'twice the leash: a way and no time',
            *(None, GOES_ON),
            lasts=4.0,
        ),
        *(
            Case(
                f'robot node: {name}',
                *(setup, _ends_robot(number), _starts('robot')),
                _NONE if number != signal.SIGKILL else "none of ours: the controller's own",
                *(None, ENDS),
            )
            for number, name in _SIGNALS.items()
        ),
    )


CASES = (
    *_common(SERVO),
    Case(
        'camera stopped for a moment',
        *(SERVO, *_frozen('camera'), _POLICY, 0.5, RESUMES),
        lasts=0.8,
    ),
    Case(
        'policy stopped for a moment',
        *(SERVO, *_frozen('policy'), _POLICY, 0.5, RESUMES),
        lasts=0.8,
    ),
    Case(
        'robot node stopped (SIGSTOP)',
        *(SERVO, *_frozen('robot'), "none of ours: the controller's own", None, RESUMES),
        lasts=1.0,
    ),
    Case(
        'blank instruction',
        *(SERVO, _says_nothing, _says_again, 'instruction: at once', 0.0, RESUMES),
    ),
    Case(
        'second publisher of commands',
        *(Setup(devices=('rival',)), _rivals, _mends('rival')),
        *('a look at the graph each 0.5 s', 0.5),
    ),
    Case(
        '4K at 30 Hz beside the camera',
        *(Setup(devices=('flood', 'sink')), _breaks('flood'), _mends('flood')),
        *('', None, GOES_ON),
        detail=_under_flood,
    ),
    Case('simulation and controller killed', SERVO, _kills('sim'), _starts('sim'), _POSE, 0.2),
    Case(
        'deadman released',
        *(_HELD, _breaks('deadman'), _mends('deadman'), 'deadman: at once', 0.0, RESUMES),
    ),
    Case('deadman silent', _HELD, *_frozen('deadman'), 'deadman_timeout', 0.3),
    Case(
        'Servo says that it halts',
        *(_HELD, _breaks('status'), _mends('status'), "controller's status: at once", 0.0),
    ),
    Case('Servo silent', _HELD, *_frozen('status'), 'controller_timeout', 0.2),
    Case(
        'pose frozen, its stamps too',
        *(_STUCK, _breaks('stuck_pose'), _mends('stuck_pose'), _POSE, 0.2),
    ),
    Case('server of actions killed', _REMOTE, _kills('server'), _starts('server'), _POLICY, 0.5),
    Case('server of actions stopped', _REMOTE, *_frozen('server'), _POLICY, 0.5),
    Case(
        'clock jumps back by 10 s',
        *(Setup(devices=('clock',)), _breaks('clock'), _mends('clock')),
        *('ages by a steady clock', None, GOES_ON),
        detail=_offset,
    ),
    Case(
        'clock jumps on by 10 s',
        *(Setup(devices=('clock_on',)), _breaks('clock_on'), _mends('clock_on')),
        *('ages by a steady clock', None, GOES_ON),
        detail=_offset,
    ),
    Case(
        'gripper action never answers',
        *(
            Setup(devices=('gripper',), robot=('gripper_target:=/silent_gripper/gripper_cmd',)),
            lambda rig: time.monotonic(),
            lambda rig: None,
        ),
        *('', None, GOES_ON),
        lasts=4.0,
        detail=_gripper,
    ),
    *_common(CARTESIAN),
)
