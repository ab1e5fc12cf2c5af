"""The measures, against signals whose answers are known and against independent implementations."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from moksori.runtime.errors import MoksoriError
from moksori.runtime.mel import MelSpec
from moksori.train import judge, measures
from moksori.train.judge import Clip, Judge, Row, Verdict, score
from moksori.train.measures import (
    PitchErrors,
    Recogniser,
    Similarity,
    Sound,
    character_error_rate,
    mel_distance,
    pitch_errors,
    whisper_mel,
)

Array = NDArray[np.float32]
SONG = Path(__file__).parent / "data" / "vocadito_10.flac"


def voice(f0: Array | float, rate: int = 24_000, seconds: float = 2.0) -> Sound:
    """A harmonic tone with the given f0 [n] or constant, in Hz."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, round(seconds * rate)) / rate)
    harmonics = np.arange(1, 9)[:, None]
    return Sound((0.1 * np.sin(harmonics * phase) / harmonics).sum(0, dtype=np.float32), rate)


@pytest.mark.parametrize("semitones", [0, 7, -5, 12])
def test_a_result_in_the_asked_key_has_no_pitch_error(semitones: int) -> None:
    vibrato = 220 * 2 ** (0.05 * np.sin(2 * np.pi * 5 * np.arange(48_000) / 24_000))
    moved = pitch_errors(voice(vibrato), voice(vibrato * 2 ** (semitones / 12)), key=semitones)
    assert moved.cents < 2 and moved.off_pitch < 0.01 and moved.octave == 0 and moved.voicing < 0.02


def test_pitch_errors_are_in_cents() -> None:
    errors = pitch_errors(voice(200.0), voice(200.0 * 2 ** (30 / 1200)))
    assert errors.cents == pytest.approx(30, abs=0.5)
    assert errors.off_pitch == errors.octave == 0


def test_an_octave_is_told_from_a_false_note() -> None:
    half = np.repeat([200.0, 400.0], 24_000)
    errors = pitch_errors(voice(200.0), voice(half))
    assert errors.octave == pytest.approx(0.5, abs=0.03) and errors.off_pitch == pytest.approx(0.5, abs=0.03)
    fifth = pitch_errors(voice(200.0), voice(np.repeat([200.0, 210.0], 24_000)))
    assert fifth.octave == 0 and fifth.off_pitch == pytest.approx(0.5, abs=0.03)


def test_silence_has_no_pitch_and_missing_sound_is_unvoiced() -> None:
    silent = pitch_errors(voice(200.0), Sound(np.zeros(48_000, np.float32), 24_000))
    assert math.isnan(silent.cents) and silent.voicing > 0.9
    short = pitch_errors(voice(200.0), voice(200.0, seconds=1.0))
    assert short.cents < 1 and short.voicing == pytest.approx(0.5, abs=0.03)
    longer = pitch_errors(voice(200.0), voice(200.0, seconds=3.0))
    assert longer.cents < 1 and longer.voicing < 0.02


def test_one_sample_and_nan_are_measured_too() -> None:
    broken = Sound(np.full(24_000, np.nan, np.float32), 24_000)
    for sound in (broken, Sound(np.zeros(1, np.float32), 24_000)):
        assert math.isnan(pitch_errors(sound, sound).cents)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("kitten", "sitting", 3 / 6),
        ("Hello, World!", "hello world", 0),
        ("abc", "", 1),
        ("abc", "abcabcabcabc", 1),
        ("", "", 0),
        ("", "you", 1),
        ("ä", "a\u0308", 0),
        ("안녕하세요", "안녕 하세오", 1 / 5),
        ("Привет", "привет.", 0),
    ],
)
def test_character_error_rate(reference: str, hypothesis: str, rate: float) -> None:
    assert character_error_rate(reference, hypothesis) == pytest.approx(rate)


def test_edits_equal_the_textbook_table() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(1, 12))) for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
        for i in range(len(a)):
            for j in range(len(b)):
                table[i + 1, j + 1] = min(
                    table[i, j + 1] + 1, table[i + 1, j] + 1, table[i, j] + (a[i] != b[j])
                )
        assert character_error_rate(a, b) == pytest.approx(min(1, table[-1, -1] / len(a)))


