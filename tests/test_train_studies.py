"""What studies of training share: clips judged for every target, and denoisers that differ in one thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner

for package in ("resemblyzer", "parselmouth", "matplotlib"):
    pytest.importorskip(package)
from training import svc_train, written  # noqa: E402

from moksori.benchmarks import study_lookahead, study_reflow, study_training, training, training_time  # noqa: E402
from moksori.benchmarks.panel import Panel  # noqa: E402
from moksori.runtime import audio  # noqa: E402
from moksori.runtime.errors import OptionError  # noqa: E402
from moksori.runtime.files import read_json  # noqa: E402
from moksori.train import dataset, denoiser  # noqa: E402
from moksori.train.dataset import PreparedData  # noqa: E402
from moksori.train.denoiser import DenoiserConfig  # noqa: E402
from moksori.train.reflow import ReflowConfig  # noqa: E402

SONG = Path(__file__).parent / "data" / "vocadito_10.flac"
TINY = {"batch": 2, "frames": 24, "network": {"channels": 16, "hidden": 24, "layers": 1, "kernel": 3}}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a clip, references of both speakers of the tiny data, and a config; it is the root of the run."""
    heard = audio.read(SONG, 16_000)
    for name in ("talk", "references/ann", "references/bob"):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / "a.wav", heard[:32_000], 16_000)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    return tmp_path


def panel(place: Path) -> list[str]:
    given = {"as": ("ann", "bob"), "inputs": (place / "talk",), "references": (place / "references",)}
    return [part for name, values in given.items() for value in values for part in (f"--{name}", str(value))]


def test_variants_are_trained_once_and_judged_for_each_target(
    tiny_data: Path, place: Path, same_threads: None
) -> None:
    asked = ("first 32 of 128 units", "no other speakers", "DDPM")
    given = [str(tiny_data), str(place / "work"), "--steps", "2", "--config", str(place / "tiny.yaml"), *panel(place)]
    chosen = [part for name in asked for part in ("--only", name)]
    done = CliRunner().invoke(study_training.main, [*given, *chosen, "--root", str(place)])
    assert done.exit_code == 0, done.output
    record = read_json(place / "benchmarks" / "results" / "study-training.json")
    assert [row["name"] for row in record["rows"]] == ["first 32 of 128 units", "no other speakers", "DDPM"]
    assert record["targets"] == ["ann", "bob"] and record["clips"] == ["speech/talk/a"]
    for row in record["rows"]:
        figures = row["figures"]
        mean = (figures["ann"]["similarity"] + figures["bob"]["similarity"]) / 2
        assert figures["all"]["similarity"] == pytest.approx(mean, abs=1e-5) and row["fit"] > 0
    assert study_training.table(record) in done.stdout
    assert (place / "docs" / "figures" / "training.png").read_bytes().startswith(b"\x89PNG")
    (place / "work" / "DDPM.json").write_text((place / "work" / "no other speakers.json").read_text())
    again = CliRunner().invoke(study_training.main, [*given, "--only", "DDPM", "--root", str(place)])
    assert again.exit_code == 0 and "DDPM" not in again.stderr


@pytest.mark.parametrize("name", [name for name, one in study_training.VARIANTS.items() if one.deafened])
def test_a_deafened_network_hears_less(
    name: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, same_threads: None
) -> None:
    monkeypatch.setattr(study_training, "CLUSTERS", 5)
    data = PreparedData(tiny_data)
    torch.manual_seed(0)
    width = 128 if name.startswith("first") else data.unit_dimension
    network = denoiser.build(DenoiserConfig(network=TINY["network"]), data.spec.bins, width, 2)
    study_training.VARIANTS[name].deafened(network, data)  # type: ignore[misc]
    conditioner, units = denoiser.conditioner(network), torch.randn(1, 4, width)
    given = {
        "units": units, "mel2ph": torch.arange(1, 5)[None], "f0": torch.full((1, 4), 220.0),
        "voiced": torch.ones(1, 4), "loudness": torch.full((1, 4), -20.0), "speaker": torch.tensor([[1.0, 0.0]]),
    }  # fmt: skip
    before = conditioner(*given.values())
    if name == "loudness not heard":
        changed = {**given, "loudness": torch.full((1, 4), -60.0)}
    elif name == "200 clusters, soft":
        assert not torch.equal(conditioner(*{**given, "units": 2 * units}.values()), before)
        return
    else:  # a little beside a cluster's centre, or in the last of the units
        changed = {**given, "units": units + 1e-6 * (torch.arange(width) == width - 1)}
    assert torch.equal(conditioner(*changed.values()), before)


def test_students_of_several_look_aheads(tiny_data: Path, tmp_path: Path, same_threads: None) -> None:
    small = {"batch": 2, "seconds": 1.0, "network": {"channels": 16, "hidden": 24, "layers": 2, "kernel": 3}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small), encoding="utf-8")
    given = [tiny_data, tmp_path / "work", "--ahead", 0, "--ahead", 2, "--steps", 2, "--root", tmp_path]
    done = CliRunner().invoke(study_lookahead.main, list(map(str, [*given, "--config", tmp_path / "small.yaml"])))
    assert done.exit_code == 0, done.output
    rows = read_json(tmp_path / "benchmarks" / "results" / "study-lookahead.json")["rows"]
    assert [row["milliseconds"] for row in rows] == pytest.approx([7.5, 47.5])
    assert all(row["clean_l1"] > 0 and row["altered_l1"] > 0 for row in rows)
    assert "| 2 | 48 |" in done.stdout and (tmp_path / "docs" / "figures" / "lookahead.png").is_file()


