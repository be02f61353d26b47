r"""Names and texts of users as they are shown: only text, on one line, whatever they hold.

A label, a class, a path or an utterance id may hold brackets, ``:smile:``, a newline or the escape sequences
of a terminal. Shown as they are these would change a colour, move the cursor or begin a line that looks like
one of ours. So control characters are written out (``\x1b``, ``\n``), and what prints takes no markup.
"""

from __future__ import annotations

import shlex
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

# Control characters, halves of characters (of file names that are no UTF-8), line and paragraph separators.
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")
# What turns the direction of the text behind it: embeddings, overrides, isolates.
_TURNING = {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


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
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(printable, value.split("\n")))


def shell_words(words: list[str]) -> str:
    r"""A command to be pasted, on one line: control characters as Bash and Zsh read them (``$'\n'``)."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if not any(map(_is_control, word)):
        return shlex.quote(word)
    inner = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(_written_out(c) if _is_control(c) else c for c in inner) + "'"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN or character in _TURNING


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"  # the byte that Python read it from
    return character.encode("unicode_escape").decode("ascii")
