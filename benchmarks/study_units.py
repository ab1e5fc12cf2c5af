"""What units hold: k-means clusters of them beside phones whose places are known, and how much of the speaker is left.

The phones are those of hibari-tts (Apache-2.0), whose graph says how many frames it gives to each; no aligner guesses.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import soxr
from numpy.typing import NDArray

from moksori.benchmarks import inputs, study
from moksori.runtime import Voice, audio, content, devices, mel
from moksori.runtime.command import Command
from moksori.runtime.crepe import Session
from moksori.runtime.errors import MoksoriError, OptionError
from moksori.runtime.mel import MelSpec
from moksori.runtime.pitch import RATE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float32]
Counts = NDArray[np.float64]

TEXT = Path(__file__).resolve().parent.parent / "LICENSE"
CLUSTERS = (20, 50, 100, 200)
SHOWN = 50
RARE = 0.004  # of the frames; phones below it are not drawn
DURATIONS = "/Round_output_0"  # frames of each phone, inside hibari's graph
HIBARI, HIBARI_RATE = "hibari-tts==0.2.1", 24_000  # Hz
PAUSE, BETWEEN, STRESS = "pause", "", "ˈˌː"
KINDS = {  # of phones, as they are drawn from left to right; the rest are vowels
    PAUSE: (PAUSE,), "stops": tuple("pbtdkɡʧʤTɾʔ"), "fricatives": tuple("fvθðszʃʒh"),
    "nasals": tuple("mnŋ"), "glides": tuple("lɹwjr"),
}  # fmt: skip
# Of letters that are hibari's own.
READABLE = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ", "T": "ɾ", PAUSE: ""}
MELS = MelSpec(RATE, content.UNIT_HOP, 1024, 1024, 80, 40.0, 8000.0)  # what units are compared with
LATEST = 6  # frames that are tried
ROUNDS, RIDGE = 30, 1e-3

EXAMPLES = """\b
Examples:
  pip install --no-deps hibari-tts==0.2.1
  python -m moksori.benchmarks.study_units --speakers build/demo/heldout \\
      --among ast_en,ast_ru,f001,heart --among ast_en,ast_es --among ast_en,heart
