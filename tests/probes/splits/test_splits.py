"""Splits: disjoint, complete, by group, the same on every machine and in every order of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError, LabelError
from probes.splits import Rows, Split, default_split, make_splits, sarkar2025
from probes.splits.grouping import _best_cut, cut_groups


def rows_of(labels: list[str], groups: list[str] | None = None, part: list[str] | None = None) -> Rows:
    n = len(labels)
    return Rows(
        utterance_id=np.array([f"u{i:04d}" for i in range(n)], dtype=object),
        label=np.array(labels, dtype=object),
        group=np.array(groups or [""] * n, dtype=object),
        part=np.array(part or [""] * n, dtype=object),
    )


def reorder(rows: Rows, order: np.ndarray) -> Rows:
    return Rows(
        utterance_id=rows.utterance_id[order],
        label=rows.label[order],
        group=rows.group[order],
        part=rows.part[order],
    )


def ids(rows: Rows, split: Split) -> dict[str, set[str]]:
    return {name: set(rows.utterance_id[where]) for name, where in split.parts()}


tables = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("uvwxyz")), min_size=30, max_size=120)


@given(tables, st.integers(0, 5), st.randoms(use_true_random=False))
def test_random_covers_all_rows_once_in_any_order(table, seed, random) -> None:
    labels = [a for a, _ in table] + ["a", "a", "a", "b", "b", "b"]
    rows = rows_of(labels)
    (split,) = make_splits("random", rows, seed)
    together = np.concatenate([where for _, where in split.parts()])
    assert sorted(together) == list(range(len(rows)))
    order = list(range(len(rows)))
    random.shuffle(order)
    other = reorder(rows, np.array(order))
    (again,) = make_splits("random", other, seed)
    assert ids(rows, split) == ids(other, again)
    for label in set(labels):
        n = labels.count(label)
        counts = [sum(rows.label[where] == label) for _, where in split.parts()]
        assert counts[0] >= 1
        if n >= 3:
            assert min(counts) >= 1
        if n >= 10:
            assert np.allclose(np.array(counts) / n, (0.7, 0.2, 0.1), atol=1 / n + 1e-9)


@given(tables, st.integers(0, 3))
def test_groups_never_straddle(table, seed) -> None:
    labels, groups = [a for a, _ in table], [g for _, g in table]
    rows = rows_of(labels, groups)
    try:
        (split,) = make_splits("group", rows, seed)
    except LabelError:
        return  # too few groups, or a class that only one group has
    sets = [set(rows.group[where]) for _, where in split.parts()]
    assert all(sets)
    assert sum(map(len, sets)) == len(set(groups))
    assert sorted(np.concatenate([w for _, w in split.parts()])) == list(range(len(rows)))
    order = np.random.default_rng(0).permutation(len(rows))
    other = reorder(rows, order)
    assert ids(rows, split) == ids(other, make_splits("group", other, seed)[0])


def test_group_prefers_complete_training_classes_to_shares() -> None:
    # Class "rare" is in the group "big" only, which alone is 60 % of the rows.
    labels, groups = [], []
    for g in range(8):
        labels += ["a"] * 5 + ["b"] * 5
        groups += [f"g{g}"] * 10
    labels += ["rare"] * 20 + ["a"] * 100
    groups += ["big"] * 120
    rows = rows_of(labels, groups)
    for seed in range(5):
        (split,) = make_splits("group", rows, seed)
        assert split.missing["train"] == ()
        assert split.missing["val"] == split.missing["test"] == ("rare",)
        shares = [len(where) / len(rows) for _, where in split.parts()]
        assert np.allclose(shares, (0.7, 0.2, 0.1), atol=0.051)


def test_the_draw_is_the_same_on_every_machine() -> None:
    """Written down once: a change here changes everybody's splits."""
    rows = rows_of(["a", "b"] * 10, [f"g{i // 2}" for i in range(20)])
    (random,) = make_splits("random", rows, 0)
    (group,) = make_splits("group", rows, 0)
    assert random.test.tolist() == [2, 11]
    assert group.test.tolist() == [18, 19]
    assert make_splits("random", rows, 1)[0].test.tolist() != [2, 11]


