"""The unit map on vectors whose content and nuisance directions are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from moksori.train import unit_map
from moksori.train.unit_map import UnitMap

COUNT, WIDTH, CONTENT, NUISANCE, SPEAKERS = 6_000, 12, 4, 3, 5


@dataclass(frozen=True)
class World:
    """Vectors that are a fixed mix of what is said, what an alteration moves, and who speaks."""

    said: np.ndarray
    clean: np.ndarray
    altered: np.ndarray
    speakers: np.ndarray
    mixing: np.ndarray

    def units(self, fitted: UnitMap, vectors: np.ndarray) -> np.ndarray:
        return vectors @ fitted.weight.T + fitted.bias


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] * rng.uniform(0.5, 2, WIDTH)
    turn = np.linalg.qr(rng.standard_normal((CONTENT, CONTENT)))[0]
    said = rng.standard_normal((COUNT, CONTENT)) * [1, 1.5, 2, 3] @ turn
    speakers = rng.integers(0, SPEAKERS, COUNT)
    who = rng.standard_normal((SPEAKERS, 1))[speakers] * 2

    def heard(shift: float) -> np.ndarray:
        moved = 1.5 * rng.standard_normal((COUNT, NUISANCE)) + shift
        rest = 0.02 * rng.standard_normal((COUNT, WIDTH - CONTENT - NUISANCE - 1))
        return np.concatenate([said, moved, who, rest], 1) @ mixing.T + 3

    return World(said, heard(0), heard(0.5), speakers, mixing)


@pytest.fixture(scope="module")
def fitted(world: World) -> UnitMap:
    return unit_map.fit(world.clean, world.altered, world.speakers, CONTENT)


def test_what_is_said_is_kept(world: World, fitted: UnitMap) -> None:
    units = world.units(fitted, world.clean)
    guess, *_ = np.linalg.lstsq(units, world.said, rcond=None)
    left = np.square(world.said - units @ guess).sum() / np.square(world.said).sum()
    assert left < 0.01


def test_what_an_alteration_moves_is_dropped(world: World, fitted: UnitMap) -> None:
    moved = world.units(fitted, world.altered) - world.units(fitted, world.clean)
    assert np.sqrt(np.mean(moved**2)) < 0.03
    directions = world.mixing[:, CONTENT : CONTENT + NUISANCE]
    assert np.abs(fitted.weight @ directions).max() < 0.01 * np.abs(fitted.weight @ world.mixing[:, :CONTENT]).max()


def test_who_speaks_is_dropped(world: World, fitted: UnitMap) -> None:
    units = world.units(fitted, world.clean)
    means = np.stack([units[world.speakers == speaker].mean(0) for speaker in range(SPEAKERS)])
    assert np.abs(means).max() < 0.15  # 1200 frames each: chance alone is 0.03 a speaker
    direction = world.mixing[:, CONTENT + NUISANCE]
    assert np.abs(fitted.weight @ direction).max() < 0.05 * np.abs(fitted.weight @ world.mixing[:, :CONTENT]).max()


def test_units_are_white(world: World, fitted: UnitMap) -> None:
    units = world.units(fitted, world.clean)
    share = (fitted.ratio / (1 + fitted.ratio))[:CONTENT]
    np.testing.assert_allclose(units.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(units.T @ units / COUNT, np.diag(share**2), atol=1e-9)
    assert share.min() > 0.95


def test_ratios_descend_and_tell_content_from_nuisance(world: World, fitted: UnitMap) -> None:
    assert fitted.weight.shape == (CONTENT, WIDTH)
    assert (np.diff(fitted.ratio) <= 0).all()
    assert fitted.ratio[CONTENT - 1] > 20 > 2 > fitted.ratio[CONTENT]


def test_a_vector_of_nothing_but_nuisance_weighs_little(world: World) -> None:
    """Kept too many directions, the map shrinks those that an alteration moves, by λ / (1 + λ)."""
    wide = unit_map.fit(world.clean, world.altered, world.speakers, CONTENT + NUISANCE)
    deviation = world.units(wide, world.clean).std(0)
    assert deviation[:CONTENT].min() > 0.95
    assert deviation[CONTENT:].max() < 0.75
