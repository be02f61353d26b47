"""What a GPU is asked for one batch: everything lies on it, nothing waits for it, one copy comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from extractors import find_model
from extractors.forward.functionals import QueuedParts, reduce_frames, send
from extractors.models import torch_tools
from tests.no_values import META, Watch

NAMES = ("mean", "std", "min", "max", "median", "first", "last")
LENGTHS = (16_000, 9001, 9000, 5000, 5000)
KINDS = [
    "hubert-base", "hubert-large", "wav2vec2-base", "wavlm-base", "data2vec-base", "unispeech-sat-large",
    "mms", "wav2vec2-bert", "ast",
]  # fmt: skip


@pytest.fixture
def came_back(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what was copied to the host."""
    shapes: list[torch.Size] = []

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append(tensor.shape)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    monkeypatch.setattr(torch_tools, "queued_copy", copied)
    # In fp32 it is turned off, which it cannot be told of a device without arithmetic.
    monkeypatch.setattr(torch, "autocast", lambda *given, **more: nullcontext())
    return shapes


def asked(spec: str, lengths: Sequence[int]) -> Watch:
    """What one batch asks of a device, from waveforms to functionals that are on their way."""
    extractor = find_model(spec).load(str(META), "fp32")
    queued: list[QueuedParts] = []

    def on_layer(layer: int, frames: torch.Tensor, n_valid: Sequence[int]) -> None:
        assert frames.device == META
        parts = reduce_frames(frames, n_valid, NAMES)
        assert isinstance(parts, QueuedParts)
        queued.append(parts)

    with Watch() as watch:
        extractor.forward([np.zeros(n, np.float32) for n in lengths], [0, 1, 3], on_layer)
        send(queued)
    assert len(queued) == 3
    return watch


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_is_one_copy_back_and_no_wait(
    model_spec: Callable[[str], str], came_back: list[torch.Size], kind: str
) -> None:
    spec = model_spec(kind)
    few = asked(spec, LENGTHS)
    n_features = find_model(spec).card.n_features
    assert came_back == [(3, len(NAMES), len(LENGTHS), n_features)]
    # Thirty lengths or four: the host has as much to do.
    many = asked(spec, range(15_600, 5999, -320))
    assert many.n_calls <= few.n_calls
    assert many.n_sent == few.n_sent


def test_a_device_without_values_refuses_what_would_wait() -> None:
    x = torch.zeros(3, device=META)
    with pytest.raises(RuntimeError):
        x.sum().item()
    with pytest.raises(NotImplementedError):
        x.cpu()
    with pytest.raises((NotImplementedError, RuntimeError)):
        x[x > 0]
    with Watch(), pytest.raises((AssertionError, RuntimeError), match=r"together|device"):
        torch.where(x > 0, x, torch.zeros(3))
