"""Give the simulated robot instructions, watch it, and draw each step.

The simulation and the policy node run as processes of their own, as on a robot; this program only
asks and watches.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import re
import sys
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.nodes.closed_loop import closed_loop, Episode, Step
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.sim.goals import COLOURS, parse
from trt_openvla_ros.sim.world import World

# Scenes and instructions in which tiny_openvla succeeds, one of each kind; `make evaluate`
# measures how often it does.
EPISODES = [
    (1_000_009, 'reach the green sphere'),
    (1_000_010, 'push the blue can forward'),
    (1_000_017, 'pick up the blue cube'),
]
_VIEW = 448  # [px] side of the camera's view in the picture
_TEXT = 420  # [px] width of the text beside the view
_ARROW = 2.0  # length of the arrow in displacements; more than 1 makes small ones visible
_SHOWN = ('PLAN', 'SUBTASK REASONING', 'SUBTASK', 'MOVE REASONING', 'MOVE')


def draw(step: Step, episode: Episode, world: World, title: str) -> Image.Image:
    """Draw the camera's view with boxes and the action's arrow, and the reasoning beside it."""
    action = np.array(step.action.action)
    fields = parse_fields(step.action.reasoning)
    picture = Image.new('RGB', (_VIEW + _TEXT, _VIEW), 'white')
    scale = _VIEW / step.image.shape[1]
    picture.paste(Image.fromarray(step.image).resize((_VIEW, _VIEW), Image.Resampling.BICUBIC))
    pen = ImageDraw.Draw(picture)
    name = parse(episode.instruction).name
    for thing, box in re.findall(r'(\w+ \w+) \[([\d, ]+)\]', fields.get('VISIBLE OBJECTS', '')):
        corners = [scale * float(number) for number in box.split(',')]
        if len(corners) == 4 and corners[0] <= corners[2] and corners[1] <= corners[3]:
            colour = tuple(int(255 * part) for part in COLOURS.get(thing.split()[0], (0, 0, 0)))
            pen.rectangle(corners, outline=colour, width=4 if thing == name else 1)
    start, end = scale * world.project(np.stack([step.hand, step.hand + _ARROW * action[:3]]))
    _arrow(pen, start, end)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    at = 14
    for text in textwrap.wrap(f'“{episode.instruction}”', 36):
        pen.text((_VIEW + 16, at), text, 'black', large)
        at += 26
    pen.text((_VIEW + 16, at), title, 'gray', small)
    at += 30
    for tag in _SHOWN:
        if tag in fields:
            pen.text((_VIEW + 16, at), tag, 'gray', small)
            at += 18
            for text in textwrap.wrap(fields[tag], 52):
                pen.text((_VIEW + 16, at), text, 'black', small)
                at += 18
            at += 8
    x, y, z = 1000 * action[:3]
    hand = 'open' if action[6] > 0.5 else 'close'
    text = f'x {x:+4.0f}   y {y:+4.0f}   z {z:+4.0f} mm   gripper {hand}'
    pen.text((_VIEW + 16, _VIEW - 30), text, (190, 0, 60), small)
    return picture


def _arrow(pen: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray) -> None:
    pen.ellipse([*(start - 5), *(start + 5)], fill=(230, 0, 80))
    along = end - start
    length = np.linalg.norm(along)
    if length > 8:
        along = along / length
        across = np.array([-along[1], along[0]])
        neck = end - 14 * along
        pen.line([*start, *neck], fill=(230, 0, 80), width=5)
        tip = [end, neck + 8 * across, neck - 8 * across]
        pen.polygon([tuple(point) for point in tip], fill=(230, 0, 80))


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
    parser.add_argument('--out', type=Path, default=Path('demo.gif'))
    args = parser.parse_args()
    wishes = [(args.seed, args.instruction)] if args.instruction else EPISODES
    try:
        for _, instruction in wishes:
            parse(instruction)
        checkpoint = args.checkpoint or shipped_model('tiny_openvla')
        with closed_loop(checkpoint) as loop:
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
