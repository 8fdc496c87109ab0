"""From nothing to models/tiny_openvla and models/tiny_ecot, with one command.

The stages keep what they made in the work directory; a second run goes on where the first ended.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import os
from pathlib import Path
import re
import sys

import numpy as np
import torch

from trt_openvla_ros.actions import ActionStatistics
from trt_openvla_ros.engines.torch_vision import Tower
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.prompt import normalise_instruction, PROMPT_STYLES, Tokenizer
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import goals_for, phrase
from trt_openvla_ros.sim.world import World
from trt_openvla_ros.training.demonstrations import Demonstrations, demonstrations
from trt_openvla_ros.training.export import text_config, write_checkpoint
from trt_openvla_ros.training.language import Student, train_language
from trt_openvla_ros.training.lessons import action_statistics, Teacher
from trt_openvla_ros.training.reasoning_text import reasoning_of
from trt_openvla_ros.training.recipes import IMAGE_SIZE, PATCH_ROWS, RECIPES, TOWERS
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


def trained_towers(
    demos: Demonstrations, work: Path, device: torch.device, steps: int | None, seed: int
) -> dict[str, Tower]:
    """Train every tower of TOWERS."""
    towers = {}
    for name, recipe in TOWERS.items():
        torch.manual_seed(seed)
        towers[name] = Tower(recipe.config).to(device)
        train_tower(
            towers[name], demos, recipe.norm, steps or recipe.steps, seed, work / f'{name}.pt'
        )
    return towers


def run(work: Path, out: Path, episodes: int, steps: int | None, seed: int) -> None:
    """Make both checkpoints.

    Args:
        work: Directory of what stages keep.
        out: Directory that gets tiny_openvla and tiny_ecot.
        episodes: Demonstrations to record.
        steps: Of every training, instead of the recipes' own; for tests.
        seed: Of everything.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    work.mkdir(parents=True, exist_ok=True)
    demos = demonstrations(
        work / 'demonstrations', episodes, IMAGE_SIZE, workers=os.cpu_count() or 1
    )
    vocabulary = work / 'vocabulary'
    if not vocabulary.is_dir():
        write_vocabulary(vocabulary, sentences(demos, 700, seed))
    statistics = action_statistics(demos, seed)
    towers = trained_towers(demos, work, device, steps, seed)
    seen = {name: features_of(tower, demos, TOWERS[name].norm) for name, tower in towers.items()}
    tokenizer = Tokenizer(vocabulary)
    looks, _ = patch_labels(demos, PATCH_ROWS)
    for name, recipe in RECIPES.items():
        features = torch.cat([seen[tower] for tower in recipe.towers], dim=-1)
        teacher = Teacher(
            demos,
            recipe.style,
            tokenizer,
            ActionStatistics.from_norm_stats(statistics, name),
            looks,
            seed,
        )
        torch.manual_seed(seed)
        text, fused = text_config(tokenizer.vocab_size), len(recipe.towers) > 1
        student = Student(text, features.shape[2], fused).to(device)
        train_language(
            student, teacher, features, steps or recipe.steps, recipe.batch, work / f'{name}.pt'
        )
        parts = [towers[tower] for tower in recipe.towers]
        write_checkpoint(out / name, recipe, vocabulary, statistics, parts, student)
        print(f'wrote {out / name}')


def main(argv: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('models'), help='default: models')
    parser.add_argument('--work', type=Path, default=Path('build/train_tiny'))
    parser.add_argument('--episodes', type=int, default=1200)
    parser.add_argument('--steps', type=int, help='of every training; default: the recipes')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    try:
        run(args.work, args.out, args.episodes, args.steps, args.seed)
    except PolicyError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(f'interrupted; the same command goes on from {args.work}')
