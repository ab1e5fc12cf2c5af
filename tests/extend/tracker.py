"""A pitch tracker: the highest peak of the autocorrelation (Boersma 1993), which tracker_graph.py writes as a graph."""

from __future__ import annotations

import numpy as np

from moksori.runtime.pitch import RATE, SILENCE_PEAK, TRACKERS, Array, Kind, Options, Session, Track
from moksori.runtime.ports import Interface, Tensor

WINDOW = 1024  # samples
LAGS = 322  # samples at most, 50 Hz and a neighbour
BATCH = 256  # windows
OCTAVE_COST = 0.02  # of correlation for each octave down; f0 and f0/2 correlate alike


def track(session: Session, audio: Array, fmin: float, fmax: float, options: Options) -> Track:
    hop = round(options.hop * RATE)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, WINDOW // 2), WINDOW)[::hop]
    batches = [np.ascontiguousarray(windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)]
    found = np.concatenate([session.run(None, {"windows": batch})[0] for batch in batches])
    lags = np.arange(max(2, int(RATE / fmax)), min(LAGS - 1, int(RATE / fmin) + 1))
    best = lags[(found[:, lags] - OCTAVE_COST * np.log2(lags)).argmax(1)]
    before, peak, after = (np.take_along_axis(found, best[:, None] + k, 1)[:, 0] for k in (-1, 0, 1))
    curve = before - 2 * peak + after
    aside = np.where(curve < 0, (before - after) / np.where(curve < 0, 2 * curve, 1), 0).clip(-0.5, 0.5)
    heard = np.abs(windows).max(1) >= SILENCE_PEAK
    times = np.arange(len(windows)) * (hop / RATE)
    return Track(times, (RATE / (best + aside)).astype(np.float32), np.where(heard, peak, 0).clip(0, 1))


PORTS = Interface({"windows": Tensor(("F", WINDOW))}, {"correlation": Tensor(("F", LAGS))})
TRACKERS["autocorrelation"] = Kind(PORTS, track, Options(threshold=0.6))
