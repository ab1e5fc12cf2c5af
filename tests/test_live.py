"""svc-live: against a real sound server where there is one, and its screen, keys and errors everywhere."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from moksori.runtime import Options, Voice, keyboard, live, sound
from moksori.runtime.errors import DeviceError
from moksori.runtime.sound import Card
from moksori.runtime.stream import Live, Stream

RATE = 48_000
TOOLS = ("pulseaudio", "pactl", "paplay", "parec")
sounds = pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, TOOLS)) or ctypes.util.find_library("portaudio") is None,
    reason="needs PulseAudio and PortAudio: .ci/sound installs them",
)
Cards = list[Card]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A PulseAudio of its own with two cables, "mic" and "cable"; the environment in which programs find it."""
    folder = tmp_path_factory.mktemp("pulse")
    folder.chmod(0o700)
    socket = folder / "socket"
    wanted = {"XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "PULSE_SERVER": f"unix:{socket}"}
    modules = [f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
    modules += [f"module-null-sink sink_name={name} rate={RATE} channels=1" for name in ("mic", "cable")]
    loaded = [part for module in modules for part in ("-L", module)]
    environment = {**os.environ, **wanted}
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", *loaded]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            told = subprocess.run(["pactl", "info"], env=environment, capture_output=True)
            if told.returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.skip("PulseAudio does not start here")
        yield environment | {"PULSE_SINK": "cable", "PULSE_SOURCE": "mic.monitor"}
    finally:
        process.terminate()
        process.wait(10)


@sounds
def test_a_played_file_comes_out_converted(
    server: dict[str, str], tmp_path: Path, tiny_voice: Callable[[Path], Path]
) -> None:
    """The tiny voice hears 220 Hz in anything; an octave up it sings 440 Hz where 330 Hz are played."""
    voice = tiny_voice(tmp_path / "목소리")
    length = np.arange(3 * RATE) / RATE
    tone = 0.2 * sum(np.sin(2 * np.pi * 330 * k * length) / k for k in range(1, 6))
    soundfile.write(tmp_path / "tone.wav", tone, RATE)
    command = [sys.executable, "-m", "moksori.runtime.live", "--voice", str(voice), "--key", "12", "--device", "cpu"]
    singer = subprocess.Popen(
        [*command, "--block", "80", "--seconds", "30"], env=server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until(lambda: "moksori" in clients(server, singer.pid), 60)
        with (tmp_path / "out.raw").open("wb") as file:
            record = ["parec", "-d", "cable.monitor", "--format=float32le", f"--rate={RATE}", "--channels=1"]
            recorder = subprocess.Popen(record, env=server, stdout=file)
            subprocess.run(["paplay", "-d", "mic", str(tmp_path / "tone.wav")], env=server, check=True, timeout=60)
            time.sleep(0.5)
            recorder.terminate()
            recorder.wait(10)
        singer.send_signal(2)
        told, _ = singer.communicate(timeout=30)
    finally:
        singer.kill()
    assert singer.returncode == 0 and b"stopped; " in told and b"Traceback" not in told
    print(told.decode())
    heard = np.fromfile(tmp_path / "out.raw", np.float32)
    loud = heard[np.abs(heard) > 1e-4]
    assert len(loud) > RATE
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    at = [round(hertz * len(heard) / RATE) for hertz in (330, 440)]
    other, own = (spectrum[place - 20 : place + 21].max() for place in at)
    assert own > 5 * other


def clients(server: dict[str, str], pid: int) -> str:
    """"moksori" once the process both plays and records."""
    told = [
        subprocess.run(["pactl", "list", kind], env=server, capture_output=True, text=True).stdout
        for kind in ("sink-inputs", "source-outputs")
    ]
    return "moksori" if all(f'application.process.id = "{pid}"' in one for one in told) else ""


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.2)


@sounds
def test_the_cards_are_listed_by_name(server: dict[str, str]) -> None:
    command = [sys.executable, "-m", "moksori.runtime.live", "--list"]
    told = subprocess.run(command, env=server, capture_output=True, text=True)
    assert told.returncode == 0 and "pulse (ALSA)" in told.stdout and " in " in told.stdout


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """What ``sound.cards`` finds from now on; it may be changed."""
    found = [
        Card(0, "Built-in Audio", "ALSA", 2, 2, RATE),
        Card(1, "마이크 USB", "ALSA", 1, 0, 44_100),
        Card(2, "CABLE Input", "ALSA", 0, 8, RATE),
    ]
    monkeypatch.setattr(sound, "cards", lambda: found)
    return found


@pytest.mark.parametrize(
    "which, side, index",
    [("마이크", "input", 1), ("cable", "output", 2), ("2", "output", 2), ("built-in audio", "input", 0)],
)
def test_a_card_goes_by_name_part_or_number(cards: Cards, which: str, side: sound.Side, index: int) -> None:
    assert sound.pick(which, side).index == index


def test_a_card_that_is_not_there_is_told(cards: Cards) -> None:
    with pytest.raises(DeviceError, match=r"no input 'CABLE Inptu'.*here: 0: Built-in Audio \(ALSA\), 1: 마이크 USB"):
        sound.pick("CABLE Inptu", "input")
    cards.clear()
    with pytest.raises(DeviceError, match="no sound card to record from: plug one in"):
        sound.pick(None, "input")


def test_no_sound_card_is_one_line_and_code_2(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", ModuleType("sounddevice"))
    cards.clear()
    for arguments in ([], ["--list"]):
        done = CliRunner().invoke(live.main, arguments, prog_name="svc-live")
        assert done.exit_code == 2 and "no sound card" in done.output and "Traceback" not in done.output


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = CliRunner().invoke(live.main, [], prog_name="svc-live")
    assert done.exit_code == 2 and 'pip install "moksori[live]"' in done.output


@pytest.fixture
def session(tmp_path: Path, tiny_voice: Callable[[Path], Path], cards: Cards) -> Iterator[live.Session]:
    stream = Stream(Voice.load(tiny_voice(tmp_path / "voice"), "cpu", threads=1), live=Live(RATE, step=480))
    made = live.Session(stream, Options(), (cards[0], cards[2]), 480, 2, None)
    yield made
    made.relay.close()


def test_keys_change_what_is_sung(session: live.Session) -> None:
    for key in ("up", "up", "down", "s", "m", "x", ""):
        assert session._pressed(key)
    assert session.relay.options == Options(key=1.0, speaker="f001") and session.relay.muted
    for key in ("m", "s"):
        session._pressed(key)
    assert session.relay.options.speaker == "heart" and not session.relay.muted
    for _ in range(100):
        session._pressed("up")
    assert session.relay.options.key == 60
    assert not session._pressed("q")


def test_the_status_tells_levels_f0_and_latency(session: live.Session) -> None:
    length = np.arange(RATE) / RATE
    tone = (0.2 * np.sin(2 * np.pi * 330 * length)).astype(np.float32)
    for at in range(0, RATE, 480):
        session._record(tone[at : at + 480])
        session._play(480)
        time.sleep(0.005)
    until(lambda: session.stream.f0 > 0, 20)
    told = session.status(0.02)
    own = 1000 * (session.stream.latency + 3 * 480) / RATE
    assert f"latency {own:.0f} ms + card 20 ms" in told and "220 Hz" in told and "[########" in told
    assert len(told.splitlines()) == 4


def test_without_a_terminal_no_key_is_ever_pressed() -> None:
    with keyboard.keys() as press:
        assert press(0.01) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_gives_keys_and_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(slave)
        with keyboard.keys() as press:
            found = []
            for sent in (b"m", b"\x1b[A", b"\x1b[B", b"\x1b[C"):
                os.write(master, sent)
                found.append(press(1.0))
            assert found == ["m", "up", "down", ""]
        assert termios.tcgetattr(slave) == before
    os.close(master)


class Driver(ModuleType):
    """A sounddevice whose streams open, or refuse, as ``refused`` says by kind."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *refused: str) -> None:
        super().__init__("sounddevice")
        self.opened: list[str] = []
        self.active = True
        for kind in ("Stream", "InputStream", "OutputStream"):
            setattr(self, kind, self._kind(kind, kind in refused))

    def _kind(self, kind: str, refused: bool) -> Callable[..., object]:
        driver = self

        class Opened:
            latency = 0.01

            def __init__(self, **settings: object) -> None:
                if refused:
                    raise Driver.PortAudioError("Illegal combination of I/O devices [PaErrorCode -9993]")
                driver.opened.append(kind)

            def __enter__(self) -> Opened:
                return self

            def __exit__(self, *error: object) -> None:
                driver.opened.remove(kind)

            @property
            def active(self) -> bool:
                return driver.active

        return Opened


def nothing(size: int) -> np.ndarray:
    return np.zeros(size, np.float32)


def test_two_cards_that_cannot_be_one_are_opened_apart(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("Stream")
    monkeypatch.setitem(sys.modules, "sounddevice", driver)
    with sound.running(cards[1], cards[2], RATE, 480, lambda block: None, nothing) as latency:
        assert driver.opened == ["InputStream", "OutputStream"] and latency() == pytest.approx(0.02)
        driver.active = False
        with pytest.raises(DeviceError, match=r"1: 마이크 USB \(ALSA\) or 2: CABLE Input \(ALSA\) has stopped"):
            latency()
    assert driver.opened == []


def test_a_card_that_does_not_open_is_told(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("Stream", "OutputStream")
    monkeypatch.setitem(sys.modules, "sounddevice", driver)
    with (
        pytest.raises(DeviceError, match=r"cannot be opened \(Illegal combination.*close what else uses them"),
        sound.running(cards[1], cards[2], RATE, 480, lambda block: None, nothing),
    ):
        pass
    assert driver.opened == []
    with (
        pytest.raises(DeviceError, match=r"CABLE Input.*cannot be opened to monitor"),
        sound.playing(cards[2], RATE, 480, nothing),
    ):
        pass
