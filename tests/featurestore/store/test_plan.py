from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError
from featurestore.fingerprint import canonical_json, diff, digest
from featurestore.names import check_name, suggest_name
from featurestore.store.plan import Segment, next_segment, order_rows, units_of


@given(st.lists(st.integers(1, 500), max_size=6), st.integers(1, 64))
def test_units_partition_the_rows_on_shard_boundaries(sizes: list[int], unit_rows: int) -> None:
    segments: list[Segment] = []
    for n in sizes:
        segments.append(next_segment(segments, n, unit_rows))
    units = units_of(segments, unit_rows)
    covered = [r for u in units for r in range(u.first_row, u.stop_row)]
    wanted = [r for s in segments for r in range(s.first_row, s.first_row + s.n_rows)]
    assert covered == wanted
    assert len({u.index for u in units}) == len(units)
    for unit in units:
        assert unit.first_row == unit.index * unit_rows
        assert 1 <= unit.n_rows <= unit_rows


@given(st.lists(st.floats(0.01, 100) | st.just(float("nan")), max_size=40), st.randoms())
def test_order_is_longest_first_and_ignores_the_order_given(durations: list[float], random: object) -> None:
    ids = [f"u{i:02d}" for i in range(len(durations))]
    order = order_rows(durations, ids)
    assert sorted(order) == list(range(len(ids)))
    ordered = np.array(durations)[order]
    known = ordered[~np.isnan(ordered)]
    assert (np.diff(known) <= 0).all()
    assert np.isnan(ordered[len(known) :]).all()
    shuffled = list(range(len(ids)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = order_rows([durations[i] for i in shuffled], [ids[i] for i in shuffled])
    assert [ids[shuffled[i]] for i in again] == [ids[i] for i in order]


def test_units_below_one_row_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        units_of([Segment(first_row=0, n_rows=1)], 0)


@pytest.mark.parametrize("name", ["hubert-base-ls960", "imv", "a.b_c+d=e@f", "0"])
def test_good_names_pass(name: str) -> None:
    assert check_name(name, "dataset") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "a/b",
        "a\\b",
        ".",
        "..",
        ".hidden",
        "con",
        "NUL.txt",
        "x" * 300,
        "neñe",
        "a b",
        "zarr.json",
        "c",
        "x.",
        "a\n",
    ],
)
def test_bad_names_are_refused_with_a_good_suggestion(name: str) -> None:
    with pytest.raises(ConfigError, match="dataset name"):
        check_name(name, "dataset")
    assert check_name(suggest_name(name), "dataset")


def test_fingerprints_do_not_depend_on_the_order_of_their_entries() -> None:
    a = {"x": {"p": 1, "q": [1.5, "é"]}, "y": None}
    b = {"y": None, "x": {"q": [1.5, "é"], "p": 1}}
    assert canonical_json(a) == canonical_json(b)
    assert digest(a) == digest(b) != digest({**a, "y": 0})


def test_a_diff_names_what_differs_with_both_values() -> None:
    stored = {"input": {"rate": 16000, "norm": "none"}, "dtype": "float32"}
    requested = {"input": {"rate": 16000, "norm": "peak"}, "dtype": "float32", "new": 1}
    assert diff(stored, requested) == [
        "input.norm: stored none, requested peak",
        "new: stored (absent), requested 1",
    ]
    assert diff(stored, stored) == []
