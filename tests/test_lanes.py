"""Chunks in several lanes: order, errors in their turn, no more at once than asked, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from moksori.runtime import lanes


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_order(count: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.004 if number % 3 == 0 else 0)  # later ones are done first
        return number**2

    assert list(lanes.ordered(work, range(20), count)) == [number**2 for number in range(20)]
    assert list(lanes.ordered(work, [], count)) == []


def test_no_more_are_worked_on_or_wait_than_asked() -> None:
    lock, state = threading.Lock(), {"now": 0, "most": 0, "taken": 0}

    def items() -> Iterator[int]:
        for number in range(12):
            state["taken"] += 1
            yield number

    def work(number: int) -> int:
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(0.01)
        with lock:
            state["now"] -= 1
        return number

    for number in lanes.ordered(work, items(), 2):
        assert state["taken"] - number <= 4
    assert state["most"] == 2


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_comes_in_its_turn_and_ends_it(count: int) -> None:
    def work(number: int) -> int:
        if number == 2:
            raise TimeoutError("the third")
        return number

    found = []
    with pytest.raises(TimeoutError, match="the third"):
        for number in lanes.ordered(work, range(100), count):
            found.append(number)
    assert found == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_leaving_early_waits_for_what_has_begun() -> None:
    done = []

    def work(number: int) -> int:
        time.sleep(0.02)
        done.append(number)
        return number

    results = lanes.ordered(work, range(100), 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    begun = len(done)
    assert begun <= 4
    time.sleep(0.05)
    assert len(done) == begun
