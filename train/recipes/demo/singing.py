"""The target singer "f001": pysinsy singing random Japanese melodies whose notes are kept beside the audio."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clips import Clip
from packages import build_python, command, fresh_folder
from scipy.signal import butter, sosfiltfilt

PYSINSY = "pysinsy==0.0.5"
RATE = 48000
SECONDS, HELD_OUT = 24 * 60, 6
CLIP_S = 9.0
SPARE = 1.2  # how much more is sung than is kept
# Peak, where 32768 is full scale, above which the voice's filter was unstable; healthy songs stay below 25000.
BLOW_UP = 30000.0
RUMBLE_HZ = 70.0  # far below the lowest note; the voice hums here between phrases
# MIDI. Outside this range the voice no longer follows the notes: its training songs held none.
LOW, HIGH = 60, 76
DIVISIONS = 4  # of a quarter note
MORAE = [
    *"あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめも",
    *"やゆよらりるれろわをんがぎぐげござじずぜぞだでどばびぶべぼぱぴぷぺぽ",
    *re.findall("..", "きゃきゅきょしゃしゅしぇしょちゃちゅちぇちょにゃにゅにょひゃひゅひょみゃみゅみょ"),
    *re.findall("..", "りゃりゅりょぎゃぎゅぎょじゃじゅじぇじょびゃびゅびょぴゃぴゅぴょ"),
    *re.findall("..", "ふぁふぃふぇふぉてぃでぃでゅとぅどぅつぁつぇつぉうぃうぇうぉ"),
]
# Rhythms of one bar of four quarters, in DIVISIONS; a bar's last note may turn into a rest.
BARS = (
    *((4, 4, 4, 4), (2, 2, 4, 2, 2, 4), (6, 2, 4, 4), (8, 4, 4), (2, 2, 2, 2, 4, 4), (4, 8, 4)),
    *((8, 8), (2, 2, 2, 2, 2, 2, 4), (3, 1, 4, 3, 1, 4), (12, 4), (6, 2, 8), (16,)),
)
MAJOR = (0, 2, 4, 5, 7, 9, 11)
NAMES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
TYPES = {1: "16th", 2: "eighth", 3: "eighth", 4: "quarter", 6: "quarter", 8: "half", 12: "half", 16: "whole"}


@dataclass(frozen=True)
class Note:
    """One note or, with `midi` None, a rest; times in seconds."""

    start: float
    duration: float
    midi: int | None
    lyric: str
    divisions: int


def clips(work: Path) -> Iterator[Clip]:
    """Yield the sung clips with their notes."""
    python = build_python(work, PYSINSY)
    scores = fresh_folder(work / "packages" / ".f001-scores")
    songs = compose(SECONDS * SPARE)
    for number, (tempo, notes) in enumerate(songs):
        (scores / f"{number:04d}.xml").write_text(music_xml(notes, tempo), encoding="utf-8")
    command([str(python), str(Path(__file__).with_name("sinsy_worker.py")), str(scores)])
    total, made = 0.0, 0
    for number, (_, notes) in enumerate(songs):
        audio = np.load(scores / f"{number:04d}.npy")
        if np.abs(audio).max() > BLOW_UP:
            continue
        # Nominal: this voice sings most notes within half a semitone, the outermost less truly.
        keys = ("start", "duration", "midi", "lyric")
        sung = [{key: getattr(note, key) for key in keys} for note in notes if note.midi is not None]
        yield Clip(evened(audio), RATE, held_out=made < HELD_OUT, notes=sung)
        total += 0 if made < HELD_OUT else len(audio) / RATE
        made += 1
        if total >= SECONDS:
            break
    fresh_folder(scores).rmdir()


def compose(seconds: float) -> list[tuple[int, list[Note]]]:
    """Make songs, each a tempo in quarters a minute and its notes, until they last `seconds`."""
    rng = random.Random("f001")
    bag: list[str] = []
    songs: list[tuple[int, list[Note]]] = []
    total = 0.0
    while total < seconds:
        tempo = rng.choice(range(72, 168, 4))
        notes = melody(rng, bag, bars=max(3, round(CLIP_S * tempo / 240)), tempo=tempo, number=len(songs))
        songs.append((tempo, notes))
        total += notes[-1].start + notes[-1].duration
    return songs


def evened(audio: np.ndarray) -> np.ndarray:
    """Bring notes closer to one loudness: this voice's notes differ by 15 dB for no musical reason."""
    audio = sosfiltfilt(butter(2, RUMBLE_HZ, "highpass", fs=RATE, output="sos"), audio)
    hop = RATE // 100
    window = np.hanning(17) / np.hanning(17).sum()
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop)
    level = np.sqrt(np.convolve(np.square(frames).mean(axis=1), window, mode="same"))
    usual = np.median(level[level > 0.1 * np.percentile(level, 95)])
    gain = (usual / np.clip(level, usual / 8, None)) ** 0.75
    # Rests and breaths are far below the quietest note, and stay there.
    gain = np.convolve(np.where(level < usual / 16, 1.0, gain), window, mode="same")
    return audio * np.interp(np.arange(len(audio)), (np.arange(len(gain)) + 0.5) * hop, gain)


