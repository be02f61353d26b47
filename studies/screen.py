"""Where `fs` prints to: a console in which text is only text."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from featurestore.printable import plain, printable

PLAIN_WIDTH = 200


class Screen(Console):
    """Text is printed line by line as `printable` writes it: no markup, no emoji codes, no highlighting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`; a text is one line."""
        super().print(*(plain(o) if isinstance(o, str) else o for o in objects), **options)


def console() -> Screen:
    """Standard output; plain text where it is no terminal, never wrapped inside a pipe."""
    out = Screen()
    return out if out.is_terminal else Screen(width=PLAIN_WIDTH, soft_wrap=True)


def error_console() -> Screen:
    """Standard error, never wrapped."""
    return Screen(stderr=True, soft_wrap=True)


def say_error(line: str) -> None:
    """One line in red on standard error."""
    click.secho(printable(line), fg="red", err=True)