def test_whisper_mel_is_the_published_one() -> None:
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor()
    audio = np.zeros(480_000, np.float32)
    song = Sound.read(SONG).at(16_000)
    audio[: len(song)] = song
    expected = extractor(audio, sampling_rate=16_000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(whisper_mel(audio), expected, atol=1e-4)


def test_mel_distance_of_a_gain_is_its_logarithm() -> None:
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    distance = mel_distance(Sound(noise * 0.1, 24_000), Sound(noise * 0.2, 24_000), MelSpec())
    assert distance == pytest.approx(math.log(2), rel=1e-4)


def test_a_sound_is_mono_at_its_own_rate(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    sound = Sound.read(tmp_path / "a.wav")
    assert sound.rate == 8000
    np.testing.assert_allclose(sound.samples, 0.125)


@pytest.fixture(scope="module")
def similarity() -> Similarity:
    pytest.importorskip("resemblyzer")
    song = Sound.read(SONG)
    half = len(song.samples) // 2
    return Similarity({"singer": [Sound(song.samples[:half], song.rate)], "tone": [voice(500.0)]})


def test_a_voice_resembles_itself_more_than_others(similarity: Similarity) -> None:
    song = Sound.read(SONG)
    rest = similarity.embed(Sound(song.samples[len(song.samples) // 2 :], song.rate))
    assert similarity.to("singer", rest) > 0.8 > similarity.to("tone", rest)
    assert np.linalg.norm(rest) == pytest.approx(1, abs=1e-5)


def test_nothing_resembles_nobody(similarity: Similarity) -> None:
    for samples in (np.zeros(0), np.zeros(16_000), np.full(16_000, np.nan)):
        embedding = similarity.embed(Sound(samples.astype(np.float32), 16_000))
        assert similarity.to("singer", embedding) == 0


def test_a_short_tone_is_embedded_too(similarity: Similarity) -> None:
    embedding = similarity.embed(voice(300.0, seconds=0.1))
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_the_judge_measures_each_clip(similarity: Similarity) -> None:
    song = Sound.read(SONG)
    references = {"singer": [song], "tone": [voice(500.0)]}
    clips = [Clip("same", song, "singer"), Clip("octave", song, "tone", key=12, reference="singer")]
    assessor = Judge(clips, references)
    faithful = assessor.verdict(lambda clip: clip.sound)
    same, octave = faithful.rows
    assert (same.clip, same.speaker, same.error_rate) == ("same", "singer", None)
    assert same.similarity == pytest.approx(1, abs=1e-4) and same.source_similarity == pytest.approx(
        1, abs=1e-4
    )
    assert same.pitch == PitchErrors(0, 0, 0, 0)
    assert octave.similarity == pytest.approx(1, abs=1e-4) and octave.pitch.cents == 1200
    assert faithful.cents == 600 and math.isnan(faithful.error_rate)
    silent = assessor.verdict(lambda clip: Sound(np.zeros_like(song.samples), song.rate))
    assert score(silent) < score(faithful)


def test_a_clip_without_references_is_refused() -> None:
    with pytest.raises(MoksoriError, match="clip a needs reference recordings of singer"):
        Judge([Clip("a", voice(200.0), "singer")], {})


def row(similarity: float, error_rate: float | None, off_pitch: float = 0.0, voicing: float = 0.0) -> Row:
    return Row("a", "b", similarity, 0.5, PitchErrors(5, off_pitch, 0, voicing), error_rate)


def test_the_score_weighs_words_as_much_as_the_voice() -> None:
    assert score(Verdict.of([row(0.8, 0.1, 0.04, 0.08)])) == pytest.approx(0.8 - 0.1 - 0.02 - 0.02)
    assert score(Verdict.of([row(0.8, None), row(0.6, 0.2)])) == pytest.approx(0.7 - 0.2)
    assert score(Verdict.of([row(0.8, None)])) == pytest.approx(0.8)


def test_a_missing_package_is_told_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, use in (
        ("resemblyzer", lambda: Similarity({})),
        ("parselmouth", lambda: measures.pitch(np.zeros(16_000, np.float32))),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MoksoriError, match=f"measuring needs {module} .*pip install"):
            use()


def test_a_folder_without_a_recogniser_is_told(tmp_path: Path) -> None:
    with pytest.raises(MoksoriError, match=r"holds no model\.bin"):
        Recogniser(tmp_path)


def test_words_are_judged_by_what_was_heard_in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recogniser that hears the loudness: one word for each, so that the judge's use of it can be followed."""

    class Ears(Recogniser):
        def __init__(self) -> None:
            self.asked: list[str | None] = []

        def language(self, sound: Sound) -> str:
            return "eo"

        def text(self, sound: Sound, language: str | None = None) -> str:
            self.asked.append(language)
            return "loud" if np.abs(sound.samples).max() > 0.05 else "soft"

    class Nobody(Similarity):
        def __init__(self, references: object) -> None:
            self._centroids = {"a": np.ones(1, np.float32)}

        def embed(self, sound: Sound) -> Array:
            return np.ones(1, np.float32)

    monkeypatch.setattr(judge, "Similarity", Nobody)
    ears = Ears()
    clips = [
        Clip("1", voice(200.0), "a"),
        Clip("2", voice(200.0), "a", language="ko"),
        Clip("3", voice(200.0), "a", words=False),
    ]
    assessor = Judge(clips, {"a": [voice(200.0)]}, ears)
    verdict = assessor.verdict(lambda clip: Sound(clip.sound.samples / 100, clip.sound.rate))
    assert [one.error_rate for one in verdict.rows] == [0.75, 0.75, None]
    assert (verdict.rows[0].source_text, verdict.rows[0].text) == ("loud", "soft")
    assert verdict.error_rate == 0.75
    assessor.verdict(lambda clip: clip.sound)
    assert ears.asked == ["eo", "ko", "eo", "ko", "eo", "ko"]  # sources are heard once, not at each verdict
