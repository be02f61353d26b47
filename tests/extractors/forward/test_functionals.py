from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from extractors.forward.functionals import (
    Parts,
    QueuedParts,
    _Bounds,
    _of_batch,
    fetch,
    finish,
    frame_quantiles,
    merge,
    parse_functionals,
    reduce_frames,
    select,
)
from featurestore.errors import ConfigError

FRAMES = torch.from_numpy(np.random.default_rng(0).normal(50, 2, (4, 30, 8)).astype(np.float32))
N_VALID = [30, 17, 2, 30]
WAYS = ("cpu", "device")
ALL = ("mean", "std", "min", "max", "median", "first", "last", "q05", "q25", "q75", "q95", "q99")


def reduced(
    frames: torch.Tensor,
    n_valid: Sequence[int],
    names: Sequence[str],
    first: Sequence[int] | None = None,
    *,
    way: str = "cpu",
) -> Parts:
    """As a CPU takes them, or as another device does."""
    if way == "cpu":
        queued = reduce_frames(frames, n_valid, names, first)
    else:
        starts = [0] * len(frames) if first is None else first
        bounds = _Bounds.of(tuple(starts), tuple(n_valid), frames.shape[1], frames.device)
        count = np.array([b - a for a, b in zip(starts, n_valid, strict=True)])
        queued = QueuedParts(count=count, values=_of_batch(frames, bounds, names))
    return fetch([queued])[0]


def expected(frames: torch.Tensor) -> np.ndarray:
    x = frames.numpy().astype(np.float64)
    return np.stack(
        [
            x.mean(0),
            x.std(0, ddof=1),
            x.min(0),
            x.max(0),
            np.median(x, axis=0),
            x[0],
            x[-1],
            *np.quantile(x, [0.05, 0.25, 0.75, 0.95, 0.99], axis=0),
        ]
    )


@pytest.mark.parametrize("way", WAYS)
def test_functionals_see_valid_frames_only(way: str) -> None:
    frames = FRAMES.clone()
    for i, n in enumerate(N_VALID):
        frames[i, n:] = float("nan")
    got = finish(reduced(frames, N_VALID, ALL, way=way), ALL)
    for i, n in enumerate(N_VALID):
        np.testing.assert_allclose(got[i], expected(FRAMES[i, :n]), rtol=2e-6)


def test_order_is_the_one_asked_for() -> None:
    names = ("max", "mean")
    got = finish(reduced(FRAMES, [30] * 4, names), names)
    np.testing.assert_array_equal(got[:, 0], FRAMES.amax(1).numpy())
    np.testing.assert_allclose(got[:, 1], FRAMES.mean(1).numpy(), rtol=1e-6)


@pytest.mark.parametrize("cuts", [(0, 10, 30), (0, 1, 2, 30)])
def test_windows_merge_to_the_statistics_of_all_frames(cuts: tuple[int, ...]) -> None:
    clip = FRAMES[:1]
    windows = [reduced(clip[:, a:b], [b - a], ALL) for a, b in itertools.pairwise(cuts)]
    joined = merge(windows)
    joined.values.update(frame_quantiles(clip[0].numpy(), ALL))
    np.testing.assert_allclose(finish(joined, ALL)[0], expected(clip[0]), rtol=2e-6)


