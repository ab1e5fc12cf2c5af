"""svc-export's core: rules of a graph, proofs that fail when they must, and weights stored small without loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from moksori.export import storage
from moksori.export.graph import Axis, ExportError, GraphSpec, Lengths, Port, metadata, seal, write
from moksori.export.proof import torch_reference


class Small(nn.Module):
    """Every kind of weight that the networks have, in one: [1, 32, 2·T] and a gain -> [1, T, 24]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.ConvTranspose1d(32, 40, 4, stride=2, padding=1)
        self.down = nn.utils.parametrizations.weight_norm(nn.Conv1d(40, 32, 8, stride=4, padding=2))
        self.depthwise = nn.Conv1d(32, 32, 17, padding=8, groups=32)
        self.norm = nn.LayerNorm(32)
        self.linear = nn.Linear(32, 24)
        self.register_buffer("basis", torch.randn(24, 24))

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        y = self.depthwise(self.down(torch.nn.functional.gelu(self.up(x))))
        out: Tensor = gain * self.linear(self.norm(y.transpose(1, 2))) @ self.basis
        return out


def draw_small(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
    return torch.randn(1, 32, 2 * lengths["frames"], generator=generator), torch.rand(1, generator=generator)


FRAMES = (Axis("frames", traced=16, unseen=(1, 9, 50)),)
SMALL = GraphSpec(
    role="denoiser",
    kind="small",
    inputs=(Port("x", (1, 32, "2*frames")), Port("gain", (1,))),
    outputs=(Port("y", (1, "frames", 24)),),
    axes=FRAMES,
    draw=draw_small,
    metadata={"licence": "CC0", "credit": "목소리"},
)


def run(path: Path, *inputs: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    outputs: list[np.ndarray] = session.run(None, dict(zip(names, (i.numpy() for i in inputs), strict=True)))
    return outputs


def one_to_one(module: nn.Module, path: Path, inputs: int = 1) -> None:
    """Export a module of [1, 4, T] tensors to [1, 4, T]."""
    shape = (1, 4, "frames")

    def draw(lengths: Lengths, generator: torch.Generator) -> tuple[Tensor, ...]:
        return tuple(torch.randn(1, 4, lengths["frames"], generator=generator) for _ in range(inputs))

    ports = tuple(Port(f"x{k}", shape) for k in range(inputs))
    write(module, GraphSpec("denoiser", "test", ports, (Port("y", shape),), FRAMES, draw), path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs with 한글 🎤")
    paths = {precision: folder / f"{precision}.onnx" for precision in storage.PRECISIONS}
    for precision, path in paths.items():
        write(Small(), SMALL, path, precision)
    return paths


@pytest.mark.parametrize("precision", storage.PRECISIONS)
def test_a_graph_equals_its_rounded_network_at_any_length(written: dict[str, Path], precision: str) -> None:
    network = Small().eval()
    storage.round_weights(network, precision)
    for frames in (2, 33):
        inputs = draw_small({"frames": frames}, torch.Generator().manual_seed(9))
        with torch.inference_mode():
            wanted = network(*inputs).numpy()
        error = np.abs(run(written[precision], *inputs)[0] - wanted).max()
        assert error <= 1e-6 * np.abs(wanted).max() * 5


def test_a_graph_says_what_it_is(written: dict[str, Path]) -> None:
    said = metadata(written["w8"])
    expected = {
        "role": "denoiser",
        "kind": "small",
        "format_version": "1",
        "opset": "18",
        "precision": "w8",
    }
    assert {key: said[key] for key in expected} == expected
    assert said["credit"] == "목소리"
    assert said["proof_lengths"] == '[{"frames": 1}, {"frames": 9}, {"frames": 50}]'
    assert float(said["proof_max_error"]) < 1e-5
    assert "ConvTranspose" in said["operators"].split()
    assert len(said["weights_sha256"]) == 64


def test_a_graph_keeps_no_trace_of_this_machine(written: dict[str, Path]) -> None:
    content = written["fp32"].read_bytes()
    for place in (
        str(Path.cwd()),
        str(Path.home()),
        str(Path(torch.__file__).parent),
        "site-packages",
        "stack_trace",
    ):
        assert place.encode() not in content
    model = onnx.load(written["fp32"])
    assert [p for n in model.graph.node for p in n.metadata_props] == []
    assert (model.producer_name, model.doc_string) == ("moksori", "")


def test_the_same_network_gives_the_same_bytes(written: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    write(Small(), SMALL, again, "fp16")
    assert again.read_bytes() == written["fp16"].read_bytes()


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp16", 2), ("w8", 1)])
def test_weights_are_small_on_disk_and_folded_when_loaded(
    written: dict[str, Path], tmp_path: Path, precision: str, bytes_each: int
) -> None:
    weights = sum(p.numel() for p in Small().parameters() if p.ndim > 1 and p.numel() >= storage.SMALLEST)
    saved = written["fp32"].stat().st_size - written[precision].stat().st_size
    assert saved > 0.75 * weights * (4 - bytes_each)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(written[precision].read_bytes(), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    assert "Cast" not in {node.op_type for node in loaded.node}
    assert {t.data_type for t in loaded.initializer if len(t.dims) > 1} == {onnx.TensorProto.FLOAT}


def test_int8_is_within_half_a_step_of_each_channel() -> None:
    network = Small()
    storage.make_plain(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    storage.round_weights(network, "w8")
    for name, channel in (("linear.weight", 0), ("down.weight", 0), ("up.weight", 1)):
        old, new = (
            before[name].movedim(channel, 0).flatten(1),
            network.state_dict()[name].movedim(channel, 0).flatten(1),
        )
        step = old.abs().amax(1, keepdim=True) / storage.LEVELS
        assert bool(((new - old).abs() <= 0.501 * step).all())
        assert all(len(torch.unique(row)) <= 2 * storage.LEVELS + 1 for row in new)
    for name in ("linear.bias", "norm.weight", "basis"):
        assert torch.equal(network.state_dict()[name], before[name])


@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_rounding_twice_changes_nothing(precision: str) -> None:
    network = Small()
    storage.round_weights(network, precision)
    once = {name: value.clone() for name, value in network.state_dict().items()}
    storage.round_weights(network, precision)
    assert all(torch.equal(once[name], value) for name, value in network.state_dict().items())


def test_weights_beyond_16_bits_are_refused() -> None:
    network = nn.Linear(64, 64)
    with torch.no_grad():
        network.weight[3, 3] = 70_000
    with pytest.raises(ExportError, match=r"weight.*fp32"):
        storage.round_weights(network, "fp16")


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Scatters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.scatter(1, torch.zeros(1, 1, x.shape[2], dtype=torch.int64), x[:, :1])


class Doubles(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double().cumsum(-1).float()


@pytest.mark.parametrize(
    ("module", "reason"),
    [(Noisy(), "noise is always an input"), (Scatters(), "version 18"), (Doubles(), "float64")],
)
def test_operators_that_some_device_lacks_are_refused(module: nn.Module, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=reason):
        one_to_one(module, tmp_path / "graph.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    class Deaf(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.tanh(a) + 0 * b

    with pytest.raises(ExportError, match="input x1 changes no output"):
        one_to_one(Deaf(), tmp_path / "graph.onnx", inputs=2)
    assert list(tmp_path.iterdir()) == []


def test_one_tensor_for_two_inputs_is_refused(tmp_path: Path) -> None:
    shared = torch.randn(1, 4, 16)
    shape = (1, 4, "frames")
    ports = (Port("a", shape), Port("b", shape))
    spec = GraphSpec(
        "denoiser", "test", ports, (Port("y", shape),), FRAMES, lambda lengths, generator: (shared, shared)
    )

    class Adds(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + 2 * b

    with pytest.raises(ExportError, match="same tensor"):
        write(Adds(), spec, tmp_path / "graph.onnx")


def wrong_by(factor: float, length: int) -> Callable[[list[Tensor]], list[np.ndarray]]:
    """The network of ``Small``, off by ``factor`` when it sees ``length`` frames and gain is high."""
    exact = torch_reference(Small().eval())

    def reference(inputs: list[Tensor]) -> list[np.ndarray]:
        outputs = [output.copy() for output in exact(inputs)]
        if inputs[0].shape[2] == 2 * length:
            outputs[0].flat[np.abs(outputs[0]).argmax()] *= 1 + factor
        return outputs

    return reference


@pytest.mark.parametrize("length", [1, 9, 50])
def test_an_error_at_a_single_unseen_length_stops_everything(
    written: dict[str, Path], tmp_path: Path, length: int
) -> None:
    model = onnx.load(written["fp32"])
    target = tmp_path / "graph.onnx"
    target.write_bytes(b"the graph of before")
    with pytest.raises(
        ExportError, match=rf"y differs from the network by 2\.\de-04 .*frames={length} \(limit 1e-04\)"
    ):
        seal(model, wrong_by(2e-4, length), SMALL, target)
    assert [path.name for path in tmp_path.iterdir()] == ["graph.onnx"]
    assert target.read_bytes() == b"the graph of before"
    seal(model, wrong_by(5e-5, length), SMALL, target)


def test_a_reference_that_is_not_finite_stops_everything(written: dict[str, Path], tmp_path: Path) -> None:
    def reference(inputs: list[Tensor]) -> list[np.ndarray]:
        return [np.full((1, inputs[0].shape[2] // 2, 24), np.nan, np.float32)]

    with pytest.raises(ExportError, match="differs"):
        seal(onnx.load(written["fp32"]), reference, SMALL, tmp_path / "graph.onnx")


def test_another_shape_than_promised_is_refused(tmp_path: Path) -> None:
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2] * 2

    with pytest.raises(ExportError, match="an axis of y is 2, not 4"):
        one_to_one(Halves(), tmp_path / "graph.onnx")


def test_what_torch_cannot_trace_is_said_in_one_line(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if float(x.sum()) > 0 else x

    with pytest.raises(ExportError) as error:
        one_to_one(Branches(), tmp_path / "graph.onnx")
    assert "\n" not in str(error.value) and "torch cannot export" in str(error.value)


def test_the_lengths_of_a_proof_must_be_unseen() -> None:
    with pytest.raises(ExportError, match="must differ"):
        Axis("frames", traced=9, unseen=(1, 9, 50))