"""


@click.command(cls=Command, extra="eval,plot,export", epilog=EXAMPLES)
@click.option("--voice", "voice_name", default="demo", show_default=True, help="Whose content graph.")
@click.option("--text", type=click.Path(path_type=Path), default=TEXT, help="To be read aloud.  [default: LICENSE]")
@click.option("--minutes", type=click.FloatRange(0.05), default=3, show_default=True)
@click.option("--speakers", type=click.Path(path_type=Path), required=True, help="A folder of recordings of each.")
@click.option("--among", "groups", multiple=True, required=True, metavar="A,B,…", help="Folders to tell apart.")
@click.option("--clips", "most", type=click.IntRange(2), default=6, show_default=True, help="Of each speaker.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="Where benchmarks/ and docs/ lie.")
def main(
    voice_name: str, text: Path, minutes: float, speakers: Path, groups: tuple[str, ...], most: int, root: Path
) -> None:
    """Cluster the units of labelled speech, and try to tell speakers by one frame."""
    session = Voice.load(voice_name, "cpu").content
    named, units, mels = labelled(
        lambda heard: content.units(session, heard), text.read_text(encoding="utf-8"), 60 * minutes
    )
    late = lag(named, mels)
    kept, phones = spoken(named, late)
    features = {"units": units[kept], "log mel": mels[kept]}
    rows = []
    for name, frames in features.items():
        for count in CLUSTERS:
            click.echo(f"  {count} clusters of {name}", err=True)
            rows.append({"features": name, "clusters": count} | agreement(clustered(frames, count), phones))
    clusters = clustered(features["units"], SHOWN)
    results = {
        "voice": voice_name,
        "seconds": len(named) * content.UNIT_HOP / RATE,
        "late_seconds": late * content.UNIT_HOP / RATE,
        "phones": len(set(phones)),
        "most_common": Counter(phones).most_common(1)[0][1] / len(phones),
        "clusters": rows,
        "speakers": leakage(session, speakers, [group.split(",") for group in groups], most),
    }
    study.finish("units", results, draw(clusters, phones), table(results), root)


def labelled(hear: Callable[[Array], Array], text: str, seconds: float) -> tuple[list[str], Array, Array]:
    """Phones [n], what is heard [n, D] and log mels [n, M] of a text read by hibari's default voice, every 20 ms.

    ``hear`` makes vectors [Tu, D], one for each begun 20 ms, of audio at 16 kHz.
    """
    phones: list[str] = []
    units, mels = [], []
    lasted = 0.0
    for speech, spoken in _read(text):
        heard = soxr.resample(speech, HIBARI_RATE, RATE)
        found = hear(heard)
        heard = np.pad(heard, (0, len(found) * content.UNIT_HOP - len(heard)))
        places = (np.arange(len(found)) + 0.5) * (content.UNIT_HOP / RATE * HIBARI_RATE / len(speech) * len(spoken))
        phones += [spoken[min(int(at), len(spoken) - 1)] for at in places]
        units.append(found)
        mels.append(mel.log_mel(heard, MELS))
        lasted += len(speech) / HIBARI_RATE
        if lasted >= seconds:
            return phones, np.concatenate(units), np.concatenate(mels)
    raise OptionError(f"the text lasts {lasted:.0f} s: give a longer one, or fewer --minutes")


def lag(phones: Sequence[str], mels: Array) -> int:
    """By how many frames the phones come later than their sound: where clusters of mels [n, M] explain most of them.

    hibari's sound runs ahead of its durations. Mels decide, so that units get no advantage.
    """
    clusters = clustered(mels, SHOWN)

    def explained(frames: int) -> float:
        kept, names = spoken(phones, frames)
        return agreement(clusters[kept], names)["explained"]

    return max(range(LATEST), key=explained)


def spoken(phones: Sequence[str], late: int) -> tuple[NDArray[np.int64], list[str]]:
    """The frames that a phone or a pause is said in, and which; the space between two words is neither."""
    kept = [at for at in range(len(phones) - late) if phones[at + late] != BETWEEN]
    return np.array(kept, np.int64), [phones[at + late] for at in kept]


def _read(text: str) -> Iterator[tuple[Array, list[str]]]:
    """Sentences as samples at 24 kHz, and the phones of even parts of them."""
    import onnx

    try:
        hibari = importlib.import_module("hibari")
    except ImportError as error:
        raise MoksoriError(f"no phones can be read aloud without {HIBARI}: pip install --no-deps {HIBARI}") from error
    voice = hibari.Hibari(threads=1)
    graph = onnx.load(voice.model_path)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
    session = devices.open_session(graph.SerializeToString(), devices.cpu(), 1, "hibari's graph")
    rng = np.random.default_rng(0)
    for paragraph in text.split("\n\n"):
        for phonemes in voice.phonemize(" ".join(paragraph.split())):
            given: study.Inputs = {"ids": np.array([voice.ids(phonemes)], np.int64), "speed": np.ones(1, np.float32)}
            *parts, durations = session.run(None, given)
            symbols = [" ", *(symbol for symbol in phonemes if symbol in voice.vocab), " "]
            frames = np.maximum(durations.reshape(-1), 1).astype(int)
            said = [phone for phone, count in zip(_phones(symbols), frames, strict=True) for _ in range(count)]
            yield hibari.dsp.synth(*(part[0] for part in parts), rng), said


def _phones(symbols: Sequence[str]) -> Iterator[str]:
    """A phone for each symbol: marks of stress belong to the phone after them, length to that before."""
    for at, symbol in enumerate(symbols):
        near = symbol
        if symbol in STRESS:
            near = symbols[at - 1] if symbol == "ː" else symbols[at + 1]
        yield near if near.isalpha() else BETWEEN if near == " " and 0 < at < len(symbols) - 1 else PAUSE


def clustered(frames: Array, count: int) -> NDArray[np.int64]:
    """k-means of frames [n, D] as they are, begun by k-means++ from a fixed seed: the cluster of each [n]."""
    from scipy.cluster import vq

    found: NDArray[np.int64] = vq.kmeans2(frames, count, ROUNDS, minit="++", seed=0, missing="warn")[1]
    return found


def agreement(clusters: NDArray[np.int64], phones: Sequence[str]) -> dict[str, float]:
    """How well clusters [n] go with phones [n] (Hsu et al. 2021, HuBERT), from their joint counts p(y, z).

    ``phone_purity`` E_z max_y p(y|z): how often the commonest phone of a cluster is right. ``cluster_purity``
    E_y max_z p(z|y). ``explained`` I(y; z) / H(y): the share of what there is to know of the phone.
    """
    joint = counts(clusters, phones)[0] / len(phones)
    of_phones, of_clusters = joint.sum(0), joint.sum(1)
    known = joint > 0
    shared = np.sum(joint[known] * np.log(joint[known] / np.outer(of_clusters, of_phones)[known]))
    entropy = -np.sum(of_phones * np.log(of_phones))
    return {
        "phone_purity": float(joint.max(1).sum()), "cluster_purity": float(joint.max(0).sum()),
        "explained": float(shared / entropy) if entropy else 0.0,
    }  # fmt: skip


def counts(clusters: NDArray[np.int64], phones: Sequence[str]) -> tuple[Counts, list[str]]:
    """Frames by cluster and phone [clusters that are used, phones], and the phones in order."""
    names, columns = np.unique(np.array(phones), return_inverse=True)
    used, rows = np.unique(clusters, return_inverse=True)
    joint = np.zeros((len(used), len(names)))
    np.add.at(joint, (rows, columns), 1)
    return joint, names.tolist()


def leakage(session: Session, folder: Path, groups: Sequence[Sequence[str]], most: int) -> list[dict[str, Any]]:
    """How often one frame tells who of a group speaks, from the first ``most`` clips in each speaker's folder."""
    units: dict[str, list[Array]] = {}
    mels: dict[str, list[Array]] = {}
    for name in sorted({name for group in groups for name in group}):
        heard = [audio.read(path, RATE) for path in inputs.recordings(folder / name)[:most]]
        if len(heard) < 2:
            raise OptionError(f"{folder / name} holds {len(heard)} recordings: two or more are needed")
        units[name] = [content.units(session, one) for one in heard]
        mels[name] = [mel.log_mel(one, MELS) for one in heard]
    return [
        {"among": list(group), "units": told({name: units[name] for name in group}),
         "log mel": told({name: mels[name] for name in group})} for group in groups
    ]  # fmt: skip


