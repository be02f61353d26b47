from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from featurestore.printable import json_text, on_page, plain, printable, shell_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("phee", "phee"),
        ("[red]x[/red] :smile: fold:bird:", "[red]x[/red] :smile: fold:bird:"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\nb\r\tc\x7f\x9b", r"a\nb\r\tc\x7f\x9b"),
        ("a\u2028b\u2029c\x85", r"a\u2028b\u2029c\x85"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        (b"caf\xe9.wav".decode(errors="surrogateescape"), r"caf\xe9.wav"),
        # Writing of people stays: accents, joiners of Persian and of emoji, blanks of other widths.
        (
            "pío 吱 \u0645\u06cc\u200c\u062e 👩\u200d🔬 a\xa0b",
            "pío 吱 \u0645\u06cc\u200c\u062e 👩\u200d🔬 a\xa0b",
        ),
    ],
)
def test_control_characters_are_written_out_and_nothing_else_changes(text: str, shown: str) -> None:
    assert printable(text) == shown
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system="truecolor").print(plain(text))
    assert out.getvalue() == shown + "\n"


@given(st.text())
def test_what_is_shown_is_one_line_that_can_be_written_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert len((shown + "|").splitlines()) == 1
    assert "\x1b" not in shown
    shown.encode()
    assert printable(shown) == shown


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_command_is_one_line_that_a_shell_reads_back() -> None:
    words = [
        "plain",
        "two words",
        "it's",
        "a\nb",
        "c\r'd\\e",
        "\x1b[31m",
        "$HOME `x`",
        "",
        "ñ\u2028",
        "\x9b\x85é",
    ]
    line = shell_words(words)
    assert len(line.splitlines()) == 1
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode().split("\0")[:-1] == words


@given(
    st.recursive(st.text() | st.floats(allow_nan=False) | st.none(), lambda v: st.dictionaries(st.text(), v))
)
def test_json_has_no_control_characters_and_reads_back(value: object) -> None:
    for indent in (None, 2):
        text = json_text(value, indent=indent)
        assert printable(text.replace("\n", "")) == text.replace("\n", "")
        assert json.loads(text) == value
        text.encode()


class Named:
    def __str__(self) -> str:
        return "a\x1bb\nc"


@pytest.mark.parametrize("value", ["a\x1bb\nc", Named(), Path("a\x1bb\nc")])
def test_a_page_shows_anything_as_text(value: object) -> None:
    assert on_page(value) == "a\\x1bb\nc"
