"""Bar charts as SVG and spectrograms as PNG, as text for an HTML page, with nothing but numpy."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FOOT = 800, 180, 30  # px
LABELS = 16  # at most, below the bars
COLOUR = "#0072b2"
TEXT = 'font-size="12" font-family="sans-serif"'
RANGE = 9.0  # natural-log magnitude shown below the loudest, about 78 dB


def bars(counts: NDArray[np.integer], labels: Sequence[str], unit: str) -> str:
    """An SVG of one bar for each count; each bar tells its figures when pointed at."""
    width, most = WIDTH / max(1, len(counts)), max(1, int(counts.max(initial=0)))
    every = -(-len(counts) // LABELS)
    parts = []
    for index, (count, label) in enumerate(zip(counts.tolist(), labels, strict=True)):
        height = (HEIGHT - 10) * count / most
        x, y = index * width, HEIGHT - height
        told = html.escape(f"{label} {unit}: {count}")
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width - 1):.1f}" height="{height:.1f}" fill="{COLOUR}">'
            f"<title>{told}</title></rect>"
        )
        if index % every == 0:
            middle = x + width / 2
            parts.append(
                f'<text x="{middle:.1f}" y="{HEIGHT + 16}" {TEXT} text-anchor="middle">{html.escape(label)}</text>'
            )
    parts.append(f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="#888"/>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT + FOOT - 2}" {TEXT} text-anchor="end">{html.escape(unit)}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" width="{WIDTH}" height="{HEIGHT + FOOT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{"".join(parts)}</svg>'


def picture(spectrum: NDArray[np.floating]) -> str:
    """A data URI of a log spectrogram [T, M], low at the bottom, loud is dark."""
    below = np.clip((spectrum.max(initial=-np.inf) - spectrum) / RANGE, 0, 1)
    pixels = np.round(255 * below.T[::-1]).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A grey PNG of [height, width] (ISO/IEC 15948)."""
    height, width = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # filter 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
