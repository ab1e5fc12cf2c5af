"""Turn Whisper-base in ctranslate2's form into a folder that ``transformers`` (and models/whisper.py) can read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from moksori.runtime.files import atomic_path

DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # ctranslate2's numbering
WIDTH = 512  # Whisper-base


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
def main(source: Path, target: Path) -> None:
    """Write TARGET/model.safetensors and config.json from SOURCE (a ctranslate2 model.bin)."""
    weights = encoder(read_model(source))
    config = {
        "model_type": "whisper", "architectures": ["WhisperModel"], "d_model": WIDTH, "num_mel_bins": 80,
        "encoder_layers": sum(key.endswith("fc1.weight") for key in weights), "encoder_attention_heads": 8,
        "encoder_ffn_dim": 4 * WIDTH, "max_source_positions": 1500,
    }  # fmt: skip
    target.mkdir(parents=True, exist_ok=True)
    with atomic_path(target / "model.safetensors") as temporary:
        save_file(weights, str(temporary))
    with atomic_path(target / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=1), encoding="utf-8")


def read_model(path: Path) -> dict[str, NDArray[np.generic]]:
    """Variables of a ctranslate2 binary (format version 6): name, rank, dimensions, type, bytes, one after another."""
    data, place = path.read_bytes(), 0

    def number(code: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + code, data, place)
        place += struct.calcsize(code)
        return int(value)

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return data[place - length : place].rstrip(b"\0").decode()

    version, spec = number("I"), text()
    if version != 6 or spec != "WhisperSpec":
        raise click.ClickException(f"{path} is {spec or 'unknown'} version {version}, not a Whisper model of version 6")
    number("I")  # revision of the spec
    variables: dict[str, NDArray[np.generic]] = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype = np.dtype(DTYPES[number("B")])
        size = number("I")
        variables[name] = np.frombuffer(data, dtype, size // dtype.itemsize, place).reshape(shape)
        place += size
    return variables


def encoder(variables: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """Rename ctranslate2's encoder variables as transformers names them; the fused q, k, v matrix is split."""
    out: dict[str, NDArray[np.generic]] = {"embed_positions.weight": variables["encoder/position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        out |= {f"{conv}.{kind}": variables[f"encoder/{conv}/{kind}"] for kind in ("weight", "bias")}
    norms = {"self_attention/layer_norm": "self_attn_layer_norm", "ffn/layer_norm": "final_layer_norm"}
    linears = {"self_attention/linear_1": "self_attn.out_proj", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
    layers = sum(name.startswith("encoder/") and name.endswith("ffn/linear_0/weight") for name in variables)
    for index in range(layers):
        old, new = f"encoder/layer_{index}/", f"layers.{index}."
        for theirs, ours in norms.items():
            out[f"{new}{ours}.weight"] = variables[f"{old}{theirs}/gamma"]
            out[f"{new}{ours}.bias"] = variables[f"{old}{theirs}/beta"]
        for theirs, ours in linears.items():
            out |= {f"{new}{ours}.{kind}": variables[f"{old}{theirs}/{kind}"] for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            fused = variables[f"{old}self_attention/linear_0/{kind}"]
            for part, name in zip(np.split(fused, 3), ("q_proj", "k_proj", "v_proj"), strict=True):
                if (name, kind) != ("k_proj", "bias"):  # Whisper's keys have no bias; the fused one is zero there
                    out[f"{new}self_attn.{name}.{kind}"] = part
    out["layer_norm.weight"] = variables["encoder/layer_norm/gamma"]
    out["layer_norm.bias"] = variables["encoder/layer_norm/beta"]
    return {f"encoder.{name}": np.ascontiguousarray(value, np.float32) for name, value in out.items()}


if __name__ == "__main__":
    main()
