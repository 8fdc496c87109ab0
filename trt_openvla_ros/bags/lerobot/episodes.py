"""Episodes and rows of a data set: which image, state and action belong to each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from trt_openvla_ros.bags.lerobot.settings import BagToLeRobotSettings
from trt_openvla_ros.bags.recording import Act, Picture, read_recording
from trt_openvla_ros.bags.tracks import gripper_track, GRIPPERS, pose_track, POSES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.poses import Pose

_LATE = 0.25  # of the time between two rows


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        picture: The image.
        state: [6 or 7] pose [m, rad] and opening; empty without a pose topic.
        action: [7].
        unlimited: [7] the policy's step before the node's limits; empty for other actions.
        held: Whether nothing new was sent since the row before.
    """

    picture: Picture
    state: np.ndarray
    action: np.ndarray
    unlimited: np.ndarray
    held: bool


@dataclass(frozen=True)
class Episode:
    """Rows under one instruction."""

    bag: Path
    task: str
    rows: list[Row]


@dataclass(frozen=True)
class _Moment:
    """When the state of a row is, and the newest image then."""

    time: int
    picture: Picture
    is_new: bool


class Episodes:
    """The episodes of one bag.

    Attributes:
        rate: Rows per second.
        unnorm_key: Data set of the recorded actions; '' for other actions, or if there are none.
        left_out: What did not become a row as it was, and how often.
    """

    def __init__(self, path: Path, settings: BagToLeRobotSettings) -> None:
        """Read all of a bag but its pixels.

        Raises:
            ConfigError: The bag cannot be read, lacks a topic that the settings ask for, or has
                actions that are no rows of one data set.
        """
        self._settings, self.left_out = settings, Counter()
        self._by_policy = settings.action == 'policy'
        if settings.rows == 'steps' and not self._by_policy:
            raise ConfigError(f'rows is steps, but action is {settings.action}; it needs policy')
        topics = []
        if settings.pose_topic:
            topics.append((settings.pose_topic, POSES, 'pose_topic'))
        elif not self._by_policy:
            raise ConfigError(f'pose_topic is empty, but action {settings.action} needs poses')
        if settings.gripper_topic and settings.pose_topic:
            topics.append((settings.gripper_topic, GRIPPERS, 'gripper_topic'))
        elif not self._by_policy:
            raise ConfigError(f'gripper_topic is empty, but action {settings.action} needs it')
        if settings.action == 'target':
            topics.append((settings.target_topic, POSES, 'target_topic'))
        self._recording = recording = read_recording(
            path, settings, acts=self._by_policy, extra=topics, gate=settings.gate_topic
        )
        self._poses = pose_track(recording, settings) if settings.pose_topic else None
        has_gripper = settings.gripper_topic and settings.pose_topic
        self._gripper = gripper_track(recording, settings) if has_gripper else None
        self._targets = None
        if settings.action == 'target':
            self._targets = pose_track(recording, settings, settings.target_topic)
        self._answers = self._finite_answers() if self._by_policy else {}
        self.unnorm_key = recording.unnorm_key(self._answers.values())
        self.rate = settings.fps or self._rate_of_actions()

    def __iter__(self) -> Iterator[Episode]:
        """Give the episodes, in the order of the bag."""
        for pictures in self._stretches():
            for run in self._runs(self._moments(pictures)):
                rows = self._policy_rows(run) if self._by_policy else self._pose_rows(run)
                if len(rows) < self._settings.min_rows:
                    self.left_out['episodes of too few rows'] += 1
                    continue
                yield Episode(self._recording.path, pictures[0].instruction, rows)

    def _finite_answers(self) -> dict[int, int]:
        """Give the numbers of actions that can be rows by number of their image."""
        acts = self._recording.acts
        answers, ambiguous, unseen = self._recording.answers()
        found = {image: number for image, number in answers.items() if acts[number].is_finite}
        self.left_out['images of which several have one stamp'] += ambiguous
        self.left_out['actions without an image'] += unseen
        self.left_out['actions that are not finite'] += len(answers) - len(found)
        steps = max((acts[number].steps for number in found.values()), default=1)
        if steps > 1:  # a row has one, and when the robot made the others is not in the bag
            raise ConfigError(
                f'the actions of {self._recording.path} are chunks of {steps} steps, and a row '
                'has one step; set action to motion or target'
            )
        return found

    def _rate_of_actions(self) -> int:
        rates = {act.control_rate for act in self._recording.acts} - {0.0}
        if len(rates) != 1 or not min(rates).is_integer():
            raise ConfigError(
                'fps is 0, and the recorded actions do not say one whole rate '
                f'({", ".join(f"{rate:g}" for rate in sorted(rates)) or "none"}); set fps'
            )
        return int(rates.pop())

    def _stretches(self) -> Iterator[list[Picture]]:
        """Give images in a row under one instruction, whose times grow without a gap."""
        found: list[Picture] = []
        for picture in self._recording.pictures:
            if not picture.instruction:
                self.left_out['images without an instruction'] += 1
                continue
            if self._by_policy and picture.number not in self._answers:
                continue
            if self._by_policy and self._act(picture).instruction.strip() != picture.instruction:
                self.left_out['actions for another instruction'] += 1
                continue
            if found and not self._follows(found[-1], picture):
                yield found
                found = []
            found.append(picture)
        if found:
            yield found

    def _follows(self, before: Picture, after: Picture) -> bool:
        apart = after.time - before.time
        return after.task == before.task and 0 < apart <= 1e9 * self._settings.max_gap

    def _act(self, picture: Picture) -> Act:
        return self._recording.acts[self._answers[picture.number]]

    def _runs(self, moments: Sequence[_Moment]) -> Iterator[list[tuple[_Moment, np.ndarray]]]:
        """Give moments in a row with their states; one without a state ends a run."""
        found: list[tuple[_Moment, np.ndarray]] = []
        for moment in moments:
            state = self._state(moment.time)
            if state is not None:
                found.append((moment, state))
                continue
            self.left_out['rows without a pose or gripper near them'] += 1
            if found:
                yield found
                found = []
        if found:
            yield found

    def _pose_rows(self, run: Sequence[tuple[_Moment, np.ndarray]]) -> list[Row]:
        """Give rows whose action is where the arm was, or was sent, one row later."""
        times = [moment.time for moment, _ in run]
        times.append(times[-1] + round(1e9 / self.rate))
        following = [*(state for _, state in run[1:]), self._state(times[-1])]
        rows = []
        for (moment, state), (now, after), then in zip(
            run, pairwise(times), following, strict=True
        ):
            if then is None:
                self.left_out['rows without a pose or gripper a row later'] += 1
                continue
            action = self._motion(now, after, then)
            if self._targets is not None:
                action = self._target(after, then)
            if action is None:
                self.left_out['rows before the first target'] += 1
                continue
            rows.append(Row(moment.picture, state, action, np.empty(0), not moment.is_new))
        return rows

    def _moments(self, pictures: Sequence[Picture]) -> list[_Moment]:
        if self._settings.rows == 'steps':
            return [_Moment(picture.time, picture, True) for picture in pictures]
        times = np.array([picture.time for picture in pictures])
        period = round(1e9 / self.rate)
        # A camera at this very rate is never exact: an image that is a little late still counts.
        slack = round(_LATE * period)
        count = max(0, -(-(int(times[-1] - times[0]) - slack) // period)) + 1
        ticks = times[0] + np.round(np.arange(count) * 1e9 / self.rate).astype(np.int64)
        newest = (np.searchsorted(times, ticks + slack, side='right') - 1).tolist()
        new = [True, *(now != before for before, now in pairwise(newest))]
        if self._by_policy:
            self.left_out['steps between two rows'] += len(pictures) - len(set(newest))
            self.left_out['rows without a step'] += count - sum(new)
        return [
            _Moment(self._time(int(tick), pictures[index], is_new), pictures[index], is_new)
            for tick, index, is_new in zip(ticks, newest, new, strict=True)
        ]

    def _time(self, tick: int, picture: Picture, is_new: bool) -> int:
        """Give the time of a row's state: that of the image that was answered, or the grid's."""
        return picture.time if self._by_policy and is_new else tick

    def _policy_rows(self, run: Sequence[tuple[_Moment, np.ndarray]]) -> list[Row]:
        rows = []
        for moment, state in run:
            number = self._answers[moment.picture.number]
            act = self._recording.acts[number]
            action, held = act.action.copy(), not moment.is_new
            if number in self._recording.held:
                self.left_out['steps that the gate held'] += moment.is_new
                held = True
            if held:  # a step is relative: said twice, it would be made twice
                action[:6] = 0.0
            rows.append(Row(moment.picture, state, action, act.unlimited, held))
        return rows

    def _state(self, time: int) -> np.ndarray | None:
        """Give the newest pose and opening at a time; None if one is not known then."""
        if self._poses is None:
            return np.empty(0)
        index = self._poses.newest(time)
        if index < 0:
            return None
        state = _numbers(self._poses.values[index])
        if self._gripper is None:
            return state
        at = self._gripper.newest(time)
        return None if at < 0 else np.append(state, self._gripper.values[at])

    def _motion(self, now: int, after: int, following: np.ndarray) -> np.ndarray:
        start, end = (self._poses.values[self._poses.before(time)] for time in (now, after))
        return np.append(start.motion_to(end, self._settings.angles), following[6:])

    def _target(self, after: int, following: np.ndarray) -> np.ndarray | None:
        # A controller holds what was sent last, however long ago.
        index = self._targets.before(after - 1)
        if index < 0:
            return None
        return np.append(_numbers(self._targets.values[index]), following[6:])


def _numbers(pose: Pose) -> np.ndarray:
    """Give x, y, z [m] and roll, pitch, yaw [rad]."""
    return np.concatenate([pose.position, pose.angles])
