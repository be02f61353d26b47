"""One way to number values: missing ones are refused, or are groups of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featurestore.errors import ConfigError
from probes.codes import codes, group_codes, group_names


def texts(*cells: Any) -> Any:
    return np.array(cells, dtype=object)


@pytest.mark.parametrize("values", [texts("b", "a", "b", "Z"), np.array([3, -1, 3, 2]), np.array([0.5, 0.1])])
def test_codes_are_those_of_numpy(values: Any) -> None:
    names, position = codes(values)
    expected = np.unique(values, return_inverse=True)
    assert names.tolist() == expected[0].tolist()
    assert position.tolist() == expected[1].tolist()
    assert names[position].tolist() == values.tolist()


@pytest.mark.parametrize("missing", ["", None, float("nan")])
def test_a_missing_value_is_no_class(missing: Any) -> None:
    with pytest.raises(ConfigError, match="2 of 4 have none, the first at 1"):
        codes(texts("a", missing, "b", missing))


def test_texts_and_numbers_are_not_mixed() -> None:
    with pytest.raises(ConfigError, match="got both"):
        codes(texts("a", 1))


def test_a_row_without_a_group_is_one_of_its_own() -> None:
    found = group_codes(texts("", "a", "", "b", "a"))
    assert len(set(found.tolist())) == 4
    assert found[1] == found[4]


def test_the_group_of_an_utterance_is_none_that_has_its_name() -> None:
    names = group_names(texts("u2", "", "", "u2"), texts("u1", "u2", "u3", "u4"))
    assert names[0] == names[3]
    assert len(set(names)) == 3
    # Of two draws of a split: the same utterance is the same group.
    again = group_names(texts("", ""), texts("u2", "u2"))
    assert again[0] == again[1] == names[1]
