"""Prepared data as training sees it: crops, who is heard how much, what is held out, and 200 hours of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from threadpoolctl import ThreadpoolController

from moksori.runtime import mel
from moksori.runtime.errors import MoksoriError
from moksori.runtime.files import read_json
from moksori.runtime.mel import MelSpec
from moksori.train import arrays, dataset
from moksori.train.dataset import EXAMPLES, MARGIN, Crop, PreparedData, Share, Slice

SPEC = MelSpec()
HOP = SPEC.hop


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Path:
    return tiny_data


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


def test_features_are_read_as_numpy_reads_them_without_ast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that meet in ``ast`` can end a training."""
    random = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {
        "f0": random.random(7, np.float32), "voiced": random.random(7) > 0.5, "one": np.array(3, np.float16),
        "units": random.random((2, 5, 3)).astype(np.float16), "none": np.zeros((0, 4), np.float32),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **kept)
        with monkeypatch.context() as patch:
            patch.setattr("ast.literal_eval", None)
            found = arrays.read(tmp_path / "a.npz", list(kept))
        for value, wanted in zip(found, kept.values(), strict=True):
            np.testing.assert_array_equal(value, wanted, strict=True)
    np.savez(tmp_path / "b.npz", turned=np.asfortranarray(random.random((3, 2))))
    with pytest.raises(ValueError, match="unusual header"):
        arrays.read(tmp_path / "b.npz", ["turned"])
    with pytest.raises(KeyError):
        arrays.read(tmp_path / "b.npz", ["f0"])


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


def test_shares_of_the_stream_are_all_of_it_once() -> None:
    firsts = [share.first(number, 4) for number in range(4) for share in (Share(0, 0, 2), Share(0, 1, 2))]
    assert [first + k for first in firsts for k in range(4)] == list(range(32))
    assert [Share().first(number, 8) for number in range(4)] == firsts[::2]


def test_threads_that_make_batches_have_no_threads_of_their_own(data: Path) -> None:
    """On two cores those of BLAS took half of the time of the training that waited for the batches."""

    def threads() -> set[int]:
        return {one.num_threads for one in ThreadpoolController().select(internal_api="openblas").lib_controllers}

    before = threads()
    prepared = PreparedData(data)
    stream = dataset.batches(
        prepared, lambda crops, _: {"mel": crops[0].mel}, Share(), size=1, frames=8, balance=prepared.balance({})
    )
    next(stream)
    assert threads() <= {1}  # none, where numpy has another BLAS
    stream.close()
    assert threads() == before


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
