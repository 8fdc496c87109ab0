"""Statistics of features as LeRobot computes them.

Source: lerobot/datasets/compute_stats.py of huggingface/lerobot at v0.4.4. LeRobot reads quantiles
from histograms of 5,000 bins; these are exact, and so differ by less than a bin. It squares
images as uint8 until 0.5, so its standard deviations of them are wrong; these are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Statistics = dict[str, np.ndarray]

_QUANTILES = {'q01': 0.01, 'q10': 0.10, 'q50': 0.50, 'q90': 0.90, 'q99': 0.99}
_FEWEST, _MOST, _POWER = 100, 10_000, 0.75
_LARGE, _SMALL = 300, 150  # [px] sides from which images are thinned, and to about which


def of_rows(values: np.ndarray) -> Statistics:
    """Give the statistics of [N, D] numbers, each [D]; count is [1]."""
    exact = values.astype(np.float64)
    found = {
        'min': values.min(axis=0),
        'max': values.max(axis=0),
        'mean': exact.mean(axis=0),
        'std': exact.std(axis=0),
        'count': np.array([len(values)]),
    }
    for name, share in _QUANTILES.items():
        found[name] = np.quantile(exact, share, axis=0, method='inverted_cdf')
    return found


def sampled(count: int) -> set[int]:
    """Give the numbers of the images, of so many, from which their statistics come."""
    samples = max(min(_FEWEST, count), min(int(count**_POWER), _MOST))
    return set(np.round(np.linspace(0, count - 1, samples)).astype(int).tolist())


class ImageStatistics:
    """Statistics of images in 0..1 by channel, each [3, 1, 1], from counts of their values."""

    def __init__(self) -> None:
        """Begin without images."""
        self._counts = np.zeros((3, 256), np.int64)
        self._images = 0

    def add(self, image: np.ndarray) -> None:
        """Count an image [H, W, 3] uint8."""
        height, width = image.shape[:2]
        if max(height, width) >= _LARGE:
            step = int((width if width > height else height) / _SMALL)
            image = image[::step, ::step]
        for channel in range(3):
            self._counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        self._images += 1

    def result(self) -> Statistics:
        """Give the statistics so far."""
        values = np.arange(256) / 255.0
        total = self._counts.sum(axis=1)
        mean = self._counts @ values / total
        variance = self._counts @ values**2 / total - mean**2
        below = self._counts.cumsum(axis=1)
        present = self._counts > 0
        found = {
            'min': values[present.argmax(axis=1)],
            'max': values[255 - present[:, ::-1].argmax(axis=1)],
            'mean': mean,
            'std': np.sqrt(np.maximum(variance, 0.0)),
        }
        for name, share in _QUANTILES.items():
            found[name] = values[(below >= share * total[:, None]).argmax(axis=1)]
        shaped = {name: value.reshape(3, 1, 1) for name, value in found.items()}
        return {**shaped, 'count': np.array([self._images])}


def aggregate(episodes: Sequence[Statistics]) -> Statistics:
    """Join the statistics of episodes; quantiles become their means, weighted by count."""
    counts = np.array([one['count'][0] for one in episodes], np.float64)
    weights = counts / counts.sum()

    def weighted(name: str) -> np.ndarray:
        return np.tensordot(weights, np.stack([one[name] for one in episodes]), 1)

    mean = weighted('mean')
    spread = np.stack([one['std'] ** 2 + (one['mean'] - mean) ** 2 for one in episodes])
    return {
        'min': np.min([one['min'] for one in episodes], axis=0),
        'max': np.max([one['max'] for one in episodes], axis=0),
        'mean': mean,
        'std': np.sqrt(np.tensordot(weights, spread, 1)),
        'count': np.array([int(counts.sum())]),
        **{name: weighted(name) for name in _QUANTILES},
    }
