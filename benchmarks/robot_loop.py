"""Measure what robot_node and a controller cost in success: equal scenes by each way to the hand.

`direct` is what `make evaluate` does: the simulation takes the actions, in lock-step. The other
ways go through robot_node with config/robots/sim.yaml and a simulated controller, in real time at
5 Hz. Each scene may take the same number of steps by each way. Every scene that is done is a line
of a file, and a second run goes on where the first one ended.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
import hashlib
import json
from pathlib import Path
import sys
from typing import Any

from ament_index_python.packages import get_package_share_directory
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from tqdm import tqdm

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.evaluation.scenes import tasks
from trt_openvla_ros.msg import GateReport, GateRule
from trt_openvla_ros.nodes.closed_loop import closed_loop, ClosedLoop
from trt_openvla_ros.sim.goals import KINDS, parse

# What the ways are called in docs and results, and in closed_loop.
WAYS = {'direct': 'direct', 'servo_twist': 'servo', 'cartesian_pose': 'cartesian'}
PRESET = Path('config') / 'robots' / 'sim.yaml'
_LATE = 0.2  # [s] age of an image at its action beyond which the machine was busy: one period


class Gate:
    """What the gate says in one scene: how often each rule did more than pass.

    Attributes:
        rules: Number of actions with a clip, hold or stop, by rule.
    """

    def __init__(self, loop: ClosedLoop) -> None:
        """Subscribe."""
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        loop.node.create_subscription(GateReport, 'robot/gate', self._on_report, latched)
        self.rules: Counter[str] = Counter()
        self._last = 0

    def _on_report(self, report: GateReport) -> None:
        if report.sequence == self._last:
            return
        self._last = report.sequence
        self.rules.update(rule.rule for rule in report.rules if rule.verdict != GateRule.PASS)


def measure(way: str, scenes: list[tuple[int, str]], changes: list[str]) -> Iterator[dict]:
    """Attempt scenes one after another."""
    with closed_loop(shipped_model('tiny_openvla'), WAYS[way], changes) as loop:
        gate = Gate(loop)
        for seed, instruction in tqdm(scenes, way, unit='scene'):
            gate.rules.clear()
            episode = loop.episode(seed, instruction)
            ages = [step.action.image_age for step in episode.steps]
            yield {
                'way': way,
                'seed': seed,
                'instruction': instruction,
                'reached': episode.reached,
                'steps': episode.actions,
                'late': sum(age > _LATE for age in ages),
                'age_p50': round(float(np.median(ages)), 4) if ages else None,
                'gate': dict(gate.rules),
            }


def summarise(lines: list[dict], way: str, scenes: list[tuple[int, str]]) -> dict[str, Any]:
    """Add up the scenes of a way, beside the direct one."""
    of = {name: {line['seed']: line for line in lines if line['way'] == name} for name in WAYS}
    found, direct = ([of[name][seed] for seed, _ in scenes] for name in (way, 'direct'))
    steps = [line['steps'] for line in found if line['reached']]
    pairs = Counter((a['reached'], b['reached']) for a, b in zip(direct, found, strict=True))
    rules = sum((Counter(line['gate']) for line in found), Counter())
    return {
        'success': rate(found),
        'of': len(found),
        'kinds': {
            kind: rate([line for line in found if parse(line['instruction']).kind == kind])
            for kind in KINDS
        },
        'only_direct': pairs[True, False],
        'only_this': pairs[False, True],
        'steps_of_success': round(float(np.mean(steps)), 2) if steps else None,
        'image_age_p50_s': round(float(np.median([line['age_p50'] for line in found])), 4),
        'late_steps': sum(line['late'] for line in found),
        'all_steps': sum(line['steps'] for line in found),
        'gate': dict(rules.most_common()),
    }


def rate(lines: list[dict]) -> float:
    """Give the share of scenes in which the goal was reached."""
    return round(float(np.mean([line['reached'] for line in lines])), 4) if lines else 0.0


def main() -> None:
    """Measure every way, print the rates, and write them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=60)
    parser.add_argument('--ways', nargs='+', choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument('--lines', type=Path, default=Path('build/robot_loop.jsonl'))
    parser.add_argument('--set', nargs='*', default=[], help='name:=value for robot_node')
    parser.add_argument('--json', type=Path, help='file for the result')
    args = parser.parse_args()
    share = Path(get_package_share_directory('trt_openvla_ros'))
    # Lines of another preset, or of other settings, are of another measurement.
    settings = (share / PRESET).read_bytes() + ' '.join(args.set).encode()
    key = hashlib.sha256(settings).hexdigest()[:12]
    args.lines.parent.mkdir(parents=True, exist_ok=True)
    scenes, lines = tasks(args.scenes), []
    ways = [way for way in WAYS if way in ('direct', *args.ways)]  # the others are beside it
    if args.lines.exists():
        lines = [json.loads(text) for text in args.lines.read_text().splitlines()]
        lines = [line for line in lines if line['key'] == key or line['way'] == 'direct']
    try:
        for way in ways:
            done = {line['seed'] for line in lines if line['way'] == way}
            rest = [scene for scene in scenes if scene[0] not in done]
            for line in measure(way, rest, args.set) if rest else ():
                lines.append({**line, 'key': key})
                with args.lines.open('a') as file:
                    file.write(json.dumps(lines[-1]) + '\n')
    except (PolicyError, RuntimeError, TimeoutError) as error:
        sys.exit(f'{error}; run the command again to go on')
    details = {way: summarise(lines, way, scenes) for way in ways}
    for way, result in details.items():
        print(f'{way:16}{100 * result["success"]:6.1f} %  {json.dumps(result)}')
    if args.json:
        rates = {way: result['success'] for way, result in details.items()}
        facts = {**rates, 'scenes': args.scenes, 'changes': args.set, 'details': details}
        write_json(args.json, facts, ('numpy', 'torch', 'mujoco', 'scipy'))
        print(f'wrote {args.json}')


if __name__ == '__main__':
    main()
