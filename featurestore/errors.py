"""Errors that a user can mend. Every message is one line: expected, got, where, what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(Exception):
    """Base of every error caused by input; the command line prints it and exits with code 2."""


class ConfigError(UserError, ValueError):
    """An option or a combination of options that cannot work."""


class Mistakes(ConfigError):
    """Several at once, each of them one line; the command line prints them all."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class ManifestError(UserError, ValueError):
    """A manifest that breaks its contract; the message lists up to 20 problems."""


class LabelError(UserError, ValueError):
    """A label or split that cannot be probed."""


class ModelError(UserError, ValueError):
    """A model that cannot be loaded or is not supported."""


class AudioUnreachable(UserError, RuntimeError):
    """Audio in a bucket whose service says nothing, or refuses: no fault of the clip, so none fails.

    It is no `OSError`, which is what a file that cannot be read raises.
    """


class StoreError(UserError, OSError):
    """A store that cannot be read or written."""


class NotPlain(StoreError):
    """A link, a pipe or the like where a store has a file or a folder."""


class UnknownFormat(StoreError):
    """A key, or a saved probe, of a later format version than this program reads."""


class KeyNotFound(StoreError, KeyError):
    """A model, dataset or layer that the store does not hold."""

    def __str__(self) -> str:
        # KeyError's own __str__ would print the repr (quotes, escapes) of the message.
        return str(self.args[0])


class FingerprintMismatch(StoreError, ValueError):
    """An existing key was made with other settings; the message shows both values."""


class OtherAudio(StoreError, ValueError):
    """Utterance ids that come with other audio than was embedded under them."""


class CorruptData(StoreError):
    """Stored bytes that do not match their checksum or their declared shape."""


class ProcessLost(UserError, RuntimeError):
    """Processes that were at the work ended in the middle of it, which is mostly for want of memory."""


class DependencyMissing(UserError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the end of a message, or nothing where no known name is spelt nearly so.

    A name that is known is no slip: nothing is said of it. Of a character that only looks like one of the
    known name's (a Cyrillic a, a blank that does not break) it is said which it is: both names look the same.
    """
    names = list(known)
    close = get_close_matches(name, names, n=1)
    if name in names or not close:
        return ""
    foreign = [c for c in name if not c.isascii() and c not in close[0]]
    unseen = next((c for c in foreign if not unicodedata.name(c, "").startswith("LATIN")), None)
    which = f" ({unseen!r} is {unicodedata.name(unseen, ascii(unseen))})" if unseen else ""
    return f"; did you mean {close[0]!r}?{which}"


def one_line(said: object, n_characters: int | None = 200) -> str:
    """What an error of the system or of a library says, on one line, the first characters of it."""
    return " ".join(str(said).split())[:n_characters]
