"""Labels that were swapped on purpose are found; labels that are right are left alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from probes.codes import group_codes
from probes.geometry.aligned_rows import AlignedRows
from probes.geometry.nearest import nearest_of_other_groups, standardised
from probes.geometry.suspects import HARD, OTHER_CLASS, Votes, class_codes, judge, neighbour_votes, suspects

N_FEATURES = 32
SWAPPED_SHARE = 0.03


@dataclass(frozen=True)
class Planted:
    """Rows in classes, some of them labelled as another class."""

    values: np.ndarray
    rows: AlignedRows
    swapped: np.ndarray
    truth: np.ndarray
    classes: list[str]


def plant(shares: list[float], n: int = 2000, n_groups: int = 100, seed: int = 0) -> Planted:
    """Classes that are apart, with an offset for every group, of which 3 % of the labels are swapped."""
    rng = np.random.default_rng(seed)
    classes = [f"class-{c}" for c in range(len(shares))]
    y = rng.choice(len(shares), n, p=shares)
    group = rng.integers(0, n_groups, n)
    centre = 0.8 * rng.standard_normal((len(shares), N_FEATURES))
    offset = 0.5 * rng.standard_normal((n_groups, N_FEATURES))
    values = centre[y] + offset[group] + rng.standard_normal((n, N_FEATURES))
    swapped = rng.choice(n, round(SWAPPED_SHARE * n), replace=False)
    given = y.copy()
    given[swapped] = (y[swapped] + rng.integers(1, len(shares), len(swapped))) % len(shares)
    text = np.array([f"u{i:05d}" for i in range(n)], dtype=object)
    rows = AlignedRows(
        dataset="made",
        utterance_id=text,
        label=np.array(classes, dtype=object)[given],
        group=np.array([f"g{g}" for g in group], dtype=object),
        grouped_by="group",
        audio_hash=text,
        path=text,
        layers=(),
        functionals={},
        notes=(),
    )
    return Planted(values.astype(np.float32), rows, swapped, np.array(classes, dtype=object)[y], classes)


def by_neighbours(made: Planted, k: int = 10) -> Votes:
    barriers = [group_codes(made.rows.group), group_codes(made.rows.audio_hash)]
    near = nearest_of_other_groups(standardised(made.values), barriers, k)
    assert made.rows.label is not None
    return neighbour_votes(near, class_codes(made.rows.label, made.classes), barriers[0], len(made.classes))


def precision(table: pd.DataFrame, made: Planted, n: int = 50) -> float:
    """Share of the first n that were swapped."""
    names = set(made.rows.utterance_id[made.swapped])
    return float(table["utterance_id"].head(n).isin(names).mean())


@pytest.mark.parametrize(
    ("shares", "least"),
    [([0.2] * 5, 0.9), ([0.6, 0.25, 0.1, 0.05], 0.8)],
    ids=["equal classes", "unequal classes"],
)
def test_swapped_labels_stand_first(
    shares: list[float], least: float, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plant(shares)
    table = suspects(made.rows, made.classes, by_neighbours(made), None)[0]
    found = precision(table, made)
    with capsys.disabled():
        print(f"\nprecision at 50, {SWAPPED_SHARE:.0%} swapped, {len(shares)} classes: {found:.2f}")
    assert found >= least > 10 * SWAPPED_SHARE
    assert table["suspect_rank"].tolist() == list(range(1, len(table) + 1))
    # What they are suggested to be is what they were.
    first = table.head(50)
    at = pd.Index(made.rows.utterance_id).get_indexer(pd.Index(first["utterance_id"]))
    assert (first["suggested"].to_numpy() == made.truth[at]).mean() >= least


def test_answers_of_probes_find_them_too_and_both_agree() -> None:
    made = plant([0.25] * 4)
    assert made.rows.label is not None
    # Three answers each, by the nearest centre of a class, one in ten at random: as seeds of a probe.
    rng = np.random.default_rng(0)
    centre = np.stack([made.values[made.rows.label == c].mean(axis=0) for c in made.classes])
    best = ((made.values[:, None] - centre[None]) ** 2).sum(axis=2).argmin(axis=1)
    said = np.tile(best, 3)
    noisy = rng.random(len(said)) < 0.1
    said[noisy] = rng.integers(0, 4, int(noisy.sum()))
    answers = Votes.counted(np.tile(np.arange(len(best)), 3), said, len(best), 4)
    alone = suspects(made.rows, made.classes, None, answers)[0]
    both = suspects(made.rows, made.classes, by_neighbours(made), answers)[0]
    assert precision(alone, made) > 0.7
    assert precision(both, made) > 0.9
    assert both["all_agree"].head(50).mean() > 0.6
    assert alone["n_neighbours"].eq(0).all()
    assert alone["neighbours_label"].isna().all()


def test_right_labels_of_classes_apart_are_left_alone() -> None:
    made = plant([0.2] * 5)
    rows = AlignedRows(**{**vars(made.rows), "label": made.truth})
    right = Planted(made.values, rows, made.swapped, made.truth, made.classes)
    before = suspects(made.rows, made.classes, by_neighbours(made), None)[0]
    after = suspects(rows, made.classes, by_neighbours(right), None)[0]
    assert len(after) < len(before) - 0.8 * len(made.swapped)
    assert len(after) < 0.03 * len(rows)


def test_a_class_that_is_hard_throughout_does_not_fill_the_list() -> None:
    # "hard" gets 4 of 10 votes as a rule and "easy" the rest: nothing to suspect; one of them gets none.
    share = np.array([[0.95, 0.05]] * 50 + [[0.6, 0.4]] * 50 + [[1.0, 0.0]])
    y = np.array([0] * 50 + [1] * 51)
    found = judge([Votes(share=share, n=np.full(101, 10))], y)
    assert (found.kind[:100] == "").all()
    assert found.kind[100] == OTHER_CLASS
    assert found.suggested[100] == 0
    # None of the hard class has most votes for its label, all of the other have.
    assert (found.n, found.agreement) == (101, 0.5)
    usual = 50 * 0.4 / 51
    assert found.margin[100] == pytest.approx((1 - 0.95) - (0 - usual))


def test_hard_utterances_have_few_votes_for_their_label_and_for_any_other() -> None:
    share = np.array([[0.9, 0.05, 0.05]] * 20 + [[0.05, 0.9, 0.05]] * 20 + [[0.05, 0.05, 0.9]] * 20)
    share = np.concatenate([share, [[0.3, 0.4, 0.3]]])
    y = np.array([0] * 20 + [1] * 20 + [2] * 20 + [0])
    kind = judge([Votes(share=share, n=np.full(61, 10))], y).kind
    assert (kind[:60] == "").all()
    assert kind[60] == HARD


def test_utterances_without_votes_are_not_judged() -> None:
    share = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10 + [[0.0, 0.0]])
    found = judge([Votes(share=share, n=np.array([5] * 20 + [0]))], np.array([0] * 10 + [1] * 10 + [0]))
    assert (found.kind == "").all()
    assert (found.n, found.agreement) == (20, 1.0)


def test_where_the_label_is_the_group_neighbours_have_no_say() -> None:
    made = plant([0.5, 0.5], n=200)
    rows = AlignedRows(**{**vars(made.rows), "group": made.rows.label})
    alone = Planted(made.values, rows, made.swapped, made.truth, made.classes)
    assert by_neighbours(alone).n.sum() == 0
    table, judged = suspects(rows, made.classes, by_neighbours(alone), None)
    assert table.empty
    assert judged.n == 0
    assert np.isnan(judged.agreement)
