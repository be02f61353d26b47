"""Files that may be anybody's, as plain values: nothing hangs, nothing grows, nothing nests without end.

JSON and YAML files that others hand on (results, saved probes, model folders, settings) are read here and
nowhere else, and come out as dicts, lists, texts, numbers, booleans and None; what these have to be says
`featurestore.untrusted.document_shape`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

# The longest that is written here is `_run.json` of a thousand folds of a thousand groups: some 20 MB.
MOST_BYTES = 64 << 20
# What the values of a document may take in memory; see `_expected_memory`.
MOST_MEMORY_BYTES = 256 << 20
# YAML is what people write by hand, and its parser needs some 10 µs a character.
MOST_YAML_BYTES = 128 << 10
# Ours have five levels. Recursive code of any library goes to some hundreds.
MOST_DEPTH = 40
# What fits into the integers of NumPy, Arrow and the C of other libraries.
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class DocumentError(ValueError):
    """Why a file is no such document: one clause without the file's name."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file: a pipe would be waited for, a device has no end.

    Raises:
        DocumentError: what it is.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DocumentError(_reason(error)) from error
    _require_regular(found)


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """A file on disk, to be read; see `require_regular`.

    Raises:
        DocumentError: it is none, or cannot be opened or read.
    """
    require_regular(path)
    try:
        # What has become a pipe meanwhile is not waited for either.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            _require_regular(os.fstat(descriptor))
            yield file
    except OSError as error:
        raise DocumentError(_reason(error)) from error


def read_bytes(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a file that is not longer than a document can be.

    Raises:
        DocumentError: no regular file, a longer one, or it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most_bytes:
            data = file.read(most_bytes + 1)  # it may grow meanwhile
            size = len(data)
        if size > most_bytes:
            raise DocumentError(f"expected at most {most_bytes:,} bytes, it has {size:,}")
        return data


def read_json_document(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> Any:
    """A JSON file; see `parse_json`.

    Raises:
        DocumentError: see `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path, most_bytes=most_bytes))


def parse_json(text: bytes | str) -> Any:
    """JSON (in UTF-8), as plain values.

    Raises:
        DocumentError: no JSON, a key that stands twice in an object, more than `MOST_DEPTH` levels, an
            integer beyond 64 bits, or more values than belong in memory.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    if (n := _expected_memory(data)) > MOST_MEMORY_BYTES:
        raise DocumentError(f"has too many values for a document, some {n >> 20:,} MiB of them")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise DocumentError(f"no JSON: {error}") from None
    _require_plain(value)
    return value


def read_yaml_document(path: str | os.PathLike[str], *, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """A YAML (or JSON) file; see `parse_yaml`.

    Raises:
        DocumentError: see `read_bytes` and `parse_yaml`.
    """
    return parse_yaml(read_bytes(path, most_bytes=most_bytes))


def parse_yaml(data: bytes) -> Any:
    """YAML (in UTF-8), as people write it: ``1e-3`` is a number, ``12:30:00`` and dates are text.

    Raises:
        DocumentError: no YAML of plain values, a key that stands twice, an alias (``*name``: a page of them
            makes any number of values), more than `MOST_DEPTH` levels, an integer beyond 64 bits.
    """
    import yaml

    try:
        value = yaml.load(data.decode("utf-8-sig"), Loader=_loader())
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise _too_deep() from None
    except DocumentError:
        raise
    except yaml.YAMLError as error:
        raise DocumentError(f"no YAML: {_yaml_reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:  # of texts behind a tag
        raise DocumentError(f"no YAML of plain values: {' '.join(str(error).split())}") from error
    _require_plain(value)
    return value


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise DocumentError(f"expected a file, this is {kind}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return "no such file" if error.errno == errno.ENOENT else os.strerror(error.errno).lower()
    return " ".join(str(error).split())


def _expected_memory(data: bytes) -> int:
    """Bytes that the values of a JSON text take at most: of CPython 3.11, without the text itself."""
    # An empty dict takes 64 bytes, one of one key 184; a text 49 and more; each 8 for the place it stands in.
    return 80 * (data.count(b"[") + data.count(b"{")) + 60 * data.count(b",") + 180 * data.count(b":")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DocumentError(f"the key {twice!r} stands twice in an object")
    return made


def _integer(digits: str) -> int:
    if len(digits) > 20:  # longer than any of 64 bits; int() takes its time with many
        raise DocumentError(f"an integer beyond 64 bits ({digits[:12]}…)")
    return int(digits)


def _require_plain(value: Any) -> None:
    level: list[Any] = [value]
    for depth in range(MOST_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict | list) and depth == MOST_DEPTH:
                raise _too_deep()
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int):
                if not INT_MIN <= item <= INT_MAX:
                    raise DocumentError("an integer beyond 64 bits")
            elif not isinstance(item, str | float | None):
                raise DocumentError(f"expected plain values, got a {type(item).__name__}")
        if not below:
            return
        level = below


def _yaml_reason(error: Any) -> str:
    """What a `YAMLError` says, in one clause."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + " ".join(str(problem or error).split())


def _too_deep() -> DocumentError:
    return DocumentError(f"expected at most {MOST_DEPTH} levels, one in the other; it has more")


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(
                    None, None, "expected no alias (*name): write the values out", mark
                )
            self.depth += 1
            if self.depth > MOST_DEPTH + 1:
                raise _too_deep()
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            names: set[Hashable] = set()
            for key, _ in node.value:
                name = self.construct_object(key, deep=True)
                if isinstance(name, Hashable) and name in names:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{name!r} stands twice; keep one, values in a list", node.start_mark
                    )
                if isinstance(name, Hashable):
                    names.add(name)
            return super().construct_mapping(node, deep=deep)

    # In YAML 1.1 12:30:00 is 45000, to the base of 60: a batch system would take it for minutes.
    # And 010 is 8 there.
    kept = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in kept]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern in (
        ("int", r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)"),
        # YAML 1.1 takes 1e-3 for a text.
        ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"),
        ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+"),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    ):
        whole = re.compile(f"(?:{pattern})$")
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", whole, list("-+.0123456789"))
    return Loader
