"""Tables for people: no cell is a formula, no text breaks a row, and every text can be had back."""

from __future__ import annotations

import io
import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.spreadsheet import spreadsheet_csv, spreadsheet_text

FORMULAS = (
    "=HYPERLINK(1)",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "-",
    "-a",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert spreadsheet_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "phee", "a=b", "-3", "+4.5e-3", "-.5", "1-2", "'quoted'", "0-12", "é"])
def test_all_else_stays_as_it_is(text: str) -> None:
    assert spreadsheet_text(text) == text


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\n1.ea,\"")))
def test_one_apostrophe_off_gives_the_text_back(text: str) -> None:
    shown = spreadsheet_text(text)
    assert (shown[1:] if re.match("'+[=+\\-@\t\r\n]", shown) else shown) == text


@pytest.mark.parametrize("evil", FORMULAS)
def test_a_table_reads_back_row_by_row(evil: str) -> None:
    table = pd.DataFrame(
        {"id": ["a", evil, f"b{evil}"], "x": [-1.23456789, 0.5, float("nan")], evil: [evil, "", "c"]}
    )
    table["n"] = pd.array([3, None, -1], dtype="Int64")
    table["yes"] = [True, False, True]
    text = spreadsheet_csv(table, float_format="%.6g")
    back = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    assert list(back) == ["id", "x", f"'{evil}", "n", "yes"]
    assert list(back["id"]) == ["a", f"'{evil}", f"b{evil}"]
    assert list(back["x"]) == ["-1.23457", "0.5", ""]
    assert list(back[f"'{evil}"]) == [f"'{evil}", "", "c"]
    assert list(back["n"]) == ["3", "", "-1"]
    assert list(back["yes"]) == ["True", "False", "True"]
    for line in re.split("[\r\n]", text.replace(f"'{evil}", "").replace(f"b{evil}", "")):
        assert not any(re.match('"?[=+@\t]', cell) for cell in line.split(","))


def test_times_keep_all_their_digits_and_scores_six() -> None:
    """Six digits would move a call of a long recording by tens of milliseconds."""
    table = pd.DataFrame({"start_s": [21543.789125, math.nan], "p": [1 / 3, math.nan]})
    text = spreadsheet_csv(table, float_format="%.6g", exact=("start_s", "end_s"))
    assert text == "start_s,p\n21543.789125,0.333333\n,\n"
