from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from extractors.functionals import FUNCTIONALS, finish, merge, parse_functionals, reduce_frames, select
from featurestore.errors import ConfigError

FRAMES = torch.from_numpy(np.random.default_rng(0).normal(50, 2, (4, 30, 8)).astype(np.float32))
N_VALID = [30, 17, 2, 30]


def expected(frames: torch.Tensor) -> np.ndarray:
    return torch.stack([frames.mean(0), frames.std(0), frames.amin(0), frames.amax(0)]).numpy()


def test_functionals_see_valid_frames_only() -> None:
    frames = FRAMES.clone()
    for i, n in enumerate(N_VALID):
        frames[i, n:] = float("nan")
    got = finish(reduce_frames(frames, N_VALID, FUNCTIONALS), FUNCTIONALS)
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
    windows = [reduce_frames(clip[:, a:b], [b - a], FUNCTIONALS) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_allclose(finish(merge(windows), FUNCTIONALS)[0], expected(clip[0]), rtol=2e-6)


def test_selecting_clips_keeps_their_values() -> None:
    parts = reduce_frames(FRAMES, N_VALID, FUNCTIONALS)
    np.testing.assert_array_equal(
        finish(select(parts, [2, 0]), FUNCTIONALS), finish(parts, FUNCTIONALS)[[2, 0]]
    )


def test_the_std_of_one_frame_is_undefined() -> None:
    assert np.isnan(finish(reduce_frames(FRAMES[:1, :1], [1], ("std",)), ("std",))).all()


@pytest.mark.parametrize("text", ["", "mean,mean", "mean,variance"])
def test_unknown_or_repeated_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected distinct names of mean, std"):
        parse_functionals(text)