@pytest.mark.parametrize("way", WAYS)
def test_frames_before_the_first_one_asked_for_do_not_count(way: str) -> None:
    frames = FRAMES.clone()
    first = [3, 0, 1, 29]
    for i, (a, b) in enumerate(zip(first, N_VALID, strict=True)):
        frames[i, :a] = frames[i, b:] = float("nan")
    names = tuple(n for n in ALL if n != "std")  # one frame has none
    parts = reduced(frames, N_VALID, names, first, way=way)
    assert parts.count.tolist() == [27, 17, 1, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = [expected(FRAMES[i, a:b]) for i, (a, b) in enumerate(zip(first[:2], N_VALID, strict=False))]
    keep = [i for i, n in enumerate(ALL) if n != "std"]
    for got, want in zip(finish(parts, names), wanted, strict=False):
        np.testing.assert_allclose(got, want[keep], rtol=2e-6)
    np.testing.assert_array_equal(finish(parts, names)[3], np.stack([FRAMES[3, 29].numpy()] * len(names)))


@pytest.mark.parametrize("way", WAYS)
def test_a_clip_that_holds_a_frame_without_a_value_has_no_quantiles(way: str) -> None:
    frames = FRAMES.clone()
    frames[0, 4, 2] = float("nan")
    got = finish(reduced(frames, N_VALID, ("median",), way=way), ("median",))
    assert np.argwhere(np.isnan(got)).tolist() == [[0, 0, 2]]


def test_selecting_clips_keeps_their_values() -> None:
    parts = reduced(FRAMES, N_VALID, ALL)
    np.testing.assert_array_equal(finish(select(parts, [2, 0]), ALL), finish(parts, ALL)[[2, 0]])


def test_the_std_of_one_frame_is_undefined() -> None:
    assert np.isnan(finish(reduced(FRAMES[:1, :1], [1], ("std",)), ("std",))).all()


@pytest.mark.parametrize("text", ["", "mean,mean", "mean,variance", "q00", "q5", "q100"])
def test_unknown_or_repeated_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected distinct names of mean, std"):
        parse_functionals(text)


def spread_about(offset: float, n_frames: int, *, outlier: float = 0.0, seed: int = 1) -> torch.Tensor:
    """Frames `[3, n, 8]` of spread 1, the first of every clip further off by `outlier`."""
    x = np.random.default_rng(seed).normal(offset, 1, (3, n_frames, 8))
    x[:, 0] += outlier
    return torch.from_numpy(x.astype(np.float32))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_frames", [2, 15, 128, 129, 1499])
@pytest.mark.parametrize(("offset", "outlier"), [(0.0, 0.0), (1e4, 0.0), (-1e4, 1000.0), (3.0, 1000.0)])
def test_large_offsets_cost_no_digits(offset: float, outlier: float, n_frames: int, way: str) -> None:
    frames = spread_about(offset, n_frames, outlier=outlier)
    got = finish(reduced(frames, [n_frames] * 3, ("mean", "std"), way=way), ("mean", "std"))
    x = frames.numpy().astype(np.float64)
    mean, std = x.mean(1), x.std(1, ddof=1)
    assert (np.abs(got[:, 1] - std) <= 1e-6 * std).all()
    # The mean is kept in float32: half of its last digit more.
    assert (np.abs(got[:, 0] - mean) <= 1e-6 * std + np.spacing(np.abs(mean).astype(np.float32)) / 2).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_frames", [2, 15, 127, 128, 129, 1499])
def test_the_std_of_a_constant_is_zero(n_frames: int, way: str) -> None:
    constants = torch.tensor([0.0, 0.1, -7.3, 1e4 + 1 / 3, 1e-15, 3e15])
    frames = constants.expand(2, n_frames, -1).contiguous()
    got = finish(
        reduced(frames, [n_frames, max(2, n_frames // 2)], ("mean", "std"), way=way), ("mean", "std")
    )
    assert (got[:, 1] == 0).all()
    np.testing.assert_array_equal(got[:, 0], constants.expand(2, -1).numpy())


@pytest.mark.parametrize("way", WAYS)
def test_windows_far_from_zero_merge_to_the_spread_of_all_frames(way: str) -> None:
    frames = spread_about(1e4, 400)[:1]
    windows = [reduced(frames[:, a : a + 100], [100], ("mean", "std"), way=way) for a in range(0, 400, 100)]
    got = finish(merge(windows), ("mean", "std"))[0]
    x = frames[0].numpy().astype(np.float64)
    np.testing.assert_allclose(got[1], x.std(0, ddof=1), rtol=1e-6)
    np.testing.assert_array_equal(got[0], x.mean(0).astype(np.float32))


def test_neighbours_change_no_bit() -> None:
    frames = torch.cat([spread_about(50, 200, seed=i) for i in range(9)])
    n_valid = [200, 200, 3, 17, 17, 17, 130, 200, 2] * 3
    first = [0, 10, 0, 3, 3, 0, 1, 199 - 1, 0] * 3
    together = finish(reduced(frames, n_valid, ALL, first), ALL)
    for i, (a, b) in enumerate(zip(first, n_valid, strict=True)):
        np.testing.assert_array_equal(
            together[i], finish(reduced(frames[i : i + 1, a:b], [b - a], ALL), ALL)[0]
        )


@pytest.mark.parametrize("way", WAYS)
def test_arithmetic_of_the_forward_pass_does_not_reach_the_statistics(way: str) -> None:
    halves = (FRAMES / 100).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = finish(reduced(FRAMES, N_VALID, ALL, way=way), ALL)
        of_halves = finish(reduced(halves, N_VALID, ALL, way=way), ALL)
    for i, n in enumerate(N_VALID):
        np.testing.assert_allclose(got[i], expected(FRAMES[i, :n]), rtol=2e-6)
        np.testing.assert_allclose(of_halves[i], expected(halves[i, :n].float()), rtol=2e-6, atol=1e-7)


def test_layers_of_a_device_are_fetched_together() -> None:
    bounds = _Bounds.of((0,) * 4, tuple(N_VALID), 30, FRAMES.device)
    count = np.array(N_VALID)
    layers = [QueuedParts(count=count, values=_of_batch(FRAMES * k, bounds, ALL)) for k in (1, 2, 3)]
    for k, found in zip((1, 2, 3), fetch(layers), strict=True):
        alone = reduced(FRAMES * k, N_VALID, ALL)
        np.testing.assert_allclose(finish(found, ALL), finish(alone, ALL), rtol=2e-6)
        np.testing.assert_array_equal(found.count, alone.count)
