"""svc-run -: WAV and bare samples through a pipe, as they come, as long as they were."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from moksori.runtime import Options, Voice, cli, pipe
from moksori.runtime.errors import AudioError
from moksori.runtime.stream import Live, Stream

RATE = 48_000
TONE = (0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE // 2) / RATE)).astype(np.float32)


@pytest.fixture
def voice(tmp_path: Path, tiny_voice: Callable[[Path], Path]) -> Path:
    return tiny_voice(tmp_path / "목소리 🎤")


def converted(voice: Path, samples: np.ndarray, rate: int = RATE) -> np.ndarray:
    """What a stream makes of it, in its place."""
    stream = Stream(Voice.load(voice, "cpu", threads=1), Options(seed=3), Live(rate))
    return np.concatenate([stream.push(samples), stream.flush()])[stream.latency :]


def piped(voice: Path, data: bytes, *options: str) -> tuple[int, bytes]:
    arguments = ["-", "--voice", str(voice), "--device", "cpu", "--seed", "3", *options]
    done = CliRunner().invoke(cli.main, arguments, input=data, prog_name="svc-run")
    return done.exit_code, done.stdout_bytes or done.stderr_bytes


@pytest.mark.parametrize("subtype, off", [("PCM_16", 2e-5), ("PCM_24", 1e-7), ("FLOAT", 0)])
def test_wav_comes_out_as_wav(voice: Path, subtype: str, off: float) -> None:
    """libsndfile writes it, a stream sings it, libsndfile reads what comes out, once told its length."""
    file = io.BytesIO()
    soundfile.write(file, np.stack([TONE, TONE], 1), RATE, subtype, format="WAV")
    code, out = piped(voice, file.getvalue())
    assert code == 0
    coding = pipe.header(begin := io.BytesIO(out))
    assert (coding.rate, coding.channels) == (RATE, 1)
    heard = pipe.decoded(begin.read(), coding)
    wanted = converted(voice, soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0].mean(1, dtype=np.float32))
    assert len(heard) == len(TONE)
    np.testing.assert_allclose(heard, wanted, atol=off)
    sized = out[:4] + struct.pack("<I", len(out) - 8) + out[8:40] + struct.pack("<I", len(out) - 44) + out[44:]
    read, rate = soundfile.read(io.BytesIO(sized), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(read, heard)


@pytest.mark.parametrize("code, kind", [("s16le", "<i2"), ("f32le", "<f4")])
def test_bare_samples_come_out_as_they_went_in(voice: Path, code: str, kind: str) -> None:
    data = (TONE * (2**15 if kind == "<i2" else 1)).astype(kind)
    status, out = piped(voice, data.tobytes() + b"x", "--raw", code, "--rate", "44100")
    assert status == 0
    scale = np.float32(2**15 if kind == "<i2" else 1)
    wanted = converted(voice, (data / scale).astype(np.float32), 44_100)
    np.testing.assert_allclose(np.frombuffer(out, kind) / scale, wanted, atol=0 if kind == "<f4" else 2e-5)


@given(st.lists(st.floats(-1, 1, width=32), max_size=40), st.sampled_from(sorted(pipe.CODES)))
def test_coding_and_decoding_agree_with_numpy(samples: list[float], code: str) -> None:
    given_samples = np.array(samples, np.float32)
    data = pipe.encoded(given_samples, code)
    kind, size = pipe.CODES[code]
    assert len(data) == size * len(samples)
    if size == 3:
        wanted = [int.from_bytes(data[at : at + 3], "little", signed=True) / 2**23 for at in range(0, len(data), 3)]
    else:
        scale = 1 if kind == pipe.FLOAT else 2.0 ** (8 * size - 1)
        wanted = list(np.frombuffer(data, "<f4" if kind == pipe.FLOAT else f"<i{size}") / scale)
    found = pipe.decoded(data, pipe.Coding(RATE, code))
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    np.testing.assert_allclose(found, given_samples, atol=0 if kind == pipe.FLOAT else 1.01 / 2 ** (8 * size - 1))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no WAV"),
        (b"OggS" * 20, "no WAV"),
        (b"RIFF\xff\xff\xff\xffWAVE", "ends before its samples"),
        (b"RIFF\xff\xff\xff\xffWAVEdata\x00\x00\x00\x00", "samples come before their format"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \x04\x00\x00\x00abcd", "cut short"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00" + struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8), "8 bits"),
        (b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\x7f", "samples come before"),
    ],
)
def test_what_is_no_wav_is_told(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        pipe.header(io.BytesIO(data))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--raw", "s16le"], "--raw s16le --rate 48000"),
        (["--rate", "48000"], "--raw s16le --rate 48000"),
        (["-o", "out"], "--o cannot go with -"),
        (["song.wav"], "another input cannot go with -"),
        (["--json"], "--json cannot go with -"),
        (["--raw", "s16le", "--rate", "48000", "--key", "auto"], "give the key in semitones"),
        (["--raw", "s16le", "--rate", "48000", "--stereo"], "stereo is for files"),
        (["--raw", "s16le", "--rate", "48000", "--lookahead", "0"], "a look-ahead of 0 ms"),
        ([], "no WAV"),
    ],
)
def test_what_a_pipe_cannot_do_is_one_line(voice: Path, options: list[str], message: str) -> None:
    code, told = piped(voice, b"", *options)
    assert code == 2 and message in told.decode() and b"Traceback" not in told


def test_options_of_a_pipe_need_one() -> None:
    done = CliRunner().invoke(cli.main, ["song.wav", "--raw", "s16le"], prog_name="svc-run")
    assert done.exit_code == 2 and "go with - alone" in done.output


def test_it_comes_while_it_goes_and_a_broken_pipe_ends_it(voice: Path) -> None:
    """The first samples come out long before the input ends; who stops listening ends it without a traceback."""
    command = [sys.executable, "-m", "moksori.runtime.cli", "-", "--voice", str(voice), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--raw", "f32le", "--rate", str(RATE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    try:
        process.stdin.write(TONE.tobytes())
        process.stdin.flush()
        assert len(process.stdout.read(4 * RATE // 4)) == RATE
        process.stdout.close()
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            try:
                process.stdin.write(TONE.tobytes())
                process.stdin.flush()
            except BrokenPipeError:
                break
            time.sleep(0.05)
        assert process.wait(30) == 1
        assert process.stderr.read() == b""
    finally:
        process.kill()
