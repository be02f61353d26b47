"""Where `fs` prints to: a console in which text is only text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from featurestore.printable import on_page, plain

PLAIN_WIDTH = 200


class Screen(Console):
    """Text is printed line by line as `printable` writes it: no markup, no emoji codes, no highlighting.

    What tables, captions and bars hold is only known as they are drawn: control characters in them are
    written out there.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`; a text is one line."""
        super().print(*(plain(o) if isinstance(o, str) else o for o in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n":  # Rich's own
                yield segment
            else:
                yield Segment(on_page(segment.text), segment.style)


def console() -> Screen:
    """Standard output; plain text where it is no terminal, never wrapped inside a pipe."""
    out = Screen()
    return out if out.is_terminal else Screen(width=PLAIN_WIDTH, soft_wrap=True)


def error_console() -> Screen:
    """Standard error, never wrapped."""
    return Screen(stderr=True, soft_wrap=True)
