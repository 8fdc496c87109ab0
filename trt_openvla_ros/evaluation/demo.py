"""Give the simulated robot instructions, watch it, and draw each step.

The simulation and the policy node run as processes of their own, as on a robot; this program only
asks and watches.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

import numpy as np
from PIL import Image

from trt_openvla_ros.drawing.content import Box, Content
from trt_openvla_ros.drawing.content import Step as Shown
from trt_openvla_ros.drawing.overlay import draw as draw_overlay
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.nodes.closed_loop import closed_loop, Episode, ROBOTS, Step
from trt_openvla_ros.policy.pointing import boxes_of, points_of
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.sim.goals import parse
from trt_openvla_ros.sim.world import World

# Scenes and instructions in which tiny_openvla succeeds, one of each kind; `make evaluate`
# measures how often it does.
EPISODES = [
    (1_000_009, 'reach the green sphere'),
    (1_000_010, 'push the blue can forward'),
    (1_000_017, 'pick up the blue cube'),
]
_HEIGHT = 480  # [px] least height of the picture
_ARROW = 2.0  # length of the arrow in displacements; more than 1 makes small ones visible


def draw(step: Step, episode: Episode, world: World, title: str) -> Image.Image:
    """Draw the camera's view with boxes and the action's arrow, and the reasoning beside it."""
    action = np.array(step.action.action)
    fields = parse_fields(step.action.reasoning)
    side = step.image.shape[1]
    content = Content(
        instruction=episode.instruction,
        reasoning={'STEP': title, **fields},
        boxes=[Box(name, side * corners - 0.5) for name, corners in boxes_of(fields)],
        points=side * points_of(fields) - 0.5,
        arrow=world.project(np.stack([step.hand, step.hand + _ARROW * action[:3]])),
        step=Shown(
            action,
            np.array(step.action.normalised_action),
            translation_unit=1.0,
            rotation_unit=1.0,
            gripper='open',
            sequence=step.action.sequence,
        ),
    )
    return Image.fromarray(draw_overlay(step.image, content, min_height=_HEIGHT))


def main() -> None:
    """Run the episodes; exit with 1 unless every one succeeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', type=Path, help='the default is tiny_openvla')
    parser.add_argument(
        '--instruction',
        help="an instruction of your own, such as 'push the red ball left'; --seed chooses the "
        'scene',
    )
    parser.add_argument('--seed', type=int, default=EPISODES[0][0])
    parser.add_argument(
        '--robot',
        choices=tuple(ROBOTS),
        default='direct',
        help='way to the hand: direct, or through robot_node and a controller, in real time',
    )
    parser.add_argument('--out', type=Path, default=Path('demo.gif'))
    args = parser.parse_args()
    wishes = [(args.seed, args.instruction)] if args.instruction else EPISODES
    try:
        for _, instruction in wishes:
            parse(instruction)
        checkpoint = args.checkpoint or shipped_model('tiny_openvla')
        with closed_loop(checkpoint, args.robot) as loop:
            episodes = []
            for seed, instruction in wishes:
                print(f'scene {seed}: {instruction} ... ', end='', flush=True)
                episode = loop.episode(seed, instruction)
                print(
                    'reached' if episode.reached else 'not reached', f'({episode.actions} steps)'
                )
                episodes.append(episode)
    except (PolicyError, RuntimeError, TimeoutError) as error:
        sys.exit(str(error))
    world = World()
    frames, durations = [], []
    for episode in episodes:
        for number, step in enumerate(episode.steps, 1):
            title = f'{checkpoint.name}, step {number} of {episode.actions}'
            frames.append(draw(step, episode, world, title))
            durations.append(700)
        durations[-1] = 1800
    frames[0].save(args.out, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    print(f'\n{"instruction":34}{"kind":8}{"steps":>6}{"s/step":>9}  reached')
    for episode in episodes:
        seconds = np.median([step.action.inference_time for step in episode.steps])
        print(
            f'{episode.instruction:34}{episode.kind:8}{episode.actions:6}{seconds:9.2f}  ', end=''
        )
        print('yes' if episode.reached else 'no')
    print(f'wrote {args.out}')
    if not all(episode.reached for episode in episodes):
        sys.exit(1)
