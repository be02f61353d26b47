"""Mistakes in a study file: each with its place, all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from featurestore.errors import Mistakes, UserError, one_line
from featurestore.names import is_whole_number
from featurestore.untrusted.schema_mistakes import Place as Place
from featurestore.untrusted.schema_mistakes import place_text


class Found:
    """Mistakes as they are found, by place; one of each.

    Args:
        where: What a place is called in front of a message, such as ``study.yaml:12``.
    """

    def __init__(self, where: Callable[[Place], str]) -> None:
        self._where = where
        self._lines: dict[tuple[Place, str], str] = {}

    def add(self, place: Place, text: str) -> None:
        """Note what is wrong at a place."""
        at, named = self._where(place), place_text(place)
        self._lines.setdefault((place, text), f"{at}: {named}: {text}" if named else f"{at}: {text}")

    @contextmanager
    def of(self, place: Place | Callable[[str], Place]) -> Iterator[None]:
        """Note a `UserError` raised inside as a mistake, and go on.

        Args:
            place: where it belongs, or what says so of its text.
        """
        try:
            yield
        except UserError as error:
            text = one_line(error, None).removeprefix("--")
            self.add(place(text) if callable(place) else place, text)

    def has_below(self, place: Place) -> bool:
        """Whether something at this place, or inside what stands there, is wrong."""
        return any(at[: len(place)] == place for at, _ in self._lines)

    @property
    def lines(self) -> Sequence[str]:
        """One for each, in the order of the file where places have lines."""
        return sorted(self._lines.values(), key=_by_line)

    def raise_if_any(self) -> None:
        """Raise them together.

        Raises:
            Mistakes: there are some.
        """
        if self._lines:
            raise Mistakes(self.lines)


def _by_line(text: str) -> tuple[int, str]:
    """Sorting by what follows the file's name; what has no line comes last."""
    head = text.split(": ", 1)[0]
    number = head.rpartition(":")[2]
    return (int(number) if is_whole_number(number) else 10**9, text)
