"""The files of a LeRobot data set v3.0: tables by pyarrow and pandas, videos by PyAV.

Source: lerobot/datasets/{utils,lerobot_dataset,video_utils}.py of huggingface/lerobot at v0.4.4;
the format is the same up to 0.6.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from fractions import Fraction
import json
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.bags.lerobot.episodes import Episode
from trt_openvla_ros.bags.lerobot.features import (
    CHUNK,
    DATA,
    DATA_MB,
    describe,
    EPISODES,
    VERSION,
    VIDEO,
    VIDEO_MB,
)
from trt_openvla_ros.bags.lerobot.statistics import (
    aggregate,
    ImageStatistics,
    of_rows,
    sampled,
    Statistics,
)
from trt_openvla_ros.bags.video import count_frames, VideoWriter
from trt_openvla_ros.errors import ConfigError

_KEYFRAMES = 2  # a reader decodes at most so many images for one


class DataSetWriter:
    """A data set that grows by episodes.

    Attributes:
        root: Directory of the data set.
        frames, episodes: Numbers of rows and of episodes so far.
        tasks: Number of each instruction.
    """

    def __init__(self, root: Path, fps: int, camera: str, crf: int, files: ExitStack) -> None:
        """Begin a data set in an empty directory; callers use `open` instead."""
        self.root, self._fps, self._crf = root, fps, crf
        self._key = f'observation.images.{camera}'
        self._files, self._open = files, ExitStack()
        files.callback(self._open.close)
        self.frames = 0
        self.tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []  # of meta/episodes
        self._statistics: list[dict[str, Statistics]] = []
        self._features: dict[str, dict[str, Any]] = {}
        self._video: VideoWriter | None = None
        self._table: Any = None
        self._data_index = self._video_index = -1

    @classmethod
    @contextmanager
    def open(cls, root: Path, fps: int, camera: str, crf: int) -> Iterator[DataSetWriter]:
        """Write a data set for the body of a with statement, and check it at the end.

        Raises:
            ConfigError: No episode came, or rows and images do not agree.
        """
        with ExitStack() as files:
            writer = cls(root, fps, camera, crf, files)
            yield writer
        writer._finish()

    @property
    def episodes(self) -> int:
        """Number of episodes so far."""
        return len(self._rows)

    def add(self, episode: Episode, images: Iterator[np.ndarray]) -> None:
        """Append an episode with its images [H, W, 3] uint8 RGB, one for each row.

        Raises:
            ConfigError: The columns are not those of the episodes before.
            InputError: The images have another size than those before.
        """
        count = len(episode.rows)
        columns = self._columns(episode)
        video, start = self._write_images(images, count)
        self._describe(episode, columns)
        file, statistics = self._write_rows(columns), {k: of_rows(v) for k, v in columns.items()}
        statistics[self._key] = video.pop('statistics')
        self._statistics.append(statistics)
        at = f'videos/{self._key}'
        self._rows.append(
            {
                'episode_index': self.episodes,
                'tasks': [episode.task],
                'length': count,
                'data/chunk_index': file // CHUNK,
                'data/file_index': file % CHUNK,
                'dataset_from_index': self.frames,
                'dataset_to_index': self.frames + count,
                f'{at}/chunk_index': self._video_index // CHUNK,
                f'{at}/file_index': self._video_index % CHUNK,
                f'{at}/from_timestamp': start / self._fps,
                f'{at}/to_timestamp': (start + count) / self._fps,
                'meta/episodes/chunk_index': 0,
                'meta/episodes/file_index': 0,
            }
        )
        self.frames += count

    def _columns(self, episode: Episode) -> dict[str, np.ndarray]:
        """Give the columns of an episode, each [N, D]."""
        rows, count = episode.rows, len(episode.rows)
        task = self.tasks.setdefault(episode.task, len(self.tasks))
        numbers = np.arange(count)
        columns = {
            'action': np.array([row.action for row in rows], np.float32),
            'action.unlimited': np.array([row.unlimited for row in rows], np.float32),
            'action.held': np.array([row.held for row in rows], np.int64),
            'observation.state': np.array([row.state for row in rows], np.float32),
            # LeRobot takes each name with 'image' in it for one of images.
            'observation.stamp': np.array([row.picture.stamp for row in rows], np.int64),
            'timestamp': (numbers / self._fps).astype(np.float32),
            'frame_index': numbers,
            'episode_index': np.full(count, self.episodes),
            'index': self.frames + numbers,
            'task_index': np.full(count, task),
        }
        shaped = {name: values.reshape(count, -1) for name, values in columns.items()}
        return {name: values for name, values in shaped.items() if values.size}

    def _write_images(
        self, images: Iterator[np.ndarray], count: int
    ) -> tuple[dict[str, Any], int]:
        """Append images to the video; give their statistics, and the number of the first."""
        full = self._video is not None and _megabytes(self._video_path()) >= VIDEO_MB
        if self._video is None or full:
            self._open.close()
            self._video_index += 1
            path = self._video_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            video = VideoWriter.open(
                path, Fraction(self._fps), crf=self._crf, keyframes=_KEYFRAMES
            )
            self._video = self._open.enter_context(video)
        start, chosen, statistics = self._video.frames, sampled(count), ImageStatistics()
        for number, image in enumerate(images):
            self._video.add(image)
            if number in chosen:
                statistics.add(image)
        if self._video.frames - start != count:
            raise ConfigError(
                f'{count} rows have {self._video.frames - start} images; has the bag changed?'
            )
        return {'statistics': statistics.result()}, start

    def _write_rows(self, columns: dict[str, np.ndarray]) -> int:
        """Append rows to the table; give the number of its file."""
        import pyarrow as pa
        from pyarrow import parquet

        arrays = {}
        for name, values in columns.items():
            flat = pa.array(values.ravel())
            wide = values.shape[1]
            one = self._features[name]['shape'] == [1]
            arrays[name] = flat if one else pa.FixedSizeListArray.from_arrays(flat, wide)
        table = pa.table(arrays)
        path = self.root / self._data_path(self._data_index)
        if self._table is None or _megabytes(path) >= DATA_MB:
            if self._table is not None:
                self._table.close()
            self._data_index += 1
            path = self.root / self._data_path(self._data_index)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = self._files.enter_context(parquet.ParquetWriter(path, table.schema))
        self._table.write_table(table)
        return self._data_index

    def _describe(self, episode: Episode, columns: dict[str, np.ndarray]) -> None:
        features = describe(columns, self._key, self._video.size, self._fps)
        if self._features and features != self._features:
            raise ConfigError(
                f'{episode.bag} has the columns {_shapes(features)}, those before it have '
                f'{_shapes(self._features)}; a data set has one form'
            )
        self._features = features

    def _video_path(self) -> Path:
        chunk, number = divmod(self._video_index, CHUNK)
        return self.root / VIDEO.format(video_key=self._key, chunk_index=chunk, file_index=number)

    @staticmethod
    def _data_path(index: int) -> str:
        chunk, number = divmod(index, CHUNK)
        return DATA.format(chunk_index=chunk, file_index=number)

    def _finish(self) -> None:
        """Write meta/, and count what was written.

        Raises:
            ConfigError: No episode came, or rows and images do not agree.
        """
        import pandas as pd
        import pyarrow as pa
        from pyarrow import parquet

        if not self._rows:
            raise ConfigError('no episode is left')
        meta = self.root / 'meta'
        rows = [
            {
                **row,
                **{
                    f'stats/{name}/{kind}': value.tolist()
                    for name, one in statistics.items()
                    for kind, value in one.items()
                },
            }
            for row, statistics in zip(self._rows, self._statistics, strict=True)
        ]
        (self.root / EPISODES).parent.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(rows), self.root / EPISODES)
        # LeRobot finds a task by the index of pandas, which pyarrow alone would not write.
        index = pd.Index(list(self.tasks), name='task')
        tasks = pd.DataFrame({'task_index': list(self.tasks.values())}, index=index)
        tasks.to_parquet(meta / 'tasks.parquet')
        whole = {
            name: aggregate([one[name] for one in self._statistics])
            for name in self._statistics[0]
        }
        plain = {
            name: {kind: value.tolist() for kind, value in one.items()}
            for name, one in whole.items()
        }
        _write(meta / 'stats.json', plain)
        self._check()

    def write_info(self, robot_type: str) -> None:
        """Write meta/info.json, without which nothing takes the directory for a data set."""
        info = {
            'codebase_version': VERSION,
            'robot_type': robot_type or None,
            'total_episodes': self.episodes,
            'total_frames': self.frames,
            'total_tasks': len(self.tasks),
            'chunks_size': CHUNK,
            'data_files_size_in_mb': DATA_MB,
            'video_files_size_in_mb': VIDEO_MB,
            'fps': self._fps,
            'splits': {'train': f'0:{self.episodes}'},
            'data_path': DATA,
            'video_path': VIDEO,
            'features': self._features,
        }
        _write(self.root / 'meta' / 'info.json', info)

    def _check(self) -> None:
        from pyarrow import parquet

        tables = sorted((self.root / 'data').rglob('*.parquet'))
        videos = sorted((self.root / 'videos').rglob('*.mp4'))
        rows = sum(parquet.read_metadata(path).num_rows for path in tables)
        images = sum(count_frames(path) for path in videos)
        if not rows == images == self.frames:
            raise ConfigError(
                f'{rows} rows and {images} images were written for {self.frames}; is there space '
                'on the disk?'
            )


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 2**20 if path.exists() else 0.0


def _shapes(features: dict[str, dict[str, Any]]) -> str:
    return ', '.join(f'{name} {feature["shape"]}' for name, feature in features.items())


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding='utf-8')