def melody(rng: random.Random, bag: list[str], bars: int, tempo: int, number: int) -> list[Note]:
    """Make a melody of whole bars; `bag` hands out every mora once before any comes again."""
    key = rng.randrange(12)
    scale = [n for n in range(LOW, HIGH + 1) if (n - key) % 12 in MAJOR]
    # The golden ratio spreads the songs' centres evenly over the range, however many there are.
    centre = LOW + 2 + (HIGH - LOW - 4) * ((0.5 + number * 0.6180339887) % 1.0)
    midi = min(scale, key=lambda n: abs(n - centre))
    notes: list[Note] = []
    time = 0.0
    for bar in range(bars):
        last = bar % 2 == 1 or bar == bars - 1
        rhythm = rng.choice([beats for beats in BARS if len(beats) > 1] if last or bar == 0 else BARS)
        for place, divisions in enumerate(rhythm):
            seconds = divisions / DIVISIONS * 60 / tempo
            if (last and place == len(rhythm) - 1) or (bar == 0 and place == 0):
                notes.append(Note(time, seconds, None, "", divisions))
            else:
                if not bag:
                    bag.extend(MORAE)
                    rng.shuffle(bag)
                notes.append(Note(time, seconds, midi, bag.pop(), divisions))
                weights = [2 ** (-abs(n - midi) / 2) * 2 ** (-abs(n - centre) / 5) for n in scale]
                midi = rng.choices(scale, weights)[0]
            time += seconds
    return notes


def music_xml(notes: list[Note], tempo: int) -> str:
    """Write notes, whose bars have four quarters, as MusicXML."""
    bars: list[str] = []
    filled = 4 * DIVISIONS
    for note in notes:
        if filled == 4 * DIVISIONS:
            bars.append("")
            filled = 0
        bars[-1] += element(note)
        filled += note.divisions
    head = (
        f"<attributes><divisions>{DIVISIONS}</divisions><key><fifths>0</fifths><mode>major</mode></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time><clef><sign>G</sign><line>2</line></clef></attributes>"
        f'<direction><sound tempo="{tempo}"/></direction>'
    )
    numbered = enumerate([head + bars[0], *bars[1:]], start=1)
    body = "".join(f'<measure number="{number}">{bar}</measure>' for number, bar in numbered)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<score-partwise version="2.0">'
        '<part-list><score-part id="P1"><part-name>voice</part-name></score-part></part-list>'
        f'<part id="P1">{body}</part></score-partwise>\n'
    )


def element(note: Note) -> str:
    """One note as MusicXML."""
    dot = "<dot/>" if note.divisions in (3, 6, 12) else ""
    length = f"<duration>{note.divisions}</duration><voice>1</voice><type>{TYPES[note.divisions]}</type>{dot}"
    if note.midi is None:
        return f"<note><rest/>{length}</note>"
    name = NAMES[note.midi % 12]
    alter = "<alter>1</alter>" if name.endswith("#") else ""
    pitch = f"<pitch><step>{name[0]}</step>{alter}<octave>{note.midi // 12 - 1}</octave></pitch>"
    lyric = f"<lyric><syllabic>single</syllabic><text>{note.lyric}</text></lyric>"
    return f"<note>{pitch}{length}{lyric}</note>"
