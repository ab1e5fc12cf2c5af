"""How checkpoints of a denoiser are ranked where nobody said how: by converting clips that no training heard."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner, Result

from moksori.export import run as runs
from moksori.runtime.files import read_json
from moksori.train import checkpoint, heldout
from moksori.train.cli import main
from moksori.train.dataset import PreparedData
from moksori.train.measures import Recogniser, Sound

TINY = {
    "batch": 4, "frames": 32, "network": {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5},
    "loop": {"warmup": 1, "validate_every": 1, "keep": 1, "workers": 1, "learning_rate": 0.01},
}  # fmt: skip
WORDS = [chr(97 + k) for k in range(20)]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|nospeech|>", "<|notimestamps|>", "<|0.00|>"]


def svc_train(*given: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(one) for one in (*given, "--threads", 1)])


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights as CTranslate2 stores it: it babbles, and the same of the same sound."""
    loaders = pytest.importorskip("ctranslate2.converters.transformers")
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    folder, tokens = tmp_path_factory.mktemp("위스퍼"), [*WORDS, *SPECIAL]
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=len(tokens), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=20, bos_token_id=20,
        eos_token_id=20, decoder_start_token_id=21, suppress_tokens=None, begin_suppress_tokens=None, init_std=1.0,
    )  # fmt: skip
    spec = loaders.WhisperLoader().get_model_spec(transformers.WhisperForConditionalGeneration(config).eval())
    spec.config.suppress_ids = spec.config.suppress_ids_begin = spec.config.lang_ids = []
    spec.config.alignment_heads = [(0, 0)]
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    numbered = {token: number for number, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbered, unk_token="a"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return path


def listed(folder: Path, counts: dict[str, int], facts: dict[str, object]) -> PreparedData:
    """A description of data with so many slices of each speaker, and no audio."""
    speakers = [{"name": name} for name in counts]
    slices = [{"id": f"{n}{k}", "speaker": n, "seconds": 6.0} for n, count in counts.items() for k in range(count)]
    folder.mkdir()
    said = json.dumps({**facts, "speakers": speakers, "slices": slices})
    (folder / "data.json").write_text(said, encoding="utf-8")
    return PreparedData(folder)


def test_clips_are_held_out_ones_of_as_many_others_as_possible(tiny_data: Path, tmp_path: Path) -> None:
    facts = read_json(tiny_data / "data.json")
    data = listed(tmp_path / "many", {"me": 400, "a": 200, "b": 80, "c": 40}, facts)
    clips = heldout.of_others(data, "me")
    taught = {data.recording(piece) for piece in data.training}
    assert len(clips) == heldout.COUNT and not set(clips.values()) & taught
    found = [path.parent.name for path in clips.values()]
    assert {name: found.count(name) for name in found} == {"a": 3, "b": 2, "c": 1}  # 5, 2 and 1 are held out
    crowd = listed(tmp_path / "crowd", {f"s{number:02d}": 40 for number in range(30)}, facts)
    found = [path.parent.name for path in heldout.of_others(crowd, "s00").values()]
    assert len(set(found)) == heldout.COUNT and max(found) > "s15"
    assert heldout.of_others(listed(tmp_path / "alone", {"me": 9}, facts), "me") == {}
    assert heldout.of_others(listed(tmp_path / "single", {"me": 0, "a": 1}, facts), "me") == {}  # it is trained on


def test_a_lone_speakers_slices_are_sung_by_the_demo(tiny_data: Path, tmp_path: Path) -> None:
    """As long as they were, and made once."""
    data = PreparedData(tiny_data)
    own = [piece for piece in data.validation if data.speakers[piece.speaker] == "ann"]
    clips = heldout.of_the_demo(data, "ann", tmp_path)
    assert [Path(name).name for name in clips] == [f"{piece.id} by demo" for piece in own]
    for piece, path in zip(own, clips.values(), strict=True):
        sound, source = Sound.read(path), Sound.read(data.recording(piece))
        assert len(sound.samples) == pytest.approx(len(source.samples), abs=1)
        assert np.abs(sound.samples).max() > 0.01 and np.abs(sound.samples - source.samples).max() > 0.01
    before = {path: path.stat().st_mtime_ns for path in clips.values()}
    assert heldout.of_the_demo(data, "ann", tmp_path) == clips
    assert {path: path.stat().st_mtime_ns for path in clips.values()} == before


def test_by_default_conversions_rank_and_export_takes_the_best(
    tiny_data: Path, config: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """Two validations, each heard by a voice encoder, Praat and a Whisper; the better one stays and is exported."""
    pytest.importorskip("resemblyzer")
    run = tmp_path / "run"
    result = svc_train("denoiser", tiny_data, run, "--config", config, "--steps", 2, "--recogniser", tiny_whisper)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "ranked by the similarity, pitch and words of 1 clips, sung as ann: bob/" in said or "by demo" in said
    best = read_json(run / "denoiser" / checkpoint.BEST)
    assert best["by"] == "judge/score" and 0 <= best["judge/error_rate"] <= 1
    parts = best["judge/similarity"] - best["judge/error_rate"] - 0.25 * best["judge/voicing"]
    assert best["judge/score"] == pytest.approx(parts - 0.5 * best.get("judge/off_pitch", 0))
    kept = checkpoint.steps(run / "denoiser")
    scores = {step: checkpoint.weights(checkpoint.at(run / "denoiser", step))[1] for step in kept}
    assert {info["metrics"]["judge/score"] <= best["judge/score"] for info in scores.values()} == {True}
    assert runs.denoiser(run).step == best["step"] and f"takes {checkpoint.at(run, best['step']).name}" in said


def test_a_recogniser_hears_the_same_in_the_same(tiny_whisper: Path) -> None:
    ears = Recogniser(tiny_whisper)
    noise = Sound(np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1, 16_000)
    other = Sound(noise.samples[::-1].copy(), 16_000)
    text = ears.text(noise)
    assert ears.language(noise) == "en" and set(text.split()) <= set(WORDS) and len(text) > 10
    assert ears.text(noise) == text != ears.text(other)


@pytest.mark.parametrize("lacking", ["resemblyzer", "parselmouth"])
def test_what_cannot_be_judged_is_ranked_by_loss(
    lacking: str, tiny_data: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)
    result = svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 2)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "ranked by loss alone" in said and f"measuring needs {lacking}" in said and "pip install" in said
    best = read_json(tmp_path / "run" / "denoiser" / checkpoint.BEST)
    assert best["by"] == "validation/loss" and best["step"] == runs.denoiser(tmp_path / "run").step
    asked = svc_train("denoiser", tiny_data, tmp_path / "other", "--config", config, "--judge", tiny_data / "audio")
    assert asked.exit_code == 2 and f"measuring needs {lacking}" in asked.output


def test_clips_that_say_nothing_are_refused(tiny_data: Path, config: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    given = "denoiser", tiny_data, tmp_path / "run", "--config", config, "--judge", tmp_path
    result = svc_train(*given)
    assert result.exit_code == 2 and "silent.wav is silent, and nothing can be judged by it" in result.output
    both = svc_train(*given, "--by-loss")
    assert both.exit_code == 2 and "--by-loss judges nothing" in both.output


def test_the_recipes_recogniser_hears_words(tmp_path: Path) -> None:
    """The real Whisper, where the demo's recipe has fetched one."""
    folder = Path(__file__).resolve().parents[1] / "build" / "demo" / "teacher"
    if not (folder / "model.bin").is_file():
        pytest.skip("build/demo/teacher is not there; train/recipes/demo/run.py fetches it")
    shutil.copy(Path(__file__).parent / "data" / "vocadito_10.flac", tmp_path)
    song = Sound.read(tmp_path / "vocadito_10.flac")
    ears = Recogniser(folder)
    assert ears.language(song) == "en" and len(ears.text(song).split()) > 5
