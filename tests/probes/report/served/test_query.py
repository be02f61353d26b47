"""Addresses: what they say, and what is refused."""

from __future__ import annotations

import pytest

from featurestore.errors import ConfigError
from probes.report.served.query import (
    EVERY,
    MOST_CHARACTERS,
    Choice,
    Filter,
    Query,
    table_query,
    utterance_query,
)


def test_an_address_says_which_rows_of_which_fits() -> None:
    text = "questions=0,2&models=1&lowest=3&layers=every&answer=wrong&class=a%26b%00&text=%2E%2E%2F&page=7"
    choice = Choice(questions=frozenset({0, 2}), models=frozenset({1}), lowest=3, layers=EVERY)
    rows = Filter(answer="wrong", of_class="a&b\0", text="../")
    assert table_query(text) == Query(choice=choice, rows=rows, page=7)
    assert table_query("") == Query(choice=Choice(), rows=Filter())
    assert table_query("models=").choice.models == frozenset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path=/etc/passwd", "path"),
        ("page=1&page=2", "twice"),
        ("page=-1", "page: expected a whole number"),
        ("page=99999999999999999999", "page: expected a whole number"),
        ("models=0,x", "models: expected a whole number"),
        ("models=\u0663", "models: expected a whole number"),
        ("answer=maybe", "answer: expected all, wrong, right"),
        ("class=%ff", "cannot be read"),
        ("text=" + "a" * MOST_CHARACTERS, "characters"),
        ("&".join(f"a{i}=" for i in range(40)), "cannot be read"),
    ],
)
def test_others_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table_query(text)


def test_a_clip_is_named_by_its_numbers() -> None:
    assert utterance_query("asked=0&utterance=12").utterance == 12
    with pytest.raises(ConfigError, match="expected asked and utterance"):
        utterance_query("utterance=12")
    with pytest.raises(ConfigError, match="expected each of"):
        utterance_query("asked=0&utterance=1&file=a.wav")
