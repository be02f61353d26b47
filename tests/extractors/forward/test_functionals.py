from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from extractors.forward.functionals import (
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
ALL = ("mean", "std", "min", "max", "median", "first", "last", "q05", "q25", "q75", "q95", "q99")


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


def test_functionals_see_valid_frames_only() -> None:
    frames = FRAMES.clone()
    for i, n in enumerate(N_VALID):
        frames[i, n:] = float("nan")
    got = finish(reduce_frames(frames, N_VALID, ALL), ALL)
    for i, n in enumerate(N_VALID):
        np.testing.assert_allclose(got[i], expected(FRAMES[i, :n]), rtol=2e-6)


def test_order_is_the_one_asked_for() -> None:
    names = ("max", "mean")
    got = finish(reduce_frames(FRAMES, [30] * 4, names), names)
    np.testing.assert_array_equal(got[:, 0], FRAMES.amax(1).numpy())
    np.testing.assert_allclose(got[:, 1], FRAMES.mean(1).numpy(), rtol=1e-6)


@pytest.mark.parametrize("cuts", [(0, 10, 30), (0, 1, 2, 30)])
def test_windows_merge_to_the_statistics_of_all_frames(cuts: tuple[int, ...]) -> None:
    clip = FRAMES[:1]
    windows = [reduce_frames(clip[:, a:b], [b - a], ALL) for a, b in itertools.pairwise(cuts)]
    joined = merge(windows)
    joined.values.update(frame_quantiles(clip[0].numpy(), ALL))
    np.testing.assert_allclose(finish(joined, ALL)[0], expected(clip[0]), rtol=2e-6)


def test_frames_before_the_first_one_asked_for_do_not_count() -> None:
    frames = FRAMES.clone()
    first = [3, 0, 1, 29]
    for i, (a, b) in enumerate(zip(first, N_VALID, strict=True)):
        frames[i, :a] = frames[i, b:] = float("nan")
    names = tuple(n for n in ALL if n != "std")  # one frame has none
    parts = reduce_frames(frames, N_VALID, names, first)
    assert parts.count.tolist() == [27, 17, 1, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = [expected(FRAMES[i, a:b]) for i, (a, b) in enumerate(zip(first[:2], N_VALID, strict=False))]
    keep = [i for i, n in enumerate(ALL) if n != "std"]
    for got, want in zip(finish(parts, names), wanted, strict=False):
        np.testing.assert_allclose(got, want[keep], rtol=2e-6)
    np.testing.assert_array_equal(finish(parts, names)[3], np.stack([FRAMES[3, 29].numpy()] * len(names)))


def test_a_clip_that_holds_a_frame_without_a_value_has_no_quantiles() -> None:
    frames = FRAMES.clone()
    frames[0, 4, 2] = float("nan")
    got = finish(reduce_frames(frames, N_VALID, ("median",)), ("median",))
    assert np.argwhere(np.isnan(got)).tolist() == [[0, 0, 2]]


def test_selecting_clips_keeps_their_values() -> None:
    parts = reduce_frames(FRAMES, N_VALID, ALL)
    np.testing.assert_array_equal(finish(select(parts, [2, 0]), ALL), finish(parts, ALL)[[2, 0]])


def test_the_std_of_one_frame_is_undefined() -> None:
    assert np.isnan(finish(reduce_frames(FRAMES[:1, :1], [1], ("std",)), ("std",))).all()


@pytest.mark.parametrize("text", ["", "mean,mean", "mean,variance", "q00", "q5", "q100"])
def test_unknown_or_repeated_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected distinct names of mean, std"):
        parse_functionals(text)
