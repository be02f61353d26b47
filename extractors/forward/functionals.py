"""Statistics over the valid frames of each clip, taken on the device as each layer is ready.

All but the quantiles come from mergeable parts (count, mean, sum of squared deviations, extremes, first and
last frame), so that a clip embedded in several windows gets the statistics of all its frames (Chan, Golub &
LeVeque 1983). Quantiles need the frames themselves: `frame_quantiles` takes those of a clip in windows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from extractors.forward.moments import joined, moments, moments_on_device
from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError

if TYPE_CHECKING:
    import torch

FUNCTIONALS = ("mean", "std", "min", "max", "median", "first", "last")
DEFAULT_FUNCTIONALS = ("mean", "std")
# q05 is the 0.05 quantile; median and q50 are the same number.
QUANTILES = {"median": 0.5} | {f"q{percent:02d}": percent / 100 for percent in range(1, 100)}
# Numbers that are sorted at once where frames of a long clip lie in a file.
_SORTED_AT_ONCE = 1 << 25

# One value from those of a clip's windows in order, `[windows, features]`.
_JOINTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "min": lambda values: values.min(0),
    "max": lambda values: values.max(0),
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}


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
        values: by name, `[b, features]`: ``mean`` in float64, ``m2`` (sum of squared deviations) in
            float32, or float64 where it was joined or is from a device, and of ``min, max, first, last`` and
            the quantiles those that were asked for.
    """

    count: IntArray
    values: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class QueuedParts:
    """`Parts` that a device may still be at work on; `send` has them come.

    Attributes:
        count: valid frames `[b]`.
        values: as of `Parts`, on the device of the frames.
    """

    count: IntArray
    values: dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Statistics of the layers of one batch, on their way to the host.

    Attributes:
        layers: one after the other.
        host: values of all layers in float64 `[layers, names, b, features]`, whole once `arrived`; None where
            they were on the host from the start.
        arrived: told by the device, after everything of the batch that was queued before; None where there
            is nothing to wait for.
    """

    layers: Sequence[Parts | QueuedParts]
    host: torch.Tensor | None = None
    arrived: torch.cuda.Event | None = None

    def wait(self) -> list[Parts]:
        """The statistics of each layer, once all of them are here."""
        if self.arrived is not None:
            self.arrived.synchronize()
        if self.host is None:
            return [parts for parts in self.layers if isinstance(parts, Parts)]
        return [
            Parts(count=parts.count, values=dict(zip(parts.values, values, strict=True)))
            for parts, values in zip(self.layers, self.host.numpy(), strict=True)
        ]


def reduce_frames(
    frames: torch.Tensor, n_valid: Sequence[int], names: Sequence[str], first: Sequence[int] | None = None
) -> Parts | QueuedParts:
    """Statistics over frames ``first[i]`` up to, not including, ``n_valid[i]`` of clip i.

    On a CPU only frames that count are read, a run of clips with the same bounds at a time, as neighbours of
    a sorted batch mostly have, and no masked copy is made. On other devices all clips go together, and
    nothing waits for the device: see `send`.

    Args:
        frames: `[b, t, features]`; other frames may hold anything, NaN included.
        n_valid: end of the valid frames of each clip.
        names: the functionals that will be asked of the result; others are not computed.
        first: first valid frame of each clip, below its end; default 0.
    """
    starts = tuple(first) if first is not None else (0,) * len(n_valid)
    if frames.device.type != "cpu":
        sent_bounds = _Bounds.of(starts, tuple(n_valid), frames.shape[1], frames.device)
        count = np.array(n_valid, dtype=np.int64) - np.array(starts, dtype=np.int64)
        return QueuedParts(count=count, values=_of_batch(frames, sent_bounds, names))
    count, alike = _runs(starts, tuple(n_valid))
    runs = [_of_run(_as_float32(frames, *where), names) for where in alike]
    if len(runs) == 1:
        return Parts(count=count, values=runs[0])
    return Parts(count=count, values={name: np.concatenate([run[name] for run in runs]) for name in runs[0]})


@lru_cache(maxsize=4)
def _runs(starts: tuple[int, ...], stops: tuple[int, ...]) -> tuple[IntArray, list[tuple[slice, slice]]]:
    """Frames of each clip, and runs of clips with the same bounds, as clips and steps: once for all."""
    count = np.array(stops, dtype=np.int64) - np.array(starts, dtype=np.int64)
    count.setflags(write=False)
    bounds = list(zip(starts, stops, strict=True))
    groups = (list(group) for _, group in itertools.groupby(range(len(bounds)), bounds.__getitem__))
    return count, [(slice(group[0], group[-1] + 1), slice(*bounds[group[0]])) for group in groups]


def _as_float32(frames: torch.Tensor, clips: slice, steps: slice) -> FloatArray:
    """Some frames of some clips on the CPU; of float32 the frames themselves."""
    import torch

    frames = frames.detach()
    if frames.dtype == torch.float32:
        return frames.numpy()[clips, steps]
    return frames[clips, steps].float().numpy()


def send(layers: Sequence[Parts | QueuedParts]) -> Transfer:
    """Send the statistics of layers of one batch to the host: from a device all of them in one copy."""
    import torch

    from extractors.models.torch_tools import queue_end, queued_copy

    queued = [parts for parts in layers if isinstance(parts, QueuedParts)]
    if not queued:
        return Transfer(layers=layers)
    # layers → [layers, names, b, features]
    stacked = torch.stack([torch.stack([v.double() for v in parts.values.values()]) for parts in queued])
    return Transfer(layers=queued, host=queued_copy(stacked), arrived=queue_end(stacked.device))


def fetch(layers: Sequence[Parts | QueuedParts]) -> list[Parts]:
    """The statistics of layers of one batch, waited for once."""
    return send(layers).wait()


def _of_run(frames: FloatArray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """By name, statistics `[b, features]` of clips `[b, t, features]` whose frames all count."""
    mean, m2 = moments(frames)
    found: dict[str, np.ndarray] = {"mean": mean}
    if "std" in names:
        found["m2"] = m2
    if "min" in names:
        found["min"] = frames.min(axis=1)
    if "max" in names:
        found["max"] = frames.max(axis=1)
    if "first" in names:
        found["first"] = frames[:, 0].copy()  # and not a view that keeps the hidden state alive
    if "last" in names:
        found["last"] = frames[:, -1].copy()
    if quantile_names(names):
        import torch

        ordered = torch.from_numpy(frames).sort(dim=1).values
        quantiles = _quantiles(ordered, torch.full((len(frames),), frames.shape[1]), names)
        found |= {name: values.numpy() for name, values in quantiles.items()}
    return found


@dataclass(frozen=True)
class _Bounds:
    """Which frames of a batch count, on its device: the same for all layers, so it is sent there once.

    Attributes:
        rows, first, last: `[b]`, to index a clip's first and last valid frame with.
        count: valid frames `[b]`.
        padding: True where a frame does not count, `[b, t, 1]`; None where all do.
    """

    rows: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    count: torch.Tensor
    padding: torch.Tensor | None

    @staticmethod
    @lru_cache(maxsize=4)
    def of(starts: tuple[int, ...], stops: tuple[int, ...], time: int, device: torch.device) -> _Bounds:
        import torch

        from extractors.models.torch_tools import sent

        ends = sent(np.array([starts, stops]), device)
        first, stop = ends[0], ends[1]
        padding = None
        if min(stops) < time or max(starts) > 0:  # known here: the device need not be waited for
            steps = torch.arange(time, device=device)
            padding = ((steps < first[:, None]) | (steps >= stop[:, None]))[:, :, None]
        rows = torch.arange(len(starts), device=device)
        return _Bounds(rows, first, stop - 1, stop - first, padding)


def _of_batch(x: torch.Tensor, bounds: _Bounds, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """By name, statistics `[b, features]` of clips `[b, t, features]` of any lengths."""
    padding = bounds.padding

    def filled(value: float) -> torch.Tensor:
        return x if padding is None else x.masked_fill(padding, value)

    begin = x[bounds.rows, bounds.first].float()
    mean, m2 = moments_on_device(x, begin, bounds.count[:, None].float(), padding)
    found = {"mean": mean}
    if "std" in names:
        found["m2"] = m2
    if "min" in names:
        found["min"] = filled(math.inf).amin(1)
    if "max" in names:
        found["max"] = filled(-math.inf).amax(1)
    if "first" in names:
        found["first"] = begin
    if "last" in names:
        found["last"] = x[bounds.rows, bounds.last]
    if quantile_names(names):
        # Padding sorts behind every frame.
        ordered = filled(math.inf).float().sort(dim=1).values
        found |= _quantiles(ordered, bounds.count, names)
    return found


def _quantiles(ordered: torch.Tensor, count: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """By name, quantiles `[b, features]` of `ordered` `[b, t, features]`; NaN where one of the frames is."""
    unknown = ordered[:, -1].isnan()  # it sorts behind everything, padding too
    return {
        name: _at_quantile(ordered, count, name).masked_fill(unknown, math.nan)
        for name in quantile_names(names)
    }


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
    if i == list(range(len(parts.count))):
        return parts
    return Parts(count=parts.count[i], values={name: v[i] for name, v in parts.values.items()})


def merge(windows: Sequence[Parts]) -> Parts:
    """Parts of one clip from those of its windows in order, each with batch size 1; without quantiles."""
    count = np.array([int(w.count[0]) for w in windows])
    known = windows[0].values
    stacked = {name: np.stack([w.values[name] for w in windows]) for name in known if name not in QUANTILES}
    mean, m2 = joined(count, stacked["mean"], stacked.get("m2", np.zeros_like(stacked["mean"])))
    merged = {"mean": mean}
    if "m2" in known:
        merged["m2"] = m2
    for name, joint in _JOINTS.items():
        if name in stacked:
            merged[name] = joint(stacked[name])
    return Parts(count=count.sum(keepdims=True), values=merged)


def frame_quantiles(frames: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Quantiles over all frames `[t, features]` of one clip by name, float64 `[1, features]`."""
    quantiles = quantile_names(names)
    levels = [QUANTILES[n] for n in quantiles]
    found = np.empty((len(quantiles), frames.shape[1]))
    step = max(1, _SORTED_AT_ONCE // len(frames))
    for start in range(0, frames.shape[1], step):
        block = np.asarray(frames[:, start : start + step])
        found[:, start : start + step] = np.quantile(block, levels, axis=0)
    return {name: found[i : i + 1] for i, name in enumerate(quantiles)}


def finish(parts: Parts, names: Sequence[str], out: FloatArray | None = None) -> FloatArray:
    """The functionals in the order asked for, float32 `[b, functionals, features]`, in `out` where given.

    ``std`` is unbiased (n−1), as `torch.std`; of a single frame it is NaN.
    """
    if out is None:
        out = np.empty((len(parts.count), len(names), parts.values["mean"].shape[1]), dtype=np.float32)
    # Beyond float32 is infinite, which is refused when the unit is written.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i, name in enumerate(names):
            if name == "std":
                # In float32 whatever it came in: a clip's bits are its own, and the last is rounded anyhow.
                m2 = parts.values["m2"].astype(np.float32, copy=False)
                variance = m2 / (parts.count - 1).astype(np.float32)[:, None]
                np.sqrt(variance, out=out[:, i])
            else:
                out[:, i] = parts.values[name]
    return out