@pytest.fixture(scope="module")
def flow(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN_DIR with a small denoiser that can be guided."""
    folder = tmp_path_factory.mktemp("flow")
    done = svc_train("denoiser", tiny_data, folder, "--config", written(folder / "c.yaml", dropped=0.3), "--steps", 2)
    assert done.exit_code == 0, done.output
    return folder


def test_ways_to_straighten_are_judged_beside_one_another(
    tiny_data: Path, place: Path, flow: Path, same_threads: None
) -> None:
    config = "{frames: 32, targets: {bob: 1.0}, lead: {bob: ann}, guidance: 1.5}"
    (place / "r.yaml").write_text(config, encoding="utf-8")
    given = [str(tiny_data), str(flow), str(place / "work"), "--steps", "2", "--batch", "2", "--config",
             str(place / "r.yaml"), *panel(place), "--root", str(place)]  # fmt: skip
    asked = ("as the recipe", "nobody leads", "a critic, weight 0.03")
    done = CliRunner().invoke(study_reflow.main, [*given, *(part for name in asked for part in ("--only", name))])
    assert done.exit_code == 0, done.output
    record = read_json(place / "benchmarks" / "results" / "study-reflow.json")
    assert tuple(row["name"] for row in record["rows"]) == ("nothing converted", *asked)
    assert all(set(row["figures"]) == {"all", "ann", "bob"} for row in record["rows"])
    assert record["rows"][0]["figures"]["bob"]["source_similarity"] == pytest.approx(1, abs=1e-5)
    assert all(row["apart"] > 0 for row in record["rows"][1:])
    assert study_reflow.table(record) in done.stdout and "| a critic, weight 0.03 | bob |" in done.stdout
    assert (place / "docs" / "figures" / "reflow.png").read_bytes().startswith(b"\x89PNG")


def test_a_critic_learns_who_was_recorded_and_the_network_to_hide_it(tiny_data: Path, flow: Path) -> None:
    config = ReflowConfig(batch=4, frames=64, targets={"bob": 1.0})
    torch.manual_seed(0)
    task = study_reflow.Criticised(PreparedData(tiny_data), config, flow, 1.0)
    batches = task.batches(dataset.Share(), torch.device("cpu"))
    sides = (task.critic, task.adversary_loss), (task.network, lambda batch: task.losses(batch)["fool"])
    told = []
    for part, losses in sides:
        optimizer = torch.optim.Adam(part.parameters(), 3e-3)
        for _ in range(30):
            batch = next(batches)
            with torch.no_grad():
                task.losses(batch)  # leaves what was made in the batch
            loss = losses(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told.append(loss.item())
    assert told[29] < 0.7 * told[0] and told[59] < 0.7 * told[30]


def test_a_critic_hears_a_fifth_of_a_second_and_cannot_go_by_pitch(tiny_data: Path, flow: Path) -> None:
    data = PreparedData(tiny_data)
    critic = study_reflow.SpeakerCritic(data.spec.bins, 3).eval()
    mel = torch.randn(2, data.spec.bins, 60)
    other = mel.clone()
    other[:, :, 40] += 5.0
    moved = (critic(mel) != critic(other)).any(-1).any(0).nonzero()[:, 0]
    assert critic(mel).shape == (2, 60, 3) and (moved.min(), moved.max()) == (31, 49)
    assert 19 / data.spec.frame_rate < 0.2
    config = ReflowConfig(batch=32, frames=32, targets={"bob": 1.0})
    one, two = (
        next(task.batches(dataset.Share(), torch.device("cpu")))["f0"]
        for task in (study_reflow.ReflowTask(data, config, flow), study_reflow.Criticised(data, config, flow, 0.1))
    )
    semitones = 12 * torch.log2(two / one)
    assert 2.0 < semitones.max() < 3.001 and -3.001 < semitones.min() < -2.0


def test_minutes_go_on_where_they_ended(tiny_data: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(training_time, "TRIED", 3)
    given = ["--demo", "0.01", "--judged", "2", "--data", str(tiny_data), "--run", "run", "--config", "tiny.yaml"]
    done = CliRunner().invoke(training.main, [*given, *panel(place)])
    assert done.exit_code == 0, done.output
    rows = read_json(place / "benchmarks" / "results" / "study-minutes.json")["rows"]
    assert [row["step"] for row in rows] == [rows[0]["step"], 2 * rows[0]["step"]]
    assert 0 < rows[0]["minutes"] < rows[1]["minutes"] and set(rows[0]["figures"]) == {"all", "ann", "bob"}
    again = CliRunner().invoke(training.main, [*given, *panel(place)])
    assert again.exit_code == 0, again.output
    assert read_json(place / "benchmarks" / "results" / "study-minutes.json")["rows"] == rows


def test_what_is_missing_is_told(tiny_data: Path, place: Path) -> None:
    done = CliRunner().invoke(training.main, ["--demo", "1", "--data", str(tiny_data)])
    assert done.exit_code == 2 and "--run" in done.output
    done = CliRunner().invoke(study_training.main, [str(tiny_data), str(place / "work"), "--inputs", "talk"])
    assert done.exit_code == 2 and "--references" in done.output
    with pytest.raises(OptionError, match="nothing to convert"):
        Panel(PreparedData(tiny_data), ("ann",), (), (), place / "references", None)
