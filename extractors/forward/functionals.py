"""Statistics over the valid frames of each clip, taken on the device as each layer is ready.

All but the quantiles come from mergeable parts (count, mean, sum of squared deviations, extremes, first and
last frame), so that a clip embedded in several windows gets the statistics of all its frames (Chan, Golub &
LeVeque 1983). Quantiles need the frames themselves: `frame_quantiles` takes those of a clip in windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurestore.errors import ConfigError

if TYPE_CHECKING:
    import torch

FUNCTIONALS = ("mean", "std", "min", "max", "median", "first", "last")
DEFAULT_FUNCTIONALS = ("mean", "std")
# q05 is the 0.05 quantile; median and q50 are the same number.
QUANTILES = {"median": 0.5} | {f"q{percent:02d}": percent / 100 for percent in range(1, 100)}
# Numbers that are sorted at once where frames of a long clip lie in a file.
_SORTED_AT_ONCE = 1 << 25


def parse_functionals(text: str) -> tuple[str, ...]:
    """``"mean,std"`` → ``("mean", "std")``.

    Raises:
        ConfigError: an unknown or repeated name, or none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [n for n in names if n not in FUNCTIONALS and n not in QUANTILES]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"{unknown[0]!r}" if unknown else f"{text!r}"
        raise ConfigError(
            f"functionals: expected distinct names of {', '.join(FUNCTIONALS)} and quantiles q01 to q99, "
            f"got {problem}"
        )
    return names


def quantile_names(names: Sequence[str]) -> list[str]:
    """Those of `names` that are quantiles."""
    return [n for n in names if n in QUANTILES]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Statistics of a batch.

    Attributes:
        count: valid frames `[b]`.
        values: by name, float32 `[b, features]`: ``mean``, ``m2`` (sum of squared deviations), and of
            ``min, max, first, last`` and the quantiles those that were asked for.
    """

    count: np.ndarray
    values: dict[str, np.ndarray]


def reduce_frames(
    frames: torch.Tensor, n_valid: Sequence[int], names: Sequence[str], first: Sequence[int] | None = None
) -> Parts:
    """Statistics over frames ``first[i]`` up to, not including, ``n_valid[i]`` of clip i.

    Args:
        frames: `[b, t, features]`; other frames may hold anything, NaN included.
        n_valid: end of the valid frames of each clip.
        names: the functionals that will be asked of the result; others are not computed.
        first: first valid frame of each clip, below its end; default 0.
    """
    import torch

    x = frames.float()
    time = x.shape[1]
    starts = list(first) if first is not None else [0] * len(x)
    counts = [stop - start for start, stop in zip(starts, n_valid, strict=True)]
    count = torch.tensor(counts, device=x.device)
    mask = None
    if min(counts) < time:  # known here: the device need not be waited for
        begin = torch.tensor(starts, device=x.device)[:, None]
        steps = torch.arange(time, device=x.device)
        mask = ((steps >= begin) & (steps < begin + count[:, None]))[:, :, None]
        x = x.masked_fill(~mask, 0.0)
    n = count[:, None].float()
    mean = x.sum(1) / n
    found = {"mean": mean}
    if "std" in names:
        # Two passes: the one-pass formula loses digits where the mean is large against the spread.
        centred = x - mean[:, None, :]
        if mask is not None:
            centred = centred.masked_fill(~mask, 0.0)
        found["m2"] = centred.square().sum(1)
    if "min" in names:
        found["min"] = (x if mask is None else x.masked_fill(~mask, math.inf)).amin(1)
    if "max" in names:
        found["max"] = (x if mask is None else x.masked_fill(~mask, -math.inf)).amax(1)
    rows = torch.arange(len(x), device=x.device)
    if "first" in names:
        found["first"] = x[rows, torch.tensor(starts, device=x.device)]
    if "last" in names:
        found["last"] = x[rows, torch.tensor([n - 1 for n in n_valid], device=x.device)]
    quantiles = quantile_names(names)
    if quantiles:
        # Padding sorts behind every frame; NaN would too, so a clip that holds one gets NaN as for the mean.
        ordered = (x if mask is None else x.masked_fill(~mask, math.inf)).sort(dim=1).values
        unknown = mean.isnan()
        for name in quantiles:
            found[name] = _at_quantile(ordered, count, name).masked_fill(unknown, math.nan)
    stacked = torch.stack(list(found.values())).cpu().numpy()
    return Parts(count=np.array(counts, dtype=np.int64), values=dict(zip(found, stacked, strict=True)))


def _at_quantile(ordered: torch.Tensor, count: torch.Tensor, name: str) -> torch.Tensor:
    """Linear between the two nearest of `ordered` `[b, t, features]`, as `numpy.quantile` does by default."""
    import torch

    place = (count.double() - 1) * QUANTILES[name]
    below = place.floor().long()
    above = torch.minimum(below + 1, count - 1)
    rows = torch.arange(len(ordered), device=ordered.device)
    low, high = ordered[rows, below], ordered[rows, above]
    weight = (place - below).to(ordered.dtype)[:, None]
    # Equal ends first: infinity minus itself is no number.
    return torch.where(low == high, low, torch.lerp(low, high, weight))


def select(parts: Parts, rows: Sequence[int]) -> Parts:
    """The parts of some clips of a batch."""
    i = list(rows)
    return Parts(count=parts.count[i], values={name: v[i] for name, v in parts.values.items()})


def merge(windows: Sequence[Parts]) -> Parts:
    """Parts of one clip from those of its windows in order, each with batch size 1; without quantiles."""
    count = np.array([int(w.count[0]) for w in windows], dtype=np.float64)[:, None]
    means = np.stack([w.values["mean"][0] for w in windows]).astype(np.float64)
    total = count.sum()
    mean = (count * means).sum(0) / total
    merged = {"mean": mean[None].astype(np.float32)}
    known = windows[0].values
    if "m2" in known:
        within = np.stack([w.values["m2"][0] for w in windows]).astype(np.float64).sum(0)
        m2 = within + (count * (means - mean) ** 2).sum(0)
        merged["m2"] = m2[None].astype(np.float32)
    joined = {
        "min": lambda values: np.min(values, axis=0),
        "max": lambda values: np.max(values, axis=0),
        "first": lambda values: values[0],
        "last": lambda values: values[-1],
    }
    for name in joined.keys() & known.keys():
        merged[name] = joined[name]([w.values[name] for w in windows])
    return Parts(count=np.array([int(total)]), values=merged)


def frame_quantiles(frames: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Quantiles over all frames `[t, features]` of one clip by name, float32 `[1, features]`."""
    quantiles = quantile_names(names)
    levels = [QUANTILES[n] for n in quantiles]
    found = np.empty((len(quantiles), frames.shape[1]), dtype=np.float32)
    step = max(1, _SORTED_AT_ONCE // len(frames))
    for start in range(0, frames.shape[1], step):
        block = np.asarray(frames[:, start : start + step])
        found[:, start : start + step] = np.quantile(block, levels, axis=0)
    return {name: found[i : i + 1] for i, name in enumerate(quantiles)}


def finish(parts: Parts, names: Sequence[str]) -> np.ndarray:
    """The functionals in the order asked for, float32 `[b, functionals, features]`.

    ``std`` is unbiased (n−1), as `torch.std`; of a single frame it is NaN.
    """

    def column(name: str) -> np.ndarray:
        if name != "std":
            return parts.values[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(parts.values["m2"] / (parts.count[:, None].astype(np.float32) - 1))

    return np.stack([column(name) for name in names], axis=1).astype(np.float32)
