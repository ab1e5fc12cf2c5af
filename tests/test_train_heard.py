"""What is seen and heard of a training run, and which of its checkpoints is the best."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner, Result
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from training import LOOP, VOCODER, refused, written

from moksori.runtime.files import read_json
from moksori.train import checkpoint
from moksori.train.checkpoint import Ranking, State
from moksori.train.cli import main
from moksori.train.loop import LoopConfig, processes
from moksori.train.progress import Progress

pytestmark = pytest.mark.usefixtures("same_threads")


def svc_train(*given: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(one) for one in (*given, "--threads", 1)])


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "audio": 0})
    found.Reload()
    return found


@pytest.mark.parametrize(("losses", "said"), [([0.9] * 20, "it learns: after 20"), ([1.0] * 20, "Warning: it is not")])
def test_it_is_said_early_whether_anything_is_learnt(losses: list[float], said: str) -> None:
    console = Console(record=True, width=200, quiet=False, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    progress = Progress(console, 0, LoopConfig(check_after=20), 1.0, processes())
    for step, loss in enumerate(losses, 1):
        progress.add(step, {"loss": torch.tensor(loss)}, 0.0)
    assert said in console.export_text()


def test_a_run_is_heard_judged_and_drawn(tiny_data: Path, tmp_path: Path) -> None:
    """A song at every validation, clips that choose the best checkpoint, and all of it in TensorBoard's file."""
    pytest.importorskip("resemblyzer")
    run, song = tmp_path / "run", tmp_path / "노래 🎤.wav"
    time_axis = np.arange(3 * 16_000) / 16_000
    tone = 0.1 * np.sum([np.sin(2 * np.pi * 220 * k * time_axis) / k for k in range(1, 9)], axis=0)
    soundfile.write(song, tone, 16_000)
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "clips" / "deep" / "a.flac", tone[:32_000], 16_000)
    (tmp_path / "v.yaml").write_text(yaml.safe_dump({**VOCODER, "loop": LOOP}), encoding="utf-8")
    made = svc_train("vocoder", tiny_data, run, "--config", tmp_path / "v.yaml", "--steps", 1)
    assert made.exit_code == 0, made.output
    config = written(tmp_path / "tiny.yaml", loop={"validate_every": 1, "save_every": 100, "keep": 1})
    heard = "--preview", song, "--judge", tmp_path / "clips", "--speaker", "bob", "--key", -12
    result = svc_train("denoiser", tiny_data, run, "--config", config, "--steps", 2, *heard)
    assert result.exit_code == 0, result.output
    for step in (1, 2):
        sound, rate = soundfile.read(run / "previews" / f"step-{step:08d}.wav")
        assert rate == 24_000 and abs(len(sound) / rate - 3) < 0.02 and np.abs(sound).max() > 1e-3
    found = events(run / "denoiser")
    scores = {event.step: event.value for event in found.Scalars("judge/score")}
    assert [event.step for event in found.Audio("preview/노래 🎤")] == [1, 2]
    assert found.Images(found.Tags()["images"][0])[0].step == 1
    assert {"train/loss", "validation/loss", "judge/similarity"} <= set(found.Tags()["scalars"])
    best = read_json(run / "denoiser" / checkpoint.BEST)
    assert best["step"] == max(scores, key=lambda step: scores[step])
    assert best["judge/score"] == pytest.approx(scores[best["step"]], rel=1e-6)
    assert checkpoint.steps(run / "denoiser") == sorted({best["step"], 2})


def test_what_cannot_be_heard_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    base = "denoiser", tiny_data, tmp_path / "run", "--steps", 1
    said = "--preview and --judge are for svc-train denoiser, not for vocoder"
    refused(svc_train("vocoder", *base[1:], "--preview", "x.wav"), said)
    refused(svc_train(*base, "--preview", tmp_path / "none.wav"), "none.wav")
    refused(svc_train(*base, "--preview", "x.wav", "--speaker", "eve"), "no speaker 'eve'; it has ann, bob")
    refused(svc_train(*base, "--judge", tmp_path / "empty"), "holds no audio to judge by")


def test_the_best_of_the_same_ranking_is_chosen_and_kept(tmp_path: Path) -> None:
    network, sung = nn.Linear(1, 1), Ranking("judge/score", "three clips", falls=False)
    lost = Ranking("validation/loss")

    def saved(step: int, score: float, ranking: Ranking | None, measured: int) -> None:
        metrics = {sung.metric: score, lost.metric: 1 - score}
        checkpoint.save(tmp_path, State(network, network, {}, step, metrics, measured, ranking))

    for step, score in enumerate([0.2, 0.7, 0.5, 0.4], 1):
        saved(step, score, sung, step)
    saved(5, 0.9, sung, 4)  # saved, not judged
    saved(6, 0.8, replace(sung, on="other clips"), 6)
    saved(7, float("nan"), sung, 7)
    saved(8, 0.3, lost, 8)
    saved(9, 0.3, lost, 9)
    (tmp_path / "checkpoint-00000010.safetensors").write_bytes(b"damaged")
    checkpoint.choose(tmp_path, lost)
    assert read_json(tmp_path / checkpoint.BEST)["step"] == 9  # of equal ones the latest
    checkpoint.choose(tmp_path, sung)
    assert read_json(tmp_path / checkpoint.BEST) == {
        "step": 2, "by": "judge/score", sung.metric: 0.7, lost.metric: pytest.approx(0.3)
    }  # fmt: skip
    assert checkpoint.chosen(tmp_path) == checkpoint.at(tmp_path, 2)
    checkpoint.tidy(tmp_path, sung, keep=1, every=100)
    assert checkpoint.steps(tmp_path) == [2, 10]
    checkpoint.tidy(tmp_path, None, keep=1, every=100)
    assert checkpoint.chosen(tmp_path) == checkpoint.at(tmp_path, 10)  # nothing is ranked: the newest
