"""Folds: partitions, whole groups, shares, the same draw everywhere, and what is said of missing classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError, LabelError
from probes.splits import (
    KINDS,
    Rows,
    Split,
    grouping,
    iter_splits,
    make_split,
    make_splits,
    parse_split,
    sarkar2025,
)

SPECS = {
    "K": ("3", "5"),
    "K or KxJ": ("2", "4", "3x2"),
    "COLUMN": ("fold",),
    "": ("",),
}
ROTATED = ("kfold:3", "kfold:5", "group-kfold:3", "stratified-group-kfold:3", "fold:fold")


def specs(*, groups: bool | None = None) -> list[str]:
    out = []
    for name, kind in KINDS.items():
        if name == "column" or (groups is not None and groups != ("group" in name or name == "logo")):
            continue
        out += [f"{name}:{a}" if a else name for a in SPECS[kind.argument]]
    return out


def rows_of(labels: list[str], groups: list[str], order: np.ndarray | None = None) -> Rows:
    n = len(labels)
    order = np.arange(n) if order is None else order

    def pick(values: list[str]) -> np.ndarray:
        return np.array(values, dtype=object)[order]

    return Rows(
        utterance_id=pick([f"u{i * 7919 % 10007:05d}" for i in range(n)]),
        label=pick(labels),
        group=pick(groups),
        part=pick([""] * n),
        fold=pick([str(i % 4 + 7) for i in range(n)]),
        place=order.astype(np.int64),
        n_manifest=n,
    )


def ids(rows: Rows, split: Split) -> dict[str, set[str]]:
    return {name: set(rows.utterance_id[where]) for name, where in split.parts()}


tables = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyzpq")), min_size=30, max_size=90)
# every class in several groups, so that splits exist
BASE = [(c, g) for c in "abc" for g in "uvwxyzpq"]


@given(tables, st.sampled_from(specs()), st.integers(0, 3), st.randoms(use_true_random=False))
def test_parts_are_a_partition_in_any_order_of_rows(table, spec, seed, random) -> None:
    table = table + BASE
    rows = rows_of([a for a, _ in table], [g for _, g in table])
    try:
        splits = make_splits(spec, rows, seed)
    except LabelError:
        assert spec in ("random", "stratified", "group", "stratified-group", "sarkar2025")  # one split only
        return
    for split in splits:
        assert sorted(np.concatenate([w for _, w in split.parts()])) == list(range(len(rows)))
    n_inner = parse_split(spec).n_inner
    if KINDS[parse_split(spec).kind].several:
        tested = np.concatenate([s.test for s in splits[::n_inner]])
        assert sorted(tested) == list(range(len(rows)))  # each row is tested once
    order = list(range(len(rows)))
    random.shuffle(order)
    other = rows_of([a for a, _ in table], [g for _, g in table], np.array(order))
    again = make_splits(spec, other, seed)
    assert [ids(rows, s) for s in splits] == [ids(other, s) for s in again]
    assert [s.missing for s in splits] == [s.missing for s in again]
    for fold in (0, len(splits) - 1):
        assert ids(rows, make_split(spec, rows, seed, fold)) == ids(rows, splits[fold])


@given(tables, st.sampled_from(specs(groups=True)), st.integers(0, 3))
def test_groups_never_straddle(table, spec, seed) -> None:
    table = table + BASE
    rows = rows_of([a for a, _ in table], [g for _, g in table])
    for split in make_splits(spec, rows, seed):
        sets = [set(rows.group[where]) for _, where in split.parts()]
        assert sum(map(len, sets)) == len(set(rows.group))


@given(st.lists(st.sampled_from("aaabbc"), min_size=12, max_size=150), st.integers(3, 6), st.integers(0, 3))
def test_shares_of_every_class_are_within_one_clip_of_ideal(labels, k, seed) -> None:
    labels = [*labels, *"aaaabbbbcccc"]
    rows = rows_of(labels, [f"g{i}" for i in range(len(labels))])  # every row a group of its own
    for spec in (f"kfold:{k}", f"stratified-kfold:{k}", f"stratified-group-kfold:{k}", f"nested:{k}"):
        for split in make_splits(spec, rows, seed):
            for label in set(labels):
                n = labels.count(label)
                assert abs((rows.label[split.test] == label).sum() - n / k) < 1 + 1e-9
    for split in make_splits(f"kfold:{k}", rows, seed):
        assert abs(len(split.test) - len(rows) / k) < 1
    try:
        (split,) = make_splits("stratified-group", rows, seed)
    except LabelError:
        return
    for label in set(labels):
        n = labels.count(label)
        for (_, where), share in zip(split.parts(), (0.7, 0.2, 0.1), strict=True):
            # one more where a part would else be empty
            assert abs((rows.label[where] == label).sum() - share * n) < 2


def test_stratified_groups_are_nearer_to_the_shares_of_classes_than_groups_alone() -> None:
    rng = np.random.default_rng(0)
    labels, groups = [], []
    for g in range(40):
        n = int(rng.integers(5, 40))
        labels += rng.choice(list("abcd"), n, p=rng.dirichlet([0.4] * 4)).tolist()
        groups += [f"g{g}"] * n
    rows = rows_of(labels, groups)

    def off(spec: str) -> float:
        return max(
            abs((rows.label[s.test] == c).sum() / labels.count(c) - 0.2)
            for s in make_splits(spec, rows, 0)
            for c in "abcd"
        )

    assert off("stratified-group-kfold:5") < 0.06 < off("group-kfold:5")
    sizes = [len(s.test) for s in make_splits("group-kfold:5", rows, 0)]
    assert max(sizes) - min(sizes) <= 0.02 * len(rows)


PINNED = {
    "kfold:3": [[1, 2, 3, 4, 6, 14, 17, 18], [0, 7, 9, 10, 11, 12, 15, 22], [5, 8, 13, 16, 19, 20, 21, 23]],
    "group-kfold:3": [
        [4, 5, 8, 9, 14, 15, 20, 21],
        [6, 7, 10, 11, 12, 13, 22, 23],
        [0, 1, 2, 3, 16, 17, 18, 19],
    ],
    "stratified-group-kfold:3": [
        [4, 5, 12, 13, 14, 15, 20, 21],
        [6, 7, 8, 9, 10, 11, 22, 23],
        [0, 1, 2, 3, 16, 17, 18, 19],
    ],
    "nested:2": [[0, 1, 2, 6, 7, 8, 13, 15, 17, 20, 22, 23], [3, 4, 5, 9, 10, 11, 12, 14, 16, 18, 19, 21]],
    "stratified-group": [[12, 13, 20, 21], [22, 23]],
}


def test_the_draw_is_the_same_on_every_machine() -> None:
    """Written down once: a change here changes everybody's splits."""
    rows = rows_of(["a", "b", "a"] * 8, [f"g{i // 2}" for i in range(24)])
    drawn = {
        spec: [s.test.tolist() for s in make_splits(spec, rows, 0)]
        for spec in ("kfold:3", "group-kfold:3", "stratified-group-kfold:3", "nested:2")
    }
    drawn["stratified-group"] = [w.tolist() for _, w in make_splits("stratified-group", rows, 0)[0].parts()][
        1:
    ]
    assert json.loads(json.dumps(drawn)) == PINNED


