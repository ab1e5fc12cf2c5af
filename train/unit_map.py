"""A linear map that ends the content network: it keeps what is said and drops what a change of speaker moves.

A teacher's hidden vectors still tell who speaks. Given vectors of the same frames from clean and from altered audio
(train/perturb.py), the nuisance covariance N is that of their difference plus that of the speakers' means, and C is
the covariance of the clean vectors. The generalised eigenvectors of C v = λ N v order directions by what they say
against what an alteration moves (the within-class covariance normalisation of Hatch et al. 2006, turned into a
projection). The first D are kept, whitened, and each weighted by λ/(1 + λ), its share of signal (Wiener).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]


@dataclass(frozen=True)
class UnitMap:
    """units = weight @ hidden + bias; ``ratio`` [W] is every direction's signal to nuisance, descending."""

    weight: Array
    bias: Array
    ratio: Array


def fit(clean: Array, altered: Array, speakers: NDArray[np.int64], dimension: int) -> UnitMap:
    """Fit the map.

    Args:
        clean, altered: [n, W] hidden vectors of the same frames.
        speakers: [n] speaker number of each frame.
        dimension: D, the units' width.
    """
    mean = clean.mean(0)
    centred = clean - mean
    covariance = centred.T @ centred / len(clean)
    difference = altered - clean  # its mean is kept: a shift common to all alterations is nuisance as well
    nuisance = difference.T @ difference / len(clean)
    for speaker in np.unique(speakers):
        offset = centred[speakers == speaker].mean(0)
        nuisance += np.outer(offset, offset) / len(np.unique(speakers))
    floor = 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    ratio, vectors = linalg.eigh(covariance, nuisance + floor)
    ratio, vectors = ratio[::-1], vectors[:, ::-1][:, :dimension]
    deviation = np.sqrt(np.einsum("wd,wv,vd->d", vectors, covariance, vectors))
    weight = (vectors / deviation * (ratio / (1 + ratio))[:dimension]).T
    return UnitMap(weight, -weight @ mean, ratio)
