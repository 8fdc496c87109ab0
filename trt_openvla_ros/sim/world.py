"""The table, the objects, the hand and the camera, in MuJoCo.

A model of a few million parameters can learn the task at 112 pixels. Objects of about 5 cm differ
in colour and shape. The hand keeps upright. A spot of light below it (as of a laser pointer in the
palm) shows one camera where over the table it is. Control runs at 5 Hz. The gripper helps too:
open, it passes over objects without touching; closing, it gets hold of an object within 3 cm along
each axis and draws it in; closed, it pushes with a flat fist that is wider than the drawn one.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.sim.goals import DIRECTIONS, Goal
from trt_openvla_ros.sim.layout import draw_names, draw_spot, LOOKS
from trt_openvla_ros.sim.scene import (
    HOLD,
    IMAGE_SIZE,
    OPEN,
    RADIUS,
    scene_xml,
    SHUT,
    SUBSTEPS,
)
from trt_openvla_ros.sim.state import Hand, State, Thing

MAX_STEPS = 50  # control steps in an episode
MAX_STEP = 0.04  # [m] longest move of the hand along an axis in one control step

# Space of the hand [m].
HAND_LOW, HAND_HIGH = np.array([-0.20, -0.24, 0.015]), np.array([0.20, 0.24, 0.22])
HOVER = 0.12  # [m] height of the fingertips' centre when travelling
LIFTED = 0.045  # [m] height of an object's centre above which it was picked up
REACHED = 0.025  # [m] distance, seen from above, within which the hand is at an object
STAYS = 3  # steps in a row that must end there, because passing by does not count
PUSHED = 0.05  # [m] displacement along the direction beyond which a push counts
GRIP_REACH = 0.03  # [m] along each axis, within which a closing hand gets hold of an object


class World:
    """One table. `reset` makes a scene from a seed; `step` moves the hand; `image` looks."""

    def __init__(self) -> None:
        """Build the model; the renderer starts at the first image.

        Raises:
            ConfigError: MuJoCo cannot be imported, or not with the OpenGL of this machine.
        """
        # Headless unless the user chose otherwise; MuJoCo reads this when it is imported.
        if 'mujoco' not in sys.modules and sys.platform == 'linux':
            os.environ.setdefault('MUJOCO_GL', 'egl')
        try:
            import mujoco
        except ModuleNotFoundError as error:
            raise ConfigError(f'{error}; install mujoco, as tools/setup_env.sh does') from error
        except Exception as error:  # PyOpenGL has an AttributeError if a library is missing
            raise _no_opengl(error) from error

        self._mujoco = mujoco
        self._model = mujoco.MjModel.from_xml_string(scene_xml())
        self._data = mujoco.MjData(self._model)
        self._renderer = None
        self._names: list[str] = []
        self.reset(0)

    @staticmethod
    def names(seed: int) -> list[str]:
        """Name the objects that `reset` puts on the table, such as 'red block'."""
        return draw_names(np.random.default_rng(seed))

    def reset(self, seed: int) -> None:
        """Put three to five objects of different looks on the table, and the hand above it."""
        rng = np.random.default_rng(seed)
        self._mujoco.mj_resetData(self._model, self._data)
        self._names = draw_names(rng)
        for index, name in enumerate(LOOKS):
            joint = self._data.joint(self._model.body(name).jntadr[0])
            joint.qpos[:3] = (1.0, 0.1 * index, -1.0)
        placed: list[np.ndarray] = []
        for name in self._names:
            spot = draw_spot(rng, placed)
            placed.append(spot)
            joint = self._data.joint(self._model.body(name).jntadr[0])
            joint.qpos[:] = (*spot, RADIUS, 1, 0, 0, 0)
        hand = rng.uniform((-0.12, -0.18, 0.10), (0.12, 0.18, 0.18))
        self._place_hand(hand, 1.0)
        self._target, self._rotation = hand, np.zeros(3)
        self._closed, self._held = False, ''
        self._grip(True)
        self._settle(10)
        self._start = {thing.name: thing.position for thing in self.things}
        self._reached: set[Goal] = set()
        self._stayed = dict.fromkeys(self._names, 0)
        self._data.time = 0.0

    def _place_hand(self, position: np.ndarray, opening: float) -> None:
        self._data.joint(self._model.body('hand').jntadr[0]).qpos[:] = (*position, 1, 0, 0, 0)
        width = SHUT + opening * (OPEN - SHUT)
        self._data.joint('left').qpos[:] = self._data.joint('right').qpos[:] = width
        self._data.mocap_pos[0] = position
        self._data.ctrl[:] = width

    def _settle(self, substeps: int) -> None:
        # Objects that are not in this scene must not fall for ever.
        for body in range(self._model.nbody):
            name = self._model.body(body).name
            if ' ' in name and name not in self._names:
                joint = self._data.joint(self._model.body(name).jntadr[0])
                joint.qpos[2], joint.qvel[:] = -1.0, 0.0
        self._mujoco.mj_step(self._model, self._data, substeps)
        self._mujoco.mj_forward(self._model, self._data)

    def step(self, action: np.ndarray) -> None:
        """Advance one control period.

        Args:
            action: [7] displacement [m], increment of roll, pitch, yaw [rad], opening 0 to 1.
                Displacements are limited to MAX_STEP, positions to the workspace.
        """
        action = np.asarray(action, float)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f'action {action.tolist()} is not seven finite numbers')
        start = self._target
        move = np.clip(action[:3], -MAX_STEP, MAX_STEP)
        self._target = np.clip(start + move, HAND_LOW, HAND_HIGH)
        self._rotation = np.clip(self._rotation + action[3:6], -np.pi, np.pi)
        self._grip(action[6] > 0.5)
        self._mujoco.mju_euler2Quat(self._data.mocap_quat[0], self._rotation, 'xyz')
        # The hand moves for most of the period, and then comes to rest.
        for part in range(1, 9):
            self._data.mocap_pos[0] = start + (self._target - start) * min(1.0, part / 6)
            self._settle(SUBSTEPS // 8)
        self.judge()

    def advance(self, position: np.ndarray, quaternion: np.ndarray, substeps: int) -> None:
        """Pull the hand towards a pose for a part of a control period; sim/arm.py knows limits.

        Args:
            position: [3] m in the base frame.
            quaternion: [4] w, x, y, z in the base frame.
            substeps: Steps of the physics, of which SUBSTEPS are one CONTROL_PERIOD.
        """
        self._data.mocap_pos[0], self._data.mocap_quat[0] = position, quaternion
        self._settle(substeps)

    def grip(self, width: float) -> None:
        """Move each finger to a distance [m] from the middle; one well below OPEN closes."""
        self._grip(width > (HOLD + OPEN) / 2)
        if not self._held:
            self._data.ctrl[:] = width

    def _grip(self, opens: bool) -> None:
        """Open, close around nothing, or close around an object within reach and hold it."""
        if opens:
            self._held = ''
        elif not self._closed:
            hand = self.hand.position
            near = [
                thing.name
                for thing in self.things
                if np.abs(thing.position - hand).max() < GRIP_REACH
            ]
            self._held = near[0] if near else ''
        self._closed = not opens
        width = OPEN if opens else HOLD if self._held else 0.0
        self._data.ctrl[:] = width
        for name in self._names:
            self._data.eq_active[self._model.equality(name).id] = name == self._held
        # An open hand touches nothing, and a holding hand nothing else. So a centimetre beside
        # the middle is near enough.
        touches = int(self._closed and not self._held)
        fist, hand = self._model.geom('fist'), self._model.body('hand')
        # MuJoCo also stores for each body whether any of its geoms can touch.
        for bits in (fist.contype, fist.conaffinity):
            bits[:] = touches
        for bits in (self._model.body_contype, self._model.body_conaffinity):
            bits[hand.id] = touches

    def judge(self) -> None:
        """Note which goals are reached; step does so by itself."""
        hand = self.hand
        for thing in self.things:
            away = thing.position - self._start[thing.name]
            near = np.linalg.norm(thing.position[:2] - hand.position[:2]) < REACHED
            self._stayed[thing.name] = self._stayed[thing.name] + 1 if near else 0
            if self._stayed[thing.name] == STAYS:
                self._reached.add(Goal('reach', thing.colour, thing.shape))
            if thing.position[2] > LIFTED:
                self._reached.add(Goal('pick', thing.colour, thing.shape))
            for direction, unit in DIRECTIONS.items():
                along = away[:2] @ unit
                across = np.linalg.norm(away[:2] - along * np.array(unit))
                if along > PUSHED and across < along / 2 and thing.position[2] < LIFTED:
                    self._reached.add(Goal('push', thing.colour, thing.shape, direction))

    def success(self, goal: Goal) -> bool:
        """Tell whether goal was reached at the end of any step since the reset."""
        return goal in self._reached

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self._data.time)

    @property
    def things(self) -> tuple[Thing, ...]:
        """The objects of this scene."""
        return tuple(
            Thing(*name.split(' '), self._data.body(name).xpos.copy()) for name in self._names
        )

    @property
    def hand(self) -> Hand:
        """The actual hand, which may lag behind its target."""
        opening = np.clip((self.finger_width - SHUT) / (OPEN - SHUT), 0, 1)
        rotation = self._data.body('hand').xmat.reshape(3, 3)
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        return Hand(self._data.body('hand').xpos.copy(), yaw, float(opening))

    @property
    def finger_width(self) -> float:
        """Distance [m] of a finger from the middle, mean of both."""
        return float(self._data.joint('left').qpos[0] + self._data.joint('right').qpos[0]) / 2

    @property
    def hand_orientation(self) -> np.ndarray:
        """[4] unit quaternion w, x, y, z of the hand in the base frame."""
        return self._data.body('hand').xquat.copy()

    @property
    def state(self) -> State:
        """Hand and objects together."""
        return State(self.hand, self.things)

    @property
    def camera_matrix(self) -> np.ndarray:
        """[3, 3] intrinsics in pixels of the image."""
        focal = IMAGE_SIZE / 2 / np.tan(np.radians(self._model.camera('camera').fovy[0]) / 2)
        centre = (IMAGE_SIZE - 1) / 2
        return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]])

    @property
    def camera_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] m, rotation [3, 3] of the optical frame (z forward) in the base frame."""
        camera = self._data.camera('camera')
        return camera.xpos.copy(), camera.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Give the pixel [..., 2] (x right, y down) of points [..., 3] in the base frame."""
        position, rotation = self.camera_pose
        seen = (np.asarray(points) - position) @ rotation @ self.camera_matrix.T
        return seen[..., :2] / seen[..., 2:]

    def image(self) -> np.ndarray:
        """Look through the camera: [IMAGE_SIZE, IMAGE_SIZE, 3] uint8 RGB.

        Raises:
            ConfigError: There is no OpenGL to render with.
        """
        if self._renderer is None:
            try:
                self._renderer = self._mujoco.Renderer(self._model, IMAGE_SIZE, IMAGE_SIZE)
            except Exception as error:
                raise _no_opengl(error) from error
        self._point_at_table()
        self._renderer.update_scene(self._data, 'camera')
        return self._renderer.render()

    def _point_at_table(self) -> None:
        """Put the spot of light on whatever is below the hand."""
        hand, height = self.hand.position, 0.0
        for thing in self.things:
            over = np.linalg.norm(thing.position[:2] - hand[:2]) < 0.8 * RADIUS
            if over and thing.position[2] < hand[2] - 0.01:
                height = max(height, thing.position[2] + RADIUS)
        self._data.mocap_pos[1] = (hand[0], hand[1], height + 0.001)
        self._mujoco.mj_forward(self._model, self._data)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _no_opengl(error: Exception) -> ConfigError:
    return ConfigError(
        f'MuJoCo cannot render with MUJOCO_GL={os.environ.get("MUJOCO_GL")!r} ({error!r}); '
        'install libegl1, libopengl0 and libgl1-mesa-dri, or set MUJOCO_GL=osmesa'
    )
