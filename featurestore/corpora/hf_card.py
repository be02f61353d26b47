"""The card of a Hugging Face data set: the YAML in front of its ``README.md``, with subsets and features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from featurestore.corpora.hf_features import OTHER, Feature, class_names
from featurestore.errors import ManifestError
from featurestore.untrusted.documents import MOST_YAML_BYTES, DocumentError, parse_yaml, read_bytes

NAME = "README.md"
_RULE = b"---"


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A part of a data set that is read by itself; ``datasets`` calls it a configuration.

    Attributes:
        name: of it.
        files: pairs of a split's name and a pattern of file names, relative to the card.
        is_default: whether it is meant where none is named.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    is_default: bool = False

    def split_of(self, file: str) -> str | None:
        """The split of a file; None where it is not of this subset."""
        return next((split for split, pattern in self.files if fnmatchcase(file, pattern)), None)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    Attributes:
        subsets: with files, in order.
        features: of each subset ("default" where the card names none), by column.
    """

    subsets: tuple[Subset, ...] = ()
    features: Mapping[str, Mapping[str, Feature]] = field(default_factory=dict)

    def features_of(self, subset: str | None) -> Mapping[str, Feature]:
        """Features of a subset, or of the only one."""
        if subset is None and len(self.features) == 1:
            return next(iter(self.features.values()))
        return self.features.get(subset or "default", {})


def read_card(folder: Path) -> Card:
    """The card in a folder; an empty one where there is none, or none with YAML.

    Raises:
        ManifestError: its YAML is none.
    """
    path = folder / NAME
    if not path.is_file():
        return Card()
    try:
        head = _front(read_bytes(path))
        document = parse_yaml(head) if head else {}
        if not isinstance(document, dict):
            return Card()
        features = dict(_features(document.get("dataset_info")))
        return Card(subsets=tuple(_subsets(document.get("configs"))), features=features)
    except DocumentError as error:
        raise ManifestError(
            f"{path}: the YAML in front of it: {error}; correct it, or remove the file"
        ) from None


def _front(text: bytes) -> bytes:
    lines = text.removeprefix(b"\xef\xbb\xbf").splitlines()
    if not lines or lines[0].strip() != _RULE:
        return b""
    stop = next((i for i, line in enumerate(lines[1:], start=1) if line.strip() == _RULE), None)
    if stop is None:
        return b""
    head = b"\n".join(lines[1:stop])
    if len(head) > MOST_YAML_BYTES:
        raise DocumentError(f"has {len(head):,} bytes, more than {MOST_YAML_BYTES:,}")
    return head


def _items(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [] if said is None else [said]


def _subsets(said: Any) -> Iterator[Subset]:
    for one in _items(said):
        if isinstance(one, dict) and "config_name" in one:
            files = tuple(_files(one.get("data_files")))
            if files:
                yield Subset(
                    name=str(one["config_name"]), files=files, is_default=bool(one.get("default", False))
                )


def _files(said: Any) -> Iterator[tuple[str, str]]:
    for one in _items(said):
        if isinstance(one, dict):
            for pattern in _items(one.get("path")):
                yield str(one.get("split", "")), str(pattern)
        else:
            yield "", str(one)


def _features(said: Any) -> Iterator[tuple[str, dict[str, Feature]]]:
    for one in _items(said):
        if isinstance(one, dict) and isinstance(one.get("features"), list):
            columns = [c for c in one["features"] if isinstance(c, dict) and isinstance(c.get("name"), str)]
            yield str(one.get("config_name", "default")), {c["name"]: _of_yaml(c) for c in columns}


def _of_yaml(said: Mapping[str, Any]) -> Feature:
    """A column as cards have it: ``dtype: audio``, ``dtype: {class_label: {names: …}}``, ``sequence: …``."""
    for word in ("sequence", "list"):
        if word in said:
            inner = said[word]
            found = _of_dtype(inner.get("dtype", inner) if isinstance(inner, dict) else inner)
            is_measured = isinstance(inner, str) and "float" in inner
            return Feature("set", found.names) if found.kind == "value" and not is_measured else OTHER
    return _of_dtype(said.get("dtype"))


def _of_dtype(said: Any) -> Feature:
    if isinstance(said, Mapping):
        if "audio" in said:
            return Feature("audio")
        label = said.get("class_label")
        return Feature("value", class_names(label.get("names"))) if isinstance(label, Mapping) else OTHER
    if said == "audio":
        return Feature("audio")
    return Feature("value") if isinstance(said, str) and "binary" not in said and said != "image" else OTHER


def chosen_subset(card: Card, name: str | None, source: object) -> Subset | None:
    """The subset that is meant; None where the card has none.

    Raises:
        ManifestError: there is no such subset, or there are several and none is named.
    """
    if not card.subsets:
        return None
    names = [s.name for s in card.subsets]
    if name is not None:
        found = [s for s in card.subsets if s.name == name]
        if not found:
            raise ManifestError(f"{source}: no subset {name!r}; its {NAME} has {', '.join(names)}")
        return found[0]
    default = [s for s in card.subsets if s.is_default or s.name == "default"] or list(card.subsets)
    if len(default) > 1:
        raise ManifestError(f"{source}: holds subsets {', '.join(names)}; name one with --subset")
    return default[0]


def described(names: Sequence[str]) -> str:
    """Names for a message."""
    return ", ".join(map(repr, names)) or "none"