def told(by: Mapping[str, Sequence[Array]]) -> float:
    """Share of frames whose speaker a linear map finds, mean over speakers; it learned from every second clip of each.

    Fisher's discriminant: speakers are taken for Gaussians of one covariance, as likely as one another.
    """
    learned = [np.concatenate(list(clips[::2])).astype(np.float64) for clips in by.values()]
    asked = [np.concatenate(list(clips[1::2])).astype(np.float64) for clips in by.values()]
    centres = np.stack([frames.mean(0) for frames in learned])
    spread = np.mean([np.cov(frames.T, bias=True) for frames in learned], axis=0)
    weight = np.linalg.solve(spread + RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread)), centres.T)
    bias = -0.5 * np.sum(centres.T * weight, 0)
    return float(np.mean([np.mean((frames @ weight + bias).argmax(1) == at) for at, frames in enumerate(asked)]))


def table(results: Mapping[str, Any]) -> str:
    cell = study.figure_of
    clusters = study.table(
        ["features, clusters", "phone purity, %", "cluster purity, %", "explained, %"],
        [[f"{row['features']}, {row['clusters']}", *(cell(row[name], 0, 100) for name in (
            "phone_purity", "cluster_purity", "explained"))] for row in results["clusters"]],
    )  # fmt: skip
    speakers = study.table(
        ["one frame of 20 ms is of", "chance, %", "units, %", "log mel, %"],
        [[" or ".join(row["among"]), cell(1 / len(row["among"]), 0, 100), cell(row["units"], 0, 100),
          cell(row["log mel"], 0, 100)] for row in results["speakers"]],
    )  # fmt: skip
    return f"{clusters}\n{speakers}"


def draw(clusters: NDArray[np.int64], phones: Sequence[str]) -> Figure:
    """Of each cluster, which phones it holds; clusters in the order of their commonest phone."""
    joint, names = counts(clusters, phones)
    kinds = {phone: at for at, members in enumerate(KINDS.values()) for phone in members}
    kept = [at for at in range(len(names)) if joint[:, at].sum() >= RARE * joint.sum()]
    order = sorted(kept, key=lambda at: (kinds.get(names[at], len(KINDS)), -joint[:, at].sum()))
    shares = joint[:, order] / joint.sum(1, keepdims=True)
    shares = shares[np.lexsort((-shares.max(1), shares.argmax(1)))]
    figure, axes = study.sheet(1, 1, (10, 8))
    axis = axes[0][0]
    image = axis.imshow(100 * shares, cmap="viridis", aspect="auto", vmin=0, vmax=100, interpolation="nearest")
    axis.set_xticks(range(len(order)), [READABLE.get(names[at], names[at]) for at in order])
    axis.set_xlabel("phone (IPA)")
    axis.set_ylabel("cluster, sorted by its commonest phone")
    axis.set_title(f"{len(shares)} clusters of units, and which phones each of them holds", loc="left", pad=22)
    groups = np.array([kinds.get(names[at], len(KINDS)) for at in order])
    for group, name in enumerate([*KINDS, "vowels"]):
        if (members := np.flatnonzero(groups == group)).size:
            axis.text(members.mean(), -0.8, name, ha="center", va="bottom", fontsize=9)
            axis.axvline(members[-1] + 0.5, color="white", linewidth=0.8)
    figure.colorbar(image, ax=axis, label="% of the cluster's frames", pad=0.01)
    return figure


if __name__ == "__main__":
    main()
