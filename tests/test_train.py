"""Training end to end on a tiny data set: svc-prepare makes it, svc-train learns from it, stops and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from moksori.models.discriminator import SpectrogramDiscriminator
from moksori.runtime import mel
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint, prepare
from moksori.train import config as configs
from moksori.train.cli import main
from moksori.train.dataset import MARGIN, PreparedData, Share
from moksori.train.denoiser import DenoiserConfig, DenoiserTask
from moksori.train.loop import LoopConfig, train

SPEC = MelSpec()
HOP = SPEC.hop
QUIET = Console(quiet=True)
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
NETWORK = {"channels": 32, "hidden": 48, "layers": 2, "kernel": 5}
TINY = {
    "denoiser": f"batch: 4\nframes: 32\nnetwork: {json.dumps(NETWORK)}\n",
    "vocoder": "batch: 2\nframes: 24\nnetwork: {channels: 16, hidden: 24, layers: 1, kernel: 3}\n",
    "content": "batch: 2\nseconds: 0.8\nnetwork: {width: 32, layers: 1, heads: 2, front: 16}\n",
}
"""Small networks for the YAML of each role; what the data dictates need not be said."""


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Path:
    return tiny_data


def task(data: Path, loop: LoopConfig, batch: int = 4) -> DenoiserTask:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return DenoiserTask(PreparedData(data), DenoiserConfig(network=NETWORK, loop=loop, batch=batch, frames=32))


def svc_train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, "--threads", 1)])


# the data


def test_a_crop_is_what_was_heard(data: Path) -> None:
    """Mel and loudness inside a slice equal those of the whole; f0 and voicing are its own; past the end is silence."""
    prepared = PreparedData(data)
    piece = prepared.training[0]
    path = data / "audio" / prepared.speakers[piece.speaker] / f"{piece.id}.flac"
    audio, _ = soundfile.read(path, dtype="float32")
    whole, levels = mel.log_mel(audio, SPEC), mel.loudness(audio, SPEC)
    crop = prepared.crop(piece, 40, 32, variant=0)
    np.testing.assert_array_equal(crop.audio, audio[40 * HOP : 72 * HOP])
    np.testing.assert_allclose(crop.mel, whole[40:72], atol=1e-4)
    np.testing.assert_allclose(crop.loudness, levels[40:72], atol=1e-4)
    np.testing.assert_allclose(crop.f0, np.full(32 + 2 * MARGIN, 220), rtol=1e-5)
    assert set(crop.voiced) == {1}
    heard = soxr.resample(audio, SPEC.sample_rate, 16_000)
    np.testing.assert_allclose(crop.units[::2, 0], heard[40 * 160 : 72 * 160 : 320], atol=1e-3)  # half precision
    np.testing.assert_array_equal(crop.units[::2], crop.units[1::2])
    late = prepared.crop(piece, piece.frames - 10, 32, variant=0)
    np.testing.assert_array_equal(late.voiced[11:], 0)
    np.testing.assert_array_equal(late.audio[11 * HOP :], 0)
    assert set(late.mel[20]) == {np.float32(np.log(1e-5))}


def test_the_stream_of_crops_is_a_function_of_seed_and_index(data: Path) -> None:
    prepared = PreparedData(data)
    balance = prepared.balance({})
    drawn = [prepared.random_crop(0, index, 16, balance, variants=True).audio for index in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.01


def test_the_balance_is_by_the_root_of_seconds(data: Path) -> None:
    prepared = PreparedData(data)
    frames = [sum(p.frames for p in prepared.training if p.speaker == number) for number in (0, 1)]
    wanted = np.sqrt(frames) * [3, 1]
    np.testing.assert_allclose(prepared.balance({"ann": 3}), wanted / wanted.sum())
    with pytest.raises(MoksoriError, match="speaker_weights names"):
        prepared.balance({"eve": 1})


def test_what_is_held_out_is_not_trained_on(data: Path) -> None:
    for hold_out in (2, 5, 40):  # 40 is more than there are slices: one is held out still
        prepared = PreparedData(data, hold_out)
        held, taught = ({piece.id for piece in side} for side in (prepared.validation, prepared.training))
        assert held and taught and not held & taught
        assert len(held | taught) == len(prepared.facts["slices"])


# the loop


class Interrupted(DenoiserTask):
    """Ctrl-C while batch number ``at`` is awaited."""

    at = 0

    def batches(self, share: Share, device: torch.device) -> Generator[dict[str, Tensor]]:
        stream = super().batches(share, device)
        try:
            for number, batch in enumerate(stream, share.start):
                if number == self.at:
                    raise KeyboardInterrupt
                yield batch
        finally:
            stream.close()


def test_a_stopped_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    loop = LoopConfig(steps=10, learning_rate=3e-3, warmup=2, validate_every=5, save_every=100)
    train(task(data, loop), loop, tmp_path / "straight", QUIET)
    broken = task(data, loop)
    broken.__class__ = Interrupted
    setattr(broken, "at", 5)  # noqa: B010 (mypy does not follow the change of class)
    with pytest.raises(KeyboardInterrupt):
        train(broken, loop, tmp_path / "halves", QUIET)
    assert checkpoint.steps(tmp_path / "halves") == [5]
    torch.rand(3)  # another process would have another random state
    train(task(data, loop), loop, tmp_path / "halves", QUIET)
    one, other = (load_file(tmp_path / name / "checkpoint-00000010.safetensors") for name in ("straight", "halves"))
    assert one.keys() == other.keys()
    assert {name.split(".")[0] for name in one} == {"network", "averaged", "optimizer"}
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def test_the_denoiser_learns(data: Path, tmp_path: Path) -> None:
    """It begins at the best linear guess, a loss of 1, and soon knows what loudness says of a mel."""
    loop = LoopConfig(steps=90, learning_rate=1e-2, warmup=5, average=0.9, validate_every=1_000)
    learner = task(data, loop, batch=8)
    state = train(learner, loop, tmp_path, QUIET)
    assert state.metrics["validation/loss"] < 0.75
    assert read_best(tmp_path) == state.metrics


def read_best(folder: Path) -> dict[str, float]:
    path = checkpoint.newest(folder)
    assert path is not None
    return dict(checkpoint.weights(path)[1]["metrics"])


def test_a_new_network_is_near_the_best_linear_guess(data: Path) -> None:
    torch.manual_seed(0)
    learner = task(data, LoopConfig(), batch=16)
    stream = learner.batches(Share(), torch.device("cpu"))
    with torch.no_grad():
        losses = [float(learner.losses(next(stream))["loss"]) for _ in range(4)]
    stream.close()
    assert np.mean(losses) == pytest.approx(1, abs=0.2)


def test_a_loss_that_is_not_finite_ends_the_run(data: Path, tmp_path: Path) -> None:
    loop = LoopConfig(steps=50, learning_rate=1e30, warmup=1)
    with pytest.raises(MoksoriError, match=r"the loss is .* at step .*; lower learning_rate"):
        train(task(data, loop), loop, tmp_path, QUIET)


# the command


@pytest.mark.parametrize("role", TINY)
def test_every_role_trains_and_goes_on(role: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY[role], encoding="utf-8")
    run = tmp_path / "run"
    first = svc_train(role, data, run, "--config", tmp_path / "tiny.yaml", "--steps", 2)
    assert first.exit_code == 0, first.output
    again = svc_train(role, data, run, "--steps", 4)
    assert again.exit_code == 0, again.output
    assert "going on from step 2" in again.output
    assert checkpoint.steps(run / role) == [2, 4]
    metrics = read_best(run / role)
    assert metrics and all(np.isfinite(value) for value in metrics.values())
    assert configs.read(run / role / "data.yaml")["mel"] == read_json(data / "data.json")["mel"]
    assert list((run / role).glob("events.*"))
    if role == "denoiser":
        for name in ("content.onnx", "pitch.onnx"):
            assert (run / "graphs" / name).read_bytes() == (data / name).read_bytes()


def test_the_vocoders_adversary_trains_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moksori.train.vocoder.SpectrogramDiscriminator", lambda: SpectrogramDiscriminator(4))
    (tmp_path / "tiny.yaml").write_text(TINY["vocoder"] + "adversarial: true\n", encoding="utf-8")
    for steps in (1, 2):
        result = svc_train("vocoder", data, tmp_path / "run", "--config", tmp_path / "tiny.yaml", "--steps", steps)
        assert result.exit_code == 0, result.output
    one, two = (load_file(checkpoint.at(tmp_path / "run" / "vocoder", step)) for step in (1, 2))
    name = next(name for name in one if name.startswith("adversary.") and name.endswith("weight"))
    assert not torch.equal(one[name], two[name])


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("bach: 4", "unknown key 'bach'; did you mean 'batch'?"),
        ("loop: {learning_rte: 0.1}", "unknown key 'learning_rte'; did you mean 'learning_rate'?"),
        ("batch: many", "batch must be of type int, not 'many'"),
        ("batch: true", "batch must be of type int, not True"),
        ("- 1", "must be a mapping of names to values, not list"),
        ("a: [", "cannot be read as YAML"),
        ("architecture: transformer", "architecture must be one of convnext, wavenet, not 'transformer'"),
        ("network: {chanels: 3}", "network has an unknown key 'chanels'; did you mean 'channels'?"),
        ("speaker_weights: {eve: 2}", "speaker_weights names ['eve']"),
        ("loop: {optimizer: adamv}", "no optimizer 'adamv' (did you mean 'adam'?)"),
        ("loop: {schedule: cosinus}", "no schedule 'cosinus' (did you mean 'cosine'?)"),
        ("loop: {precision: fp8}", "no precision 'fp8'"),
        ("loop: {accumulate: 0}", "accumulate must be 1 or more, not 0"),
    ],
)
def test_a_wrong_config_is_refused(data: Path, tmp_path: Path, yaml: str, said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(yaml, encoding="utf-8")
    refused(svc_train("denoiser", data, tmp_path / "run", "--config", tmp_path / "wrong.yaml", "--steps", 1), said)


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.fixture
def begun(data: Path, tmp_path: Path) -> Path:
    """A RUN_DIR with two checkpoints of a tiny denoiser."""
    (tmp_path / "tiny.yaml").write_text(TINY["denoiser"] + "loop: {save_every: 1}\n", encoding="utf-8")
    result = svc_train("denoiser", data, tmp_path / "run", "--config", tmp_path / "tiny.yaml", "--steps", 2)
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_refused(data: Path, begun: Path) -> None:
    path = checkpoint.at(begun / "denoiser", 2)
    path.write_bytes(path.read_bytes()[:-100])
    refused(svc_train("denoiser", data, begun, "--steps", 3), "delete it to go on from checkpoint-00000001")
    path.unlink()
    assert "going on from step 1" in svc_train("denoiser", data, begun, "--steps", 3).output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mel": {"fmin": 50.0}}, "begun with other data: mel fmin 50.0, not 40.0; train into a new RUN_DIR"),
        ({"content_sha256": "0" * 64}, "content_sha256 000000000000…, not "),
        ({"speakers": [{"name": "eve"}]}, "speakers eve, not ann, bob"),
    ],
)
def test_data_of_another_kind_is_refused(
    data: Path, begun: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    refused(svc_train("denoiser", altered(data, tmp_path / "other", change), begun, "--steps", 3), said)


def altered(data: Path, other: Path, change: dict[str, object]) -> Path:
    """A copy of a DATA_DIR that says something else of itself."""
    shutil.copytree(data, other)
    facts = read_json(other / "data.json")
    if "speakers" in change:
        facts["slices"] = [{**one, "speaker": "eve"} for one in facts["slices"]]
    for name, value in change.items():
        facts[name] = {**facts[name], **value} if isinstance(value, dict) else value
    (other / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    return other


def test_a_run_takes_more_recordings_and_keeps_its_scale(data: Path, begun: Path, tmp_path: Path) -> None:
    """What was measured of them may change; mel is normalised as it was when the run began, as export will have it."""
    more = altered(data, tmp_path / "more", {"statistics": {"mean": [0.0] * SPEC.bins}})
    before = (begun / "denoiser" / "data.yaml").read_bytes()
    assert svc_train("denoiser", more, begun, "--steps", 3).exit_code == 0
    assert (begun / "denoiser" / "data.yaml").read_bytes() == before
    taught = (read_best(begun / "denoiser"), read_best_of(data, begun, tmp_path))
    assert taught[0] == taught[1]


def read_best_of(data: Path, begun: Path, tmp_path: Path) -> dict[str, float]:
    """Metrics of the same last step taken on the data that the run was begun with."""
    shutil.copytree(begun, tmp_path / "again")
    checkpoint.at(tmp_path / "again" / "denoiser", 3).unlink()
    assert svc_train("denoiser", data, tmp_path / "again", "--steps", 3).exit_code == 0
    return read_best(tmp_path / "again" / "denoiser")


def test_another_network_than_the_checkpoints_is_refused(data: Path, begun: Path, tmp_path: Path) -> None:
    (tmp_path / "wider.yaml").write_text(TINY["denoiser"].replace("48", "64"), encoding="utf-8")
    wider = svc_train("denoiser", data, begun, "--config", tmp_path / "wider.yaml", "--steps", 3)
    refused(wider, "was begun with network")
    assert svc_train("denoiser", data, begun, "--steps", 3).exit_code == 0  # the run's own config is as it was
    used = begun / "denoiser" / "config.yaml"
    used.write_text(used.read_text(encoding="utf-8").replace("48", "64"), encoding="utf-8")
    refused(svc_train("denoiser", data, begun, "--steps", 4), "config.yaml; restore the config it was trained with")


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(svc_train("denoiser", tmp_path / "none", tmp_path / "run"), "holds no prepared data; run: svc-prepare")
    (tmp_path / "data.json").write_text("{", encoding="utf-8")
    refused(svc_train("denoiser", tmp_path, tmp_path / "run"), "data.json is damaged")


def test_a_persons_song_is_learnt_through_the_commands(tmp_path: Path) -> None:
    """Seven seconds of singing to learn from, two held out: from the best linear guess, 1, below 0.8."""
    (tmp_path / "songs").mkdir()
    shutil.copy(SONG, tmp_path / "songs")
    cut = "--min", 1.5, "--max", 3, "--perturb", 0, "--jobs", 1
    prepared = CliRunner().invoke(prepare.main, [str(one) for one in (tmp_path / "songs", tmp_path / "data", *cut)])
    assert prepared.exit_code == 0, prepared.output
    loop = "loop: {learning_rate: 0.01, warmup: 5, average: 0.95, validate_every: 80}\n"
    (tmp_path / "small.yaml").write_text(TINY["denoiser"].replace("batch: 4", "batch: 8") + loop, encoding="utf-8")
    given = "denoiser", tmp_path / "data", tmp_path / "run", "--config", tmp_path / "small.yaml", "--steps", 80
    assert svc_train(*given).exit_code == 0
    assert read_best(tmp_path / "run" / "denoiser")["validation/loss"] < 0.8
