"""MODEL_CARD.md: what a voice is, where it comes from, how good it is and what it must not be used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from moksori.export.graph import Proof
from moksori.export.run import Trained
from moksori.runtime.manifest import ROLES, Manifest

if TYPE_CHECKING:
    from moksori.export.voice import About

FILE = "MODEL_CARD.md"
LIMITS = (
    "Convert only recordings that you may use, and do not pass the result off as a person's own voice.",
    "Instruments, several voices at once and strong echo are converted badly: separate the voice first.",
)


def write(voice: Manifest, about: About, trained: Sequence[Trained], proofs: Sequence[Proof]) -> str:
    """The card as Markdown."""
    return "\n".join(_lines(voice, about, trained, proofs)).rstrip() + "\n"


def _lines(
    voice: Manifest, about: About, trained: Sequence[Trained], proofs: Sequence[Proof]
) -> Iterator[str]:
    yield f"# {voice.name}"
    yield ""
    if voice.description:
        yield from (voice.description, "")
    yield "## Speakers"
    yield ""
    yield from _table(
        ("speaker", "f0 5 / 50 / 95 %", "loudness", "licence", "credit"),
        (
            (
                speaker.name,
                f"{speaker.f0_low:.0f} / {speaker.f0_median:.0f} / {speaker.f0_high:.0f} Hz",
                f"{speaker.loudness:.0f} dB",
                speaker.licence,
                speaker.credit,
            )
            for speaker in voice.speakers
        ),
    )
    yield "## Data"
    yield ""
    yield from _bullets(about.data)
    yield from _table(
        ("network", "trained on", "minutes"),
        (
            (one.role, str(speaker["name"]), f"{speaker['seconds'] / 60:.1f}")
            for one in trained
            for speaker in one.data["speakers"]
            if "seconds" in speaker
        ),
    )
    yield "## Training"
    yield ""
    yield from _bullets(about.training)
    yield from _table(
        ("network", "architecture", "parameters", "step"),
        ((one.role, _architecture(one), f"{one.parameters / 1e6:.2f} M", str(one.step)) for one in trained),
    )
    if voice.quality:
        yield "## Measured quality"
        yield ""
        yield from _table(
            ("measure", "value"), ((name, f"{value:.4g}") for name, value in voice.quality.items())
        )
    yield "## Limits"
    yield ""
    yield from _bullets((*about.limits, *LIMITS))
    yield "## Graphs"
    yield ""
    proved = {proof.role: f"{proof.worst:.0e}" for proof in proofs}
    yield from _table(
        ("graph", "stored as", "bytes", "largest error against torch"),
        (
            (
                role,
                voice.precision[role],
                f"{voice.files[role].bytes:,}",
                proved.get(role, "proved when it was made"),
            )
            for role in ROLES
        ),
    )
    yield "## Licence and credits"
    yield ""
    if voice.licence:
        yield from (voice.licence, "")
    yield from _bullets(voice.credits)


def _architecture(trained: Trained) -> str:
    return str(getattr(trained.config, "architecture", type(trained.network).__name__))


def _bullets(sentences: Iterable[str]) -> list[str]:
    lines = [f"- {sentence}" for sentence in sentences]
    return [*lines, ""] if lines else []


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not cells:
        return []
    lines = [heads, ["---"] * len(heads), *cells]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
