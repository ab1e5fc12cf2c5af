"""What a smaller precision costs and brings: mel distance, size and speed against fp32, heard before it is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from moksori.export import clips, storage
from moksori.export.clips import Clip
from moksori.export.graph import ExportError, annotate
from moksori.export.quantize import Feeds, quantized
from moksori.export.trial import Recorder, sung
from moksori.runtime import content, devices, manifest
from moksori.runtime.devices import Session
from moksori.runtime.manifest import ROLES, Manifest
from moksori.runtime.mel import MelSpec, log_mel
from moksori.train import singer

Array = NDArray[np.float32]

PRECISIONS = (*storage.PRECISIONS, "int8")
LIMITS = {"fp16": 0.1, "w8": 0.5, "int8": 1.0}  # dB of mel distance that a graph may cost unless forced
UNIT_LIMITS = {"fp16": 0.01, "w8": 0.1, "int8": 0.1}  # of the units' length, where a content graph is alone
DECIBELS = 20 / np.log(10)  # in one natural logarithm of a magnitude
FEWEST, TURNS, ENOUGH = 5, 25, 2.0  # runs of each of two graphs that are timed, and seconds after which it is enough
CONVOLUTIONS = ("denoiser", "vocoder")  # roles of which int8 takes the convolutions as well as the products


@dataclass(frozen=True)
class Cost:
    """One graph in its ``precision`` against the same in fp32. ``speed`` is how many times as fast it runs on the CPU.

    ``distance`` is the mean difference of the log-mel of the sound in dB, or of a content graph alone the relative
    distance of its units.
    """

    role: str
    precision: str
    distance: float
    limit: float
    unit: str  # "dB", or "of the units"
    size: float  # of fp32's bytes
    speed: float
    heard: str

    @property
    def within(self) -> bool:
        return self.distance <= self.limit  # NaN is not


def first(precision: str) -> str:
    """What a graph is written as before ``reduced``: int8 is made of the proved fp32 graph."""
    return "fp32" if precision == "int8" else precision


def require_data(precisions: Mapping[str, str], data: Path | None) -> None:
    """ExportError when int8 is asked for and there is nothing to calibrate it on."""
    if data is None and "int8" in precisions.values():
        raise ExportError("int8 is calibrated on prepared data and judged by it: add --data and your DATA_DIR")


def reduced(
    folder: Path, said: Manifest, networks: Mapping[str, nn.Module], precision: Mapping[str, str], data: Path | None,
    force: bool,
) -> tuple[Manifest, tuple[Cost, ...]]:  # fmt: skip
    """Make the int8 graphs among the five in ``folder``, and measure every graph that is not fp32.

    Args:
        networks: in torch, of the graphs that were made of one, by role; the reference for each.
        precision: by network; the condition is the denoiser's.
    Raises:
        ExportError: a graph costs more than its limit and that was not forced.
    """
    wanted = {role: precision["denoiser" if role == "condition" else role] for role in networks}
    chosen = {role: kind for role, kind in wanted.items() if kind != "fp32"}
    if not chosen:
        return said, ()
    given = clips.clips(data, said.mel)
    written = {role: (folder / f"{role}.onnx").read_bytes() for role in ROLES if role != "pitch"}
    graphs = {role: _opened(role, graph) for role, graph in written.items()}
    exact = graphs | {role: singer.session(role, network) for role, network in networks.items()}
    reference = [sung(said, exact, clip) for clip in given.heard]
    calibrating = _fed(said, graphs, given.calibrating) if "int8" in chosen.values() else {}
    timed = _fed(said, graphs, given.heard[:1])
    costs = []
    for role, kind in chosen.items():
        path = folder / f"{role}.onnx"
        _finish(path, kind, calibrating.get(role, ()), role in CONVOLUTIONS)
        small = _opened(role, path.read_bytes())
        found = (sung(said, {**exact, role: small}, clip) for clip in given.heard)
        distance = float(np.mean([_apart(a, b) for a, b in zip(found, reference, strict=True)]))
        size, speed = _gain(role, _whole(written[role]), path, timed[role])
        costs.append(Cost(role, kind, distance, LIMITS[kind], "dB", size, speed, given.name))
        _keep(path, costs[-1], force)
    stored = {**said.precision, **chosen}
    return replace(said, precision=stored, files=manifest.graph_files(folder)), tuple(costs)


def reduced_content(path: Path, network: nn.Module, precision: str, data: Path | None, force: bool) -> Cost | None:
    """``reduced`` of a content graph by itself, judged by its units; None for fp32."""
    if precision == "fp32":
        return None
    given = clips.clips(data)
    sounds = (clips.at_16k(clip, given.rate) for clip in given.heard)
    feeds = [{"audio": sound[None, : len(sound) // content.UNIT_HOP * content.UNIT_HOP]} for sound in sounds]
    trial = Alone("content", feeds, _relative, UNIT_LIMITS, "of the units", given.name)
    return _alone(path, network, precision, trial, force)


def reduced_vocoder(
    path: Path, network: nn.Module, mel: MelSpec, precision: str, data: Path | None, force: bool
) -> Cost | None:
    """``reduced`` of a vocoder in OpenUtau's form, judged by its sound; None for fp32."""
    if precision == "fp32":
        return None

    def distance(sound: Array, wanted: Array) -> float:
        return _apart(log_mel(sound[0], mel), log_mel(wanted[0], mel))

    given = clips.clips(data, mel)
    feeds = [{"mel": log_mel(clip.audio, mel)[None], "f0": clip.f0[None]} for clip in given.heard]
    return _alone(path, network, precision, Alone("vocoder", feeds, distance, LIMITS, "dB", given.name), force)


