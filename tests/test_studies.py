"""The studies in docs/study: their measures against other ways to get them, and that each runs."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result
from onnx import helper

from moksori.runtime import Voice, audio, crepe
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.pitch import Options, Track

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
torch = pytest.importorskip("torch")
from moksori.benchmarks import (  # noqa: E402
    study_conditions,
    study_crepe,
    study_f0,
    study_guidance,
    study_hearing,
    study_mix,
    study_steps,
    study_teacher,
    study_units,
    study_vocoder,
)
from moksori.models.crepe import CAPACITIES, Crepe  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SONG = ROOT / "tests" / "data" / "vocadito_10.flac"
TinyVoice = Callable[..., Path]


@pytest.mark.parametrize("name", study_conditions.CHANGES)
def test_a_change_leaves_the_other_conditions_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {
        "units": rng.normal(size=(1, 5, 3)), "f0": rng.uniform(100, 400, (1, 10)),
        "loudness": rng.normal(-20, 5, (1, 10)), "voiced": (rng.random((1, 10)) > 0.5).astype(np.float32),
        "speaker": np.array([[1.0, 0.0]]), "mel2ph": np.arange(1, 11)[None],
    }  # fmt: skip
    before = copy.deepcopy(given)
    made = study_conditions.CHANGES[name](given)
    differ = {key for key in given if not np.array_equal(made[key], given[key])}
    assert len(differ) == 1 and all(made[key].shape == given[key].shape for key in given)
    assert all(np.array_equal(given[key], before[key]) for key in given)
    assert np.unique(made[differ.pop()], axis=1).shape[1] == 1  # one value all through


def test_agreement_is_what_scikit_learn_measures() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    clusters, phones = rng.integers(0, 7, 500), rng.choice(list("abcde"), 500, p=(0.4, 0.3, 0.1, 0.1, 0.1))
    clusters[phones == "a"] = 3
    found = study_units.agreement(clusters, list(phones))
    shared, entropy = metrics.mutual_info_score(phones, clusters), metrics.mutual_info_score(phones, phones)
    assert found["explained"] == pytest.approx(shared / entropy)
    table = metrics.cluster.contingency_matrix(clusters, phones)
    assert found["phone_purity"] == pytest.approx(table.max(1).sum() / 500)
    assert found["cluster_purity"] == pytest.approx(table.max(0).sum() / 500)
    same = study_units.agreement(np.array([0, 0, 1]), ["a", "a", "b"])
    assert same == pytest.approx({"phone_purity": 1, "cluster_purity": 1, "explained": 1})


def test_phones_are_marked_where_their_symbols_are() -> None:
    said = list(study_units._phones([" ", "ˈ", "a", "ː", "t", " ", "n", ".", " "]))
    assert said == ["pause", "a", "a", "a", "t", "", "n", "pause", "pause"]
    kept, names = study_units.spoken(["x", "x", "a", "", "b"], late=2)
    assert kept.tolist() == [0, 2] and names == ["a", "b"]


def test_without_a_reader_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(MoksoriError, match=r"pip install --no-deps hibari-tts==0\.2\.1"):
        next(study_units._read("A word."))


def test_the_lag_of_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(rng.integers(0, 6, 150), rng.integers(4, 12, 150))
    mels = np.eye(6, dtype=np.float32)[places] + rng.normal(0, 0.05, (len(places), 6)).astype(np.float32)
    phones = ["x"] * 3 + [f"p{place}" for place in places[:-3]]
    assert study_units.lag(phones, mels) == 3


def test_a_speaker_is_told_only_where_one_can_be() -> None:
    rng = np.random.default_rng(0)

    def clips(centre: float) -> list[np.ndarray]:
        return [rng.normal(centre, 1, (400, 4)).astype(np.float32) for _ in range(4)]

    assert study_units.told({"a": clips(-2), "b": clips(2), "c": clips(9)}) > 0.97
    assert study_units.told({"a": clips(0), "b": clips(0)}) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", CAPACITIES)
def test_multiplications_are_those_that_torch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = Crepe(CAPACITIES[name]).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1024))
    assert 2 * sum(study_crepe.products(CAPACITIES[name])) == counter.get_total_flops()


def test_trackers_that_agree_are_no_cents_apart() -> None:
    bins = np.full(20, 180)
    salience = np.zeros((20, crepe.BINS), np.float32)
    salience[:, 180] = 0.9
    other = Track(np.arange(20) * 0.01, crepe.frequencies(salience, bins) * 2 ** (7 / 1200), np.ones(20, np.float32))
    assert study_crepe.apart(salience, 0.3, other, Options()) == pytest.approx(7, abs=0.01)
    assert np.isnan(study_crepe.apart(0 * salience, 0.3, other, Options()))


def test_the_parts_of_a_vocoder_add_up(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    voice = Voice.load(tiny_voice(tmp_path / "voice"), "cpu")
    frames = np.random.default_rng(0).normal(-5, 1, (60, voice.manifest.mel.bins)).astype(np.float32)
    made = study_vocoder.parts(voice, frames, np.full(60, 220, np.float32))
    both = made[study_vocoder.HARMONIC] + made[study_vocoder.NOISE]
    np.testing.assert_allclose(both, made[study_vocoder.SUM], atol=1e-5)
    rows = study_vocoder.shares(made[study_vocoder.HARMONIC], 0 * both, np.arange(60) < 30, voice.manifest.mel)
    assert [row["voiced"] for row in rows] == [0] * len(rows)


def test_storage_is_told_of_an_hour(tmp_path: Path) -> None:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "results" / "prepare-stages.json", tmp_path / "benchmarks" / "results")
    done = run(study_f0, tmp_path)
    known = json.loads((ROOT / "benchmarks" / "results" / "prepare-stages.json").read_text(encoding="utf-8"))
    assert f"| f0 | {known['7200 s']['core_seconds']['f0'] / 2:.1f} |" in done.stdout
    assert f"{3600 / 102 * 25.4:.0f} |" in done.stdout


def test_the_vocoder_study_runs(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    done = run(study_vocoder, tmp_path, SONG, "--voice", tiny_voice(tmp_path / "voice"), "--seconds", 1)
    assert "| their sum |" in done.stdout and (tmp_path / "docs" / "figures" / "vocoder.png").is_file()


def test_the_crepe_study_runs(tmp_path: Path, tiny_voice: TinyVoice, jumpy_crepe: Path) -> None:
    shutil.copy(jumpy_crepe, tmp_path / "pitch-crepe-tiny.onnx")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("pitch.json", "speed-demo.json"):
        shutil.copy(ROOT / "benchmarks" / "results" / name, tmp_path / "benchmarks" / "results")
    done = run(study_crepe, tmp_path, SONG, "--tracker", "crepe-tiny", "--graphs", tmp_path, "--seconds", 0.5,
               "--voice", tiny_voice(tmp_path / "voice"))  # fmt: skip
    assert "| convolution 6 | 67.1 | 1.05 |" in done.stdout
    assert (tmp_path / "docs" / "figures" / "crepe.png").is_file()


def hum(text: str) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Each letter a pitch, where a reader would say a phone."""
    rng = np.random.default_rng(0)
    for word in text.split():
        spoken = [letter for letter in word for _ in range(4)]
        pitch = np.repeat([float(ord(letter)) for letter in spoken], 600)
        yield (0.1 * np.sin(np.cumsum(pitch) / 50) + 0.01 * rng.normal(size=len(pitch))).astype(np.float32), spoken


