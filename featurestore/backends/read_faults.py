"""What an exception over stored bytes is about: the bytes, or an outage, a refusal, a lack of memory.

Decoders raise whatever they like over damaged bytes, so callers catch everything; what is *not* the bytes'
fault must never pass for damage, which `fs verify --repair` would mend by doing the unit again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from featurestore.errors import CorruptData, StoreError

T = TypeVar("T")

# Answers about a name, not failures to answer.
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def not_damage(error: BaseException) -> Exception | None:
    """What to raise instead where the bytes are not at fault; None where they are.

    Zarr reads ranges in a task group (3.3 and later), which hands out an `ExceptionGroup`, in which others
    may be nested; an outage in one of many reads is an outage.

    Args:
        error: what came of reading and decoding stored bytes.
    """
    for found in _parts(error):
        if isinstance(found, StoreError) and not isinstance(found, CorruptData):
            return found
        if isinstance(found, MemoryError) or "can't start new thread" in str(found):
            return StoreError(f"this machine has no room left to read stored data ({found or 'memory'})")
        if isinstance(found, OSError) and not isinstance(found, (StoreError, *_ABSENT)):
            reason = found.strerror or str(found)
            return StoreError(f"cannot read stored data: {reason}; run the same command again")
    return None


def raise_if_not_damage(error: BaseException) -> None:
    """For who takes every exception of a decoder for damage: raise what is none.

    Raises:
        Exception: see `not_damage`.
    """
    if other := not_damage(error):
        raise other from error


@contextmanager
def decoding(what: str, remedy: str) -> Iterator[None]:
    """Take every exception over stored bytes for damage to `what`, unless it is none.

    Raises:
        CorruptData: with why, in brief, and the remedy.
    """
    try:
        yield
    except Exception as error:
        raise_if_not_damage(error)
        raise CorruptData(f"{what} is damaged ({brief(error)}); {remedy}") from error


def if_sound(decode: Callable[[], T]) -> T | None:
    """What a decoder makes of stored bytes; None where these are damaged, whatever it raises over them.

    Raises:
        Exception: see `not_damage`.
    """
    try:
        return decode()
    except Exception as error:
        raise_if_not_damage(error)
        return None


def brief(error: BaseException, n_characters: int = 200) -> str:
    """An error on one line; the name of its kind where it says nothing."""
    return " ".join(str(error).split())[:n_characters] or type(error).__name__


def damage_in(error: BaseException) -> CorruptData | None:
    """Damage that was named where it was found, however deep in groups."""
    return next((e for e in _parts(error) if isinstance(e, CorruptData)), None)


def first_of(error: BaseException) -> BaseException:
    """The error itself, or the first one inside a group: what a message is to show."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _parts(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from, and all members of groups, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop(0)
        # Damage that is named again on the way out is raised from what it was found in: a circle.
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        waiting = [*inner, found.__cause__, *waiting]
