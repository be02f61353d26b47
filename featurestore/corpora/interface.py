"""The one interface of all corpora: where a data set comes from, and how it becomes a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError, ManifestError

if TYPE_CHECKING:  # pandas stays unloaded until a corpus is read
    import pandas as pd

NO_GROUP = "none"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a reader found, before files are looked for and ids are given.

    Attributes:
        rows: one row per utterance in manifest order: ``path`` (absolute), ``file`` (the name inside the
            corpus that ids are made of), optionally ``start_s``, ``end_s``, ``channel``, ``split``, and
            ``utterance_id`` where the corpus has ids of its own; every other column is a label.
        groups: group columns that the corpus offers, by name, aligned with `rows`; the first is the default.
        notes: what was dropped, merged or guessed, one sentence each.
        keep_empty: rows whose end is not after their start stay.
        hint: says where audio that is missing may lie instead; "" if it does not know.
    """

    rows: pd.DataFrame
    groups: Mapping[str, pd.Series] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    keep_empty: bool = False
    hint: Callable[[], str] = str


@dataclass(frozen=True, kw_only=True)
class CorpusTable:
    """A table in the manifest contract and the report of how it came about.

    Attributes:
        table: ``utterance_id, path, start_s, end_s, channel, split, group``, then the labels.
        group: what `group` stands for in this table, one sentence; "" if it is empty.
        missing: names of the audio files that were not there (only with ``allow_missing``).
        n_rows_lost: rows of those files, left out of the table.
        notes: what was dropped, merged or guessed, one sentence each.
    """

    table: pd.DataFrame
    group: str
    missing: tuple[str, ...]
    n_rows_lost: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A published data set or an annotation format.

    Attributes:
        name: what the user types. title, licence, citation, where: for people.
        groups: the units that ``group`` may stand for, each with one sentence.
        options: what `read` takes beyond ``group``, each with one sentence.
        reader: ``reader(source, **options) -> Draft``.
        takes_file: a single file will do as the source.
        published_rows: clips of the complete corpus, to tell a partial copy; None if it varies.
    """

    name: str
    title: str
    licence: str
    citation: str
    where: str
    groups: Mapping[str, str]
    reader: Callable[..., Draft]
    options: Mapping[str, str] = field(default_factory=dict)
    published_rows: int | None = None
    takes_file: bool = False

    def read(
        self,
        source: str | Path,
        *,
        allow_missing: bool = False,
        group: str | None = None,
        **options: Any,
    ) -> CorpusTable:
        """Read the user's copy of the corpus.

        Args:
            source: folder (or annotation file) of the copy.
            allow_missing: leave out rows whose audio is missing instead of raising.
            group: which of `groups`, or which label column, to fill in; default the corpus's first,
                "none" for none.
            **options: see `options`.

        Raises:
            ConfigError: an option or a group that this corpus does not have.
            ManifestError: files are missing, or the annotations are not as published.
        """
        from featurestore.corpora.corpus_table import finish

        root = Path(source).absolute()
        if ".." in root.parts:  # such a path is gone when a folder is that it only passes through
            root = root.resolve()
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            has = ", ".join(sorted(self.options)) or "none"
            raise ConfigError(f"corpus {self.name} has no option {unknown[0]!r}; it has {has}")
        if not root.exists():
            raise ManifestError(
                f"{root}: no such file or folder; expected a copy of {self.title} ({self.where})"
            )
        if root.is_file() and not self.takes_file:
            raise ManifestError(f"{root}: expected the folder of {self.title}, got a file; give its folder")
        try:
            found = finish(self, self.reader(root, **options), root, allow_missing=allow_missing, group=group)
            for column in found.table.select_dtypes(exclude="number"):
                "".join(map(str, found.table[column].unique())).encode()
            return found
        except UnicodeEncodeError as error:  # JSON can hold halves of characters, and no file of text can
            text = error.object[max(0, error.start - 20) : error.end + 20]
            raise ManifestError(f"{root}: {text!r} is no text that can be written; correct it") from None