def test_a_rotation_validates_on_the_next_fold() -> None:
    rows = rows_of(list("ab") * 20, [f"g{i // 4}" for i in range(40)])
    for spec in ROTATED:
        splits = make_splits(spec, rows, 1)
        for i, split in enumerate(splits):
            assert split.val.tolist() == splits[(i + 1) % len(splits)].test.tolist()
            assert split.fold == i


def test_folds_of_a_column_are_taken_in_the_order_of_their_numbers() -> None:
    rows = rows_of(list("ab") * 20, [""] * 40)  # folds "7", "8", "9", "10"
    splits = make_splits("fold:fold", rows, 5)
    assert [set(rows.fold[s.test]) for s in splits] == [{"7"}, {"8"}, {"9"}, {"10"}]
    assert set(rows.fold[splits[3].val]) == {"7"}


def test_inner_folds_choose_inside_the_training_part() -> None:
    rows = rows_of(list("abc") * 20, [f"g{i % 12}" for i in range(60)])
    for spec in ("nested:3x4", "group-nested:3x4", "stratified-group-nested:3x4"):
        splits = make_splits(spec, rows, 0)
        assert len(splits) == 12
        for outer in range(3):
            inner = splits[4 * outer : 4 * outer + 4]
            assert {tuple(s.test) for s in inner} == {tuple(inner[0].test)}
            # the inner folds partition what is not tested
            assert sorted([*inner[0].test, *np.concatenate([s.val for s in inner])]) == list(range(60))
            assert [parse_split(spec).outer(s.fold) for s in inner] == [outer] * 4


