"""What a training run refuses: configs, data and checkpoints that do not fit, each in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from training import refused, svc_train

from moksori.runtime.errors import OptionError
from moksori.runtime.files import read_json
from moksori.runtime.mel import MelSpec
from moksori.train import checkpoint
from moksori.train.loop import LoopConfig

SPEC = MelSpec()
TINY = "batch: 4\nframes: 32\nnetwork: {channels: 32, hidden: 48, layers: 2, kernel: 5}\n"


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Path:
    return tiny_data


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
        ("speaker_weights: {ann: -1}", "speaker_weights must be numbers from 0 on"),
        ("speaker_weights: {ann: 0, bob: 0}", "and somebody with data above 0"),
        ("speaker_weights: {ann: .nan}", "speaker_weights must be numbers from 0 on"),
        ("loop: {optimizer: adamv}", "no optimizer 'adamv' (did you mean 'adam'?)"),
        ("loop: {schedule: cosinus}", "no schedule 'cosinus' (did you mean 'cosine'?)"),
        ("loop: {precision: fp8}", "no precision 'fp8'"),
        ("loop: {accumulate: 0}", "accumulate must be 1 or more, not 0"),
    ],
)
def test_a_wrong_config_is_refused(data: Path, tmp_path: Path, yaml: str, said: str) -> None:
    (tmp_path / "wrong.yaml").write_text(yaml, encoding="utf-8")
    refused(svc_train("denoiser", data, tmp_path / "run", "--config", tmp_path / "wrong.yaml", "--steps", 1), said)


@pytest.fixture
def begun(data: Path, tmp_path: Path) -> Path:
    """A RUN_DIR with two checkpoints of a tiny denoiser."""
    (tmp_path / "tiny.yaml").write_text(TINY + "loop: {save_every: 1}\n", encoding="utf-8")
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
    (tmp_path / "wider.yaml").write_text(TINY.replace("48", "64"), encoding="utf-8")
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


def read_best(folder: Path) -> dict[str, float]:
    path = checkpoint.newest(folder)
    assert path is not None
    return dict(checkpoint.weights(path)[1]["metrics"])


def without_numbers(path: Path) -> None:
    with np.load(path) as features:
        known = dict(features)
    np.savez(path, **{**known, "f0": np.full_like(known["f0"], np.nan)})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        ("features", without_numbers, "npz cannot be trained on (it holds what is no number); delete it and run"),
        ("features", cut, "npz cannot be trained on (File is not a zip file); delete it and run svc-prepare again"),
        ("features", Path.unlink, "npz cannot be trained on"),
        ("audio", cut, "flac cannot be trained on"),
    ],
)
def test_damaged_slices_are_named(
    kind: str, damage: Callable[[Path], None], said: str, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    for path in (tmp_path / "data" / kind).rglob("*.*"):
        damage(path)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    refused(svc_train("denoiser", tmp_path / "data", tmp_path / "run", "--config", tmp_path / "tiny.yaml"), said)


@pytest.mark.parametrize("change", [{"slices": []}, {"slices": [{"id": "a", "speaker": "ann", "seconds": 0.001}]}])
def test_data_without_a_slice_is_refused(change: dict[str, object], data: Path, tmp_path: Path) -> None:
    empty = altered(data, tmp_path / "empty", change)
    refused(svc_train("denoiser", empty, tmp_path / "run"), "holds no slice to train on")


def test_a_loop_of_no_use_is_refused() -> None:
    with pytest.raises(OptionError, match="validate_every must be 1 or more"):
        LoopConfig(validate_every=0)
