"""A YAML file as plain values, with the line of every key; values given on the command line put over it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.errors import Mistakes
from featurestore.names import is_whole_number
from featurestore.untrusted.documents import INT_MAX, INT_MIN, MOST_DEPTH, DocumentError, read_bytes
from featurestore.untrusted.schema_mistakes import Place, shown
from studies.study_file.mistakes import Found

# Long beyond any study by hand; the parser needs some 20 µs a character.
MOST_BYTES = 256 << 10
# With what aliases stand for, each time they do: a page of them can mean any number of values.
MOST_VALUES = 50_000
_TAG = "tag:yaml.org,2002:"
# YAML 1.2 as ruamel reads it, without what few expect: 010 and 1_000 are texts.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o[0-7]+)")
_ROOT: Place = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """A study file as it stands, before anything is known of its meaning.

    Attributes:
        path: the file.
        value: maps, lists, texts, numbers, booleans and None.
        lines: place → line, from 1.
        overrides: place → ``--set KEY=VALUE`` that put a value there.
        text: of the file.
    """

    path: Path
    value: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    overrides: dict[Place, str] = field(default_factory=dict)
    text: str = ""

    def where(self, place: Place) -> str:
        """What to call a place in a message: ``FILE:LINE``, or the option that put the value there."""
        for n in range(len(place), -1, -1):
            if place[:n] in self.overrides:
                return self.overrides[place[:n]]
            if place[:n] in self.lines:
                return f"{self.path}:{self.lines[place[:n]]}"
        return str(self.path)


def read_document(path: Path, overrides: Sequence[str] = ()) -> tuple[Document, Found]:
    """Read a study file.

    Args:
        path: the file.
        overrides: ``KEY=VALUE`` each: a dotted path such as ``probings.main.seeds``, and a YAML value.

    Returns:
        The document, and what is wrong with it so far: keys that stand twice, tags.

    Raises:
        Mistakes: no YAML, or an override that names nothing.
    """
    try:
        data = read_bytes(path, most_bytes=MOST_BYTES)
        text = data.decode("utf-8-sig")
    except DocumentError as error:
        raise Mistakes([f"{path}: cannot be read ({error})"]) from error
    except UnicodeDecodeError as error:
        raise Mistakes([_no_text(path, data, error.start, error.reason)]) from error
    if (at := data.find(b"\0")) >= 0:
        raise Mistakes([_no_text(path, data, at, "a NUL byte")])
    document = Document(path=path, value={}, text=text)
    found = Found(document.where)
    reader = _Reader(found, document.lines)
    value = reader.read(text, f"{path}:")
    if value is None and not document.lines:
        raise Mistakes([f"{path}:1: expected a study (store, corpora, models, probings), the file is empty"])
    if not isinstance(value, dict):
        raise Mistakes([f"{path}:1: expected keys with values (store: …), got {shown(value)}"])
    document.value.update(value)
    for override in overrides:
        _put(document, override)
    return document, found


def _no_text(path: Path, data: bytes, at: int, reason: str) -> str:
    """That a file is no text, by the place of its first byte that is none."""
    line = data[:at].count(b"\n") + 1
    is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:2].count(0) == 1
    kind = "this seems to be UTF-16" if is_utf_16 else "got other bytes"
    return f"{path}:{line}: expected UTF-8 text, {kind} ({reason}); save it as UTF-8"


def _put(document: Document, override: str) -> None:
    """Put the value of ``KEY=VALUE`` over what the file says."""
    where = f"--set {override}"
    key, sign, text = override.partition("=")
    if not sign or not key.strip("."):
        raise Mistakes([f"{where}: expected KEY=VALUE, such as probings.main.seeds=3"])
    lines: dict[Place, int] = {}
    reader = _Reader(Found(lambda _: where), lines)
    value = reader.read(text, f"{where}:")
    reader.found.raise_if_any()
    place = _ROOT
    at: Any = document.value
    rest = key
    while True:
        name, rest = _next_key(at, rest)
        if isinstance(at, list):
            if not (is_whole_number(name) and int(name) < len(at)):
                raise Mistakes([f"{where}: expected a number below {len(at)} in place of {name!r}"])
            step: str | int = int(name)
        elif isinstance(at, dict):
            step = name
        else:
            raise Mistakes([f"{where}: {'.'.join(map(str, place))} is {shown(at)} and has no key {name!r}"])
        place = (*place, step)
        if not rest:
            at[step] = value
            break
        if isinstance(at, dict) and at.get(name) is None:
            at[name] = {}
        at = at[step]
    # Lines of the file are none of the new value's.
    for old in [p for p in (*document.lines, *document.overrides) if p[: len(place)] == place]:
        document.lines.pop(old, None)
        document.overrides.pop(old, None)
    document.overrides[place] = where


def _next_key(at: Any, path: str) -> tuple[str, str]:
    """The first key of a dotted path, and what follows; names may hold dots: the longest there is counts."""
    if isinstance(at, dict):
        for name in sorted(at, key=len, reverse=True):
            if path == name or path.startswith(f"{name}."):
                return name, path[len(name) + 1 :]
    first, _, rest = path.partition(".")
    return first, rest


class _TooMany(Exception):
    """More values than a study by hand has."""


class _Reader:
    """Turns the nodes of a YAML text into plain values.

    Args:
        found: takes what is wrong.
        lines: filled with the line of every place.
    """

    def __init__(self, found: Found, lines: dict[Place, int]) -> None:
        self.found = found
        self.lines = lines
        self._n_values = 0
        self._open: set[int] = set()

    def read(self, text: str, where: str) -> Any:
        """The value of a text.

        Raises:
            Mistakes: no YAML; the parser knows no more than the first place.
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import ReusedAnchorWarning, YAMLError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML has it that the last one counts
                node = YAML(typ="safe", pure=True).compose(io.StringIO(text))
        except YAMLError as error:
            raise Mistakes([_reason(error, where)]) from error
        except RecursionError:
            raise Mistakes([f"{where} expected at most {MOST_DEPTH} levels, it has more"]) from None
        except ValueError as error:  # such as a character that no text may hold
            raise Mistakes([f"{where} no YAML ({' '.join(str(error).split())})"]) from error
        try:
            return None if node is None else self._value(node, _ROOT)
        except _TooMany:
            raise Mistakes(
                [f"{where} expected at most {MOST_VALUES:,} values, aliases (*name) make more of them"]
            ) from None

    def _value(self, node: Any, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if len(place) > MOST_DEPTH:
            self.found.add(place[:3], f"expected at most {MOST_DEPTH} levels, it has more")
            return None
        self._n_values += 1
        if self._n_values > MOST_VALUES:
            raise _TooMany
        if node.id == "scalar":
            return self._scalar(node, place)
        # An alias is the node that it names, once more, with the lines of that.
        if id(node) in self._open:
            self.found.add(place, "expected no alias (*name) of what it stands in")
            return None
        expected = {"mapping": "map", "sequence": "seq"}[node.id]
        if str(node.tag) != f"{_TAG}{expected}":
            self.found.add(place, f"expected no tag, got {str(node.tag).removeprefix(_TAG)!r}; leave it out")
            return None
        self._open.add(id(node))
        try:
            if node.id == "sequence":
                return [self._value(item, (*place, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, place: Place, taken: Set[str] = frozenset()) -> dict[str, Any]:
        """The values of a map by key, but for keys that are taken already."""
        values: dict[str, Any] = {}
        merged: list[Any] = []
        for key, item in node.value:
            line = key.start_mark.line + 1
            if str(key.tag) == f"{_TAG}merge":
                merged += item.value if item.id == "sequence" else [item]
                self.lines[(*place, key.value)] = line
                continue
            if key.id != "scalar":
                self.lines[(*place, "?")] = line
                self.found.add((*place, "?"), "expected a name as key")
                continue
            name = key.value
            if "\0" in name:
                self.lines[(*place, "?")] = line
                self.found.add((*place, "?"), f"expected a name without NUL characters, got {name!r}")
                continue
            if name in taken:
                continue
            at = (*place, name)
            if name in values:
                first = self.lines[at]
                self.lines[at] = line
                self.found.add(at, f"this key stands twice (line {first} has it too); keep one of them")
                self.lines[at] = first
                continue
            self.lines[at] = line
            values[name] = self._value(item, at)
        for other in merged:
            values = {**self._merged(other, place, {*taken, *values}), **values}
        return values

    def _merged(self, node: Any, place: Place, taken: Set[str]) -> dict[str, Any]:
        """What ``<<: *name`` brings to a map: the keys that it does not have itself."""
        at = (*place, "<<")
        if node.id != "mapping":
            self.found.add(at, "expected the alias of a map (<<: *name), or a list of such aliases")
            return {}
        if id(node) in self._open:
            self.found.add(at, "expected no alias (*name) of what it stands in")
            return {}
        self._open.add(id(node))
        try:
            return self._mapping(node, place, taken)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: Any, place: Place) -> Any:
        tag, text = str(node.tag).removeprefix(_TAG), node.value
        if "\0" in text:
            self.found.add(place, f"expected a text without NUL characters, got {shown(text)}")
            return text.replace("\0", "")
        if node.style is not None or tag in ("str", "timestamp"):
            if tag not in ("str", "timestamp", "int", "float", "bool", "null"):
                self.found.add(place, f"expected no tag, got {tag!r}; leave it out")
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in ("true", "yes", "on", "y")
        if tag == "int":
            if not _INT.fullmatch(text):
                return text
            number = int(text, 0)
            if not INT_MIN <= number <= INT_MAX:
                self.found.add(place, "expected a number of 64 bits at most")
                return None
            return number
        if tag == "float":
            try:
                return float(text.replace(".inf", "inf").replace(".nan", "nan").lower())
            except ValueError:
                return text
        self.found.add(place, f"expected no tag, got {tag!r}; leave it out")
        return None


def _reason(error: Any, where: str) -> str:
    """What the parser says, on one line; its marks count from 0."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    if "\\t" in problem:
        problem = "a tab; indent with spaces"
    # An unclosed quotation is noticed at the end of the file: where it began says more.
    context = getattr(error, "context", None)
    begun = getattr(error, "context_mark", None)
    if context and begun is not None and begun.line != getattr(mark, "line", None):
        problem = f"{problem} ({context} from line {begun.line + 1})"
    line = f"{mark.line + 1}:" if mark is not None and where.endswith(":") and "--set" not in where else ""
    return f"{where}{line} no YAML: {problem}"
