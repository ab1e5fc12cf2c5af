"""Voices that an earlier version wrote go on loading and sounding: stored once, never made anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.export.cli import main
from moksori.runtime.converter import Converter
from moksori.runtime.schedules import LinearBeta
from moksori.runtime.voice import Voice

DATA = Path(__file__).resolve().parent / "data"
FLOW, EPSILON = DATA / "voice_1_flow.zip", DATA / "voice_1_epsilon.zip"
RATE = 24_000
STORED = {FLOW: "f662ec4fd948", EPSILON: "45cba4f4e147"}  # hashes of the files as they were written


def sung(path: Path, folder: Path) -> np.ndarray:
    time = np.arange(RATE) / RATE
    tone = 0.2 * sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9))
    soundfile.write(folder / "tone.wav", tone, RATE, subtype="FLOAT")
    voice = Voice.load(path, "cpu", threads=1)
    Converter(voice).convert(folder / "tone.wav", folder / "out.wav")
    made, rate = soundfile.read(folder / "out.wav")
    assert rate == RATE
    return made


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_it_is_the_file_of_then_and_sings(path: Path, tmp_path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(STORED[path])
    made = sung(path, tmp_path)
    assert len(made) == RATE and np.isfinite(made).all() and made.std() > 1e-3


def test_what_they_said_then() -> None:
    flow, epsilon = (Voice.load(path, "cpu", threads=1).manifest for path in (FLOW, EPSILON))
    assert (flow.format_version, epsilon.format_version) == (1, 1)
    assert (flow.denoiser.schedule, flow.denoiser.sampler, flow.vocoder.kind) == ("linear", "euler", "istft")
    assert [one.name for one in flow.speakers] == ["heart", "f001"]
    assert (epsilon.name, epsilon.vocoder.kind) == ("epsilon", "nsf_hifigan")
    assert epsilon.denoiser.schedule == LinearBeta(timesteps=1000, first=1e-4, last=0.02)


def test_inspect_tells_all_of_it() -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["--inspect", str(EPSILON)])
    assert shown.exit_code == 0, shown.output
    said = Voice.load(EPSILON, "cpu", threads=1).manifest
    for role, file in said.files.items():
        (row,) = [line for line in shown.output.splitlines() if f" {role} " in line and file.sha256[:8] in line]
        assert f"{file.bytes:,}" in row and said.precision[role] in row
    for words in ("epsilon, plms in 20 steps", "trained elsewhere", "ann: 40 to 1100 Hz", "format    1"):
        assert words in shown.output
