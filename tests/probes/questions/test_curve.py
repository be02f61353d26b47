"""Draws of training groups and rows: sizes, nesting, shares of classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError, LabelError
from probes import ProbeConfig
from probes.questions.curve import (
    SHARES,
    distinct_shares,
    drawn_rows,
    few_sentence,
    n_drawn_from,
    parse_shares,
    share_size,
)
from probes.splits import Rows, Split


def made(n: int, n_groups: int, seed: int = 0, classes: str = "aaabbc") -> tuple[Rows, Split]:
    """Rows of which the first half trains, of groups and classes at random."""
    rng = np.random.default_rng(seed)
    text = {"part": np.full(n, "", dtype=object)}
    rows = Rows(
        utterance_id=np.array([f"u{i:04d}" for i in range(n)], dtype=object),
        label=rng.choice(list(classes), n).astype(object),
        group=np.array([f"g{k:03d}" for k in rng.integers(0, n_groups, n)], dtype=object),
        what="label 'x' of m/d",
        **text,
    )
    half = n // 2
    rest = np.arange(half, n)
    return rows, Split(train=np.arange(half), val=rest[::2], test=rest[1::2], name="random", seed=7)


@given(st.integers(0, 5), st.integers(2, 40), st.integers(0, 20))
def test_a_share_of_the_groups_is_whole_groups_and_part_of_every_larger_share(
    draw: int, n_groups: int, seed: int
) -> None:
    rows, split = made(200, n_groups, seed)
    group = rows.group[split.train]
    n = len(set(group))
    before: set[int] = set()
    for share in SHARES:
        drawn = drawn_rows("groups", rows, split, share, draw)
        taken = set(group[drawn])
        assert len(taken) == share_size(share, n)
        assert set(drawn) == set(np.flatnonzero(np.isin(group, list(taken))))
        assert before <= set(drawn)
        before = set(drawn)
    assert before == set(range(len(split.train)))


@given(st.integers(0, 5), st.integers(0, 20), st.sampled_from(SHARES[:-1]))
def test_a_share_of_the_rows_has_about_that_share_of_every_class(draw: int, seed: int, share: float) -> None:
    rows, split = made(400, 5, seed, classes="aaaaaabbc")
    label = rows.label[split.train]
    drawn = drawn_rows("rows", rows, split, share, draw)
    assert len(drawn) == share_size(share, len(label))
    assert (np.diff(drawn) > 0).all()
    for name in "abc":
        assert abs((label[drawn] == name).sum() - share * (label == name).sum()) < 2
    larger = [s for s in SHARES if s > share]
    assert set(drawn) <= set(drawn_rows("rows", rows, split, larger[0], draw))


def test_every_row_and_group_is_drawn_as_often_as_its_share() -> None:
    """Over many draws: no row is preferred, whatever its place in its class."""
    rows, split = made(60, 10)
    n_draws = 2000
    counts = np.zeros(len(split.train))
    for draw in range(n_draws):
        counts[drawn_rows("rows", rows, split, 0.3, draw)] += 1
    # Binomial: the largest of 30 deviations is below 4.5 standard deviations.
    spread = np.sqrt(n_draws * 0.3 * 0.7)
    assert np.abs(counts - 0.3 * n_draws).max() < 4.5 * spread
    group = rows.group[split.train]
    names = sorted(set(group))
    taken = dict.fromkeys(names, 0)
    for draw in range(n_draws):
        for name in set(group[drawn_rows("groups", rows, split, 0.3, draw)]):
            taken[name] += 1
    expected = share_size(0.3, len(names)) / len(names)
    assert np.abs(np.array(list(taken.values())) / n_draws - expected).max() < 0.05


def test_draws_do_not_depend_on_the_order_of_rows_and_differ_from_one_another() -> None:
    rows, split = made(100, 12)
    order = np.random.default_rng(1).permutation(100)
    place = np.argsort(order)
    columns = ("utterance_id", "label", "group", "part")
    shuffled = Rows(what="x", **{c: getattr(rows, c)[order] for c in columns})
    moved = Split(
        train=np.sort(place[split.train]), val=place[split.val], test=place[split.test], name="random", seed=7
    )
    for curve in ("groups", "rows"):
        drawn = []
        for draw in range(4):
            a = rows.utterance_id[split.train[drawn_rows(curve, rows, split, 0.3, draw)]]
            b = shuffled.utterance_id[moved.train[drawn_rows(curve, shuffled, moved, 0.3, draw)]]
            assert set(a) == set(b)
            drawn.append(frozenset(a))
        assert len(set(drawn)) == 4


def test_sizes_of_shares() -> None:
    assert [share_size(s, 20) for s in SHARES] == [2, 4, 6, 10, 14, 20]
    # one at least, and never all of them below 100 %
    assert [share_size(s, 4) for s in (0.01, 0.5, 0.95, 1.0)] == [1, 2, 3, 4]
    assert [share_size(s, 2) for s in SHARES] == [1, 1, 1, 1, 1, 2]
    assert distinct_shares(SHARES, [4]) == (0.3, 0.5, 0.7, 1.0)
    # what differs in one fold is kept
    assert distinct_shares(SHARES, [4, 10]) == SHARES
    assert few_sentence("groups", SHARES, (0.3, 0.5, 0.7, 1.0), [4, 3]) == (
        "curve groups: with 3 to 4 training groups 10, 20 % take as many as the next larger share and are "
        "left out"
    )
    assert few_sentence("rows", SHARES, SHARES, [400]) == ""


def test_shares_are_percentages_and_all_is_always_one_of_them() -> None:
    assert parse_shares(None) == SHARES
    assert parse_shares("30, 10,30") == (0.1, 0.3, 1.0)
    assert parse_shares("2.5,100") == (0.025, 1.0)
    for text in ("ten", "0", "101", "nan", "-5", "10,,20"):
        with pytest.raises(ConfigError, match=r"curve shares: expected percentages from 0 to 100"):
            parse_shares(text)
    with pytest.raises(ConfigError, match="expected a share below 100 % too"):
        parse_shares("100")


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    def config(**more: object) -> ProbeConfig:
        return ProbeConfig(store="s", labels=("x",), out=tmp_path, **more)  # type: ignore[arg-type]

    with pytest.raises(
        ConfigError, match=r"curve: expected groups or rows, got 'group'; did you mean 'groups'"
    ):
        config(curves=("group",))
    with pytest.raises(ConfigError, match=r"--curve-draws: says how a curve is drawn; ask for --curve"):
        config(curve_draws=3)
    with pytest.raises(ConfigError, match=r"curve draws: expected 1 to 1,000, got 0"):
        config(curves=("rows",), curve_draws=0)
    rows, split = made(20, 4)
    rows.group[3] = ""
    lacking = (
        r"curve groups needs a group for every training row, 1 have none \(such as 'u0003'\); fill the "
        r"manifest's column 'group', or take --curve rows"
    )
    with pytest.raises(LabelError, match=lacking):
        n_drawn_from("groups", rows, split)
    assert n_drawn_from("rows", rows, split) == 10
    rows.group[:10] = "one"
    with pytest.raises(
        LabelError, match=r"needs two training groups at least, fold 0 of split 'random' has 1"
    ):
        n_drawn_from("groups", rows, split)
