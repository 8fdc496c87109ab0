"""Presets: one YAML file for a robot, with the parameters of every node that it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.nodes.overlay.parameters import OverlayParameters
from trt_openvla_ros.nodes.parameters import PolicyParameters, SimParameters
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.text_files import read_yaml

_PACKAGE = 'trt_openvla_ros'
_OF_ROS = ('use_sim_time', 'qos_overrides', 'start_type_description_service')  # in every node


@dataclass(frozen=True)
class Preset:
    """What a file says of every node, and of the simulation if it starts that too.

    Attributes:
        name: Name of the preset, or of the file.
        path: The file.
        policy, robot, task, overlay, sim: Parameters; those that the file leaves out are at their
            defaults. sim is None if the file says nothing of the simulation.
    """

    name: str
    path: Path
    policy: PolicyParameters
    robot: RobotParameters
    task: TaskParameters
    overlay: OverlayParameters
    sim: SimParameters | None = None


def folder() -> Path:
    """Give the directory of the presets."""
    return Path(get_package_share_directory(_PACKAGE)) / 'config' / 'robots'


def read_preset(
    name: str = '', params_file: str = '', overrides: Mapping[str, Mapping[str, str]] | None = None
) -> Preset:
    """Read a preset by its name, or a file of your own.

    Args:
        name: Name of a preset, such as 'ur'; unless params_file is given.
        params_file: Path of a file.
        overrides: Texts of parameters that win over the file, by node and name; an empty text
            overrides nothing.

    Raises:
        ConfigError: There is no such preset, or a value in it is impossible; the message has the
            presets that there are, or file, name and value.
    """
    if params_file:
        path = Path(params_file).expanduser()
    else:
        path = folder() / f'{name}.yaml'
        if not path.is_file():
            known = ', '.join(sorted(other.stem for other in folder().glob('*.yaml')))
            raise ConfigError(
                f'preset {name!r} is not known; choose one of {known}, or give your own file with '
                'params_file:='
            )
    nodes = _nodes(path)

    def read(cls: type, node: str) -> object:
        given = {k: v for k, v in ((overrides or {}).get(node) or {}).items() if v}
        words = ['--params-file', str(path)] if node in nodes or '**' in nodes else []
        words += [word for key, text in given.items() for word in (f'--{key}', text)]
        return read_settings(cls, words, node, ignored=_OF_ROS)

    policy, robot = read(PolicyParameters, 'policy'), read(RobotParameters, 'robot')
    robot.check()
    task, overlay = read(TaskParameters, 'task'), read(OverlayParameters, 'overlay')
    sim = read(SimParameters, 'sim') if 'sim' in nodes else None
    policy = replace(policy, checkpoint=_find(policy.checkpoint))
    return Preset(path.stem, path, policy, robot, task, overlay, sim)


def _nodes(path: Path) -> set[str]:
    """Name the nodes that a file has parameters for; '**' for all."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} has no parameters; those of a node stand below '/**/robot:'")
    return {str(key).rpartition('/')[2] for key in content}


def _find(checkpoint: str) -> str:
    """Give the path of a checkpoint that comes with the package; another name stays as it is."""
    within = Path(get_package_share_directory(_PACKAGE)) / checkpoint
    if checkpoint.startswith('models/') and not Path(checkpoint).exists() and within.is_dir():
        return str(within)
    return checkpoint
