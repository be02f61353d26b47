"""A call of `fs` that made or changed something, as it is kept beside what it made.

A call is its words. Two of them are left open, because they are not where they were when the call is made
again: the store, and the table of utterances. Everything else that names a place is absolute. Nothing is kept
of the environment, and of a call only what decides the outcome.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from featurestore.errors import ConfigError
from featurestore.outputs import put_file, writing
from featurestore.printable import json_text
from featurestore.untrusted.document_shape import (
    either,
    fields,
    many,
    nothing_or,
    one_of,
    text,
    whole,
    yes_or_no,
)
from featurestore.untrusted.documents import DocumentError, open_regular, read_json_document

# Of a table that `fs manifest` wrote: beside it, so that the two are moved together.
BESIDE_SUFFIX = ".command.json"
# Commands that make a table or a key. A store of somebody else cannot have a report print any other.
_COMMANDS = ("extract", "import", "manifest")
_WORDS = many(either("a word or a slot", text, fields({"slot": one_of("store", "table")})))
_TABLE = fields({"path": text, "n_rows": whole(), "sha256": text, "made_by": _WORDS, "is_changed": yes_or_no})
_CALL = fields({"words": _WORDS}, {"table": nothing_or(_TABLE), "follows_unrecorded": yes_or_no})
_BESIDE = fields({"words": _WORDS, "sha256": text})


class Slot(Enum):
    """A word that is filled in when a call is made again."""

    STORE = "store"
    TABLE = "table"


Word = str | Slot


@dataclass(frozen=True, kw_only=True)
class TableRecord:
    """A table of utterances, as a call read it.

    Attributes:
        path: absolute, or what the table was called where it was no file.
        n_rows: its rows.
        sha256: of the file, 64 hex digits; "" where it was no file.
        made_by: words of the `fs manifest` that wrote it; empty where something else did.
        is_changed: it was made by that call and has been changed since.
    """

    path: str
    n_rows: int
    sha256: str
    made_by: tuple[Word, ...] = ()
    is_changed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As kept."""
        words = [_word_to_json(w) for w in self.made_by]
        return {**vars(self), "made_by": words}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableRecord:
        """Inverse of `to_json`."""
        _TABLE(value, "table")
        made_by = _words(value["made_by"])
        if Slot.STORE in made_by:
            raise ValueError("a table is made without a store")
        return cls(
            path=value["path"],
            n_rows=value["n_rows"],
            sha256=value["sha256"],
            made_by=made_by,
            is_changed=value["is_changed"],
        )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call.

    Attributes:
        words: what follows ``fs``; empty for a call whose record was damaged.
        table: what `Slot.TABLE` among the words stood for.
        follows_unrecorded: the key it changed had been made before, by a version that kept no calls.
    """

    words: tuple[Word, ...]
    table: TableRecord | None = None
    follows_unrecorded: bool = field(default=False, compare=False)

    @property
    def makes_key(self) -> bool:
        """Whether it can make a key, and not only change one."""
        return bool(self.words) and self.words[0] in ("extract", "import")

    def to_json(self) -> dict[str, Any]:
        """As kept; what is not there is left out."""
        return {
            "words": [_word_to_json(w) for w in self.words],
            **({"table": self.table.to_json()} if self.table else {}),
            **({"follows_unrecorded": True} if self.follows_unrecorded else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Call:
        """Inverse of `to_json`.

        Raises:
            ValueError: this is no call.
        """
        try:
            _CALL(value, "")
            words, table = _words(value["words"]), value.get("table")
            if Slot.TABLE in words and table is None:
                raise ValueError("it names a table, which is not described")
            return cls(
                words=words,
                table=None if table is None else TableRecord.from_json(table),
                follows_unrecorded=value.get("follows_unrecorded", False),
            )
        except ValueError as error:
            raise ValueError(f"not the record of a call ({error})") from error


def option_words(options: Iterable[tuple[str, Any]]) -> list[str]:
    """``--name value`` for each; nothing for None, False and what is empty, the bare name for True.

    A list or tuple gives its option once per item.
    """
    words: list[str] = []
    for option, value in options:
        if value is True:
            words.append(option)
            continue
        items = value if isinstance(value, list | tuple) else [value]
        words += [w for item in items if item is not None and item is not False for w in (option, str(item))]
    return words


def full_path(path: Path) -> str:
    """The path from the root, which stays good when folders that it only passes through go."""
    return str(path.resolve() if ".." in path.parts else path.absolute())


def describe_table(path: str | os.PathLike[str], n_rows: int) -> TableRecord:
    """What is kept of a table that a call reads."""
    file = Path(path)
    try:
        sha256 = file_sha256(file)
    except (OSError, DocumentError):
        return TableRecord(path=os.fspath(path), n_rows=n_rows, sha256="")
    made_by, of = _read_beside(file) or ((), sha256)
    return TableRecord(
        path=full_path(file), n_rows=n_rows, sha256=sha256, made_by=made_by, is_changed=of != sha256
    )


def check_beside(table: Path) -> None:
    """Refuse to note a call where something else stands, before the work.

    Raises:
        ConfigError: the file beside the table is none of ours.
    """
    beside = _beside(table)
    if beside.exists() and _read_beside(table) is None:
        raise ConfigError(
            f"--out {table}: the call is noted beside it, in {beside.name}, and this file is not one of ours "
            "and would be lost; choose another name"
        )


def is_as_written(table: Path) -> bool:
    """Whether a table is what the call that is noted beside it wrote."""
    try:
        return (_read_beside(table) or ((), ""))[1] == file_sha256(table)
    except DocumentError:
        return False


def write_beside(table: Path, words: Iterable[Word]) -> None:
    """Note beside a table which call wrote it.

    Raises:
        StoreError: it cannot be written.
    """
    content = {"words": [_word_to_json(w) for w in words], "sha256": file_sha256(table)}
    beside = _beside(table)
    with writing(beside, "free some room and make the manifest again"):
        put_file((json_text(content, indent=2) + "\n").encode(), beside)


def _beside(table: Path) -> Path:
    return table.with_name(table.name + BESIDE_SUFFIX)


def _read_beside(table: Path) -> tuple[tuple[Word, ...], str] | None:
    """Words of the call that wrote a table, and the table's hash then; None where that is not known."""
    try:
        content = read_json_document(_beside(table))
        _BESIDE(content, "")
        words = _words(content["words"])
    except ValueError:
        return None
    return None if Slot.STORE in words else (words, content["sha256"])


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DocumentError: it is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _word_to_json(word: Word) -> str | dict[str, str]:
    return {"slot": word.value} if isinstance(word, Slot) else word


def _words(value: Iterable[Any]) -> tuple[Word, ...]:
    """Raises ValueError where these are no words of a command that makes something."""
    words = tuple(w if isinstance(w, str) else Slot(w["slot"]) for w in value)
    if words and words[0] not in _COMMANDS:
        raise ValueError(f"not a command that makes something: {words[0]}")
    return words
