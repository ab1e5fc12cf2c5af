"""A voice in 8 bits: calibrated on prepared data, judged by clips that were held out, and as it says it is."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result

from moksori.export import clips, cost, trial
from moksori.export.cli import main
from moksori.export.spec import ExportError
from moksori.runtime import mel
from moksori.runtime.mel import MelSpec
from moksori.runtime.voice import Voice

MEL = MelSpec(sample_rate=24_000, hop=240, n_fft=512, win=512, bins=20, fmin=40, fmax=8_000)
SLICES = 12


def export(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "240"}).invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DATA_DIR as svc-prepare writes one, of clips that glide about different pitches."""
    folder, tone = tmp_path_factory.mktemp("자료"), clips.tone(MEL)
    (folder / "audio" / "ann").mkdir(parents=True)
    (folder / "features" / "ann").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(SLICES):
        sound = tone.audio * (0.2 + 0.06 * number) + 1e-3 * rng.standard_normal(len(tone.audio))
        soundfile.write(folder / "audio" / "ann" / f"{number}.flac", sound, 24_000)
        units = np.zeros((1, len(sound) // 480, 8), np.float16)
        np.savez(folder / "features" / "ann" / f"{number}.npz", f0=tone.f0, voiced=tone.voiced, units=units)
    said = {
        "mel": asdict(MEL), "units": {"dimension": 8}, "speakers": [{"name": "ann"}],
        "slices": [{"id": str(number), "speaker": "ann", "seconds": clips.SECONDS} for number in range(SLICES)],
    }  # fmt: skip
    (folder / "data.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tiny_run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    target = tmp_path_factory.mktemp("voices") / "작은 voice"
    result = export(tiny_run, target, "--precision", "int8", "--data", data)
    assert result.exit_code == 0, result.output
    return target, result.output


def test_it_computes_in_8_bits_and_sings(made: tuple[Path, str]) -> None:
    voice = Voice.load(made[0], "cpu", threads=1)
    said = voice.manifest.precision
    assert {role: said[role] for role in ("condition", "denoiser", "vocoder")} == dict.fromkeys(
        ("condition", "denoiser", "vocoder"), "int8"
    )
    assert "MatMulInteger" in voice.denoiser.metadata["operators"].split()
    assert {"QuantizeLinear", "Conv"} <= set(voice.vocoder.metadata["operators"].split())
    sound = trial.sung(voice.manifest, voice.sessions, clips.tone(MEL))
    assert sound.shape == (round(clips.SECONDS * 100), 20) and np.isfinite(sound).all()


def test_the_figures_are_what_the_graphs_do(
    made: tuple[Path, str], tiny_run: Path, data: Path, tmp_path: Path
) -> None:
    """The distance again, with the fp32 graphs of the same run and the vocoder alone in 8 bits."""
    result = export(tiny_run, tmp_path / "whole", "--precision", "fp32")
    assert result.exit_code == 0 and "Against fp32" not in result.output
    whole, small = Voice.load(tmp_path / "whole", "cpu", threads=1), Voice.load(made[0], "cpu", threads=1)
    mixed = {**whole.sessions, "vocoder": small.vocoder}
    heard = clips.clips(data, MEL).heard
    pairs = [[trial.sung(whole.manifest, one, clip) for one in (whole.sessions, mixed)] for clip in heard]
    decibels = np.mean([np.abs(a - b).mean() for a, b in pairs]) * 20 / np.log(10)
    said = small.vocoder.metadata
    assert float(said["distance_of_fp32"].split()[0]) == pytest.approx(decibels, rel=0.02)
    sizes = [(folder / "vocoder.onnx").stat().st_size for folder in (made[0], tmp_path / "whole")]
    assert float(said["size_of_fp32"]) == pytest.approx(sizes[0] / sizes[1], rel=0.05)
    assert said["distance_heard"] == "1 held-out clip" and len(heard) == 1


def test_the_same_run_makes_the_same_files(made: tuple[Path, str], tiny_run: Path, data: Path, tmp_path: Path) -> None:
    """Or data prepared with a graph would be another's as soon as that is exported again."""
    assert export(tiny_run, tmp_path / "again", "--precision", "int8", "--data", data).exit_code == 0
    for first in sorted(made[0].glob("*.onnx")):
        assert first.read_bytes() == (tmp_path / "again" / first.name).read_bytes(), first.name


def test_the_table_as_a_person_sees_it(made: tuple[Path, str]) -> None:
    rows = [line for line in made[1].splitlines() if "held-out clip" in line]
    assert [line.split()[1] for line in rows] == ["condition", "denoiser", "vocoder"]
    for line in rows:
        assert re.search(r"int8 .* [\d.e-]+ dB .* 1 .* \d+% .* [\d.]+ times", line)
    assert made[1].count("fp32, then int8") == 3
    shown = export("--inspect", made[0])
    for role in ("condition", "denoiser", "vocoder"):
        assert re.search(rf"{role} +int8 against fp32: [\d.e-]+ dB apart by 1 held-out clip", shown.output)


def test_calibration_and_judgement_share_no_clip(data: Path) -> None:
    given = clips.clips(data, MEL)
    sounds = [{clip.audio.tobytes() for clip in part} for part in (given.calibrating, given.heard)]
    assert sounds[0] and sounds[1] and not sounds[0] & sounds[1]


def test_a_clip_holds_what_belongs_together() -> None:
    clip = clips.tone(MEL)
    assert len(clip.audio) == 240 * len(clip.f0) == 240 * len(clip.voiced)
    spectra = np.abs(np.fft.rfft(clip.audio[: 24_000 // 4] * np.hanning(6_000)))
    first = 4 * spectra[: 1_000 // 4].argmax()
    assert abs(first - clip.f0[:25].mean()) < 30
    assert clip.loudness[clip.voiced].mean() > clip.loudness[~clip.voiced].mean() + 20
    np.testing.assert_array_equal(clip.loudness, mel.loudness(clip.audio, MEL))


def test_data_that_does_not_fit(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds mel with hop 240 \(the voice: 256\)"):
        clips.clips(data, MelSpec(24_000, 256, 512, 512, 20, 40, 8_000))
    with pytest.raises(ExportError, match="add --data and your DATA_DIR"):
        cost.require_data({"vocoder": "int8"}, None)
    refused = export(tmp_path, tmp_path / "v", "--precision", "vocoder=int9")
    assert refused.exit_code == 2 and "fp32, fp16, w8, int8" in refused.stderr


def test_no_trace_of_the_quantizers(made: tuple[Path, str], data: Path) -> None:
    for role in ("condition", "denoiser", "vocoder"):
        model = onnx.load(made[0] / f"{role}.onnx")
        assert (model.producer_name, model.graph.name) == ("moksori", role)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
        for place in (str(data), str(Path.cwd()), "/tmp/"):
            assert place.encode() not in model.SerializeToString()
