"""Contrasts of sets of models that a study declared before it looked: kept beside the results they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from featurestore.errors import CorruptData
from featurestore.outputs import make_folder, put_file, writing
from featurestore.printable import json_text
from featurestore.untrusted.document_shape import exactly, many, text
from featurestore.untrusted.documents import DocumentError, read_json_document

CONTRASTS_NAME = "_contrasts.json"
_SIDE = exactly({"name": text, "models": many(text, 1)})
_CONTRASTS = many(exactly({"name": text, "family": text, "a": _SIDE, "b": _SIDE}))


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """One side of a contrast: what its models have in common ("" where they are only listed), and which."""

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DeclaredContrast:
    """The mean score of one set of models less that of another.

    Attributes:
        name: of the contrast.
        family: p-values are corrected over all contrasts of one family, in all questions.
        a, b: the sets.
    """

    name: str
    family: str
    a: ModelSet
    b: ModelSet

    @property
    def title(self) -> str:
        """What it is called in tables: family and name."""
        return self.name if self.family == self.name else f"{self.family}: {self.name}"


def write_contrasts(out: Path, contrasts: Sequence[DeclaredContrast]) -> None:
    """Keep the contrasts of a results folder; what is the same already is not written again.

    Raises:
        StoreError: it cannot be written.
    """
    path = out / CONTRASTS_NAME
    if not contrasts and not path.exists():
        return
    data = (json_text([asdict(c) for c in contrasts], indent=2) + "\n").encode()
    if path.is_file() and path.read_bytes() == data:
        return
    make_folder(out, "results")
    with writing(path, "free some room and run the same command again"):
        put_file(data, path)


def read_contrasts(out: Path) -> tuple[DeclaredContrast, ...]:
    """The contrasts declared for a results folder; none where there is no such file.

    Raises:
        CorruptData: it cannot be read.
    """
    path = out / CONTRASTS_NAME
    if not path.exists():
        return ()
    try:
        found = read_json_document(path)
        _CONTRASTS(found, "")
    except DocumentError as error:
        raise CorruptData(
            f"{path}: cannot be read ({error}); delete it and run the same `fs study` again"
        ) from error
    return tuple(
        DeclaredContrast(
            name=one["name"],
            family=one["family"],
            **{
                side: ModelSet(name=one[side]["name"], models=tuple(one[side]["models"]))
                for side in ("a", "b")
            },
        )
        for one in found
    )
