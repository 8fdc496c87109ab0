"""From nothing to models/tiny_openvla and models/tiny_ecot, with one command.

The stages keep what they made in the work directory; a second run goes on where the first ended.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import os
from pathlib import Path
import re
import subprocess
import sys

import numpy as np
import torch

from trt_openvla_ros.checkpoints.statistics import read_statistics
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.engines.torch.vision import Tower
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.policy.prompt import normalise_instruction, PROMPT_STYLES
from trt_openvla_ros.process import uninterrupted
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import goals_for, phrase
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.demonstrations import Demonstrations, demonstrations
from trt_openvla_ros.training.export import Parts, read_parts, text_config, write_checkpoint
from trt_openvla_ros.training.language import PEAK, PEAK_FURTHER, Student, train_language
from trt_openvla_ros.training.lessons import action_statistics, Teacher
from trt_openvla_ros.training.reasoning_text import reasoning_of
from trt_openvla_ros.training.recipes import IMAGE_SIZE, PATCH_ROWS, Recipe, RECIPES, TOWERS
from trt_openvla_ros.training.towers import features_of, patch_labels, train_tower
from trt_openvla_ros.training.vocabulary import write_vocabulary


def sentences(demos: Demonstrations, count: int, seed: int) -> Iterator[str]:
    """Draw prompts and reasonings, such as the models will read and write."""
    rng = np.random.default_rng([seed, 1])
    world = World()
    for index in rng.integers(len(demos.images), size=count):
        state = demos.state(index)
        goals = goals_for(state.things)
        goal = goals[rng.integers(len(goals))]
        # Numbers are pieces of their own and teach the vocabulary nothing.
        yield re.sub(r'\d+', '0', reasoning_of(world, state, goal, expert(state, goal)))
        for recipe in RECIPES.values():
            template = PROMPT_STYLES[recipe.style].template
            yield template.format(instruction=normalise_instruction(phrase(goal, rng)))


def vocabulary_of(demos: Demonstrations, work: Path, seed: int) -> Path:
    """Make the vocabulary, or find it in work."""
    vocabulary = work / 'vocabulary'
    if not vocabulary.is_dir():
        write_vocabulary(vocabulary, sentences(demos, 700, seed))
    return vocabulary


def tower_of(kind: str, demos: Demonstrations, work: Path, steps: int | None, seed: int) -> Tower:
    """Train a tower, a key of TOWERS; what of it is in work already is not done again."""
    recipe = TOWERS[kind]
    torch.manual_seed(seed)
    tower = Tower(recipe.config).to(_device())
    train_tower(tower, demos, recipe.norm, steps or recipe.steps, seed, work / f'{kind}.pt')
    return tower


def new_parts(
    recipe: Recipe, demos: Demonstrations, work: Path, steps: int | None, seed: int
) -> Parts:
    """Give vocabulary and trained towers, and draw the weights of the language model."""
    vocabulary = vocabulary_of(demos, work, seed)
    towers = [tower_of(kind, demos, work, steps, seed) for kind in recipe.towers]
    torch.manual_seed(seed)
    width = sum(tower.vit.embed_dim for tower in towers)
    text = text_config(Tokenizer(vocabulary).vocab_size)
    student = Student(text, width, len(towers)).to(_device())
    return Parts(vocabulary, action_statistics(demos, seed), towers, student)


def make_checkpoint(
    name: str,
    demos: Demonstrations,
    work: Path,
    out: Path,
    steps: int | None,
    seed: int,
    start: Path | None = None,
) -> None:
    """Make a checkpoint.

    Args:
        name: Key of RECIPES.
        demos: Demonstrations to learn from.
        work: Directory in which stages keep their results.
        out: Directory in which the checkpoint's directory is made.
        steps: Steps of every training, instead of the recipe's own.
        seed: Seed of everything that is drawn.
        start: Directory with a checkpoint of that name, whose projector and language model are
            trained further; None to begin with nothing.
    """
    recipe = RECIPES[name]
    if start is None:
        parts = new_parts(recipe, demos, work, steps, seed)
        peak, progress = PEAK, work / f'{name}.pt'
    else:
        parts = read_parts(start / name, _device())
        peak, progress = PEAK_FURTHER, work / f'{name}_further.pt'
    looks, _ = patch_labels(demos, PATCH_ROWS)
    statistics = read_statistics(parts.statistics, name)
    tokenizer = Tokenizer(parts.vocabulary)
    teacher = Teacher(demos, recipe.style, tokenizer, statistics, looks, seed)
    features = torch.cat(
        [
            features_of(tower, demos, TOWERS[kind].norm)
            for kind, tower in zip(recipe.towers, parts.towers, strict=True)
        ],
        dim=-1,
    )
    length = steps or recipe.steps
    train_language(parts.student, teacher, features, length, recipe.batch, peak, progress)
    write_checkpoint(out / name, recipe, parts)
    print(f'wrote {out / name}')


def side_by_side(argv: list[str]) -> int:
    """Run this program with argv once for each recipe; give 0 where all of them ended well.

    To models this small, a core of their own is worth more than all of them by turns.
    """
    share = max(1, (os.cpu_count() or 1) // len(RECIPES))
    code = f'from trt_openvla_ros.process import run; run({__name__!r})'
    children = []
    try:
        for place, name in enumerate(RECIPES):
            words = [sys.executable, '-c', code, *argv, '--only', name]
            own = {'OMP_NUM_THREADS': str(share), 'TQDM_POSITION': str(place)}
            with uninterrupted():
                children.append(subprocess.Popen(words, env={**os.environ, **own}))
        codes = [child.wait() for child in children]
        return int(any(codes))
    except KeyboardInterrupt:
        for child in children:
            child.terminate()
        raise


def _device() -> torch.device:
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def main(argv: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('models'), help='default: models')
    parser.add_argument('--work', type=Path, default=Path('build/train_tiny'))
    parser.add_argument('--episodes', type=int, default=1600)
    parser.add_argument('--steps', type=int, help='of every training; default: the recipes')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', choices=list(RECIPES), help='make just this one')
    parser.add_argument(
        '--start', type=Path, help='train the checkpoints in this directory further (models)'
    )
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        demos = demonstrations(
            args.work / 'demonstrations', args.episodes, IMAGE_SIZE, workers=os.cpu_count() or 1
        )
        if args.only:
            make_checkpoint(
                args.only, demos, args.work, args.out, args.steps, args.seed, args.start
            )
            return
        if args.start is None:
            # What the recipes share, before two processes want it.
            vocabulary_of(demos, args.work, args.seed)
            for kind in TOWERS:
                tower_of(kind, demos, args.work, args.steps, args.seed)
        sys.exit(side_by_side(argv))
    except PolicyError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print(f'interrupted; the same command goes on from {args.work}', file=sys.stderr)
        raise
