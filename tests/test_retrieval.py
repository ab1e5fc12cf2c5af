"""Units of other speakers in studies: what is nearest, who hears it in training, and what a voice makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

for package in ("resemblyzer", "parselmouth", "matplotlib"):
    pytest.importorskip(package)
from moksori.benchmarks import study_retrieval, study_training  # noqa: E402
from moksori.benchmarks.study_retrieval import NEAREST, Bank  # noqa: E402
from moksori.runtime import Voice, audio  # noqa: E402
from moksori.runtime.errors import OptionError  # noqa: E402
from moksori.runtime.files import read_json  # noqa: E402
from moksori.train import dataset  # noqa: E402
from moksori.train.dataset import PreparedData  # noqa: E402
from moksori.train.denoiser import DenoiserConfig, DenoiserTask  # noqa: E402

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def bank_of(units: np.ndarray) -> Bank:
    kept = torch.from_numpy(units)
    return Bank(kept, kept.square().sum(1) / 2)


def test_units_move_toward_the_mean_of_the_nearest() -> None:
    random = np.random.default_rng(0)
    known, asked = (random.standard_normal((count, 6)).astype(np.float32) for count in (300, 20))
    distances = np.linalg.norm(asked[:, None] - known, axis=-1)
    near = known[np.argsort(distances, 1)[:, :NEAREST]].mean(1)
    bank, lasting = bank_of(known), np.repeat(asked, 2, 0)
    for share in (0.0, 0.3, 1.0):
        wanted = np.repeat((1 - share) * asked + share * near, 2, 0)
        np.testing.assert_allclose(bank.nearer(lasting, share), wanted, atol=1e-5)
    np.testing.assert_allclose(bank_of(known[:2]).nearer(asked, 1.0), np.tile(known[:2].mean(0), (20, 1)), atol=1e-5)


def test_a_bank_holds_clean_units_of_its_speaker(tiny_data: Path) -> None:
    data = PreparedData(tiny_data)
    slices = [one.id for one in data.training if data.speakers[one.speaker] == "bob"]
    heard = [np.load(tiny_data / "features" / "bob" / f"{name}.npz")["units"][0] for name in slices]
    said = {unit.tobytes() for unit in np.concatenate(heard).astype(np.float32)}
    bank = Bank.of(data, "bob", 10**6)
    assert {unit.tobytes() for unit in bank.units.numpy()} == said
    np.testing.assert_allclose(bank.halves, bank.units.square().sum(1) / 2)
    some, same = (Bank.of(data, "bob", 7).units for _ in range(2))
    assert len(some) == 7 and torch.equal(some, same)
    data.training.clear()
    with pytest.raises(OptionError, match="no slice of bob"):
        Bank.of(data, "bob", 7)


def test_a_denoiser_hears_units_of_others_in_training(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bob's are lent to ann and ann's to nobody; everything else is as it was."""
    data = PreparedData(tiny_data)
    heard: list[dict[str, torch.Tensor]] = []

    def losses(task: DenoiserTask, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        heard.append(batch)
        return {}

    monkeypatch.setattr(study_training.Lent, "POOR", ("ann",))
    monkeypatch.setattr(study_training.Lent, "SHARE", 1.0)
    config = DenoiserConfig(network={"channels": 16, "hidden": 24, "layers": 1, "kernel": 3}, batch=12, frames=32)
    with monkeypatch.context() as patched:
        patched.setattr(DenoiserTask, "losses", losses)
        task = study_training.Lent(data, config)
        batch = next(task.batches(dataset.Share(), torch.device("cpu")))
        task.losses(batch)
    assert all(torch.equal(value, batch[name]) for name, value in heard[0].items() if name != "units")
    changed = (heard[0]["units"] != batch["units"]).flatten(1).any(1)
    assert torch.equal(changed, batch["speaker"].argmax(1) == data.speakers.index("ann"))


def test_a_voice_sings_with_shares_of_its_speakers_units(
    tiny_data: Path, tiny_voice: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ann it hears ann's bank; without a share, what it would have heard."""
    folder = tiny_voice(tmp_path / "voice")
    manifest = Voice.load(folder, "cpu").manifest
    named = tuple(replace(one, name=name) for one, name in zip(manifest.speakers, ("ann", "bob"), strict=True))
    voice = Voice.load(tiny_voice(folder, speakers=named), "cpu")
    random, width = np.random.default_rng(0), manifest.units.dimension
    banks = {name: bank_of(random.standard_normal((9, width), np.float32)) for name in ("ann", "bob")}
    units = random.standard_normal((1, 5, width), np.float32)
    for at, name in enumerate(("ann", "bob")):
        speaker = np.eye(2, dtype=np.float32)[at : at + 1]
        for share in (0.0, 0.5):
            hears = study_retrieval.retrieving(voice, banks, share).condition.raw.hears
            heard = hears({"units": units, "speaker": speaker})["units"]
            np.testing.assert_array_equal(heard[0], banks[name].nearer(units[0], share))

    monkeypatch.setattr(study_retrieval.Bank, "of", lambda data, name, count: banks[name])
    for part in ("talk", "references/ann", "references/bob", "benchmarks/results", "docs/figures"):
        (tmp_path / part).mkdir(parents=True)
    for part in ("talk", "references/ann", "references/bob"):
        soundfile.write(tmp_path / part / "a.wav", audio.read(SONG, 16_000)[:32_000], 16_000)
    given = [tiny_data, "--voice", folder, "--share", 0, "--share", 1, "--as", "ann", "--as", "bob", "--inputs",
             tmp_path / "talk", "--references", tmp_path / "references", "--root", tmp_path]  # fmt: skip
    done = CliRunner().invoke(study_retrieval.main, [str(one) for one in given])
    assert done.exit_code == 0, done.output
    record = read_json(tmp_path / "benchmarks" / "results" / "study-retrieval.json")
    assert [row["share"] for row in record["rows"]] == [0, 1]
    assert all(set(row["figures"]) == {"all", "ann", "bob"} for row in record["rows"])
    assert study_retrieval.table(record) in done.stdout and "| 1 | bob |" in done.stdout
    assert (tmp_path / "docs" / "figures" / "retrieval.png").read_bytes().startswith(b"\x89PNG")
