"""report.html of a data set: what a trainer wants to know before spending hours on it. One file, no scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moksori.runtime import audio, mel
from moksori.runtime.files import atomic_path
from moksori.train import charts
from moksori.train.features import Place
from moksori.train.statistics import Summary

FILE = "report.html"
LITTLE_MINUTES, VERY_LITTLE_MINUTES = 10.0, 1.0
CLIPPED_SHARE = 0.001
LEAST_CONTRAST_DB = 30.0  # singing falls by 36 dB and more between words; benchmarks/warnings.py
NAMED = 3  # files in one sentence
LEAST_VOICED = 0.2
PICTURES = 6  # spectrograms in all
SHOWN_SECONDS = 8.0
NAMES = {"audio": "audio (FLAC)", "f0": "f0", "units": "units", "mel": "mel"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left; padding-left: 0 } img, svg { max-width: 100% }
.warn { border-left: 4px solid #d55e00; padding-left: 1rem } figure { margin: 1rem 0 } figcaption { color: #555 }
"""


def warnings(facts: Mapping[str, Any], summary: Summary, names: Mapping[str, str]) -> list[str]:
    """Sentences about what may spoil a voice, from measurements that can be wrong; ``names`` calls each source id."""
    found = []
    for speaker in facts["speakers"]:
        name, minutes = speaker["name"], speaker["seconds"] / 60
        if minutes < LITTLE_MINUTES:
            how = "far too little" if minutes < VERY_LITTLE_MINUTES else "little"
            found.append(f"{name}: {minutes:.1f} min is {how} for a voice; {LITTLE_MINUTES:.0f} min or more are better")
        if speaker["clipped_seconds"] > CLIPPED_SHARE * speaker["seconds"]:
            clipped = f"{speaker['clipped_seconds']:.1f} s are clipped (at full scale)"
            found.append(f"{name}: {clipped}: record lower, or use the unclipped take")
        if speaker["contrast"] < LEAST_CONTRAST_DB:
            found.append(
                f"{name}: the quietest moments are only {speaker['contrast']:.0f} dB below the loudest: noise, echo or "
                "music under the voice, or singing without a breath; listen to it"
            )
        if speaker["voiced"] < LEAST_VOICED:
            share = f"{100 * speaker['voiced']:.0f} %"
            found.append(f"{name}: the pitch tracker hears a voice in {share} of it only; is this one voice, alone?")
        found += _strangers(name, summary.speakers[name].strangers(), names)
    return found


def _strangers(speaker: str, strangers: Mapping[str, float], names: Mapping[str, str]) -> list[str]:
    """One sentence, however many files lie apart: a singer's speech does, or another's takes."""
    if not strangers:
        return []
    farthest = sorted(strangers, key=lambda source: -abs(strangers[source]))
    shown = [
        f"{names.get(source, source)} ({abs(strangers[source]):.0f} {'above' if strangers[source] > 0 else 'below'})"
        for source in farthest[:NAMED]
    ]
    more = f" and {len(farthest) - NAMED} more" if len(farthest) > NAMED else ""
    lie = "lies" if len(farthest) == 1 else "lie"
    what = f"{', '.join(shown)}{more} {lie} far from the other files, in semitones"
    return [f"{speaker}: {what}: another voice, or speech among singing?"]


def write(path: Path, data: Mapping[str, Any], summary: Summary, data_dir: Path) -> None:
    """Write the report of a data set; the same data gives the same bytes."""
    spec = mel.MelSpec(**data["mel"])
    parts = [_head(data), _warnings(data["warnings"]), _speakers(data), _sizes(data)]
    lengths = np.array([piece["seconds"] for piece in data["slices"]])
    edges = np.arange(0, np.ceil(lengths.max()) + 1.5)
    lengths_chart = charts.bars(np.histogram(lengths, edges)[0], [f"{edge:.0f}" for edge in edges[:-1]], "s")
    parts.append(f"<h2>Lengths of slices</h2>{lengths_chart}")
    for speaker in data["speakers"]:
        histogram = summary.speakers[speaker["name"]].f0
        edges = 55 * 2 ** (np.arange(-4.5, 61) / 12)  # one bar a semitone, from F1 to A6
        labels = [f"{hertz:.0f}" for hertz in np.sqrt(edges[1:] * edges[:-1])]
        parts.append(f"<h2>f0 of {_text(speaker['name'])}</h2>{charts.bars(histogram.coarse(edges), labels, 'Hz')}")
    parts.append("<h2>Some slices</h2>")
    for piece in _some(data["slices"]):
        place = Place(data_dir, piece["speaker"], piece["id"])
        samples = audio.read(place.flac, spec.sample_rate)[: round(SHOWN_SECONDS * spec.sample_rate)]
        picture = charts.picture(mel.log_mel(samples, spec))
        what = f"{len(samples) / spec.sample_rate:.1f} s, {spec.fmin:.0f} to {spec.fmax:.0f} Hz"
        caption = f"{_text(place.speaker)}, {place.id}: {what}"
        image = f'<img alt="spectrogram" width="800" height="200" src="{picture}">'
        parts.append(f"<figure>{image}<figcaption>{caption} (mel scale)</figcaption></figure>")
    page = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Prepared data</title>'
    page += f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _head(data: Mapping[str, Any]) -> str:
    minutes = sum(speaker["seconds"] for speaker in data["speakers"]) / 60
    spec = data["mel"]
    return (
        f"<h1>{len(data['slices'])} slices, {minutes:.1f} min, {len(data['speakers'])} speakers</h1>"
        f"<p>{spec['sample_rate']} Hz, {spec['bins']} mel bins every {spec['hop']} samples; pitch by "
        f"{_text(data['pitch']['kind'])}, {data['pitch']['fmin']:g} to {data['pitch']['fmax']:g} Hz.</p>"
    )


def _warnings(sentences: list[str]) -> str:
    if not sentences:
        return "<p>Nothing suspicious was measured. Listen to some slices all the same.</p>"
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f'<div class="warn"><h2>Please check</h2><ul>{items}</ul></div>'


def _speakers(data: Mapping[str, Any]) -> str:
    head = ("speaker", "min", "slices", "f0 5 / 50 / 95 % (Hz)", "level (dB)", "voiced", "clipped (s)", "contrast (dB)")
    rows = [
        (
            one["name"], f"{one['seconds'] / 60:.1f}", one["slices"],
            f"{one['f0_low']:.0f} / {one['f0_median']:.0f} / {one['f0_high']:.0f}", f"{one['loudness']:.1f}",
            f"{100 * one['voiced']:.0f} %", f"{one['clipped_seconds']:.2f}", f"{one['contrast']:.0f}",
        )
        for one in data["speakers"]
    ]  # fmt: skip
    return f"<h2>Speakers</h2>{_table(head, rows)}"


def _sizes(data: Mapping[str, Any]) -> str:
    seconds = sum(speaker["seconds"] for speaker in data["speakers"])
    rows = [
        (NAMES[name], f"{size / 1e6:.2f}", f"{size / 1e3 / seconds:.2f}") for name, size in data["bytes"].items()
    ]
    return f"<h2>On disk</h2>{_table(('', 'MB', 'kB a second'), rows)}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _some(slices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few slices, spread over all of them."""
    wanted = np.unique(np.linspace(0, len(slices) - 1, PICTURES).round().astype(int))
    return [slices[index] for index in wanted]


def _text(value: object) -> str:
    return html.escape(str(value))
