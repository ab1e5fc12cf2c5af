"""What the five graphs of a voice must look like, and the checks that they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moksori.runtime import crepe, pitch, vocoder
from moksori.runtime.errors import VoiceError
from moksori.runtime.manifest import FORMAT_VERSION, Manifest
from moksori.runtime.ports import INT64, Interface, Tensor

if TYPE_CHECKING:
    from moksori.runtime.devices import Session

Feeds = dict[str, NDArray[Any]]

COEFFICIENTS = {"velocity": 5, "epsilon": 7}  # of a sampler's step (runtime/samplers.py); the last two are its view
EXAMPLE_SECONDS = 1  # of audio in a self-test; long enough for every front end


def interface(role: str, manifest: Manifest) -> Interface:
    """The inputs and outputs of ``role``'s graph (DESIGN.md, "ONNX contracts"); "C" is free but fixed."""
    dimension, mels, speakers = manifest.units.dimension, manifest.mel.bins, len(manifest.speakers)
    frames, mel, condition = Tensor((1, "T")), Tensor((1, mels, "T")), Tensor((1, "C", "T"))
    table = {
        "content": Interface(
            {"audio": Tensor((1, "n"))}, {"units": Tensor((1, "Tu", dimension))}, {"next_state": Tensor((1, "C", "C"))}
        ),
        "pitch": pitch.TRACKERS[manifest.pitch.kind].interface,
        "condition": Interface(
            {
                "units": Tensor((1, "Tu", dimension)),
                "mel2ph": Tensor((1, "T"), INT64),
                "f0": frames,
                "voiced": frames,
                "loudness": frames,
                "speaker": Tensor((1, speakers)),
            },
            {"condition": condition},
        ),
        "denoiser": Interface(
            {
                "x": mel,
                "t": Tensor((1,)),
                "history_1": mel,
                "history_2": mel,
                "history_3": mel,
                "coefficients": Tensor((COEFFICIENTS[manifest.denoiser.prediction],)),
                "condition": condition,
            },
            {"x_next": mel, "prediction": mel},
        ),
        "vocoder": vocoder.KINDS[manifest.vocoder.kind].interface(manifest.mel),
    }
    return table[role]


def check(role: str, session: Session, manifest: Manifest) -> None:
    """Refuse (VoiceError) a graph whose metadata, inputs or outputs are not those of ``role`` in this voice."""
    problem = next(_problems(role, session, manifest), None)
    if problem:
        raise VoiceError(f"the {role} graph of voice '{manifest.name}' {problem}; export the voice again")


def check_joint(sessions: Mapping[str, Session], manifest: Manifest) -> None:
    """Refuse graphs that do not fit each other: the condition's channels."""
    made = sessions["condition"].raw.get_outputs()[0].shape[1]
    taken = {tensor.name: tensor.shape for tensor in sessions["denoiser"].raw.get_inputs()}["condition"][1]
    if isinstance(made, int) and isinstance(taken, int) and made != taken:
        raise VoiceError(
            f"voice '{manifest.name}': the condition graph makes {made} channels and the denoiser takes {taken}; "
            "they come from different networks, export the voice again"
        )


def example(role: str, manifest: Manifest, session: Session) -> Feeds:
    """Plausible inputs for a self-test of ``session``, which has passed ``check``."""
    rng = np.random.default_rng(0)
    frames, units = round(EXAMPLE_SECONDS * manifest.mel.frame_rate), EXAMPLE_SECONDS * 50
    time = np.arange(EXAMPLE_SECONDS * 16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9)) * 0.1
    audio = (tone + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)
    special: Feeds = {
        "audio": audio[None],
        "frames": audio[: len(audio) // crepe.WINDOW * crepe.WINDOW].reshape(-1, crepe.WINDOW),
        "mel2ph": np.linspace(1, units, frames).astype(np.int64)[None],
        "f0": np.geomspace(110, 440, frames, dtype=np.float32)[None],
        "voiced": (np.arange(frames) % 10 > 2).astype(np.float32)[None],
        "loudness": np.linspace(-60, -10, frames, dtype=np.float32)[None],
        "speaker": np.full((1, len(manifest.speakers)), 1 / len(manifest.speakers), np.float32),
        "t": np.array([0.5], np.float32),
        "coefficients": np.array([1, 0.25, 0.1, -0.1, 0.05, 0.2, 0.9], np.float32)[
            : COEFFICIENTS[manifest.denoiser.prediction]
        ],
        "mel": (rng.standard_normal((1, frames, manifest.mel.bins)) - 5).astype(np.float32),
    }
    channels = [one.shape[1] for one in session.raw.get_inputs() if one.name == "condition"]
    sizes = {"T": frames, "Tu": units, "C": next(iter(channels), 0)}

    def feed(name: str, tensor: Tensor) -> NDArray[Any]:
        shape = [sizes.get(size, frames) if isinstance(size, str) else size for size in tensor.shape]
        return rng.standard_normal(shape).astype(np.float32)

    inputs = interface(role, manifest).inputs
    return {name: special[name] if name in special else feed(name, tensor) for name, tensor in inputs.items()}


def _problems(role: str, session: Session, manifest: Manifest) -> Iterator[str]:
    expected = {"role": role, "format_version": str(FORMAT_VERSION)}
    optional = {"denoiser": {"prediction": manifest.denoiser.prediction}}
    optional |= {"pitch": {"kind": manifest.pitch.kind}, "vocoder": {"kind": manifest.vocoder.kind}}
    expected |= {key: value for key, value in optional.get(role, {}).items() if key in session.metadata}
    for key, value in expected.items():
        if session.metadata.get(key) != value:
            yield f"says {key} '{session.metadata.get(key, 'nothing')}' in its metadata, not '{value}'"
    wanted = interface(role, manifest)
    for side, tensors, found in (
        ("input", wanted.inputs, session.raw.get_inputs()),
        ("output", wanted.outputs, session.raw.get_outputs()),
    ):
        names = [tensor.name for tensor in found if side == "input" or tensor.name not in wanted.optional]
        if set(names) != set(tensors):
            yield f"has the {side}s {', '.join(sorted(names))}, not {', '.join(sorted(tensors))}"
        for tensor in found:
            want = {**tensors, **wanted.optional}[tensor.name]
            if tensor.type != want.kind or not _fits(tensor.shape, want.shape, side):
                yield f"has {side} '{tensor.name}' of {tensor.type} {tensor.shape}, not {want.kind} {list(want.shape)}"


def _fits(found: list[int | str | None], wanted: tuple[int | str, ...], side: str) -> bool:
    return len(found) == len(wanted) and all(
        _size_fits(f, w, side) for f, w in zip(found, wanted, strict=True)
    )


def _size_fits(found: int | str | None, wanted: int | str, side: str) -> bool:
    if wanted == "C":
        return True
    if isinstance(found, int):
        return found == wanted
    return (
        isinstance(wanted, str) or wanted == 1 or side == "output"
    )  # exporters lose track of some output sizes
