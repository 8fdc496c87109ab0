"""Compare steps of tiny_ecot with and without drafts, in the closed loop of the simulation.

Each step is computed both ways in turns, from the same image in one process, and must give the
same ids. Then the same scenes are tried with high-level reasoning kept for some steps.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import sys
import time

import matplotlib
import numpy as np
from tqdm import tqdm

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.report import percentiles, print_latencies, write_json
from trt_openvla_ros.evaluation.scenes import Attempt, difference, success, tasks
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.sim.goals import parse
from trt_openvla_ros.sim.world import MAX_STEPS, World

KEPT = 5  # steps, as in MichalZawalski/embodied-CoT (max_freezing_time)
_SHOWN = 15  # steps of the plot; few attempts take more


@dataclass(frozen=True)
class Step:
    """One step of one policy.

    Attributes:
        index: Number of the step in its attempt, from 0.
        ids: Ids of the answer; none if it had no action.
        passes: Runs of the language model.
        seconds: Wall time of the prediction.
        work: Processor time of it [s], which does not count what else the machine does.
    """

    index: int
    ids: tuple[int, ...]
    passes: int
    seconds: float
    work: float


def predict(policy: Policy, image: np.ndarray, instruction: str) -> Prediction | None:
    """Predict; there is no prediction if the model gave no action."""
    try:
        return policy.predict(image, instruction)
    except OutputError:
        return None


def run(
    policies: Sequence[Policy], asked: Sequence[tuple[int, str]], text: str
) -> tuple[list[Attempt], list[list[Step]]]:
    """Let policies compute each step in turns; the first one acts.

    Returns:
        The attempts, and the steps of each policy.
    """
    world, attempts = World(), []
    steps: list[list[Step]] = [[] for _ in policies]
    for seed, instruction in tqdm(asked, text, unit='scene'):
        world.reset(seed)
        goal, reached, stuck, index = parse(instruction), False, False, 0
        while not (reached or stuck) and index < MAX_STEPS:
            image, acting = world.image(), None
            order = list(range(len(policies)))
            for which in order if index % 2 else order[::-1]:
                start, begun = time.perf_counter(), time.process_time()
                found = predict(policies[which], image, instruction)
                work, seconds = time.process_time() - begun, time.perf_counter() - start
                ids = tuple(found.generated_ids.tolist()) if found else ()
                passes = found.passes if found else 0
                steps[which].append(Step(index, ids, passes, seconds, work))
                acting = acting if which else found
            stuck = acting is None
            if acting is not None:
                world.step(acting.action)
                reached = world.success(goal)
                index += 1
        attempts.append(Attempt(seed, instruction, reached, index, stuck))
    world.close()
    return attempts, steps


def acceptance(steps: Sequence[Step]) -> list[dict[str, float]]:
    """Give, for each step of an attempt, the share of ids that a draft gave: mean, low, high.

    Each pass gives one id by itself, and the others are accepted ids of a draft. low and high are
    the 10th and 90th percentile.
    """
    shares = defaultdict(list)
    for step in steps:
        if step.ids:
            shares[step.index].append(1 - step.passes / len(step.ids))
    rows = []
    for index, values in sorted(shares.items()):
        low, high = np.percentile(values, (10, 90))
        row = {'mean': np.mean(values), 'low': low, 'high': high}
        rounded = {name: round(float(value), 4) for name, value in row.items()}
        rows.append({'step': index, 'attempts': len(values), **rounded})
    return rows


def plot(rows: list[dict[str, float]], times: dict[str, Sequence[Step]], path: Path) -> None:
    """Draw the acceptance over steps, and the time of a step with and without drafts."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout='constrained')
    rows = rows[:_SHOWN]
    places = [row['step'] for row in rows]
    mean, low, high = ([100 * row[name] for row in rows] for name in ('mean', 'low', 'high'))
    left.fill_between(places, low, high, alpha=0.25, linewidth=0, label='10th to 90th percentile')
    left.plot(places, mean, marker='o', markersize=3, label='mean')
    left.set_ylabel('ids that a draft gave [%]')
    left.set_ylim(0, 100)
    left.legend(loc='lower right', frameon=False)
    for name, steps in times.items():
        found = defaultdict(list)
        for step in steps:
            found[step.index].append(1e3 * step.seconds)
        right.plot(
            places, [np.median(found[p]) for p in places], marker='o', markersize=3, label=name
        )
    right.set_ylabel('median time of a step [ms]')
    right.set_ylim(bottom=0)
    right.legend(loc='lower right', frameon=False)
    for axes in (left, right):
        axes.set_xlabel('step after a new instruction')
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Run the benchmark; give 0 if drafts changed no id, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=60, help='number of scenes')
    parser.add_argument('--json', type=Path, help='write the result here, and a plot beside it')
    args = parser.parse_args()
    if args.scenes < 1:
        parser.error(f'--scenes is {args.scenes}; at least 1 is needed')

    path = shipped_model('tiny_ecot')
    drafted = Policy.from_checkpoint(path)
    greedy = Policy.from_checkpoint(path, draft_tokens=0)
    kept = Policy.from_checkpoint(path, keep_reasoning=KEPT)
    asked = tasks(args.scenes)
    # Scenes that are not measured: libraries prepare what they need.
    run([drafted, greedy, kept], tasks(args.scenes + 2)[-2:], 'warm-up')
    attempts, (fast, slow) = run([drafted, greedy], asked, 'with and without drafts')
    same = sum(a.ids == b.ids for a, b in zip(fast, slow, strict=True))
    tried, (brief,) = run([kept], asked, f'reasoning kept for {KEPT} steps')

    times = {name: [s.seconds for s in steps] for name, steps in (('on', fast), ('off', slow))}
    name = f'keep_reasoning_{KEPT}'
    rate = success(attempts)['rate']
    versus = difference(attempts, tried)
    result = {
        'passes_per_token': per_token(fast),
        # Of the medians, of the totals, and of the totals of processor time.
        'wall_ratio': round(float(np.median(times['on']) / np.median(times['off'])), 3),
        'wall_ratio_total': round(sum(times['on']) / sum(times['off']), 3),
        'work_ratio_total': round(sum(s.work for s in fast) / sum(s.work for s in slow), 3),
        'identical_steps': same,
        'steps': len(fast),
        'scenes': len(asked),
        # All steps are the same, so the attempts are.
        'success': {'greedy': rate, 'drafted': rate, name: success(tried)['rate']},
        name: {
            'difference': versus,
            'passes_per_token': per_token(brief),
            **percentiles([s.seconds for s in brief]),
        },
        'drafted': percentiles(times['on']),
        'greedy': percentiles(times['off']),
        'tokens': round(float(np.mean([len(s.ids) for s in fast])), 1),
        'acceptance': acceptance(fast),
        'draft_tokens': drafted.spec.draft_tokens,
        'device': drafted.description.device,
    }
    print_latencies(
        {
            'drafted': (result['drafted'], f'{result["passes_per_token"]} passes per token'),
            'greedy': (result['greedy'], 'the same ids, one pass for each'),
            'kept': (result[name], f'high-level reasoning kept for {KEPT} steps'),
        }
    )
    print(f'with drafts / without: {result["wall_ratio"]} (medians)', end=', ')
    print(f'{result["wall_ratio_total"]} (totals)', end=', ')
    print(f'{result["work_ratio_total"]} (totals of processor time)')
    print(f'{same} of {len(fast)} steps have identical ids; success {result["success"]}')
    if args.json:
        write_json(args.json, result, ('torch',))
        plot(result['acceptance'], {'with drafts': fast, 'without': slow}, _beside(args.json))
    return 0 if same == len(fast) else 1


def per_token(steps: Sequence[Step]) -> float:
    """Give the passes for each token of the answers."""
    return round(sum(s.passes for s in steps) / sum(len(s.ids) for s in steps), 4)


def _beside(path: Path) -> Path:
    return path.with_suffix('.png')


if __name__ == '__main__':
    sys.exit(main())