def test_the_teacher_study_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.WhisperConfig(
        d_model=24, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=96, decoder_ffn_dim=16, vocab_size=30, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.WhisperModel(config).save_pretrained(tmp_path / "whisper")
    monkeypatch.setattr(study_units, "_read", hum)
    monkeypatch.setattr(study_units, "SHOWN", 8)
    monkeypatch.setattr(study_units, "TEXT", tmp_path / "text.txt")
    monkeypatch.setattr(study_teacher, "DIMENSIONS", (4,))
    monkeypatch.setattr(study_teacher, "SHIPPED", 8)
    (tmp_path / "text.txt").write_text("abcab cbaac babcc " * 30, encoding="utf-8")
    song = audio.read(SONG, 16_000)
    for number, name in enumerate(("ann", "bob", "cat", "dan")):
        (tmp_path / "who" / name).mkdir(parents=True)
        for part in range(2):
            start = (2 * number + part) * 16_000
            soundfile.write(tmp_path / "who" / name / f"{part}.wav", song[start : start + 16_000], 16_000)
    given = ("whisper", "--minutes", 0.4, "--speakers", "who", "--among", "ann,bob", "--strangers", "cat,dan")
    monkeypatch.chdir(tmp_path)
    done = run(study_teacher, tmp_path, *given)
    rows = json.loads((tmp_path / "benchmarks" / "results" / "study-teacher.json").read_text(encoding="utf-8"))["rows"]
    names = ["before layer 1", "layer 1", "layer 2", "4 units", "8 units, nothing altered"]
    assert [row["name"] for row in rows] == names
    assert rows[0]["phones"] > 0.4  # three letters, told by their pitch
    assert all(0 <= row[group] <= 1 for row in rows for group in ("speakers", "strangers"))
    assert "| 4 units |" in done.stdout and (tmp_path / "docs" / "figures" / "teacher.png").is_file()


def test_the_hearing_study_runs(tmp_path: Path) -> None:
    graph = ROOT / "voices" / "demo" / "content.onnx"
    (tmp_path / "silence").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "silence" / "a.wav", noise, 16_000)
    (tmp_path / "short").mkdir()
    soundfile.write(tmp_path / "short" / "a.wav", noise[:100], 16_000)
    done = run(study_hearing, tmp_path, graph, "--student", f"itself={graph}", "--set", f"a song={SONG}",
               "--set", f"noise={tmp_path / 'silence'}", "--set", f"noise={SONG}", "--clips", 1)  # fmt: skip
    assert "| a song | 1 | 0 % |" in done.stdout and "| noise | 2 | 0 % |" in done.stdout
    assert (tmp_path / "docs" / "figures" / "hearing.png").is_file()
    assert study_hearing.missed(np.zeros((4, 2)), np.array([[1.0, -1], [-1, 1], [1, 1], [-1, -1]])) == 1
    for options, reason in (
        (("none.onnx", "--student", f"x={graph}", "--set", f"y={SONG}"), "name a content graph"),
        ((graph, "--student", "x", "--set", f"y={SONG}"), "is no NAME=PLACE"),
        ((graph, *5 * ("--student", f"x={graph}"), "--set", f"y={SONG}"), "no more than 4 can be told apart"),
        ((graph, "--student", f"x={graph}", "--set", f"y={tmp_path / 'short'}"), "no recordings of 1 s together"),
    ):
        refused = CliRunner().invoke(study_hearing.main, [str(one) for one in options])
        assert refused.exit_code == 2 and reason in refused.output


