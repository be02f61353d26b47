"""Names of models and datasets: they become folder names, on every system and object store."""

from __future__ import annotations

import re

from featurestore.errors import ConfigError, StoreError

MAX_NAME_CHARACTERS = 128
_MOST_DIGITS = 18
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]*")
# Names Windows keeps for devices, whatever their suffix; and names that Zarr gives a meaning to.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
# Parts of a path that lead elsewhere, or nowhere.
_LEADING_OUT = frozenset(("", ".", ".."))
_ZARR = {"zarr.json", "c", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as one path component everywhere.

    Args:
        name: the name to check.
        what: what it names ("dataset", "model"), for the message.

    Raises:
        ConfigError: empty, too long, with separators, spaces or non-ASCII letters, or reserved.
    """
    problem = None
    if not name:
        problem = "is empty"
    elif len(name) > MAX_NAME_CHARACTERS:
        problem = f"has {len(name)} characters, more than {MAX_NAME_CHARACTERS}"
    elif not _SAFE.fullmatch(name):
        problem = "may hold ASCII letters, digits and . _ + = @ - only, and starts with a letter, digit or _"
    elif name.endswith(".") or name.split(".")[0].lower() in _RESERVED or name.lower() in _ZARR:
        problem = "is reserved"
    if problem:
        shown = name if len(name) <= 40 else name[:37] + "..."
        raise ConfigError(f"{what} name {shown!r} {problem}; try {suggest_name(name)!r}")
    return name


def suggest_name(name: str) -> str:
    """A safe name close to the one asked for."""
    safe = re.sub(r"[^A-Za-z0-9._+=@-]+", "-", name).strip("-._")[:MAX_NAME_CHARACTERS] or "data"
    if safe.split(".")[0].lower() in _RESERVED or safe.lower() in _ZARR:
        safe = f"x-{safe}"
    return safe


def is_whole_number(text: str) -> bool:
    """Whether `int` makes a number of 64 bits of a text: of digits 0 to 9 alone, of no more than 18.

    ``str.isdigit`` also takes ``²``, of which `int` makes none, and any number of digits, of which it makes
    none either past some thousands.
    """
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def object_parts(key: str, url: str) -> list[str]:
    """The parts of an object's name below a root, where they lead to one place below it and to no other.

    Args:
        key: names between single ``/``.
        url: the root, for the message.

    Raises:
        StoreError: a part is empty, ``.`` or ``..``, or there is a NUL or a backslash, a separator elsewhere.
    """
    parts = key.split("/")
    if not _LEADING_OUT.isdisjoint(parts) or "\\" in key or "\0" in key:
        raise StoreError(
            f"object name {key!r} might lie outside the store {url}: expected names between single slashes, "
            "none of them '.' or '..', without backslash and NUL; refused"
        )
    return parts


def prefix_parts(prefix: str, url: str) -> list[str]:
    """`object_parts` of a prefix: none of the root's own, "", and one ``/`` may stand at the end."""
    return object_parts(prefix.removesuffix("/"), url) if prefix else []