def test_column_takes_what_the_manifest_says() -> None:
    part = ["train", "val", "test", "train", "", "val", "test", "train"]
    rows = rows_of(list("abababba"), part=part)
    (split,) = make_splits("column", rows, 0)
    assert split.train.tolist() == [0, 3, 7]
    assert split.val.tolist() == [1, 5]
    assert split.test.tolist() == [2, 6]
    assert split.missing == {"train": (), "val": ("a",), "test": ()}


def test_a_class_outside_every_part_is_no_class() -> None:
    rows = rows_of([*"ababab", "z"], part=["train", "train", "val", "val", "test", "test", ""])
    (split,) = make_splits("column", rows, 0)
    assert split.missing["train"] == ()


def test_default_choice() -> None:
    assert default_split(rows_of(["a", "b"])) == "random"
    assert default_split(rows_of(["a", "b"], ["g", "h"])) == "group"  # which says that groups are too few
    assert default_split(rows_of(["a", "b"] * 8, list("ffgghhii") * 2)) == "group"
    # Four birds, of which each class is sung by two: groups near the shares of every class
    four = rows_of(list("aabbccdd") * 2, list("fgfghihi") * 2)
    assert default_split(four) == "stratified-group"
    assert default_split(rows_of(["a", "b"], ["g", "h"], ["train", "test"])) == "column"


@pytest.mark.parametrize(
    ("spec", "rows", "kind", "message"),
    [
        ("randm", rows_of(["a", "b"]), ConfigError, "got 'randm'; did you mean 'random'"),
        ("random", rows_of(["a", "a"]), LabelError, "two classes, found only 'a'"),
        ("random", rows_of([]), LabelError, "two classes, found no labelled row"),
        ("random", rows_of(["a", "b"]), LabelError, "leaves no row for val of 2 rows"),
        ("group", rows_of(["a", "b"] * 4, ["g", "h"] * 4), LabelError, r"3 groups, found 2 \('g', 'h'\)"),
        ("group", rows_of(["a", "b"], ["g", ""]), LabelError, "1 have none .such as 'u0001'."),
        (
            "group",
            rows_of(list("aaab"), ["g", "h", "i", "j"]),
            LabelError,
            None,
        ),
        (
            "column",
            rows_of(["a", "b", "b"], part=["train", "val", "val"]),
            LabelError,
            "needs rows in train, val and test, found 1 train, 2 val, 0 test",
        ),
        (
            "column",
            rows_of(["a", "b", "b"], part=["train", "val", "test"]),
            LabelError,
            r"class 'b' without training rows \(1 in val, 1 in test\)",
        ),
    ],
)
def test_what_cannot_be_split_is_said_in_one_line(spec, rows, kind, message) -> None:
    if message is None:
        # with the only "b" in training, the split stands
        (split,) = make_splits(spec, rows, 0)
        assert set(rows.label[split.train]) == {"a", "b"}
        return
    with pytest.raises(kind, match=message) as caught:
        make_splits(spec, rows, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [10, 1697, 8034, 72920])
def test_sarkar2025_is_torchs_random_split(n: int) -> None:
    sizes = [int(0.7 * n), int(0.2 * n)]
    sizes.append(n - sum(sizes))
    expected = torch.utils.data.random_split(range(n), sizes, generator=torch.Generator().manual_seed(42))
    for got, subset in zip(sarkar2025(n), expected, strict=True):
        assert got.tolist() == list(subset.indices)


def test_a_draw_that_is_kept_is_of_these_groups_and_this_seed() -> None:
    counts = np.random.default_rng(0).integers(1, 30, 24)
    asked = [(counts.reshape(shape), seed) for seed in (0, 1, 0) for shape in ((8, 3), (6, 4), (12, 2))]
    for table, seed in [*asked, *asked]:
        anew = _best_cut.__wrapped__(table.tobytes(), table.shape, seed)
        np.testing.assert_array_equal(cut_groups(table, seed), anew)
    assert len({tuple(cut_groups(counts.reshape(12, 2), seed)) for seed in range(4)}) > 1


def test_the_empty_set_need_not_be_trained() -> None:
    """Sets are split by their rarest label; a window in which nothing sounds has none."""
    labels, parts = ["a", "b", "|", "a", "b", "|", "a", "b", "a"], ["train"] * 2 + ["test"] * 4 + ["val"] * 3
    (split,) = make_splits("column", rows_of(labels, part=parts), seed=0)
    assert split.missing["train"] == ()
    assert split.test.tolist() == [2, 3, 4, 5]
