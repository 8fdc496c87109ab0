"""What robot.launch.py starts, without launch: the screen that it prints, and its nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.robot.plan import plan
from trt_openvla_ros.nodes.robot.presets import Preset, read_preset
from trt_openvla_ros.robot.meaning import find_meaning, Meaning, read_meanings


@dataclass(frozen=True)
class Started:
    """A node to start.

    Attributes:
        executable, name: Executable of the package, and name of the node.
        params_file: File with its parameters.
        parameters: Those that win over the file.
    """

    executable: str
    name: str
    params_file: str
    parameters: Mapping[str, object] = field(default_factory=dict)


def nodes_of(
    name: str,
    params_file: str = '',
    overrides: Mapping[str, Mapping[str, str]] | None = None,
    namespace: str = '',
    beside: Collection[str] = (),
) -> tuple[str, list[Started]]:
    """Give the screen and the nodes of a preset or of a file.

    Args:
        name: Name of a preset, unless params_file is given.
        params_file: Path of a file.
        overrides: Texts of parameters that win over the file, by node and name.
        namespace: Namespace of the nodes.
        beside: Nodes to start beside policy and robot: task, overlay.

    Raises:
        ConfigError: The preset cannot be used, or has no checkpoint.
    """
    preset = read_preset(name, params_file, overrides)
    if not preset.policy.checkpoint and preset.policy.engine != 'remote':
        raise ConfigError(
            f'{preset.name} has no checkpoint of its own; give checkpoint:= a directory or Hub id'
        )
    given = {
        node: {key for key, text in texts.items() if text}
        for node, texts in (overrides or {}).items()
    }
    path = str(preset.path)

    def started(executable: str, node: str, parameters: object) -> Started:
        changed = {key: getattr(parameters, key) for key in sorted(given.get(node, ()))}
        return Started(executable, node, path, changed)

    nodes = [
        started('policy_node', 'policy', preset.policy),
        started('robot_node', 'robot', preset.robot),
    ]
    # Its path may be that of the package, which the node does not look in.
    nodes[0].parameters['checkpoint'] = preset.policy.checkpoint
    if preset.sim is not None:
        nodes.insert(0, started('sim_node', 'sim', preset.sim))
    if 'task' in beside:
        nodes.append(started('task_node', 'task', preset.task))
    if 'overlay' in beside:
        nodes.append(started('overlay_node', 'overlay', preset.overlay))
    return plan(preset, meaning_of(preset), namespace, beside), nodes


def meaning_of(preset: Preset) -> Meaning | None:
    """Look up what the numbers of a preset's data set are; None if it names no data set."""
    if not preset.policy.unnorm_key:
        return None
    return find_meaning(read_meanings(preset.policy.action_meanings), preset.policy.unnorm_key)
