"""Holm's correction against statsmodels, and by its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError
from probes.statistics import holm


def test_recorded_values() -> None:
    # statsmodels 0.15.0, multipletests(method="holm")
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.03, 1.0, 0.0]
    assert holm(p) == pytest.approx([0.06, 0.15, 0.15, 0.035, 0.4, 0.15, 1.0, 0.0])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_statsmodels_says_the_same(p: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_what_it_rejects_is_what_stepping_down_rejects(p: list[float], alpha: float) -> None:
    rejected = set()
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] * (len(p) - step) > alpha:
            break
        rejected.add(int(i))
    assert set(np.flatnonzero(holm(p) <= alpha)) == rejected


def test_what_could_not_be_tested_is_not_counted() -> None:
    assert holm([0.01, float("nan"), 0.02]) == pytest.approx([0.02, float("nan"), 0.02], nan_ok=True)
    assert holm([]).shape == (0,)


def test_no_share() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        holm([0.5, 1.2])
