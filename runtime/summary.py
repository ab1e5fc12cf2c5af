"""What svc-run tells people: about a conversion, the devices of this machine, the voices that are installed."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moksori.runtime import library
from moksori.runtime.errors import VoiceError

if TYPE_CHECKING:
    from moksori.runtime.manifest import Manifest
    from moksori.runtime.report import Report


def text(report: Report) -> str:
    """What a person wants to know after a conversion."""
    stages = "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.items())
    roles = defaultdict(list)
    for role, label in report.devices.items():
        roles[label].append(role)
    factor = report.elapsed / report.seconds
    return "\n".join(
        [
            f"{click.format_filename(report.target)}",
            f"  {report.seconds:.2f} s of audio in {report.elapsed:.2f} s: real-time factor {factor:.3f}",
            f"  key {report.key:+g}, {report.levels.loudness:.1f} LUFS, {report.sample_rate} Hz, "
            f"{'mono' if report.channels == 1 else 'stereo'}",
            f"  seconds  {stages}",
            *(f"  {label} ran {', '.join(names)}" for label, names in roles.items()),
            *(f"  note: {notice}" for notice in report.notices),
        ]
    )


def devices(voice: str = "demo") -> list[dict[str, Any]]:
    """Each adapter by name and how the graphs of ``voice`` do on it, then why there is none of a kind, and the mend.

    Kinds that no machine of this system has are left out.
    """
    from moksori.runtime import devices, library, ort
    from moksori.runtime.errors import DeviceError
    from moksori.runtime.voice import Voice

    ort.module()
    found: list[dict[str, Any]] = []
    for kind, backend in devices.BACKENDS.items():
        if backend.systems and sys.platform not in backend.systems:
            continue
        try:
            adapters = backend.find()
        except DeviceError as error:
            found.append({"device": kind, "missing": str(error)})
            continue
        for one in adapters:
            entry: dict[str, Any] = {"device": f"{one.kind}:{one.index}", "name": one.label, "software": one.software}
            if kind != "cpu" and not one.software:
                try:
                    entry["self_test"] = list(Voice.load(library.locate(voice), one).notices)
                except (DeviceError, VoiceError) as error:
                    entry["self_test"] = [str(error)]
            found.append(entry)
    return found


def devices_text(found: list[dict[str, Any]]) -> str:
    return "\n".join(line for one in found for line in _device_lines(one))


def _device_lines(one: dict[str, Any]) -> Iterator[str]:
    if "missing" in one:
        yield f"{one['device']}  not here: {one['missing']}"
        return
    failed = one.get("self_test")
    verdict = "" if failed is None else f"  {'failed' if failed else 'passed'} its self-test"
    taken = "  (software, no graphics card: used only when asked for)" if one["software"] else ""
    yield f"{one['device']}  {one['name']}{verdict}{taken}"
    for notice in one.get("self_test", ()):
        yield f"    {notice}"


def voices() -> list[dict[str, Any]]:
    """The installed voices; one that cannot be read has an error in place of facts."""
    from moksori.runtime.voice import read_manifest

    found = []
    for name, path in library.installed().items():
        entry: dict[str, Any] = {"name": name, "path": str(path)}
        try:
            entry |= _facts(read_manifest(path))
        except VoiceError as error:
            entry["error"] = str(error)
        found.append(entry)
    return found


def voices_text(found: list[dict[str, Any]]) -> str:
    lines = []
    for voice in found:
        lines.append(f"{voice['name']}  {voice.get('description', '')}".rstrip())
        if "error" in voice:
            lines.append(f"  cannot be used: {voice['error']}")
            continue
        for one in voice["speakers"]:
            low, median, high = one["range"]
            lines.append(f"  {one['name']:<12} {low:.0f}–{high:.0f} Hz, mostly {median:.0f}   {one['licence']}")
        lines.append(f"  {voice['sample_rate']} Hz, {voice['path']}")
        lines.append(f"  licence: {voice['licence']}")
        lines += [f"  measured: {name}: {value:g}" for name, value in voice["quality"].items()]
    own = library.folder()
    lines.append(f"Your own voices, folders or .zip, belong in {click.format_filename(own)}{_state(own)}")
    return "\n".join(lines)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "description": manifest.description,
        "sample_rate": manifest.mel.sample_rate,
        "speakers": [
            {"name": one.name, "range": [one.f0_low, one.f0_median, one.f0_high], "licence": one.licence}
            for one in manifest.speakers
        ],
        "licence": manifest.licence,
        "credits": list(manifest.credits),
        "quality": dict(manifest.quality),
    }


def _state(folder: Path) -> str:
    return "" if folder.is_dir() else " (make that folder first)"
