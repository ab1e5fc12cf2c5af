"""The relay keeps its delay whatever the machine does, and gives up steps before it gives up sound."""

from __future__ import annotations

import time

import numpy as np
import pytest

from moksori.runtime.options import Options
from moksori.runtime.relay import Governor, Relay

SIZE, SECONDS, SLACK = 64, 0.01, 2


class Worker:
    """Gives back what it takes, plus 1000, after a time that grows with the steps."""

    def __init__(self, per_step: float) -> None:
        self.per_step, self.steps = per_step, 4
        self.changes: list[Options] = []

    def push(self, samples: np.ndarray) -> np.ndarray:
        time.sleep(self.per_step * self.steps)
        return samples + 1000

    def skip(self, samples: np.ndarray) -> np.ndarray:
        return np.zeros_like(samples)

    def change(self, options: Options) -> None:
        self.steps = options.steps or self.steps
        self.changes.append(options)


def played(relay: Relay, seconds: float) -> list[np.ndarray]:
    """What a card hears that puts blocks of their own number every 10 ms."""
    heard, began = [], time.perf_counter()
    for index in range(round(seconds / SECONDS)):
        relay.put(np.full(SIZE, index + 1, np.float32))
        heard.append(relay.take(SIZE))
        time.sleep(max(0.0, began + (index + 1) * SECONDS - time.perf_counter()))
    return heard


def delays(heard: list[np.ndarray]) -> set[int]:
    """Blocks by which what is heard at full level lies behind."""
    return {index + 1 - round(float(block[-1]) - 1000) for index, block in enumerate(heard) if block[-1] > 1000}


def test_a_fast_machine_hears_everything_at_the_same_delay() -> None:
    relay = Relay(Worker(0.0005), Options(), 4, SECONDS, SLACK)
    heard = played(relay, 1.5)
    relay.close()
    assert delays(heard) == {SLACK}
    assert sum(block[-1] > 1000 for block in heard) >= len(heard) - SLACK - 2 * relay.counts.late - 1
    assert relay.governor.steps == 4 and relay.failure is None


def test_a_slow_machine_drops_steps_and_not_the_delay() -> None:
    worker = Worker(0.004)  # 16 ms of 10 with four steps, 8 with two
    relay = Relay(worker, Options(), 4, SECONDS, SLACK)
    heard = played(relay, 2.5)
    relay.close()
    assert delays(heard) == {SLACK}
    assert worker.steps in (1, 2) and relay.counts.skipped > 0
    assert sum(block[-1] > 1000 for block in heard[-50:]) > 25


def test_a_machine_that_is_too_slow_mutes_and_counts_at_the_same_delay() -> None:
    relay = Relay(Worker(0.05), Options(), 4, SECONDS, SLACK)
    heard = played(relay, 2.0)
    relay.close()
    assert relay.governor.steps == 1
    assert delays(heard) <= {SLACK}
    assert relay.counts.late + relay.counts.skipped > 100
    assert len(relay._waiting) <= SLACK + 6


def test_missing_blocks_make_no_click() -> None:
    """Neighbouring samples differ by no more than a fade and the tone itself allow."""
    tone = np.sin(2 * np.pi * np.arange(200 * SIZE) / 160).astype(np.float32)

    class Gaps(Worker):
        def push(self, samples: np.ndarray) -> np.ndarray:
            return samples

    relay = Relay(Gaps(0), Options(), 4, SECONDS, 0)
    heard = []
    for index in range(200):
        if index % 7:
            relay._sung[index] = tone[index * SIZE :][:SIZE]
        relay._received = index + 1
        heard.append(relay.take(SIZE))
    relay.close()
    assert relay.counts.late == 29
    assert np.abs(np.diff(np.concatenate(heard))).max() < 2 * np.pi / 160 + 2 / SIZE


def test_cards_of_unequal_speed_slip_and_the_delay_stays() -> None:
    relay = Relay(Worker(0), Options(), 4, SECONDS, SLACK)
    behind = []
    for index in range(300):
        relay.put(np.full(SIZE, index + 1, np.float32))
        time.sleep(0.001)
        if index % 10:  # plays slower than it records by a tenth
            block = relay.take(SIZE)
            if block[-1] > 1000:
                behind.append(index + 1 - (block[-1] - 1000))
    relay.close()
    assert set(behind) <= {SLACK, SLACK + 1} and 20 <= relay.counts.slipped <= 31


def test_options_change_and_mute_while_running() -> None:
    worker = Worker(0)
    relay = Relay(worker, Options(), 4, SECONDS, SLACK)
    played(relay, 0.1)
    relay.options, relay.muted = Options(key=5.0), True
    heard = played(relay, 0.2)
    relay.close()
    assert worker.changes == [Options(key=5.0, steps=4)]
    assert not heard[-1].any()


def test_a_failure_is_kept_for_the_main_thread() -> None:
    class Broken(Worker):
        def push(self, samples: np.ndarray) -> np.ndarray:
            raise ValueError("broken")

    relay = Relay(Broken(0), Options(), 4, SECONDS, SLACK)
    played(relay, 0.1)
    relay.close()
    with pytest.raises(ValueError, match="broken"):
        raise relay.failure or AssertionError


def test_the_governor_halves_steps_and_brings_them_back() -> None:
    governor = Governor(8)
    seen = []
    for share in [0.3, 0.9, 0.95, 0.5, 0.9, 1.5, *[0.2] * 70]:
        governor.note(share / 2, 0.5, False)
        seen.append(governor.steps)
    assert seen[:6] == [8, 4, 2, 2, 1, 1]
    assert [steps for steps in (1, 2, 4, 8) if steps in seen[6:]] == [1, 2, 4, 8] and seen[-1] == 8
    governor.note(0.1, 0.5, True)
    assert governor.steps == 4
