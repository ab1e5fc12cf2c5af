"""torchcrepe as it is published and as diff-svc calls it, and sessions that remember what they ran."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import crepe
from moksori.runtime.pitch import Track

Array = NDArray[np.float32]

FMIN, FMAX = 50.0, 1600.0  # Hz, of every tracker; diff-svc ends at 1100 and loses sopranos
HOP = 80  # samples, 5 ms
BATCH = 512  # frames
THRESHOLD = 0.05


class Published:
    """torchcrepe's own code as diff-svc calls it: "full", 5 ms, Viterbi, then its filters and its threshold.

    With ``session`` the network alone is ours (its bins are the same), which saves minutes where only accuracy counts.
    ``progress`` is called after each batch of 512 frames, with their number.
    """

    def __init__(
        self, threads: int, session: crepe.Session | None = None, progress: Callable[[int], None] = lambda batches: None
    ) -> None:
        self._torch, self._crepe = importlib.import_module("torch"), _torchcrepe()
        self._torch.set_num_threads(threads)
        self._session, self._progress = session, progress
        self.bins: list[NDArray[np.int64]] = []

    def track(self, samples: Array) -> Track:
        theirs, self.bins = self._crepe, []
        sound = self._torch.from_numpy(samples)[None]
        with self._torch.inference_mode():
            if self._session is None:
                f0, periodicity = theirs.predict(
                    sound, crepe.RATE, HOP, FMIN, FMAX, "full", self._decode, return_periodicity=True,
                    batch_size=BATCH,
                )  # fmt: skip
            else:
                salience = crepe.salience(self._session, samples, HOP)[0]
                probabilities = self._torch.from_numpy(np.ascontiguousarray(salience.T))[None]
                f0, periodicity = theirs.core.postprocess(
                    probabilities, FMIN, FMAX, self._decode, return_periodicity=True
                )
            periodicity = theirs.filter.median(periodicity, 3)
            periodicity = theirs.threshold.Silence(-60.0)(periodicity, sound, crepe.RATE, HOP)
            f0 = theirs.filter.mean(theirs.threshold.At(THRESHOLD)(f0, periodicity), 3)[0].numpy()
        voiced = np.isfinite(f0)
        return Track(np.arange(len(f0)) * (HOP / crepe.RATE), np.where(voiced, f0, 1), voiced.astype(np.float32))

    def _decode(self, probabilities: Any) -> Any:
        decoded = self._crepe.decode.viterbi(probabilities)
        self.bins.append(decoded[0][0].numpy())
        self._progress(len(self.bins))
        return decoded


class Kept:
    """A session that computes a CREPE frame once, however many trackers ask for it."""

    def __init__(self, session: crepe.Session) -> None:
        self.session = session
        self.rows: dict[bytes, Array] = {}

    def run(self, outputs: None, inputs: Mapping[str, NDArray[Any]], /) -> list[Array]:
        if "frames" not in inputs:
            return self.session.run(outputs, inputs)
        keys = [frame.tobytes() for frame in inputs["frames"]]
        new = [i for i, key in enumerate(keys) if key not in self.rows]
        if new:
            found = self.session.run(None, {"frames": inputs["frames"][new]})[0]
            self.rows |= {keys[i]: row for i, row in zip(new, found, strict=True)}
        return [np.stack([self.rows[key] for key in keys])]


class Recorded:
    """A session that keeps what it answered, in order."""

    def __init__(self, session: crepe.Session) -> None:
        self.session = session
        self.answers: list[Array] = []

    def run(self, outputs: None, inputs: Mapping[str, NDArray[Any]], /) -> list[Array]:
        found = self.session.run(outputs, inputs)
        self.answers.append(found[0])
        return found


def _torchcrepe() -> Any:
    """The package, also where the packages are missing with which it would read and resample files."""
    unneeded = ("torchaudio", "resampy")
    missing = [name for name in unneeded if name not in sys.modules and importlib.util.find_spec(name) is None]
    sys.modules.update({name: types.ModuleType(name) for name in missing})
    try:
        return importlib.import_module("torchcrepe")
    finally:
        for name in missing:
            del sys.modules[name]
