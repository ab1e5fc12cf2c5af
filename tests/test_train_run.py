"""The life of a training run: processes, kills, full disks and memories, presets, what is seen and heard of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.files import read_json
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, memory, preset
from moksori.train import config as configs
from moksori.train.checkpoint import State
from moksori.train.cli import main
from moksori.train.dataset import EXAMPLES, Crop, PreparedData, Share, Slice
from moksori.train.denoiser import DenoiserTask
from moksori.train.interrupts import Interrupts
from moksori.train.lock import alone
from moksori.train.loop import LoopConfig, processes
from moksori.train.progress import Progress
from moksori.train.run import ROLES

LOOP = {"schedule": "constant", "warmup": 1, "validate_every": 1000, "save_every": 2, "workers": 1}
TINY = {"batch": 4, "frames": 32, "network": {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5}}
VOCODER = {"batch": 2, "frames": 24, "network": {"channels": 16, "hidden": 24, "layers": 1, "kernel": 3}}
GEOMETRIES = {"light-24k": MelSpec(), "reference-44k": MelSpec(44_100, 512, 2048, 2048, 128, 40.0, 16_000.0)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def written(path: Path, **changes: object) -> Path:
    """A YAML config of the tiny denoiser, with changes; those of the loop under "loop"."""
    loop = {**LOOP, **changes.pop("loop", {})}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump({**TINY, **changes, "loop": loop}), encoding="utf-8")
    return path


def arguments(*given: str | Path | int) -> list[str]:
    return [str(one) for one in (*given, "--threads", 1)]


def svc_train(*given: str | Path | int) -> Result:
    return CliRunner().invoke(main, arguments(*given))


def begin(*given: str | Path | int, **environment: str) -> subprocess.Popen[str]:
    """svc-train in a process of its own."""
    command = [sys.executable, "-m", "moksori.train.cli", *arguments(*given)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "audio": 0})
    found.Reload()
    return found


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


# processes


def test_two_processes_learn_what_one_learns_of_double_batches(tiny_data: Path, tmp_path: Path) -> None:
    """The environment is what torchrun and accelerate launch set."""
    loop = {"validate_every": 1, "save_every": 100, "learning_rate": 1e-3}
    half, whole = written(tmp_path / "half.yaml", loop=loop), written(tmp_path / "whole.yaml", loop=loop, batch=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    given = "denoiser", tiny_data, tmp_path / "two", "--config", half, "--steps", 6
    both = [begin(*given, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in (0, 1)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "step 6/6" in said[0] and said[1].count("step") == 0
    one = svc_train("denoiser", tiny_data, tmp_path / "one", "--config", whole, "--steps", 6)
    assert one.exit_code == 0, one.output
    for name in ("train/loss", "validation/loss"):
        first, second = ([e.value for e in events(tmp_path / run / "denoiser").Scalars(name)] for run in ("one", "two"))
        assert len(first) == 6
        np.testing.assert_allclose(second, first, rtol=2e-4)
    assert len(set(first)) == 6
    assert checkpoint.steps(tmp_path / "two" / "denoiser") == [6]


def test_shares_of_the_stream_are_all_of_it_once() -> None:
    firsts = [share.first(number, 4) for number in range(4) for share in (Share(0, 0, 2), Share(0, 1, 2))]
    assert [first + k for first in firsts for k in range(4)] == list(range(32))
    assert [Share().first(number, 8) for number in range(4)] == firsts[::2]


def test_gradients_accumulate_to_those_of_the_whole_batch(tiny_data: Path, tmp_path: Path) -> None:
    for name, changes in {"whole": {"batch": 8}, "parts": {"batch": 2, "loop": {"accumulate": 4}}}.items():
        config = written(tmp_path / f"{name}.yaml", **changes)
        assert svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", 2).exit_code == 0
    one, other = (load_file(checkpoint.at(tmp_path / name / "denoiser", 2)) for name in ("whole", "parts"))
    for name in one:
        if name.endswith(".exp_avg"):  # a mean of gradients
            scale = float(one[name].abs().max())
            torch.testing.assert_close(other[name], one[name], rtol=0, atol=2e-3 * scale + 1e-7)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_like_single(tiny_data: Path, tmp_path: Path, precision: str) -> None:
    losses = {}
    for name in ("fp32", precision):
        config = written(tmp_path / f"{name}.yaml", loop={"precision": name, "validate_every": 1})
        for steps in (2, 4):  # the second time from a checkpoint, with the scaler's state
            result = svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", steps)
            assert result.exit_code == 0, result.output
        losses[name] = [event.value for event in events(tmp_path / name / "denoiser").Scalars("train/loss")]
        kept = load_file(checkpoint.at(tmp_path / name / "denoiser", 4))
        assert {value.dtype for key, value in kept.items() if key.startswith("network.")} == {torch.float32}
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=0.02)
    assert losses[precision] != losses["fp32"]


def test_the_vocoder_learns_in_half_precision(tiny_data: Path, tmp_path: Path) -> None:
    config = {**VOCODER, "loop": {**LOOP, "precision": "bf16"}}
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = svc_train("vocoder", tiny_data, tmp_path / "run", "--config", tmp_path / "v.yaml", "--steps", 2)
    assert result.exit_code == 0, result.output


# kills, locks, full disks and memories


def test_a_killed_run_goes_on_bit_for_bit(tiny_data: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "tiny.yaml")
    folder = tmp_path / "killed" / "denoiser"
    process = begin("denoiser", tiny_data, tmp_path / "killed", "--config", config, "--steps", 100_000)
    began = time.monotonic()
    while len(checkpoint.steps(folder)) < 2 and process.poll() is None and time.monotonic() - began < 300:
        time.sleep(0.02)
    time.sleep(0.05 * np.random.default_rng().random())
    process.kill()
    said = process.communicate()[0]
    reached = checkpoint.steps(folder)[-1]
    assert reached >= 4, said
    (folder / ".0123456789abcdef.part.safetensors").write_bytes(b"half")  # what a kill while saving leaves
    for name in ("killed", "straight"):
        result = svc_train("denoiser", tiny_data, tmp_path / name, "--config", config, "--steps", reached + 2)
        assert result.exit_code == 0, result.output
    assert list(folder.glob(".*.part*")) == []
    runs = (tmp_path / name / "denoiser" for name in ("killed", "straight"))
    one, other = (load_file(checkpoint.at(run, reached + 2)) for run in runs)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_second_run_in_the_same_folder_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "tiny.yaml")
    with alone(tmp_path / "run" / "denoiser" / ".lock", "busy"):
        refused(
            svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1),
            f"another svc-train trains the denoiser of {tmp_path / 'run'}",
        )
    assert svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1).exit_code == 0


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    network = nn.Linear(400, 400)
    state = State(network, network, {}, step=1)
    kept = checkpoint.save(tmp_path, state).read_bytes()
    state.step = 2
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MoksoriError, match=r"00000002.safetensors cannot be written .*it needs 1 MB: free some"):
            checkpoint.save(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.at(tmp_path, 1).name]
    assert checkpoint.at(tmp_path, 1).read_bytes() == kept


def test_memory_that_runs_out_ends_in_advice(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: DenoiserTask, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.empty(1 << 55)}

    monkeypatch.setattr(DenoiserTask, "losses", greedy)
    config = written(tmp_path / "tiny.yaml")
    result = svc_train("denoiser", tiny_data, tmp_path / "run", "--config", config, "--steps", 1)
    refused(result, "memory ran out; use --preset low-memory, or halve batch")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("std::bad_alloc")]
)
def test_every_kind_of_full_memory_is_known(error: Exception) -> None:
    with pytest.raises(MoksoriError, match="memory ran out"), memory.advised():
        raise error


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.advised():
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_to_be_whole(number: signal.Signals) -> None:
    interrupts, whole = Interrupts(), []
    before = signal.signal(number, signal.default_int_handler)  # a test run in the background ignores SIGINT
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.caught():
            with interrupts.held():
                os.kill(os.getpid(), number)
                whole.append("step")
            whole.append("never")
        with pytest.raises(KeyboardInterrupt), interrupts.caught():
            os.kill(os.getpid(), number)
            whole.append("never")
        assert whole == ["step"]
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


# presets


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", preset.names())
def test_a_preset_says_what_its_file_says(name: str, role: str) -> None:
    said = yaml.safe_load((preset.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    config = configs.plain(preset.overlay(name, role, ROLES[role].config, GEOMETRIES.get(name, MelSpec())))
    for key, value in said[role].items():
        assert {k: config[key][k] for k in value} == value if isinstance(value, dict) else config[key] == value


def test_presets_lie_over_one_another_and_a_config_over_all(tiny_data: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "tiny.yaml", batch=3)
    given = "--preset", "light-24k", "--preset", "low-memory", "--config", config
    result = svc_train("denoiser", tiny_data, tmp_path / "run", *given, "--steps", 1)
    assert result.exit_code == 0, result.output
    used = configs.read(tmp_path / "run" / "denoiser" / "config.yaml")
    assert (used["batch"], used["frames"], used["loop"]["accumulate"], used["loop"]["steps"]) == (3, 32, 4, 1)
    assert used["architecture"] == "convnext" and used["network"] == TINY["network"]


def test_a_preset_for_other_data_or_of_no_name_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    wide = svc_train("denoiser", tiny_data, tmp_path / "run", "--preset", "reference-44k")
    refused(wide, "mel sample_rate 24000, not 44100, hop 240, not 512")
    refused(wide, "prepare it with: svc-prepare AUDIO_DIR DATA_DIR --rate 44100")
    near = svc_train("denoiser", tiny_data, tmp_path / "run", "--preset", "low-memori")
    refused(near, "there is no preset 'low-memori' (did you mean 'low-memory'?)")
    assert not (tmp_path / "run").exists()


def test_the_reference_preset_is_the_communitys_network() -> None:
    """20 residual layers of 384 channels, dilations 1 2 4 8, as published (diff-svc's 44.1 kHz configs)."""
    config = preset.overlay("reference-44k", "denoiser", ROLES["denoiser"].config, GEOMETRIES["reference-44k"])
    from moksori.train.denoiser import build

    with torch.device("meta"):
        network = build(config, 128, 256, 1)
    layers = [module for name, module in network.named_modules() if name.endswith("dilated_conv")]
    assert [layer.dilation[0] for layer in layers] == [1, 2, 4, 8] * 5
    assert {(layer.in_channels, layer.out_channels) for layer in layers} == {(384, 768)}


def test_differences_are_told_one_by_one() -> None:
    found = {"mel": {"hop": 240, "bins": 100}, "names": ["a", "b"], "same": 1}
    wanted = {"mel": {"hop": 512, "bins": 100}, "names": ["a"], "same": 1, "more": "x" * 64}
    phrases = configs.differences(found, wanted)
    assert phrases == ["mel hop 240, not 512", "names a, b, not a", "more nothing, not xxxxxxxxxxxx…"]


# what is seen and heard


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
    refused(svc_train("vocoder", *base[1:], "--preview", "x.wav"), "--preview and --judge are for the denoiser")
    refused(svc_train(*base, "--preview", tmp_path / "none.wav"), "none.wav")
    refused(svc_train(*base, "--preview", "x.wav", "--speaker", "eve"), "no speaker 'eve'; it has ann, bob")
    refused(svc_train(*base, "--judge", tmp_path / "empty"), "holds no audio to judge by")


def test_the_best_of_the_judged_is_chosen_and_kept(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    for step, score in enumerate([0.2, 0.7, 0.5, 0.4], 1):
        checkpoint.save(tmp_path, State(network, network, {}, step, {checkpoint.SCORE: score}, measured=step))
    checkpoint.save(tmp_path, State(network, network, {}, 5, {checkpoint.SCORE: 0.9}, measured=4))  # saved, not judged
    (tmp_path / "checkpoint-00000009.safetensors").write_bytes(b"damaged")
    checkpoint.choose(tmp_path)
    assert read_json(tmp_path / checkpoint.BEST) == {"step": 2, checkpoint.SCORE: 0.7}
    checkpoint.prune(tmp_path, keep=1, every=100)
    assert checkpoint.steps(tmp_path) == [2, 9]


# much data


def test_200_hours_are_listed_without_being_read(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_json(tiny_data / "data.json")
    count = 72_000  # of 10 s
    speakers = [f"s{number:02d}" for number in range(50)]
    facts["speakers"] = [{**facts["speakers"][0], "name": name} for name in speakers]
    facts["slices"] = [
        {**facts["slices"][0], "id": f"{number:06d}", "speaker": speakers[number * 50 // count], "seconds": 10.0}
        for number in range(count)
    ]
    (tmp_path / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    began = time.process_time()
    data = PreparedData(tmp_path)  # there is no audio in this folder at all
    listing = time.process_time() - began
    drawn: list[tuple[int, int]] = []

    def crop(self: PreparedData, piece: Slice, start: int, *rest: object) -> Crop:
        drawn.append((piece.speaker, start))
        return None  # type: ignore[return-value]

    monkeypatch.setattr(PreparedData, "crop", crop)
    balance = data.balance({})
    began = time.process_time()
    for index in range(1000):
        data.random_crop(0, index, 128, balance, variants=True)
    drawing = (time.process_time() - began) / 1000
    assert listing < 5 and drawing < 2e-3, (listing, drawing)
    assert len({speaker for speaker, _ in drawn}) == 50 and max(start for _, start in drawn) > 800
    assert len(data.examples) == EXAMPLES
    assert len({piece.speaker for piece in data.examples}) == EXAMPLES  # spread over the speakers


def test_a_loop_of_no_use_is_refused() -> None:
    with pytest.raises(OptionError, match="validate_every must be 1 or more"):
        LoopConfig(validate_every=0)
