"""Statistics over the valid frames of each clip, taken on the device as each layer is ready.

They are computed from mergeable parts (count, mean, sum of squared deviations, extremes), so that a clip
embedded in several windows gets the statistics of all its frames (Chan, Golub & LeVeque 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurestore.errors import ConfigError

if TYPE_CHECKING:
    import torch

FUNCTIONALS = ("mean", "std", "min", "max")
DEFAULT_FUNCTIONALS = ("mean", "std")


def parse_functionals(text: str) -> tuple[str, ...]:
    """``"mean,std"`` → ``("mean", "std")``.

    Raises:
        ConfigError: an unknown or repeated name, or none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [n for n in names if n not in FUNCTIONALS]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"{unknown[0]!r}" if unknown else f"{text!r}"
        raise ConfigError(f"functionals: expected distinct names of {', '.join(FUNCTIONALS)}, got {problem}")
    return names


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Mergeable statistics of a batch: counts `[b]`; mean, m2, low, high `[b, features]` float32."""

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reduce_frames(frames: torch.Tensor, n_valid: Sequence[int], names: Sequence[str]) -> Parts:
    """Statistics over the first ``n_valid[i]`` frames of clip i.

    Args:
        frames: `[b, t, features]`; padding frames may hold anything, NaN included.
        n_valid: valid frames per clip, each at least 1.
        names: the functionals that will be asked of the result; others are not computed.
    """
    import torch

    x = frames.float()
    time = x.shape[1]
    count = torch.tensor(list(n_valid), device=x.device)
    extremes = bool({"min", "max"} & set(names))
    mask = None
    if int(count.min()) < time:
        mask = (torch.arange(time, device=x.device) < count[:, None])[:, :, None]
        x = x.masked_fill(~mask, 0.0)
    n = count[:, None].float()
    mean = x.sum(1) / n
    m2 = torch.zeros_like(mean)
    if "std" in names:
        # Two passes: the one-pass formula loses digits where the mean is large against the spread.
        centred = x - mean[:, None, :]
        if mask is not None:
            centred = centred.masked_fill(~mask, 0.0)
        m2 = centred.square().sum(1)
    low = high = mean
    if extremes:
        low = (x if mask is None else x.masked_fill(~mask, float("inf"))).amin(1)
        high = (x if mask is None else x.masked_fill(~mask, float("-inf"))).amax(1)
    stacked = torch.stack([mean, m2, low, high]).cpu().numpy() if extremes else None
    if stacked is None:
        mean_m2 = torch.stack([mean, m2]).cpu().numpy()
        stacked = np.stack([mean_m2[0], mean_m2[1], mean_m2[0], mean_m2[0]])
    return Parts(
        count=np.asarray(n_valid, dtype=np.int64),
        mean=stacked[0],
        m2=stacked[1],
        low=stacked[2],
        high=stacked[3],
    )


def select(parts: Parts, rows: Sequence[int]) -> Parts:
    """The parts of some clips of a batch."""
    i = list(rows)
    return Parts(
        count=parts.count[i], mean=parts.mean[i], m2=parts.m2[i], low=parts.low[i], high=parts.high[i]
    )


def merge(windows: Sequence[Parts]) -> Parts:
    """Parts of one clip from those of its windows, each with batch size 1."""
    count = np.array([int(w.count[0]) for w in windows], dtype=np.float64)[:, None]
    means = np.stack([w.mean[0] for w in windows]).astype(np.float64)
    total = count.sum()
    mean = (count * means).sum(0) / total
    m2 = np.stack([w.m2[0] for w in windows]).astype(np.float64).sum(0) + (count * (means - mean) ** 2).sum(0)
    return Parts(
        count=np.array([int(total)]),
        mean=mean[None].astype(np.float32),
        m2=m2[None].astype(np.float32),
        low=np.min([w.low for w in windows], axis=0),
        high=np.max([w.high for w in windows], axis=0),
    )


def finish(parts: Parts, names: Sequence[str]) -> np.ndarray:
    """The functionals in the order asked for, float32 `[b, functionals, features]`.

    ``std`` is unbiased (n−1), as `torch.std`; of a single frame it is NaN.
    """
    n = parts.count[:, None].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "mean": parts.mean,
            "std": np.sqrt(parts.m2 / (n - 1)),
            "min": parts.low,
            "max": parts.high,
        }
    return np.stack([columns[name] for name in names], axis=1).astype(np.float32)
