"""Group normalisation over each clip's own frames: exact, and in as many calls as for two lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from extractors.models.huggingface.wav2vec_family import ClipGroupNorm

CHANNELS, TIME = 6, 90
N_VALID = [90, 90, 61, 17, 17, 2]


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randn(len(N_VALID), CHANNELS, TIME, generator=torch.Generator().manual_seed(seed))


def norm_of(groups: int) -> nn.GroupNorm:
    norm = nn.GroupNorm(groups, CHANNELS)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    return norm.requires_grad_(False)


def alone(norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own, of one clip `[channels, n]`, in float64."""
    weight, bias = norm.weight.double(), norm.bias.double()
    return nn.functional.group_norm(x[None].double(), norm.num_groups, weight, bias, norm.eps)[0]


@pytest.mark.parametrize("groups", [CHANNELS, 3, 1])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_every_clip_is_normalised_as_if_it_were_alone(groups: int, offset: float) -> None:
    norm = norm_of(groups)
    ragged = ClipGroupNorm(norm)
    x = batch() + offset
    expected = [alone(norm, clip[:, :n]) for clip, n in zip(x, N_VALID, strict=True)]
    for clip, n in zip(x, N_VALID, strict=True):
        clip[:, n:] = torch.nan  # whatever padding holds is nobody's business
    ragged.n_valid = N_VALID
    found = ragged(x)
    assert torch.isfinite(found).all()
    # Deviations from an offset of 300 are known to 300 · 2⁻²⁴ and no better.
    tolerance = 2e-6 if offset == 0.0 else 1e-4
    for clip, n, own in zip(found, N_VALID, expected, strict=True):
        assert (clip[:, :n] - own).abs().max() < tolerance


def test_an_offset_costs_no_more_digits_than_it_does_one_clip() -> None:
    norm, ragged = norm_of(CHANNELS), ClipGroupNorm(norm_of(CHANNELS))
    ragged.n_valid = N_VALID
    x = batch() + 3000.0
    exact = [alone(norm, clip[:, :n]) for clip, n in zip(x, N_VALID, strict=True)]
    single = [norm(clip[None, :, :n])[0] for clip, n in zip(x, N_VALID, strict=True)]
    found = ragged(x)
    for clip, n, own, one in zip(found, N_VALID, exact, single, strict=True):
        assert (clip[:, :n] - own).abs().max() <= max(2e-6, float((one - own).abs().max()))


@pytest.mark.parametrize("n_valid", [None, N_VALID])
def test_a_window_takes_the_scale_and_shift_it_is_given(n_valid: list[int] | None) -> None:
    ragged = ClipGroupNorm(norm_of(CHANNELS))
    ragged.n_valid = n_valid
    scale, shift = torch.linspace(0.5, 2.0, CHANNELS), torch.linspace(-3.0, 3.0, CHANNELS)
    own = ragged(batch())
    ragged.given = [(scale, shift) if i % 2 else None for i in range(len(N_VALID))]
    found = ragged(batch())
    for i, (clip, n) in enumerate(zip(found, n_valid or [TIME] * len(N_VALID), strict=True)):
        expected = batch()[i] * scale[:, None] + shift[:, None] if i % 2 else own[i]
        torch.testing.assert_close(clip[:, :n], expected[:, :n], rtol=1e-5, atol=1e-5)


def test_half_precision_is_normalised_in_float32() -> None:
    ragged = ClipGroupNorm(norm_of(CHANNELS))
    ragged.n_valid = N_VALID
    x = batch().bfloat16()
    exact = ragged(x.float())
    found = ragged(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact)


class Calls(TorchDispatchMode):
    """Counts what is asked of a device."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        return func(*args, **(kwargs or {}))


def n_calls(n_valid: Sequence[int]) -> int:
    ragged = ClipGroupNorm(norm_of(CHANNELS))
    ragged.n_valid = list(n_valid)
    with Calls() as calls:
        ragged(torch.zeros(len(n_valid), CHANNELS, max(n_valid)))
    return calls.n


def test_a_hundred_lengths_take_as_many_calls_as_two() -> None:
    assert n_calls(range(101, 1, -1)) == n_calls([40, 30])
