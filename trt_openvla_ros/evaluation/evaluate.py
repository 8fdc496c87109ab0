"""Measure how often the small checkpoints follow an instruction, over the ROS topics.

Each policy gets the same scenes, from seeds that training never saw; the kind of goal alternates.
Then it gets, in each scene, the instruction to move to another object.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import sys
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.report import write_json
from trt_openvla_ros.evaluation.scenes import tasks
from trt_openvla_ros.nodes.closed_loop import closed_loop, ClosedLoop, Episode
from trt_openvla_ros.nodes.random_actor import RandomActor
from trt_openvla_ros.policy.reasoning import parse_fields, TAGS
from trt_openvla_ros.sim.goals import Goal, KINDS, parse, phrase
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.reasoning_text import agrees

POLICIES = ('tiny_openvla', 'tiny_ecot', 'random')


@contextmanager
def loop_of(policy: str) -> Iterator[ClosedLoop]:
    """Start the simulation with one of POLICIES."""
    if policy != 'random':
        with closed_loop(shipped_model(policy)) as loop:
            yield loop
        return
    checkpoint = Checkpoint.open(shipped_model('tiny_openvla'))
    _, statistics = checkpoint.find_statistics('tabletop_sim')
    with closed_loop(None) as loop:
        RandomActor(loop.node, statistics)
        yield loop


def swaps(asked: list[tuple[int, str]]) -> list[tuple[int, Goal]]:
    """Draw, for each scene, an object to move to that is not the one asked for."""
    world, drawn = World(), []
    for seed, text in asked:
        world.reset(seed)
        others = [thing for thing in world.things if thing.name != parse(text).name]
        thing = others[np.random.default_rng([seed, 2]).integers(len(others))]
        drawn.append((seed, Goal('reach', thing.colour, thing.shape)))
    return drawn


def went_to(episode: Episode, world: World) -> str:
    """Name the object nearest to the hand at the end; world is reset to the episode's scene."""
    world.reset(episode.seed)
    return min(
        world.things, key=lambda thing: np.linalg.norm(thing.position[:2] - episode.end[:2])
    ).name


def reasoning_facts(episodes: list[Episode]) -> dict[str, Any]:
    """Give the shares of steps whose reasoning parses, names the object, and fits the action."""
    counts = {'parses': 0, 'names_the_object': 0, 'move_agrees': 0}
    steps = 0
    for episode in episodes:
        name = parse(episode.instruction).name
        for step in episode.steps:
            steps += 1
            fields = parse_fields(step.action.reasoning)
            counts['parses'] += set(TAGS) <= set(fields)
            counts['names_the_object'] += f'the {name}' in fields.get('TASK', '')
            counts['move_agrees'] += agrees(fields.get('MOVE', ''), np.array(step.action.action))
    return {'steps': steps, **{key: round(value / steps, 4) for key, value in counts.items()}}


def measure(policy: str, episodes: int) -> dict[str, Any]:
    """Run the episodes of one of POLICIES, and compute its rates of success."""
    with loop_of(policy) as loop:
        asked = tasks(episodes)
        done = [loop.episode(seed, text) for seed, text in tqdm(asked, desc=policy)]
        bar = tqdm(swaps(asked), desc=f'{policy}, another object')
        rng = np.random.default_rng(0)
        told = [(goal, loop.episode(seed, phrase(goal, rng))) for seed, goal in bar]
    world = World()
    kinds = {kind: [e for e in done if e.kind == kind] for kind in KINDS}
    result = {
        'success': _rate([e.reached for e in done]),
        'kinds': {kind: _rate([e.reached for e in some]) for kind, some in kinds.items()},
        'went_to_named': _rate([went_to(e, world) == goal.name for goal, e in told]),
        'steps': sum(e.actions for e in done) / len(done),
        'episodes': [
            {
                'seed': e.seed,
                'instruction': e.instruction,
                'reached': e.reached,
                'actions': e.actions,
            }
            for e in done
        ],
    }
    if any(step.action.reasoning for e in done for step in e.steps):
        result['reasoning'] = reasoning_facts(done)
    return result


def _rate(outcomes: list[bool]) -> dict[str, float]:
    return {'rate': round(float(np.mean(outcomes)), 4) if outcomes else 0.0, 'of': len(outcomes)}


def print_table(results: dict[str, dict]) -> None:
    """Print success in percent."""
    columns = ('all', *KINDS, 'went to named')
    print(f'\n{"success [%]":14}' + ''.join(f'{name:>15}' for name in columns))
    for policy, result in results.items():
        values = [result['success'], *result['kinds'].values(), result['went_to_named']]
        print(f'{policy:14}' + ''.join(f'{100 * value["rate"]:15.1f}' for value in values))
        if 'reasoning' in result:
            print('  reasoning: ' + ', '.join(f'{k} {v}' for k, v in result['reasoning'].items()))


def plot(results: dict[str, dict], path: Path) -> None:
    """Draw the rates as bars with 95 % Wilson intervals."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    labels = ('all', *KINDS, 'goes to the\nnamed object')
    figure, axes = pyplot.subplots(figsize=(7.5, 3.4), layout='constrained')
    width = 0.8 / len(results)
    for index, (policy, result) in enumerate(results.items()):
        values = [result['success'], *result['kinds'].values(), result['went_to_named']]
        rates = np.array([value['rate'] for value in values])
        counts = np.array([max(1, value['of']) for value in values])
        low, high = wilson(rates, counts)
        places = np.arange(len(labels)) + (index - (len(results) - 1) / 2) * width
        errors = 100 * np.array([rates - low, high - rates])
        axes.bar(places, 100 * rates, width, yerr=errors, capsize=2, label=policy)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel('episodes that succeeded [%]')
    axes.set_ylim(0, 105)
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)


def wilson(rates: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the 95 % confidence interval of rates [n] in [0, 1], each from counts [n] trials."""
    z = 1.96
    centre = rates + z**2 / (2 * counts)
    spread = z * np.sqrt(rates * (1 - rates) / counts + z**2 / (4 * counts**2))
    scale = 1 + z**2 / counts
    return np.clip((centre - spread) / scale, 0, rates), np.clip(
        (centre + spread) / scale, rates, 1
    )


def main() -> None:
    """Evaluate every policy; write evaluate.json and evaluate.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--episodes', type=int, default=100, help='number of scenes for each policy'
    )
    parser.add_argument(
        '--out', type=Path, default='build', help='directory for evaluate.json and evaluate.png'
    )
    args = parser.parse_args()
    if args.episodes < 1:
        parser.error(f'--episodes {args.episodes}: at least 1 is needed')
    try:
        results = {policy: measure(policy, args.episodes) for policy in POLICIES}
    except (PolicyError, RuntimeError, TimeoutError) as error:
        sys.exit(str(error))
    write_json(args.out / 'evaluate.json', {'policies': results}, ('numpy', 'torch', 'mujoco'))
    plot(results, args.out / 'evaluate.png')
    print_table(results)
    print(f'wrote {args.out}/evaluate.json and evaluate.png')
    print(json.dumps({policy: result['success']['rate'] for policy, result in results.items()}))
