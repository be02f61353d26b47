"""What an error suggests: another name than the one that was typed, and one that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import did_you_mean

names = st.text("abc_", min_size=1, max_size=5)


@given(names, st.lists(names, max_size=5))
def test_a_suggestion_is_known_and_is_not_what_was_typed(name: str, known: list[str]) -> None:
    said = did_you_mean(name, known)
    assert said == "" or said in [f"; did you mean {k!r}?" for k in known if k != name]
    assert not (said and name in known)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kin", "; did you mean 'kind'?"),
        ("kind", ""),
        ("species", ""),
        ("k\u0456nd", "; did you mean 'kind'? ('\u0456' is CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I)"),
        ("kind\u00a0", "; did you mean 'kind'? ('\\xa0' is NO-BREAK SPACE)"),
        ("kiñd", "; did you mean 'kind'?"),
    ],
)
def test_a_name_that_looks_the_same_is_told_apart(name: str, said: str) -> None:
    assert did_you_mean(name, ["kind", "caller"]) == said
