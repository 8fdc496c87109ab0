"""How far predicted actions are from those that were recorded, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trt_openvla_ros.contracts import MOTION
from trt_openvla_ros.evaluation.report import percentiles
from trt_openvla_ros.robot.meaning import Meaning

_OPEN = 0.5


def units(meaning: Meaning) -> tuple[np.ndarray, tuple[str, str]]:
    """Give the factors [6] to the units of a report, and their names; 'units' if not known."""
    if not meaning.has_units:
        return np.ones(6), ('units', 'units')
    factors = np.repeat([1e3 * meaning.translation_unit, 1e3 * meaning.rotation_unit], 3)
    return factors, ('mm', 'mrad')


def pairs(results: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Give wanted and predicted actions, both [N, 7], of the frames with a prediction."""
    both = [(r['wanted'], r['predicted']) for r in results if r['predicted'] is not None]
    wanted, predicted = (np.array([pair[i] for pair in both], np.float64) for i in (0, 1))
    return wanted.reshape(-1, 7), predicted.reshape(-1, 7)


def compare(results: Sequence[dict[str, Any]], meaning: Meaning) -> dict[str, Any]:
    """Summarise the results of frames.

    Args:
        results: Results of `predict_cases`, of which none is of a broken run.
        meaning: Meaning of the numbers.

    Returns:
        Errors by dimension in mm and mrad, or in units if nobody knows them; their baseline, the
        error of an action that is 0; agreement of the gripper if its meaning is known; latency
        in ms.
    """
    wanted, predicted = pairs(results)
    refused = [r for r in results if r['predicted'] is None]
    facts: dict[str, Any] = {
        'frames': len(results),
        'refused': len(refused),
        'refusals': sorted({r['refused'] for r in refused})[:10],
    }
    if not len(wanted):
        return facts
    factors, (length, angle) = units(meaning)
    apart = _apart(predicted, wanted, meaning) * factors
    away = _apart(np.zeros_like(wanted), wanted, meaning) * factors
    facts['identical'] = float((predicted == wanted).all(axis=1).mean())
    facts['errors'] = {
        name: {'unit': length if i < 3 else angle, **_errors(apart[:, i], away[:, i])}
        for i, name in enumerate(MOTION)
    }
    for name, part, unit in (('translation', slice(3), length), ('rotation', slice(3, 6), angle)):
        sizes = np.linalg.norm(apart[:, part], axis=1), np.linalg.norm(away[:, part], axis=1)
        facts['errors'][name] = {'unit': unit, **_errors(*sizes)}
    if meaning.gripper in ('open', 'closed'):
        same = (predicted[:, 6] > _OPEN) == (wanted[:, 6] > _OPEN)
        facts['gripper_agreement'] = float(same.mean())
    parts = [r['timings'] for r in results if r['timings']]
    names = [name for name in parts[0] if all(name in timings for timings in parts)]
    facts['latency'] = {name: percentiles([t[name] for t in parts]) for name in names}
    return facts


def _apart(to: np.ndarray, origin: np.ndarray, meaning: Meaning) -> np.ndarray:
    """Give the differences [N, 6] of two motions [N, 7]; of angles from -pi to pi."""
    apart = (to - origin)[:, :6]
    if meaning.has_units and meaning.rotation == 'euler_xyz':
        turn = 2 * np.pi / meaning.rotation_unit
        apart[:, 3:] -= turn * np.ceil(apart[:, 3:] / turn - 0.5)
    return apart


def _errors(apart: np.ndarray, away: np.ndarray) -> dict[str, float]:
    size = np.abs(apart)
    return {
        'mean': float(size.mean()),
        'p50': float(np.percentile(size, 50)),
        'p95': float(np.percentile(size, 95)),
        'max': float(size.max()),
        'bias': float(apart.mean()),
        'of_no_motion': float(np.abs(away).mean()),
    }


def table(facts: dict[str, Any]) -> list[str]:
    """Write the errors as a table of Markdown."""
    columns = ('dimension', 'unit', 'mean', 'median', 'p95', 'largest', 'bias', 'if still')
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * 2 + '--:|' * 6]
    for name, row in facts['errors'].items():
        keys = ('mean', 'p50', 'p95', 'max', 'bias', 'of_no_motion')
        cells = [f'{row[key]:.3g}' for key in keys]
        lines.append('| ' + ' | '.join([name, row['unit'], *cells]) + ' |')
    return lines
