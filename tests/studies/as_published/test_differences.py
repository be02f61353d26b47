"""Each difference alone, on data where what it does is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from featurestore.errors import LabelError
from probes.metrics import uar
from probes.training.mlp import fit_mlps
from probes.training.mlp_config import MLPConfig
from probes.training.standardise import Standardiser
from studies.as_published.differences import (
    DIFFERENCES,
    SOUND,
    Clips,
    Outcome,
    Protocol,
    differences,
    with_previous_rows,
)

N, D, C = 240, 6, 3
SETTINGS = {"hidden": (16,), "batch_size": 16, "max_epochs": 12, "learning_rate": 0.01}


def clips(x: np.ndarray, y: np.ndarray, group: np.ndarray | None = None, **more: np.ndarray) -> Clips:
    names = np.arange(len(y)).astype(str) if group is None else group.astype(str)
    given = {"alone": x, "batched": x, "silent": np.zeros(len(y), dtype=bool)} | more
    return Clips(target=y, group=names.astype(object), **given)


def noise(seed: int, n: int = N, layers: int = 1, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, layers, d)).astype(np.float32), rng.integers(0, C, n)


def only(name: str, of: Clips, n_splits: int = 3, n_seeds: int = 1, **settings: object) -> Outcome:
    chosen = {name: Protocol(**{name: True})}
    return differences(of, chosen, n_splits=n_splits, n_seeds=n_seeds, settings=SETTINGS | settings)[name]


@pytest.mark.slow
def test_a_split_drawn_again_tests_what_was_trained_on() -> None:
    """Labels are noise: nothing can be learned, but what was seen can be remembered."""
    found = only("redrawn_split", clips(*noise(0, d=40)), n_splits=6, hidden=(64,), patience=30)
    assert found.trained_on == pytest.approx(0.7, abs=0.1)
    assert found.sound.mean() < 0.45
    assert found.difference > 0.1


@pytest.mark.slow
def test_b_features_are_those_of_the_batch() -> None:
    x, y = noise(1)
    found = only("batch_repeats", clips(x, y, batched=x + 4 * np.eye(D, dtype=np.float32)[y][:, None]))
    assert found.sound.mean() < 0.5
    assert found.uar.mean() > 0.95
    assert only("batch_repeats", clips(x, y)).difference == 0


def test_c_silent_clips_get_the_row_before() -> None:
    x = np.arange(5.0)
    silent = np.array([False, True, True, False, True])
    assert with_previous_rows(x, silent).tolist() == [0, 0, 0, 3, 3]
    x, y = noise(2)
    x = x + 4 * np.eye(D, dtype=np.float32)[y][:, None]
    many = np.arange(N) % 2 == 1  # half of the clips: their labels have nothing to do with the clip before
    x[many] = np.nan
    found = only("previous_row", clips(x, y, silent=many))
    assert found.sound.mean() > 0.9, "silent clips are left out"
    assert found.uar.mean() == pytest.approx(0.5 + 0.5 / C, abs=0.1)
    with pytest.raises(LabelError, match="first clip is silent"):
        only("previous_row", clips(x, y, silent=~many))


def test_d_the_last_epoch_is_the_one_a_plain_fit_ends_with() -> None:
    x, y = noise(3)
    x = x + 0.8 * np.eye(D, dtype=np.float32)[y][:, None]
    of = clips(x, y)
    found = only("last_epoch", of, n_splits=1, patience=3)
    from studies.as_published.differences import _Trial

    rows = _Trial(of, 0, 1, {}).parts(SOUND)
    scale = Standardiser.fit(x[rows["train"], 0])
    values = {name: scale(x[where, 0]) for name, where in rows.items()}
    for keep, got in (("best", found.sound), ("last", found.uar)):
        config = MLPConfig(**SETTINGS, patience=3, keep=keep)  # type: ignore[arg-type]
        (fit,) = fit_mlps(values["train"], y[rows["train"]], values["val"], y[rows["val"]], C, [config])
        assert got[0] == uar(y[rows["test"]], fit.logits(values["test"]).argmax(1))
    assert np.isnan(found.interval()).all(), "one split has no interval"


@pytest.mark.slow
def test_e_the_layer_that_test_prefers_is_never_worse() -> None:
    x, y = noise(4, layers=5)
    found = only("layer_by_test", clips(x, y), n_splits=5)
    assert (found.uar >= found.sound).all()
    assert found.difference > 0.02, "the best of five equal layers is better by chance"


def test_f_a_split_by_clip_knows_the_groups() -> None:
    """The features name the group, and the group has one class."""
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(24), N // 24)
    y = (np.arange(24) % C)[group]
    x = rng.standard_normal((24, 1, 30)).astype(np.float32)[group] * 3
    x = x + rng.standard_normal(x.shape).astype(np.float32)
    found = only("clip_split", clips(x, y, group), n_splits=4)
    assert found.sound.mean() < 0.7
    assert found.uar.mean() > 0.95


def test_the_command_line_does_not_come_here() -> None:
    """Rooms are held apart by import-linter, which does not look at `cli`."""
    assert "as_published" not in (Path(__file__).parents[3] / "cli.py").read_text(encoding="utf-8")


def test_what_is_switched_off_changes_nothing() -> None:
    x, y = noise(6, layers=2)
    (found,) = differences(clips(x, y), {"none": SOUND}, n_splits=2, n_seeds=2, settings=SETTINGS).values()
    assert found.difference == 0
    assert found.trained_on == 0
    switched = [p for p in DIFFERENCES.values() if sum(vars(p).values()) == 1]
    assert len(switched) == len(vars(SOUND)), "each can be switched on alone"


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    rng = np.random.default_rng(7)
    apart = rng.normal(0.02, 0.01, 6)
    found = Outcome(uar=0.5 + apart, sound=np.full(6, 0.5), trained_on=0.0, test_share=0.0)
    plain = stats.ttest_1samp(apart, 0).confidence_interval()
    assert found.interval() == pytest.approx((plain.low, plain.high))
    low, high = replace(found, test_share=1 / 7).interval()
    assert high - low == pytest.approx((plain.high - plain.low) * np.sqrt(1 + 6 / 7))