def test_the_units_study_runs(tmp_path: Path, tiny_voice: TinyVoice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_units, "_read", hum)
    monkeypatch.setattr(study_units, "CLUSTERS", (5,))
    monkeypatch.setattr(study_units, "SHOWN", 8)
    (tmp_path / "text.txt").write_text("abcab cbaac babcc " * 8, encoding="utf-8")
    song = audio.read(SONG, 16_000)
    for name in ("ann", "bob"):
        (tmp_path / "who" / name).mkdir(parents=True)
        for part in range(2):
            soundfile.write(tmp_path / "who" / name / f"{part}.wav", song[part * 16_000 : (part + 1) * 16_000], 16_000)
    given = ("--voice", tiny_voice(tmp_path / "voice"), "--text", tmp_path / "text.txt", "--minutes", 0.1,
             "--speakers", tmp_path / "who", "--among", "ann,bob")  # fmt: skip
    done = run(study_units, tmp_path, *given)
    assert "| units, 5 |" in done.stdout and "| ann or bob | 50 |" in done.stdout
    with pytest.raises(OptionError, match="fewer --minutes"):
        study_units.labelled(lambda heard: np.zeros((len(heard) // 320, 2), np.float32), "ab", 60)


def test_the_studies_that_convert_run(
    tmp_path: Path, tiny_voice: TinyVoice, tiny_models: dict[str, onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resemblyzer")
    pytest.importorskip("parselmouth")
    guided = copy.deepcopy(tiny_models["condition"])
    helper.set_model_props(guided, {"role": "condition", "format_version": "1", "dropped": "0.1"})
    voice = tiny_voice(tmp_path / "voice", {"condition": guided})
    song = audio.read(SONG, 16_000)[:32_000]
    for name in ("in", "known/heart"):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / "a.wav", song, 16_000)
    given = ("--inputs", tmp_path / "in", "--references", tmp_path / "known")
    assert "| units at their mean |" in run(study_conditions, tmp_path, "--voice", voice, *given).stdout
    rows = record_of(tmp_path, "conditions")["rows"]
    different = {"units at their mean", "loudness flat", "speakers mixed", "f0 flat, vocoder too"}
    assert {row["name"] for row in rows if row["mel"] > 0} >= different
    assert rows[0]["name"] == "all as heard" and rows[0]["mel"] == 0
    monkeypatch.setattr(study_steps, "STEPS", (1, 2))
    monkeypatch.setattr(study_steps, "REFERENCE", ("ab2", 2))
    run(study_steps, tmp_path, "--voice", voice, *given)
    assert [row["name"] for row in record_of(tmp_path, "steps")["rows"]] == ["euler, 1", "euler, 2", "ab2, 2"]
    run(study_guidance, tmp_path, voice, "--weight", 2, *given)
    assert [row["evaluations"] for row in record_of(tmp_path, "guidance")["rows"]] == [4, 8]


def test_a_mix_is_held_to_both_of_its_speakers(tmp_path: Path, tiny_voice: TinyVoice) -> None:
    pytest.importorskip("resemblyzer")
    pytest.importorskip("parselmouth")
    song = audio.read(SONG, 16_000)
    for name, at in (("in", 0), ("known/heart", 0), ("known/f001", 2)):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / "a.wav", song[at * 16_000 : (at + 2) * 16_000], 16_000)
    given = ("--voice", tiny_voice(tmp_path / "voice"), "--inputs", tmp_path / "in", "--references", tmp_path / "known")
    said = run(study_mix, tmp_path, *given, "--share", 1, "--share", 0, "--share", 0.25).stdout
    assert "| heart:0.75,f001:0.25 |" in said
    rows = record_of(tmp_path, "mix")["rows"]
    assert [row["mix"] for row in rows] == ["heart:1", "heart:0.75,f001:0.25", "f001:1"]
    assert all(row["similarity"][0] != row["similarity"][1] and row["error_rate"] is None for row in rows)
    done = CliRunner().invoke(study_mix.main, [*(str(one) for one in given), "--of", "heart", "heart"])
    assert done.exit_code != 0 and "name two speakers" in done.output


def run(module: Any, root: Path, *arguments: object) -> Result:
    done = CliRunner().invoke(module.main, [str(one) for one in (*arguments, "--root", root)])
    assert done.exit_code == 0, done.output
    return done


def record_of(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / "benchmarks" / "results" / f"study-{name}.json").read_text(encoding="utf-8")))
