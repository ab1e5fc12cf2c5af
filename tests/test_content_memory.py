"""A content network that goes on where it left off hears in pieces what it hears in the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from live_song import RATE, song

from moksori.export.content import export_content, student_facts
from moksori.models.convnext_content import ConvNeXtContent, ConvNeXtContentConfig, Remembering
from moksori.runtime import Voice, content, devices
from moksori.runtime.backends import cpu
from moksori.runtime.devices import Session
from moksori.runtime.performer import Performer
from moksori.runtime.resample import Ratio, Resampler
from moksori.runtime.rolling import Ear
from moksori.train.content import ContentConfig

SMALL = {"units": 8, "channels": 16, "hidden": 32, "layers": 3, "kernel": 7, "ahead": 2}
CONFIG = ContentConfig(network=SMALL)
UNSETTLED = SMALL["ahead"] + 1  # the window of a unit's second mel frame reaches into the next unit
Models = dict[str, onnx.ModelProto]


def network() -> ConvNeXtContent:
    torch.manual_seed(0)
    return ConvNeXtContent(ConvNeXtContentConfig(**SMALL)).eval()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "content.onnx"
    export_content(network(), student_facts(CONFIG), path)
    return path


@pytest.fixture(scope="module")
def session(graph: Path) -> Session:
    return devices.open_session(graph, cpu(), threads=1)


def test_the_network_itself_goes_on_exactly() -> None:
    audio = 0.1 * torch.randn(1, 40 * 320, generator=torch.Generator().manual_seed(1))
    net, begin, parts = network(), 0, []
    rows = SMALL["layers"] * (SMALL["kernel"] - 1)
    before, state = torch.zeros(1, 120), torch.zeros(1, rows, SMALL["channels"])
    with torch.no_grad():
        for end in (9, 13, 14, 26, 40):
            settled = end - begin - (UNSETTLED if end < 40 else 0)
            piece = audio[:, begin * 320 : end * 320]
            units, state = Remembering(net)(piece, before, state, torch.tensor([settled]))
            parts.append(units[:, :settled])
            begin += settled
            before = audio[:, begin * 320 - 120 : begin * 320]
        torch.testing.assert_close(torch.cat(parts, 1), net(audio), rtol=0, atol=1e-5)


def test_whoever_does_not_remember_gives_and_takes_audio_and_units_alone(session: Session) -> None:
    assert [one.name for one in session.raw.get_inputs()] == ["audio"]
    audio = (0.1 * np.random.default_rng(0).standard_normal(20 * 320 + 17)).astype(np.float32)
    padded = torch.from_numpy(np.pad(audio, (0, 320 - 17)))[None]
    with torch.no_grad():
        np.testing.assert_allclose(content.units(session, audio), network()(padded)[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_any_sizes_are_the_whole(session: Session, seed: int) -> None:
    rng = np.random.default_rng(seed)
    audio = (0.1 * rng.standard_normal(60 * 320)).astype(np.float32)
    known, begin, parts = content.memory(session), 0, []
    assert known is not None
    while begin < 60:
        end = min(60, begin + UNSETTLED + int(rng.integers(0, 9)))
        settled = end - begin - (UNSETTLED if end < 60 else 0)
        found, known = content.go_on(session, audio[begin * 320 : end * 320], known, settled)
        parts.append(found[:settled])
        begin += settled
    np.testing.assert_allclose(np.concatenate(parts), content.units(session, audio), atol=1e-5)


def test_a_network_without_a_memory_has_none(tmp_path: Path, tiny_models: Models) -> None:
    onnx.save(tiny_models["content"], tmp_path / "content.onnx")
    assert content.memory(devices.open_session(tmp_path / "content.onnx", cpu(), threads=1)) is None


@pytest.fixture
def voice(tmp_path: Path, tiny_voice: object, tiny_models: Models, graph: Path) -> Voice:
    """The tiny voice with that content network, and what its voice.json would say."""
    from conftest import tiny_manifest

    spec = replace(tiny_manifest().units, context=0.4, lookahead=student_facts(CONFIG).lookahead)
    folder = tiny_voice(tmp_path / "voice", {"content": onnx.load(graph)}, units=spec)  # type: ignore[operator]
    return Voice.load(folder, "cpu", threads=1)


def heard(ear: Ear, voice: Voice, signal: np.ndarray, done: int, step: int = 960) -> tuple[np.ndarray, int]:
    """Units that a stream settles of a signal in blocks of 40 ms, hearing 60 ms ahead."""
    performer, kept = Performer(voice), []
    for at in range(0, len(signal), step):
        ear.push(signal[at : at + step])
        end = max(0, ear.known - 6)
        if end > done:
            before = ear.units.end
            ear.hear(performer, done, end)
            kept.append(ear.units.cut(before, ear.units.end))
            done = end
    return np.concatenate(kept), done


def test_a_stream_hears_all_of_its_past(voice: Voice) -> None:
    signal = song(1.2)
    ear = Ear(voice.manifest, None, 0, content.memory(voice.content))
    found, _ = heard(ear, voice, signal, 0)
    narrow = Resampler(Ratio(RATE, content.RATE)).push(signal)
    np.testing.assert_allclose(found, content.units(voice.content, narrow)[: len(found)], atol=1e-5)


def test_after_a_pause_it_hears_its_past_anew(voice: Voice) -> None:
    signal = song(2.0)
    ears = [Ear(voice.manifest, 0.5, 0, content.memory(voice.content)) for _ in range(2)]
    (_, done), (_, other) = (heard(ear, voice, signal[:RATE], 0) for ear in ears)
    assert done == other
    ears[0].pass_over(done)
    after, straight = (heard(ear, voice, signal[RATE:], done)[0] for ear in ears)
    near = slice(30, None)  # units whose past lies after the pause altogether
    np.testing.assert_allclose(after[near], straight[near], atol=1e-4)
    assert np.abs(after - straight).max() < 0.2 * np.abs(straight).max()
