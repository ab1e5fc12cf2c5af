"""The students of the content network: either architecture learns the teacher's units of prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from moksori.runtime.errors import OptionError
from moksori.train import content as content_training
from moksori.train.content import ContentConfig, ContentTask
from moksori.train.dataset import PreparedData, Share
from moksori.train.loop import LoopConfig

NETWORKS: dict[str, dict[str, Any]] = {
    "convnext": {"channels": 24, "hidden": 48, "layers": 2, "kernel": 5},
    "hubert": {"width": 32, "layers": 1, "heads": 2, "front": 16},
}


@pytest.mark.parametrize("architecture", content_training.ARCHITECTURES)
def test_a_student_nears_its_teacher(architecture: str, tiny_data: Path) -> None:
    data = PreparedData(tiny_data)
    given = ContentConfig(architecture, NETWORKS[architecture], LoopConfig(), batch=4, seconds=1.0)
    config = content_training.fitted(given, data)
    assert config.network["units"] == data.unit_dimension
    assert set(config.network) > set(NETWORKS[architecture])  # written out
    torch.manual_seed(0)
    task = ContentTask(data, config)
    descent = torch.optim.AdamW(task.network.parameters(), 3e-3)
    losses = []
    for _, batch in zip(range(30), task.batches(Share(), torch.device("cpu")), strict=False):
        loss = task.losses(batch)["loss"]
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_what_a_network_does_not_have_is_refused(tiny_data: Path) -> None:
    data = PreparedData(tiny_data)
    with pytest.raises(OptionError, match="architecture must be one of convnext, hubert, not 'lstm'"):
        content_training.fitted(ContentConfig("lstm"), data)
    with pytest.raises(OptionError, match="heads"):
        content_training.fitted(ContentConfig(network={"heads": 2}), data)
