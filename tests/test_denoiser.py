"""The denoiser's loop on a real graph, against the same arithmetic written out in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from moksori.runtime import binding, denoiser, devices, samplers
from moksori.runtime.backends import Device, cpu
from moksori.runtime.denoiser import Conditions
from moksori.runtime.errors import DeviceError

FRAMES, BINS, CHANNELS = 7, 20, 12
Models = dict[str, onnx.ModelProto]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize(
    "plan",
    [
        samplers.plan("linear", "euler", 4),
        samplers.plan("linear", "heun", 3),
        samplers.plan("linear", "ab2", 5),
        [samplers.Step(t, (0.9, 0.5 - t, 0.3, -0.2, 0.1 + t)) for t in np.linspace(0, 0.9, 6)],
    ],
    ids=["euler", "heun", "ab2", "all of the history"],
)
def test_a_plan_is_carried_out(tiny_models: Models, plan: list[samplers.Step]) -> None:
    """The tiny graph predicts W·condition - x + t; history_k is the prediction k steps before this one."""
    model = tiny_models["denoiser"]
    rng = np.random.default_rng(0)
    given = rng.standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)
    noise = rng.standard_normal((BINS, FRAMES)).astype(np.float32)
    x, predictions = noise.astype(np.float64), [np.zeros((BINS, FRAMES))] * 3
    goal = weight(model, "weight").astype(np.float64) @ given[0]
    for step in plan:
        predictions.append(goal - x + step.t)
        first, *rest = step.coefficients
        x = first * x + sum(c * predictions[-1 - back] for back, c in enumerate(rest))
    found = denoiser.sample(session(model), given, noise, plan)
    assert (found.shape, found.dtype) == ((BINS, FRAMES), np.float32)
    np.testing.assert_allclose(found, x, atol=1e-5)


def test_tensors_that_stay_on_the_device_hold_the_same_bits(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I/O binding on the CPU; a GPU takes the same way with other memory."""
    opened = devices.open_session(tiny_models["denoiser"].SerializeToString(), cpu(), threads=1)
    rng = np.random.default_rng(2)
    given = rng.standard_normal((1, CHANNELS, FRAMES)).astype(np.float32)
    noise = rng.standard_normal((BINS, FRAMES)).astype(np.float32)
    plan = samplers.plan("linear", "heun", 4, guidance=1.5)
    assert isinstance(binding.place(opened), binding.Host)
    wanted = denoiser.sample(opened, given, noise, plan, 0.5 * given)
    monkeypatch.setattr(binding, "place", binding.Resident)
    np.testing.assert_array_equal(denoiser.sample(opened, given, noise, plan, 0.5 * given), wanted)
    gpu = dataclasses.replace(opened, device=Device("cuda", 0, "a card"))
    assert binding.Resident(gpu).where == ("cuda", 0)
    monkeypatch.undo()
    assert isinstance(binding.place(gpu), binding.Resident)


def test_a_run_that_fails_on_the_device_says_so(tiny_models: Models) -> None:
    opened = devices.open_session(tiny_models["denoiser"].SerializeToString(), cpu(), threads=1, name="the denoiser")
    place = binding.Resident(opened)
    with pytest.raises(DeviceError, match="the denoiser failed on CPU"):
        place.run({"x": place.put(np.zeros((1, BINS, FRAMES), np.float32))})


def test_conditions_become_the_graphs_inputs(tiny_models: Models) -> None:
    model = tiny_models["condition"]
    rng = np.random.default_rng(1)
    units = rng.standard_normal((4, 8)).astype(np.float32)
    given = Conditions(
        units=units,
        mel2ph=np.array([1, 1, 2, 2, 3, 3, 4]),
        f0=np.linspace(100, 400, FRAMES).astype(np.float32),
        voiced=np.array([True, True, False, False, True, True, False]),
        loudness=np.linspace(-60, -10, FRAMES).astype(np.float32),
        speaker=np.array([0.25, 0.75], np.float32),
    )
    spoken = units[[0, 0, 1, 1, 2, 2, 3]] @ weight(model, "unit_weight")
    frame = np.log(given.f0) * [1, 1, 0, 0, 1, 1, 0] + 0.01 * given.loudness
    wanted = spoken.T + frame + (given.speaker @ weight(model, "speaker_weight"))[:, None]
    np.testing.assert_allclose(denoiser.condition(session(model), given)[0], wanted, atol=1e-5)
