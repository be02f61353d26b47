"""Layer lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError
from featurestore.layer_list import format_layers, parse_layers


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("3", (3,)),
        ("0-6,12", (0, 1, 2, 3, 4, 5, 6, 12)),
        (" 2 , 1 - 2,0", (0, 1, 2)),
        ("4-4", (4,)),
    ],
)
def test_reads_numbers_and_ranges(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1.5", "0-6-9", "٣"])
def test_names_what_is_no_layer(text: str) -> None:
    with pytest.raises(ConfigError, match="expected numbers and ranges such as 0-6,12, got"):
        parse_layers(text)


def test_names_an_empty_range() -> None:
    with pytest.raises(ConfigError, match="the range 6-0 is empty; write 0-6"):
        parse_layers("6-0")


@given(st.sets(st.integers(0, 60), min_size=1))
def test_round_trip(layers: set[int]) -> None:
    assert parse_layers(format_layers(layers)) == tuple(sorted(layers))
