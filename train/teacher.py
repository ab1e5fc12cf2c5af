"""Teachers of content: published speech encoders, from a local folder or by hub id, with one unit every 20 ms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import errors
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, HubertModel
from transformers.utils import cached_file, logging

from moksori.models.hubert import HubertTeacher
from moksori.models.whisper import MAX_UNITS, WhisperConfig, WhisperContent
from moksori.runtime.errors import MoksoriError
from moksori.train import hubert_soft

SAFE, OLD = "model.safetensors", "pytorch_model.bin"
HUB: Mapping[type[Exception], str] = {  # the first that fits
    errors.GatedRepoError: "is only for those whom its owner lets in: ask on its page, then run hf auth login",
    errors.RepositoryNotFoundError: "is not on the hub, or it is private: check the name",
    errors.LocalEntryNotFoundError: "was never downloaded whole, and the hub cannot be reached: go online and try "
    "again, or name a folder with the network",
    errors.EntryNotFoundError: f"has no config.json, or neither {SAFE} nor {OLD}: name another network",
}


@dataclass(frozen=True)
class Teacher:
    """``network`` takes audio [B, n] at 16 kHz, n a multiple of 320, to hidden vectors [B, n / 320, width]."""

    network: nn.Module
    kind: str
    width: int
    longest: int | None  # units in one call


def load(source: str, layer: int | None = None) -> Teacher:
    """A Whisper, HuBERT or ContentVec in transformers' format, or HuBERT-soft as its authors publish it.

    Args:
        source: a local folder (config.json and model.safetensors), a hub id, or the torch file of HuBERT-soft.
        layer: of a HuBERT, counted from 1; by default its last. ContentVec's layer 9 is taken through its final
            projection, as models of the first version expect.
    Raises:
        MoksoriError: it cannot be found or read, or is of another kind.
    """
    if hubert_soft.is_file(source):
        if layer is not None:
            raise MoksoriError("a layer can be chosen of HuBERT and ContentVec only; HuBERT-soft has its own head")
        network = hubert_soft.network(Path(source))
        assert network.projection is not None
        return Teacher(network, "hubert", network.projection.out_features, None)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        weights = _weights(source)
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise MoksoriError(_reason(source, error)) from error
    except STRANGE as error:
        raise MoksoriError(f"{source}: config.json is of no use ({_line(error)}); get it again") from error
    if config.model_type not in LOADERS:
        raise MoksoriError(f"{source} is a '{config.model_type}'; teachers are {', '.join(LOADERS)}")
    _check(source, config, weights)
    try:
        return LOADERS[config.model_type](source, config, weights, layer)
    except STRANGE as error:
        raise MoksoriError(f"{source}: its weights are not those of its config.json ({_line(error)})") from error


# What transformers and torch raise where a config asks for what cannot be or what the weights are not.
STRANGE = (
    RuntimeError, TypeError, ValueError, KeyError, AttributeError, MemoryError, ZeroDivisionError,
    errors.StrictDataclassError,
)  # fmt: skip
# The largest that any published network has, and more; a config that asks for more memory than there is ends here.
MOST: Mapping[str, int] = {
    "hidden_size": 4096, "num_hidden_layers": 64, "num_attention_heads": 64, "intermediate_size": 2**14,
    "num_conv_pos_embeddings": 1024, "num_conv_pos_embedding_groups": 1024, "conv_dim": 2048, "conv_kernel": 64,
    "conv_stride": 64, "d_model": 4096, "encoder_layers": 64, "encoder_attention_heads": 64,
}  # fmt: skip


def _check(source: str, config: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse sizes that no such network has, before anything of them is made, and weights that are no numbers."""
    for name, most in MOST.items():
        value = getattr(config, name, 1)
        sizes = value if isinstance(value, list | tuple) else [value]
        if not all(type(size) is int and 1 <= size <= most for size in sizes) or len(sizes) > MOST["num_hidden_layers"]:
            raise MoksoriError(f"{source}: {name} in config.json must be from 1 to {most}, not {str(value)[:60]}")
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or not bool(torch.isfinite(tensor).all()):
            raise MoksoriError(f"{source}: {name} holds no numbers; get it again")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _weights(source: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(str(cached_file(source, SAFE)))
    except OSError:
        old = cached_file(source, OLD)
        weights: dict[str, torch.Tensor] = torch.load(str(old), map_location="cpu", weights_only=True)  # runs no code
        return weights


def _reason(source: str, error: BaseException) -> str:
    """Why a network could not be had, in one sentence with the mend."""
    if Path(source).exists():
        return f"{source} is no network of transformers: it needs config.json, and {SAFE} or {OLD}, whole"
    cause: BaseException | None = error
    while cause is not None:
        for kind, mend in HUB.items():
            if isinstance(cause, kind):
                return f"{source} {mend}"
        cause = cause.__cause__ or cause.__context__
    return f"{source} cannot be read ({' '.join(str(error).split())[:200]}): download it again"


def _whisper(source: str, config: Any, weights: dict[str, torch.Tensor], layer: int | None) -> Teacher:
    if layer is not None:
        raise MoksoriError("a layer can be chosen of HuBERT and ContentVec only; Whisper's last is always taken")
    network = WhisperContent(WhisperConfig(config.d_model, config.encoder_layers, config.encoder_attention_heads))
    encoder = {name.removeprefix("model."): value for name, value in weights.items()}
    prefix = "encoder."
    network.load_state_dict({n.removeprefix(prefix): v.float() for n, v in encoder.items() if n.startswith(prefix)})
    return Teacher(network.eval(), "whisper", config.d_model, MAX_UNITS)


def _hubert(source: str, config: Any, weights: dict[str, torch.Tensor], layer: int | None) -> Teacher:
    if layer is not None and layer > config.num_hidden_layers:
        raise MoksoriError(f"{source} has {config.num_hidden_layers} layers, and no layer {layer}")
    with _silenced():
        loaded: Any = HubertModel.from_pretrained(source, attn_implementation="eager", output_loading_info=True)
    hubert, missing = loaded[0].eval(), sorted(set(loaded[1]["missing_keys"]) - {"masked_spec_embed"})
    if missing:
        raise MoksoriError(f"{source} lacks {missing[0]}" + f" and {len(missing) - 1} more" * (len(missing) > 1))
    projection = None
    if "final_proj.weight" in weights and layer == 9:
        width, hidden = weights["final_proj.weight"].shape
        projection = nn.Linear(hidden, width)
        projection.load_state_dict({"weight": weights["final_proj.weight"], "bias": weights["final_proj.bias"]})
    network = HubertTeacher(hubert, config.num_hidden_layers if layer is None else layer, projection)
    return Teacher(network.eval(), "hubert", projection.out_features if projection else config.hidden_size, None)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep transformers' bar and its report of what it finds in a file from the terminal; it is judged here."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


LOADERS: dict[str, Callable[[str, Any, dict[str, torch.Tensor], int | None], Teacher]] = {
    "whisper": _whisper,
    "hubert": _hubert,
}