@dataclass(frozen=True)
class Alone:
    """How a graph is judged without a voice around it."""

    role: str
    feeds: Sequence[Feeds]
    distance: Callable[[Array, Array], float]  # of what it makes from what it should
    limits: Mapping[str, float]
    unit: str
    heard: str


def _alone(path: Path, network: nn.Module, precision: str, trial: Alone, force: bool) -> Cost:
    written = path.read_bytes()
    _finish(path, precision, (), convolutions=False)
    small, exact = _opened(trial.role, path.read_bytes()), singer.session(trial.role, network)
    distances = [trial.distance(small.run(None, feed)[0], exact.run(None, feed)[0]) for feed in trial.feeds]
    size, speed = _gain(trial.role, _whole(written), path, trial.feeds)
    cost = Cost(
        trial.role, precision, float(np.mean(distances)), trial.limits[precision], trial.unit, size, speed, trial.heard
    )
    _keep(path, cost, force)
    return cost


def _finish(path: Path, precision: str, feeds: Sequence[Feeds], convolutions: bool) -> None:
    """Make int8 of the fp32 graph at ``path``; what is stored small already stays."""
    if precision == "int8":
        annotate(path, quantized(onnx.load(path), feeds, convolutions), {"precision": precision})


def _keep(path: Path, cost: Cost, force: bool) -> None:
    if not (cost.within or force):
        raise ExportError(
            f"the {cost.role} graph in {cost.precision} is {cost.distance:.2g} {cost.unit} from fp32 (by {cost.heard}),"
            f" and {cost.limit:g} is allowed; choose another precision for it, or keep it with --force"
        )
    annotate(
        path,
        onnx.load(path),
        {
            "distance_of_fp32": f"{cost.distance:.3g} {cost.unit}",
            "distance_allowed": f"{cost.limit:g}",
            "distance_heard": cost.heard,
            "size_of_fp32": f"{cost.size:.3f}",  # not the speed, or no two exports would be the same
        },
    )


def _whole(written: bytes) -> bytes:
    """The fp32 graph of the same size: int8's own, or with the stored weights as float32 again."""
    return storage.expanded(onnx.load_from_string(written)).SerializeToString()


def _gain(role: str, whole: bytes, path: Path, feeds: Sequence[Feeds]) -> tuple[float, float]:
    """Share of ``whole``'s bytes, and how many times as fast the graph at ``path`` is.

    Both run by turns on this thread alone, whose own processor time is taken: other work does not count.
    """
    graph = path.read_bytes()
    pair = _opened(role, whole), _opened(role, graph)
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS):
        for session, spent in zip(pair, seconds, strict=True):
            started = time.thread_time()
            session.run(None, feeds[turn % len(feeds)])
            spent.append(time.thread_time() - started)
        if turn >= FEWEST and sum(map(sum, seconds)) > ENOUGH:
            break
    slow, fast = (float(np.median(spent)) for spent in seconds)
    return len(graph) / len(whole), slow / max(fast, 1e-9)


def _fed(said: Manifest, graphs: Mapping[str, Session], given: Sequence[Clip]) -> dict[str, Sequence[Feeds]]:
    """What each graph is fed while the voice sings."""
    recorders = {role: Recorder(session.raw) for role, session in graphs.items()}
    recorded = {role: replace(graphs[role], raw=recorder) for role, recorder in recorders.items()}
    for clip in given:
        sung(said, recorded, clip)
    return {role: recorder.feeds for role, recorder in recorders.items()}


def _opened(role: str, graph: bytes) -> Session:
    return devices.open_session(graph, devices.cpu(), 1, f"the {role} graph")


def _apart(mel: Array, other: Array) -> float:
    """Mean difference of two log-mels in dB."""
    return DECIBELS * float(np.abs(mel - other).mean())


def _relative(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))