def test_every_group_is_left_out_once() -> None:
    rows = rows_of(list("ab") * 15, [f"g{i % 5}" for i in range(30)])
    splits = make_splits("logo", rows, 0)
    assert [set(rows.group[s.test]) for s in splits] == [{f"g{i}"} for i in range(5)]


def test_one_fold_of_many_is_drawn_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from probes.splits import folds

    rows = rows_of(list("ab") * 60, [f"g{i % 20:02}" for i in range(120)])
    every = make_splits("logo", rows, 0)
    drawn: list[object] = []

    def counted(*args, **options):
        drawn.append(args)
        return grouping.deal_groups(*args, **options)

    monkeypatch.setattr(folds, "deal_groups", counted)
    last = make_split("logo", rows, 0, 19)
    assert len(drawn) == 1
    assert last.val.tolist() == every[19].val.tolist()
    assert last.test.tolist() == every[19].test.tolist()


def test_a_class_that_a_fold_cannot_train_is_told_and_not_dropped() -> None:
    labels = ["a"] * 12 + ["b"] * 12 + ["rare"] * 3
    groups = [f"g{i % 6}" for i in range(24)] + ["g0"] * 3
    rows = rows_of(labels, groups)
    splits = make_splits("logo", rows, 0)
    assert splits[0].missing["train"] == ("rare",)
    assert (rows.label[splits[0].test] == "rare").sum() == 3
    assert all("rare" in s.missing["test"] for s in splits[1:])


def test_the_papers_split_follows_the_manifest_whatever_the_order_of_rows() -> None:
    n = 60
    order = np.random.default_rng(1).permutation(n)
    kept = order[:50]  # ten rows failed or have no label: they keep their place
    rows = Rows(
        utterance_id=np.array([f"u{i}" for i in kept], dtype=object),
        label=np.array(list("ab") * 25, dtype=object),
        group=np.full(50, "", dtype=object),
        part=np.full(50, "", dtype=object),
        place=kept.astype(np.int64),
        n_manifest=n,
    )
    (split,) = make_splits("sarkar2025", rows, 0)
    for (_, where), expected in zip(split.parts(), sarkar2025(n), strict=True):
        assert set(kept[where]) == set(expected) & set(kept)


def test_another_seed_is_another_draw() -> None:
    rows = rows_of(list("ab") * 30, [f"g{i % 20}" for i in range(60)])
    for spec in specs():
        if spec.split(":")[0] in ("fold", "sarkar2025", "logo"):
            continue
        a, b, again = (next(iter_splits(spec, rows, seed)) for seed in (0, 1, 0))
        assert ids(rows, a) == ids(rows, again)
        assert ids(rows, a) != ids(rows, b), spec


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("kfold", ConfigError, "expected kfold:K with K from 3 to 500, such as kfold:5, got 'kfold'"),
        ("kfold:2", ConfigError, "K from 3"),
        ("kfold:5x2", ConfigError, "got 'kfold:5x2'"),
        ("nested:1", ConfigError, "nested:K or nested:KxJ with K from 2"),
        ("nested:3x0", ConfigError, "got 'nested:3x0'"),
        ("fold:", ConfigError, "fold:COLUMN"),
        ("group:3", ConfigError, "'group' takes no argument"),
        ("grup-kfold:3", ConfigError, "did you mean 'group-kfold'"),
        ("group-kfold:5", LabelError, r"at least 5 groups, found 4 \('g0', .*ask for 4 folds"),
        ("kfold:30", LabelError, "at least 30 rows, found 20; ask for fewer folds"),
        ("group-nested:2x6", LabelError, "at least 7 groups, found 4"),
    ],
)
def test_a_mistake_is_one_line(spec, kind, message) -> None:
    rows = rows_of(list("ab") * 10, [f"g{i % 4}" for i in range(20)])
    with pytest.raises(kind, match=message) as caught:
        make_splits(spec, rows, 0)
    assert "\n" not in str(caught.value)
