"""Streams of NSF vocoders: any cutting equals one pass; a graph with its phase inside is joined without a break."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal

from moksori.export.storage import make_plain
from moksori.export.vocoder import nsf_spec, receptive_field
from moksori.models.nsf_hifigan import NsfHifiGan, NsfHifiGanConfig
from moksori.runtime import noise, nsf_vocoder, vocoder
from moksori.runtime.errors import VoiceError
from moksori.runtime.manifest import VocoderSpec
from moksori.runtime.mel import MelSpec
from moksori.runtime.nsf_vocoder import MiniNsfSynthesizer, NsfSynthesizer
from moksori.runtime.openutau import OpenUtauSynthesizer

SPEC = MelSpec(sample_rate=8_000, hop=64, n_fft=256, win=256, bins=6, fmin=40, fmax=4_000)
CONFIG = NsfHifiGanConfig(6, 8_000, (8, 8), (16, 16), 8, "2", (3,), ((1, 3),))
FRAMES, SEED = 41, 3
RANDOM = np.random.default_rng(0)
MEL = RANDOM.uniform(0, 2, (FRAMES, 6)).astype(np.float32)  # above 0, where rectifiers let all of it through
F0 = (200 * 2 ** np.cumsum(RANDOM.normal(0, 0.05, FRAMES))).astype(np.float32)
Make = Callable[[int], NsfSynthesizer]


class TorchSession:
    """A network in the shape of a loaded graph."""

    name = "the vocoder graph"

    def __init__(self, network: NsfHifiGan) -> None:
        self.network = network
        self.metadata = {"source_hop": str(network.config.source_hop)}

    @torch.no_grad()
    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        assert tuple(inputs) == self.network.inputs
        return [self.network(*(torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values())).numpy()]


class Case:
    def __init__(self, mini: bool) -> None:
        torch.manual_seed(0)
        network = NsfHifiGan(dataclasses.replace(CONFIG, mini=mini)).eval()
        make_plain(network)
        for weight in network.parameters():  # means of what they see, so that far frames weigh enough to be missed
            torch.nn.init.uniform_(weight, 0.5 / weight[0].numel(), 1.5 / weight[0].numel())
        last = network.get_parameter("conv_post.weight")  # sees change alone, and stays far from tanh's ends
        last.data = 1e-3 * (last.data - last.data.mean(-1, keepdim=True)) / last.data.std()
        torch.nn.init.zeros_(network.get_parameter("conv_post.bias"))
        self.reach = receptive_field(network, nsf_spec(network, SPEC))
        self.kind = MiniNsfSynthesizer if mini else NsfSynthesizer
        self.session = TorchSession(network)
        self.whole = self._offline(network)
        self.scale = float(np.abs(self.whole).max())

    def stream(self, cuts: list[int], context: int) -> np.ndarray:
        synthesizer = self.kind(self.session, SPEC, context, SEED)
        parts = [synthesizer.push(MEL[a:b], F0[a:b]) for a, b in pairwise([0, *cuts, FRAMES])]
        return np.concatenate([*parts, synthesizer.flush()])

    def _offline(self, network: NsfHifiGan) -> np.ndarray:
        """One pass, its phase summed sample by sample in float64."""
        steps = network.config.source_hop
        ends = np.append(F0[1:], F0[-1]).astype(np.float64) if network.config.mini else F0
        line = F0[:, None] + (ends - F0)[:, None] * np.arange(steps) / steps
        cycles = np.cumsum(line.ravel().astype(np.float64)) * SPEC.hop / steps / SPEC.sample_rate
        phase = np.concatenate([[0], cycles[steps - 1 :: steps][:-1]]) % 1
        white = noise.frames("vocoder", SEED, 0, FRAMES, SPEC.hop)
        feed = {"mel": MEL[None], "f0": F0[None], "phase": phase[None].astype(np.float32)}
        feed |= {} if network.config.mini else {"noise": white[None]}
        return self.session.run(None, feed)[0][0]


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "mini"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 30], [17, 17, 40], [39]])
def test_any_cutting_equals_one_pass(case: Case, cuts: list[int]) -> None:
    found = case.stream(cuts, case.reach)
    assert found.shape == (FRAMES * SPEC.hop,)
    np.testing.assert_allclose(found / case.scale, case.whole / case.scale, atol=1e-5)


def test_one_frame_less_context_is_heard(case: Case) -> None:
    cuts = list(range(5, FRAMES, 5))
    assert np.abs(case.stream(cuts, case.reach) - case.whole).max() < 1e-5 * case.scale
    assert np.abs(case.stream(cuts, case.reach - 1) - case.whole).max() > 2e-5 * case.scale


@pytest.mark.parametrize("size", [1, 5])
def test_rendering_with_what_is_foreseen_equals_one_pass(case: Case, size: int) -> None:
    synthesizer, parts = case.kind(case.session, SPEC, case.reach, SEED), []
    for at in range(0, FRAMES - case.reach - size, size):
        known = at + size + case.reach
        made = synthesizer.render(MEL[at:known], F0[at:known], size)
        assert len(made) == (known - at) * SPEC.hop and len(synthesizer.mel) <= case.reach + 1
        parts.append(made[: size * SPEC.hop])
    found = np.concatenate(parts)
    np.testing.assert_allclose(found / case.scale, case.whole[: len(found)] / case.scale, atol=1e-5)


def test_long_pushes_are_made_in_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory follows the longest run, not the push."""
    seen: list[int] = []
    plain = case.session.run

    def run(outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        seen.append(inputs["mel"].shape[1])
        return plain(outputs, inputs)

    monkeypatch.setattr(nsf_vocoder, "LONGEST", 7)
    monkeypatch.setattr(case.session, "run", run)
    np.testing.assert_allclose(case.stream([], case.reach), case.whole, atol=1e-5 * case.scale)
    assert max(seen) <= 7 + 2 * case.reach and len(seen) == -(-FRAMES // 7) + (1 if (FRAMES - case.reach) % 7 else 0)


def test_a_stream_holds_only_its_context(case: Case) -> None:
    synthesizer, out = case.kind(case.session, SPEC, case.reach, SEED), 0
    for frame in range(FRAMES):
        out += len(synthesizer.push(MEL[frame : frame + 1], F0[frame : frame + 1]))
        assert out == max(0, frame + 1 - case.reach) * SPEC.hop
        assert len(synthesizer.mel) == len(synthesizer.phase) <= 2 * case.reach + 1
        assert len(synthesizer.push(MEL[:0], F0[:0])) == 0
    assert out + len(synthesizer.flush()) == FRAMES * SPEC.hop


def test_no_frames_are_no_samples(case: Case) -> None:
    assert len(case.kind(case.session, SPEC, case.reach, SEED).flush()) == 0


def test_the_kinds_table_makes_each() -> None:
    session = SimpleNamespace(metadata={"source_hop": "16"}, name="x")
    made = [vocoder.synthesizer(session, SPEC, VocoderSpec(kind, 3, "host"), 0) for kind in vocoder.KINDS]
    assert [type(one).__name__ for one in made] == [
        "IstftSynthesizer", "NsfSynthesizer", "MiniNsfSynthesizer", "OpenUtauSynthesizer"
    ]  # fmt: skip


@pytest.mark.parametrize("said", [{}, {"source_hop": "0"}, {"source_hop": "65"}, {"source_hop": "x"}])
def test_a_mini_graph_must_say_its_source_hop(said: dict[str, str]) -> None:
    with pytest.raises(VoiceError, match="source_hop"):
        MiniNsfSynthesizer(SimpleNamespace(metadata=said, name="the vocoder graph"), SPEC, 3, 0)


# phase inside the graph


class Singer:
    """A graph in OpenUtau's form that sings three harmonics of f0; every run begins at a phase of its own."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, outputs: None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        assert set(inputs) == {"mel", "f0"}
        start = 0.37 * self.runs
        self.runs += 1
        cycles = start + np.cumsum(np.repeat(inputs["f0"][0].astype(np.float64), SPEC.hop) / SPEC.sample_rate)
        level = np.exp(np.repeat(inputs["mel"][0].mean(1), SPEC.hop) + 5)
        tone = sum(np.sin(2 * np.pi * k * cycles + k) / k for k in (1, 2, 3))
        return [(0.1 * level * tone)[None].astype(np.float32)]


@pytest.mark.parametrize("hertz", [110.0, 220.0, 523.25])
def test_joined_runs_sound_like_one(hertz: float) -> None:
    """No click: outside the three lines the spectrum is as empty as that of one run, and the level never dips."""
    count, flat = 250, np.full((250, 6), -5, np.float32)
    f0 = np.full(count, hertz, np.float32)
    synthesizer = OpenUtauSynthesizer(Singer(), SPEC, 4, SEED)
    parts = [synthesizer.push(flat[a:b], f0[a:b]) for a, b in pairwise([0, 40, 90, 91, 92, 150, 203, count])]
    found = np.concatenate([*parts, synthesizer.flush()])
    assert found.shape == (count * SPEC.hop,)
    found, periods = found[:-200].astype(np.float64), round(2 * SPEC.sample_rate / hertz)
    level = np.sqrt(signal.oaconvolve(found**2, np.ones(periods) / periods, mode="valid"))
    assert 20 * np.log10(level.min() / level.max()) > -1
    frequencies, power = signal.welch(found, SPEC.sample_rate, nperseg=4096, window="blackmanharris")
    near = np.abs(frequencies[:, None] - hertz * np.arange(1, 4)).min(1) < 40
    assert 10 * np.log10(power[~near].sum() / power.sum()) < -45


def test_runs_of_a_graph_with_its_phase_inside_are_rendered_where_they_agree() -> None:
    """Each call gives its samples and the begin of the next ones; the two ways they go on are the same tone."""
    synthesizer = OpenUtauSynthesizer(Singer(), SPEC, 4, SEED)
    flat, f0 = np.full((60, 6), -5, np.float32), np.full(60, 220.0, np.float32)
    tail = np.zeros(0, np.float32)
    for at in range(0, 40, 8):
        made = synthesizer.render(flat[at : at + 14], f0[at : at + 14], 8)
        assert len(made) == 14 * SPEC.hop
        if len(tail):
            assert np.corrcoef(tail, made[: len(tail)])[0, 1] > 0.99
        tail = made[8 * SPEC.hop :][: synthesizer.fade]


def test_a_break_would_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure above tells a join without search from one with."""
    monkeypatch.setattr(OpenUtauSynthesizer, "_offset", lambda *_: 0)
    with pytest.raises(AssertionError):
        test_joined_runs_sound_like_one(220.0)


def test_frame_by_frame_is_as_long_as_at_once() -> None:
    synthesizer = OpenUtauSynthesizer(Singer(), SPEC, 4, SEED)
    out = sum(len(synthesizer.push(MEL[k : k + 1], F0[k : k + 1])) for k in range(FRAMES))
    assert out + len(synthesizer.flush()) == FRAMES * SPEC.hop
    assert len(OpenUtauSynthesizer(Singer(), SPEC, 4, SEED).flush()) == 0
