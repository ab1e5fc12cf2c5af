"""The sound of files that libsndfile cannot open (m4a, aac, mp4, mkv, webm), by PyAV (extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime.errors import AudioError

if TYPE_CHECKING:
    from av.container import InputContainer

Array = NDArray[np.float32]

SUFFIXES = frozenset(
    f".{name}" for name in "m4a m4b m4v mp4 aac mkv mka mov webm wma wmv avi 3gp amr ac3 ape wv flv ts".split()
)
HEADERLESS = ("aac", "ac3", "amr")  # of these FFmpeg only guesses the length, by the bit rate


class Stream:
    """The first sound track of a file, read as soundfile reads: in blocks of frames, [n, channels] float32.

    ``frames`` is what the container says, which may be off by some hundredths of a second.

    Raises:
        AudioError: PyAV is not installed, the file is not media, or it has no sound.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av
        except ImportError as error:
            raise AudioError(f'{path} needs PyAV to be read: pip install "moksori[video]"') from error
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError, ValueError)
        try:
            self._container: InputContainer = av.open(str(path), metadata_errors="replace")
        except self._errors as error:
            raise AudioError(f"{path} is not audio that can be read here: convert it to WAV or FLAC first") from error
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{path} has no sound track: name another file")
        self._stream = self._container.streams.audio[0]
        context = self._stream.codec_context
        self.samplerate, self.channels = int(context.sample_rate or 0), int(context.channels or 0)
        self._resampler: Any = av.AudioResampler(format="fltp", layout=context.layout, rate=self.samplerate or None)
        self.frames = round(self._seconds(path) * self.samplerate)
        self._pieces = self._decoded()
        self._held = np.zeros((0, self.channels), np.float32)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> Array:
        """The next ``frames`` at most, [n, channels]; [0, channels] at the end or where decoding fails."""
        parts, count = [self._held], len(self._held)
        while count < frames and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            count += len(piece)
        joined = np.concatenate(parts)
        self._held = joined[frames:]
        return joined[:frames]

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def _decoded(self) -> Iterator[Array]:
        try:
            for frame in self._container.decode(self._stream):
                yield from map(_interleaved, self._resampler.resample(frame))
            yield from map(_interleaved, self._resampler.resample(None))
        except self._errors:  # cut short or damaged: what came before stays
            return

    def _seconds(self, path: Path) -> float:
        """Length by the header, or, in a file that was streamed or has none, by its packets."""
        import av

        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration and self._container.format.name not in HEADERLESS:
            return self._container.duration / av.time_base
        lasts = 0
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                track = container.streams.audio[0]
                for packet in container.demux(track):
                    end = (packet.pts or 0) + (packet.duration or 0)
                    lasts = max(lasts, end - (track.start_time or 0))
                return float(lasts * track.time_base) if track.time_base else 0.0
        except self._errors:
            return 0.0


def _interleaved(frame: Any) -> Array:
    return np.ascontiguousarray(frame.to_ndarray().T, dtype=np.float32)
