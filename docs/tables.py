"""The tables of README.md and docs/*.md that say what the code says.

    python docs/tables.py          write them
    python docs/tables.py --check  print what differs, and exit with 1 if a page is stale

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. Nodes and messages are
imported, so this needs a sourced workspace.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Iterable
import difflib
from pathlib import Path
import re
import sys

from layout import code, markdown
from measured import (
    camera_table,
    drafting_table,
    kernels_table,
    overlay_cost_table,
    robot_loop_table,
    time_model_table,
    token_table,
)
from reliability_tables import (
    cycles_table,
    details_table,
    faults_table,
    soak_counts,
    soak_table,
)
from robot_tables import meanings_table, presets_table, rules_table

from trt_openvla_ros.bags.lerobot.settings import DataSetSettings
from trt_openvla_ros.bags.settings import RecordingSettings
from trt_openvla_ros.evaluation.bag.settings import BagComparison
from trt_openvla_ros.nodes.monitor.parameters import MonitorParameters
from trt_openvla_ros.nodes.monitor.topics import MONITOR_TOPICS
from trt_openvla_ros.nodes.overlay.parameters import OverlayParameters
from trt_openvla_ros.nodes.overlay.topics import OVERLAY_TOPICS
from trt_openvla_ros.nodes.parameters import PolicyParameters, SimParameters
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.nodes.robot.topics import ROBOT_SERVICES, ROBOT_TOPICS
from trt_openvla_ros.nodes.sim_controllers.cartesian import CartesianMotion, Crisp
from trt_openvla_ros.nodes.sim_controllers.gripper import Gripper
from trt_openvla_ros.nodes.sim_controllers.servo import Servo
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.nodes.task.topics import TASK_ACTIONS, TASK_TOPICS
from trt_openvla_ros.nodes.topics import POLICY_TOPICS, SIM_SERVICES, SIM_TOPICS
from trt_openvla_ros.pipeline.configuration import Config
from trt_openvla_ros.policy.loading import ModelSettings
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.serving.settings import ServerSettings
from trt_openvla_ros.settings import list_settings, Setting

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
_BLOCK = re.compile(r'(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)', re.DOTALL)
_KINDS = {bool: 'bool', int: 'int', float: 'double', str: 'string', tuple: 'string[]'}
# What the README shows of the policy node's parameters: those that differ from robot to robot.
_COMMON = (
    'checkpoint',
    'unnorm_key',
    'engine',
    'device',
    'weights',
    'image_transport',
    'action_frame',
    'max_image_age',
    'max_translation',
    'max_rotation',
    'gripper_closed',
    'gripper_open',
)


def settings_table(settings: dict[str, Setting], run_time: bool = False) -> list[str]:
    """List settings, with a column that says which may change at run time if asked for."""
    rows = []
    for name, setting in settings.items():
        kind = 'double[]' if setting.is_vector else _KINDS[type(setting.default)]
        cells = [code(name), kind, default_of(setting), limits(setting)]
        changes = ['yes' if setting.run_time else ''] if run_time else []
        rows.append([*cells, *changes, setting.description])
    column = 'at run time, ' if run_time else ''
    return markdown(f'parameter, type, default, range, {column}meaning', rows)


def common_table() -> list[str]:
    """List the few parameters of the policy node that people set."""
    settings = list_settings(PolicyParameters)
    rows = [(name, settings[name]) for name in _COMMON]
    return markdown(
        'parameter, default, meaning', [(code(n), default_of(s), s.description) for n, s in rows]
    )


def pipeline_tables() -> list[str]:
    """List the settings of the pipeline: first its own, then a table for each section."""
    settings = list_settings(Config)
    sections = dict.fromkeys(name.rpartition('.')[0] for name in settings)
    lines: list[str] = []
    for section in sections:
        inside = {n: s for n, s in settings.items() if n.rpartition('.')[0] == section}
        title = f'### Settings of {code(section)}' if section else '### Settings of all stages'
        lines += ['', title, '', *settings_table(inside)]
    return [*lines[1:], '']


def topics_table(topics: Iterable) -> list[str]:
    """List topics."""
    rows = [(code(t.name), interface(t.type), t.direction, t.meaning) for t in topics]
    return markdown('topic, type, direction, meaning', rows)


def services_table(services: Iterable, heading: str = 'service') -> list[str]:
    """List services, or actions."""
    rows = [(code(s.name), interface(s.type), s.meaning) for s in services]
    return markdown(f'{heading}, type, meaning', rows)


def controllers_table() -> list[str]:
    """List the parameters of the controllers in front of the simulated arm."""
    rows = [
        (code(kind.NAME), code(name), code(str(option.default).lower()), option.meaning)
        for kind in (Servo, CartesianMotion, Crisp, Gripper)
        for name, option in kind.OPTIONS.items()
    ]
    return markdown('node, parameter, default, meaning', rows)


def launch_table(file: str) -> list[str]:
    """List the arguments of a launch file, which is not imported: launch has no wheels."""
    tree = ast.parse((ROOT / 'launch' / file).read_text(encoding='utf-8'))
    assigned = {
        node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)
    }
    rows = []
    for entry in assigned['ARGUMENTS'].elts:
        name, default, text = entry.elts
        if isinstance(default, ast.Name):  # a path in share/
            parts = ast.walk(assigned[default.id])
            value = '/'.join(part.value for part in parts if _is_folder(part))
        else:
            value = default.value
        rows.append((code(name.value), code(value), text.value))
    return markdown('argument, default, meaning', rows)


def _is_folder(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value != 'trt_openvla_ros'


def default_of(setting: Setting) -> str:
    """Write a default as YAML has it."""
    default = setting.default
    if setting.is_vector:
        return code(str(list(default)))
    if isinstance(default, tuple):
        return ', '.join(map(code, default))
    return code(str(default).lower() if isinstance(default, bool) else str(default))


def limits(setting: Setting) -> str:
    """Write the range of numbers or the choices of a text."""
    if setting.low is not None:
        return f'{setting.low:,.15g} to {setting.high:,.15g}'
    return ', '.join(code(choice) for choice in setting.choices if choice)


def interface(message: type) -> str:
    """Name a message or service as ROS does."""
    package, kind = message.__module__.split('.')[:2]
    return f'{package}/{kind}/{message.__name__}'


TABLES: dict[str, Callable[[], list[str]]] = {
    'common parameters': common_table,
    'policy parameters': lambda: settings_table(list_settings(PolicyParameters), run_time=True),
    'simulation parameters': lambda: settings_table(list_settings(SimParameters), run_time=True),
    'drafting parameters': lambda: settings_table(
        {name: list_settings(ModelSettings)[name] for name in ('draft_tokens', 'keep_reasoning')}
    ),
    'drafting': drafting_table,
    'steps of the camera': camera_table,
    'policy topics': lambda: topics_table(POLICY_TOPICS),
    'simulation topics': lambda: topics_table(SIM_TOPICS),
    'overlay parameters': lambda: settings_table(list_settings(OverlayParameters)),
    'overlay topics': lambda: topics_table(OVERLAY_TOPICS),
    'cost of the overlay': overlay_cost_table,
    'monitor parameters': lambda: settings_table(list_settings(MonitorParameters)),
    'monitor topics': lambda: topics_table(MONITOR_TOPICS),
    'simulation services': lambda: services_table(SIM_SERVICES),
    'robot parameters': lambda: settings_table(
        {
            name: one
            for name, one in list_settings(RobotParameters).items()
            if name not in list_settings(BridgeSettings)
        }
    ),
    'robot topics': lambda: topics_table(ROBOT_TOPICS),
    'robot services': lambda: services_table(ROBOT_SERVICES),
    'robot launch arguments': lambda: launch_table('robot.launch.py'),
    'presets': presets_table,
    'gate rules': rules_table,
    'simulated controllers': controllers_table,
    'robot loop': robot_loop_table,
    'task parameters': lambda: settings_table(list_settings(TaskParameters), run_time=True),
    'task topics': lambda: topics_table(TASK_TOPICS),
    'task actions': lambda: services_table(TASK_ACTIONS, 'action'),
    'bridge parameters': lambda: settings_table(list_settings(BridgeSettings)),
    'action meanings': meanings_table,
    'fields of a meaning': lambda: settings_table(list_settings(Meaning)),
    'kernels': kernels_table,
    'kernels of a token': token_table,
    'model of the time': time_model_table,
    'faults with servo_twist': lambda: faults_table('servo_twist'),
    'faults with cartesian_pose': lambda: faults_table('cartesian_pose'),
    'details of faults': details_table,
    'life cycles': cycles_table,
    'soak': soak_counts,
    'memory of the soak': soak_table,
    'policy launch arguments': lambda: launch_table('policy.launch.py'),
    'demo launch arguments': lambda: launch_table('demo.launch.py'),
    'server settings': lambda: settings_table(list_settings(ServerSettings)),
    'pipeline settings': pipeline_tables,
    'recording settings': lambda: settings_table(list_settings(RecordingSettings)),
    'evaluate_bag settings': lambda: settings_table(list_settings(BagComparison)),
    'bag_to_lerobot settings': lambda: settings_table(list_settings(DataSetSettings)),
}


def fill(text: str) -> str:
    """Give a page with its tables as the code has them.

    Raises:
        SystemExit: A table is unknown or does not end.
    """
    begun = re.findall(r'<!-- table: (.+?) -->', text)
    if [match[1] for match in _BLOCK.findall(text)] != begun or not set(begun) <= set(TABLES):
        sys.exit(f'a table is unknown or does not end; in this order: {", ".join(begun)}')

    def fresh(match: re.Match) -> str:
        return match[1] + ''.join(f'{line}\n' for line in TABLES[match[2]]()) + match[3]

    return _BLOCK.sub(fresh, text)


def main() -> None:
    """Write the tables, or compare."""
    parser = argparse.ArgumentParser(description='Write the tables of the pages from the code.')
    parser.add_argument('--check', action='store_true', help='compare, and write nothing')
    check = parser.parse_args().check
    stale = False
    for page in PAGES:
        name, before = str(page.relative_to(ROOT)), page.read_text(encoding='utf-8')
        after = fill(before)
        if before == after:
            continue
        stale = True
        if check:
            lines = before.splitlines(), after.splitlines()
            print(f'{name} is stale; run `make docs`')
            print(*difflib.unified_diff(*lines, name, 'code', n=0, lineterm=''), sep='\n')
        else:
            page.write_text(after, encoding='utf-8')
            print(f'wrote {name}')
    sys.exit(1 if check and stale else 0)


if __name__ == '__main__':
    main()
