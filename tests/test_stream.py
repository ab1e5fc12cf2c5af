"""The live stream: as many samples out as in, exactly as late as it says, the same for any pushes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_song import MEL, RATE, pulses, song, sung
from numpy import fft

from moksori.runtime import Live, Stream, Voice


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, onnx.ModelProto]) -> Voice:
    return pulses(tmp_path_factory.mktemp("voice"), tiny_models)


@pytest.mark.parametrize("rate", [None, 48_000, 44_100, 16_000])
def test_as_many_samples_come_out_as_go_in(voice: Voice, rate: int | None) -> None:
    stream = Stream(voice, live=Live(rate=rate))
    signal = song(0.7, stream.rate)
    for size in (1, 7, 480, 5000):
        assert stream.push(signal[:size]).shape == (size,)
    assert stream.flush().shape == (stream.latency,)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=6), st.sampled_from([None, 48_000, 44_100]))
def test_the_size_of_the_pushes_changes_nothing(voice: Voice, sizes: list[int], rate: int | None) -> None:
    stream = Stream(voice, live=Live(rate=rate))
    signal = song(0.8, stream.rate)
    whole = sung(stream, signal)
    np.testing.assert_array_equal(sung(stream, signal, sizes), whole)  # flush made the stream as new


@settings(max_examples=10, deadline=None)
@given(st.integers(4_000, 18_000), st.integers(0, 9))
def test_what_comes_later_changes_nothing_before(voice: Voice, cut: int, seed: int) -> None:
    signal, other = song(0.8), song(0.8, seed=seed + 1) * 1.7
    other[:cut] = signal[:cut]
    streams = [Stream(voice).push(one) for one in (signal, other)]
    np.testing.assert_array_equal(streams[0][:cut], streams[1][:cut])


@pytest.mark.parametrize("rate", [None, 48_000, 44_100, 32_000])
@pytest.mark.parametrize("block, lookahead", [(40, 40), (10, 20), (30, 60)])
def test_a_click_comes_out_after_the_latency(voice: Voice, rate: int | None, block: float, lookahead: float) -> None:
    """A burst of 0.1 s between silences: what is heard lies where it lay, later by the latency, to a mel frame."""
    stream = Stream(voice, live=Live(rate, block, lookahead, gain=0.0))
    signal = np.zeros(stream.rate, np.float32)
    begin, end = round(0.4 * stream.rate), round(0.5 * stream.rate)
    signal[begin:end] = song(0.1, stream.rate)
    heard = np.abs(sung(stream, signal)) > 1e-4
    places = np.flatnonzero(heard) - stream.latency
    frame = stream.rate * MEL.hop / RATE
    assert abs(places[0] - begin) < 2.5 * frame
    assert -2.5 * frame < places[-1] - end < 14 * frame  # the gate holds for ten frames


@pytest.mark.parametrize("rate", [None, 48_000, 44_100, 16_000])
@pytest.mark.parametrize("step", [1, 480])
def test_the_delay_is_the_latency_to_the_sample(voice: Voice, rate: int | None, step: int) -> None:
    """Of a stream that sings what it hears: an impulse, and singing, by correlation."""
    stream = Stream(voice, live=Live(rate, gain=0.0, step=step))
    stream._sung = lambda start, end: stream.ear.sound(start, end).copy()  # type: ignore[method-assign]
    impulse = 1e-3 + np.eye(1, round(0.3 * stream.rate), 3000, np.float32)[0]
    for signal in (impulse, song(0.3, stream.rate)):
        signal = signal[: len(signal) // step * step].astype(np.float32)
        heard = sung(stream, signal, [step])
        score = fft.irfft(fft.rfft(heard, 2 * len(heard)) * fft.rfft(signal, 2 * len(heard)).conj())
        assert np.argmax(score) == stream.latency
        assert len(heard) == len(signal) + stream.latency


@pytest.mark.parametrize("rate", [None, 48_000, 44_100])
@pytest.mark.parametrize("step", [100, 1920])
def test_pushes_in_steps_give_the_same_samples_sooner(voice: Voice, rate: int | None, step: int) -> None:
    one, other = Stream(voice, live=Live(rate)), Stream(voice, live=Live(rate, step=step))
    signal = song(0.6, one.rate)[: 9600]
    first, second = sung(one, signal), sung(other, signal, [step])
    size = len(signal) - 1
    np.testing.assert_array_equal(first[one.latency :][:size], second[other.latency :][:size])


@pytest.mark.parametrize("step", [1, 240, 960])
@pytest.mark.parametrize("block, lookahead", [(40, 40), (20, 60)])
def test_the_latency_is_no_longer_than_it_must_be(voice: Voice, step: int, block: float, lookahead: float) -> None:
    """Block less a step, and look-ahead; one sample fewer and some push would come short."""
    stream = Stream(voice, live=Live(None, block, lookahead, step=step))
    size = round(block * RATE / 1000)
    worst = max(-(-(k * size) // step) * step - step - (k - 1) * size for k in range(1, 50))
    assert stream.latency == worst + round(lookahead * RATE / 1000)
    least = []
    signal = song(0.9)[: 20_160]
    for at in range(0, len(signal), step):
        stream.push(signal[at : at + step])
        least.append(len(stream.ready))
    assert min(least) == 0


def test_reset_is_as_new(voice: Voice) -> None:
    stream, signal = Stream(voice), song(0.5)
    fresh = stream.push(signal)
    stream.push(song(0.3, seed=4))
    stream.reset()
    np.testing.assert_array_equal(stream.push(signal), fresh)


def test_flush_gives_the_tail(voice: Voice) -> None:
    """As if silence had followed."""
    signal = song(0.5)
    one, other = Stream(voice), Stream(voice)
    whole = one.push(np.concatenate([signal, np.zeros(one.latency, np.float32)]))
    np.testing.assert_array_equal(np.concatenate([other.push(signal), other.flush()]), whole)


def test_pushes_keep_their_promise(voice: Voice) -> None:
    with pytest.raises(ValueError, match="multiple of 240"):
        Stream(voice, live=Live(step=240)).push(np.zeros(100, np.float32))
