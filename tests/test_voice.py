"""Voices: what loads, and every way one can be damaged, altered, hostile or of another time."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from moksori.runtime import library, manifest, voice
from moksori.runtime.errors import DeviceError, OptionError, VoiceError
from moksori.runtime.voice import Voice

TinyVoice = Callable[..., Path]
Models = dict[str, onnx.ModelProto]


def load(path: Path | str) -> Voice:
    return Voice.load(path, "cpu", threads=1)


@pytest.fixture
def folder(tmp_path: Path, tiny_voice: TinyVoice) -> Path:
    return tiny_voice(tmp_path / "tiny")


# What loads


def test_a_folder_loads_and_its_graphs_compute_what_they_say(folder: Path) -> None:
    loaded = load(folder)
    assert (loaded.name, loaded.speaker_names, loaded.notices) == ("tiny", ("heart", "f001"), ())
    assert loaded.manifest.mel.bins == 20 and loaded.manifest.denoiser.mean == (-5.0,) * 20
    assert list(loaded.sessions) == list(manifest.ROLES)
    f0, confidence = loaded.pitch.run(None, {"audio": np.zeros((1, 2560), np.float32)})
    assert np.all(f0 == 220) and f0.shape == confidence.shape == (1, 11)

    rng = np.random.default_rng(1)
    x, *history = (rng.standard_normal((1, 20, 7)).astype(np.float32) for _ in range(4))
    condition = rng.standard_normal((1, 12, 7)).astype(np.float32)
    weight = numpy_helper.to_array(onnx.load(folder / "denoiser.onnx").graph.initializer[0])
    coefficients = np.array([1, 0.5, -0.2, 0.3, 0.1], np.float32)
    inputs = {"x": x, "t": np.array([0.25], np.float32), "coefficients": coefficients, "condition": condition}
    inputs |= {f"history_{at + 1}": array for at, array in enumerate(history)}
    x_next, prediction = loaded.denoiser.run(None, inputs)
    expected = np.einsum("mc,bct->bmt", weight, condition) - x + 0.25
    np.testing.assert_allclose(prediction, expected, atol=1e-5)
    terms = [x, expected, *history]
    np.testing.assert_allclose(
        x_next, sum(c * term for c, term in zip(coefficients, terms, strict=True)), atol=1e-5
    )


def test_odd_folder_names(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    assert load(tiny_voice(tmp_path / "a b" / "목소리 🎵")).name == "tiny"


def test_other_files_may_lie_beside(folder: Path) -> None:
    (folder / "MODEL_CARD.md").write_text("# Tiny", encoding="utf-8")
    assert load(folder).name == "tiny"


def test_installed_voices_come_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "installed", lambda: {"demo": folder})
    monkeypatch.chdir(folder.parent)
    (folder.parent / "demo").mkdir()  # a folder of that name does not hide the voice
    assert load("demo").name == load(voice.DEFAULT).name == "tiny"
    with pytest.raises(VoiceError, match=r"no voice 'demp' \(did you mean 'demo'\?\).*installed: demo"):
        load("demp")
    with pytest.raises(VoiceError, match=r"demo has no voice\.json"):
        load(Path("demo"))


def test_a_voice_cannot_be_changed(folder: Path) -> None:
    loaded = load(folder)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.manifest = loaded.manifest  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.sessions["content"] = loaded.pitch  # type: ignore[index]
    with pytest.raises(TypeError):
        loaded.manifest.files["content"] = loaded.manifest.files["pitch"]  # type: ignore[index]


# Speakers


def test_speakers(folder: Path) -> None:
    loaded = load(folder)
    assert [loaded.speaker_index(name) for name in ("heart", "f001")] == [0, 1]
    mixes: dict[str | None, list[float]] = {
        None: [1, 0],
        "f001": [0, 1],
        "heart:0.7,f001:0.3": [0.7, 0.3],
        "f001:3, heart": [0.25, 0.75],
    }
    for text, weights in mixes.items():
        np.testing.assert_allclose(loaded.speaker_weights(text), weights, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hart", r"no speaker 'hart' \(did you mean 'heart'\?\); it has heart, f001"),
        ("heart,", "no speaker ''"),
        ("heart,heart", "twice"),
        ("heart:-1", "above 0"),
        ("heart:nan,f001", "above 0"),
        ("heart:", "above 0"),
    ],
)
def test_wrong_speakers(folder: Path, text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        load(folder).speaker_weights(text)


def test_a_speaker_typed_on_another_system(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    speakers = voice.read_manifest(tiny_voice(tmp_path / "v")).speakers
    named = tuple(
        dataclasses.replace(one, name=name) for one, name in zip(speakers, ("한별", "é"), strict=True)
    )
    loaded = load(tiny_voice(tmp_path / "v", speakers=named))
    assert [loaded.speaker_index(name) for name in ("한별", "e\u0301")] == [0, 1]


# Files


@pytest.mark.parametrize("role", manifest.ROLES)
def test_an_altered_graph_is_refused(folder: Path, role: str) -> None:
    path = folder / f"{role}.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VoiceError, match=f"{role}.onnx .*its hash differs"):
        load(folder)


def test_sizes_are_checked(folder: Path) -> None:
    path = folder / "content.onnx"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(VoiceError, match=f"has {size + 4} bytes where {size} are right"):
        load(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VoiceError, match="damaged or altered"):
        load(folder)


def test_missing_things(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="there is no voice 'nowhere'"):
        load("nowhere")
    with pytest.raises(VoiceError, match="there is no voice at"):
        load(tmp_path / "nowhere")
    (folder / "pitch.onnx").unlink()
    with pytest.raises(VoiceError, match=r"has no pitch\.onnx, so it is no whole voice"):
        load(folder)


def test_links_and_folders_are_refused(folder: Path) -> None:
    graph = folder / "pitch.onnx"
    graph.rename(folder / "kept.onnx")
    graph.symlink_to(folder / "kept.onnx")
    with pytest.raises(VoiceError, match="is a link, which a voice must not hold"):
        load(folder)
    graph.unlink()
    graph.mkdir()
    with pytest.raises(VoiceError, match="is no plain file"):
        load(folder)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable to this user")
def test_unreadable_files(folder: Path) -> None:
    (folder / "pitch.onnx").chmod(0)
    with pytest.raises(VoiceError, match="check its permissions"):
        load(folder)


def test_an_unknown_device_is_said_before_the_voice_is_read(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="there is no device 'gpu9'"):
        Voice.load(tmp_path, "gpu9")


def test_voices_are_copies_not_links(folder: Path, tmp_path: Path) -> None:
    """A voice still works when its folder goes after loading: the graphs are in memory."""
    loaded = load(folder)
    shutil.rmtree(folder)
    assert loaded.content.run(None, {"audio": np.zeros((1, 320), np.float32)})[0].shape == (1, 1, 8)
