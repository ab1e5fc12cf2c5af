"""Sources to slices to features: this process decodes and cuts, a pool makes the rest, a few slices behind."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.progress import Progress

from moksori.runtime import audio, slicer
from moksori.runtime.backends import Device
from moksori.runtime.errors import AudioError, MoksoriError
from moksori.runtime.files import sha256
from moksori.train import corpus, features
from moksori.train.corpus import Record, Source
from moksori.train.features import Array, Place, Settings

AHEAD = 4  # slices waiting for each process; bounds the memory


@dataclass(frozen=True)
class Tools:
    """Where a run writes, how, and with what. ``ahead`` slices at most wait for the pool."""

    data_dir: Path
    settings: Settings
    device: Device
    pool: Executor
    ahead: int
    progress: Progress


@dataclass(frozen=True)
class Made:
    """Records by source id, and the seconds of a core that all processes together spent by stage."""

    records: dict[str, Record] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)  # sentences about sources that went or changed meanwhile
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


def make(fresh: dict[Source, float], older: dict[Source, Record], tools: Tools) -> Made:
    """Prepare ``fresh`` sources (seconds by their headers) from their files, ``older`` ones from their slices.

    A source's record is kept once all its slices are made, so that an interrupted run goes on from there.
    """
    work = _Work(tools, sum(fresh.values()), sum(length for one in older.values() for _, length in one.slices))
    for source, record in older.items():
        work.renew(source, record)
    for source in fresh:
        work.cut(source)
    work.settle(0)
    return work.made


class _Work:
    """What is on its way: slices in the pool, and sources of which some slice is not done yet."""

    def __init__(self, tools: Tools, fresh: float, older: float) -> None:
        self.tools, self.made = tools, Made()
        self._cutting = tools.progress.add_task("Cutting", total=fresh, visible=bool(fresh))
        self._making = tools.progress.add_task("Features", total=fresh + older, visible=bool(fresh + older))
        self._waiting: deque[tuple[Future[dict[str, float]], float]] = deque()
        self._unsettled: deque[tuple[int, Source, Record]] = deque()  # after how many slices a record is true
        self._submitted = 0

    def cut(self, source: Source) -> None:
        """Decode a source and make its slices, whatever is known of it."""
        corpus.forget_record(source, self.tools.data_dir)
        try:
            status, digest = source.path.stat(), sha256(source.path)
        except OSError as error:
            self.made.vanished.append(corpus.printable(f"{source.path} cannot be read ({error.strerror})"))
            return
        keys, reason = self.tools.settings.keys(digest), ""
        slices: list[tuple[str, float]] = []
        try:
            for index, (samples, seconds) in enumerate(self._slices(source.path)):
                self.tools.progress.advance(self._cutting, seconds)
                if not len(samples):
                    self.tools.progress.advance(self._making, seconds)
                    continue
                place = Place(self.tools.data_dir, source.speaker, f"{source.id}-{index:04d}")
                slices.append((place.id, round(len(samples) / self.tools.settings.mel.sample_rate, 6)))
                self._submit(place, samples, keys, seconds)
        except AudioError as error:
            slices, reason = [], corpus.printable(str(error))
        if _stamp(source.path) != (status.st_size, status.st_mtime_ns):
            changed = f"{source.path} changed while it was read: run this again when it is complete"
            self.made.vanished.append(corpus.printable(changed))
            return  # without a record, so that it is read again
        record = Record(keys, digest, status.st_size, status.st_mtime_ns, tuple(slices), reason)
        self._unsettled.append((self._submitted, source, record))

    def renew(self, source: Source, record: Record) -> None:
        """Make what is missing of a source whose slices are there."""
        keys = self.tools.settings.keys(record.sha256)
        corpus.keep_record(source, self.tools.data_dir, replace(record, keys={"audio": keys["audio"]}))
        for name, seconds in record.slices:
            self._submit(Place(self.tools.data_dir, source.speaker, name), None, keys, seconds)
        self._unsettled.append((self._submitted, source, replace(record, keys=keys)))

    def settle(self, limit: int) -> None:
        """Wait until at most ``limit`` slices are on their way, and keep the records that became true."""
        while len(self._waiting) > limit:
            future, seconds = self._waiting.popleft()
            try:
                spent = future.result()
            except AudioError as error:  # of what is written here, not of a source
                raise MoksoriError(str(error)) from error
            for name, amount in spent.items():
                self.made.spent[name] += amount
            self.tools.progress.advance(self._making, seconds)
        while self._unsettled and self._unsettled[0][0] <= self._submitted - len(self._waiting):
            _, source, record = self._unsettled.popleft()
            corpus.keep_record(source, self.tools.data_dir, record)
            self.made.records[source.id] = record

    def _submit(self, place: Place, samples: Array | None, keys: dict[str, str], seconds: float) -> None:
        tools = self.tools
        future = tools.pool.submit(features.make, place, samples, keys, tools.settings, tools.device)
        self._waiting.append((future, seconds))
        self._submitted += 1
        self.settle(tools.ahead)

    def _slices(self, path: Path) -> Iterator[tuple[Array, float]]:
        """Trimmed slices of a file, empty where there is only silence, and their length in seconds before."""
        settings = self.tools.settings
        rate = settings.mel.sample_rate
        pieces = slicer.slices(audio.blocks(path, rate), rate, settings.minimum, settings.maximum)
        while True:
            began = time.process_time()
            piece = next(pieces, None)
            self.made.spent["cut"] += time.process_time() - began
            if piece is None:
                return
            yield features.trimmed(piece.audio, rate), len(piece.audio) / rate


def _stamp(path: Path) -> tuple[int, int]:
    """What a file's size and time are now; nothing of any file when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
