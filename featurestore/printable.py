r"""Names and texts of users as they are shown: only text, on one line, whatever they hold.

A label, a class, a path or an utterance id may hold brackets, ``:smile:``, a newline or the escape sequences
of a terminal. Shown as they are these would change a colour, move the cursor or begin a line that looks like
one of ours. So control characters are written out (``\x1b``, ``\n``), and what prints takes no markup.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

# Control characters, halves of characters (of file names that are no UTF-8), line and paragraph separators.
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")
# What turns the direction of the text behind it: embeddings, overrides, isolates.
_TURNING = {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
# All of these that JSON leaves as they are.
_LEFT_BY_JSON = re.compile("[\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def counted(n: int, noun: str, plural: str = "") -> str:
    """``1 clip``, ``2,000 clips``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def enumerated(parts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; "" of nothing."""
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def printable(text: object) -> str:
    r"""Text on one line in which every control character is written out.

    >>> printable("a\nb \x1b[31mred")
    'a\\nb \\x1b[31mred'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(_written_out(c) if _is_control(c) else c for c in shown)


def plain(text: object, style: str = "") -> Text:
    """`printable` for Rich: never markup, never emoji codes."""
    from rich.text import Text

    return Text(printable(text), style=style)


def on_page(value: Any) -> Any:
    """`printable` for what a template puts on a page (Jinja's ``finalize``); lines and markup stay."""
    if hasattr(value, "__html__"):
        return value
    return "\n".join(map(printable, str(value).split("\n")))  # a path or a scope is shown as its text


def json_text(value: Any, indent: int | None = None) -> str:
    r"""JSON to be looked at too: no control characters, other writing as it is; it reads back as `value`.

    >>> json_text(["caf\u00e9", "\x9b31m"])
    '["caf\u00e9", "\\u009b31m"]'
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shell_words(words: Iterable[str]) -> str:
    r"""A command to be pasted, on one line: control characters as Bash and Zsh read them (``$'\n'``)."""
    return " ".join(map(shell_word, words))


def shell_word(word: str) -> str:
    """One word of `shell_words`."""
    if not any(map(_is_control, word)):
        return shlex.quote(word)
    inner = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(_in_shell(c) if _is_control(c) else c for c in inner) + "'"


def _in_shell(character: str) -> str:
    # There \x.. is a byte, not a character.
    return f"\\u{ord(character):04x}" if "\x80" <= character <= "\x9f" else _written_out(character)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN or character in _TURNING


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"  # the byte that Python read it from
    return character.encode("unicode_escape").decode("ascii")
