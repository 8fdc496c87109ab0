"""The tables about robots: meanings of actions, presets, and rules of the gate."""

from __future__ import annotations

from pathlib import Path

from layout import code, markdown

from trt_openvla_ros.nodes.robot.launching import meaning_of
from trt_openvla_ros.nodes.robot.presets import read_preset
from trt_openvla_ros.robot.meaning import Meaning, read_meanings
from trt_openvla_ros.safety.rules import RULES

_ROBOTS = Path(__file__).resolve().parents[1] / 'config' / 'robots'


def meanings_table() -> list[str]:
    """List what the numbers of each known data set are; rows that say the same are one."""
    keys: dict[Meaning, list[str]] = {}
    for key, meaning in read_meanings().items():
        keys.setdefault(meaning, []).append(code(key))
    rows = [
        (
            ', '.join(names),
            f'{m.translation_unit:g}' if m.translation_unit else 'unknown',
            f'{m.rotation_unit:g}' if m.rotation_unit else 'unknown',
            *(m.rotation, m.reference, m.frame, m.gripper),
            f'{m.control_rate:g}' if m.control_rate else 'unknown',
            m.source,
        )
        for m, names in keys.items()
    ]
    columns = 'unnorm_key, unit [m], unit [rad], rotation, reference, frame, gripper, rate [Hz]'
    return markdown(f'{columns}, source', rows)


def presets_table() -> list[str]:
    """List the presets with what differs between them."""
    rows = []
    for path in sorted(_ROBOTS.glob('*.yaml')):
        preset = read_preset(params_file=str(path))
        robot, meaning = preset.robot, meaning_of(preset)
        rate = robot.control_rate or (meaning.control_rate if meaning else 0.0)
        known = f'{code(preset.policy.unnorm_key)}, {rate:g} Hz' if meaning else 'your own'
        size = (
            f'{robot.max_speed:g} m/s, {robot.max_angular_speed:g} rad/s',
            ' x '.join(f'{robot.workspace[i + 3] - robot.workspace[i]:.2f}' for i in range(3)),
        )
        rows.append(
            (
                f'[{path.stem}](../config/robots/{path.name})',
                known,
                code(robot.controller),
                code(robot.gripper),
                'TF' if robot.pose_source == 'tf' else code(robot.pose_topic),
                *size,
            )
        )
    return markdown('preset, data set, controller, gripper, pose, speeds, workspace [m]', rows)


def rules_table() -> list[str]:
    """List the rules of the motion gate, in the order in which they are asked."""
    rows = []
    for rule in RULES:
        limits = ', '.join(map(code, rule.limits))
        asked = 'at every tick' if rule.watches else 'of each action'
        rows.append((code(rule.name), rule.judges, rule.unit, limits, asked, rule.verdict.name))
    return markdown('rule, what it judges, unit, limits, asked, worst verdict', rows)
