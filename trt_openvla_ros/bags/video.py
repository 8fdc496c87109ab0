"""Images to an MP4 file with H.264, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from trt_openvla_ros.errors import ConfigError, InputError

CODEC, PIXEL_FORMAT = 'h264', 'yuv420p'
_ENCODER = 'libx264'


class VideoWriter:
    """A file of images at a constant rate: image k is shown at k/fps.

    Attributes:
        frames: Number of images so far.
        size: Height and width of all images [px], both even; None before the first.
    """

    def __init__(self, path: Path, fps: Fraction, options: dict[str, str]) -> None:
        """Begin a file; callers use `open` instead."""
        import av

        self._av, self._fps = av, fps
        self._container = av.open(str(path), 'w', options={'movflags': 'faststart'})
        self._stream: Any = self._container.add_stream(_ENCODER, rate=fps, options=options)
        self._stream.pix_fmt = PIXEL_FORMAT
        self.frames = 0
        self.size: tuple[int, int] | None = None

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, fps: Fraction, *, crf: int = 20, keyframes: int = 30
    ) -> Iterator[VideoWriter]:
        """Write a file for the body of a with statement.

        Args:
            path: File to write.
            fps: Images per second.
            crf: Quality of x264, from 0 (lossless) to 51.
            keyframes: Distance of the images that need no other to be decoded.

        Raises:
            ConfigError: This PyAV cannot encode H.264, or the file cannot be written.
        """
        options = {'crf': str(crf), 'g': str(keyframes), 'bf': '0', 'preset': 'veryfast'}
        try:
            import av
        except ImportError as error:
            raise ConfigError(f'videos need PyAV ({error}); pip install av') from error
        try:
            writer = cls(path, fps, options)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise ConfigError(
                f'{path} cannot be written as H.264 ({error}); the wheels of av have its encoder'
            ) from error
        try:
            yield writer
            writer._finish()
        except av.error.FFmpegError as error:
            raise ConfigError(
                f'{path} cannot be written: {error}; make room there, or choose another out'
            ) from error
        finally:
            writer._container.close()

    def add(self, image: np.ndarray) -> None:
        """Append [H, W, 3] uint8 RGB. An odd row or column at the edge is left out.

        Raises:
            InputError: The image has another size than the first, or is less than 2 pixels wide
                or high.
        """
        height, width = (side - side % 2 for side in image.shape[:2])
        if not height or not width:
            raise InputError(
                f'an image of {image.shape[1]}x{image.shape[0]} is too small for a video, whose '
                'sides are at least 2 pixels; choose a topic of larger images'
            )
        if self.size is None:
            self.size = height, width
            self._stream.height, self._stream.width = self.size
            self._stream.codec_context.time_base = 1 / self._fps
        if (height, width) != self.size:
            raise InputError(
                f'an image of {width}x{height} follows those of {self.size[1]}x{self.size[0]}; a '
                'video has one size'
            )
        pixels = np.ascontiguousarray(image[:height, :width])
        frame = self._av.VideoFrame.from_ndarray(pixels, format='rgb24')
        frame.pts, frame.time_base = self.frames, 1 / self._fps
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def _finish(self) -> None:
        if self.frames:
            self._container.mux(self._stream.encode(None))


def count_frames(path: Path) -> int:
    """Count the images of a video without decoding them."""
    import av

    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))
