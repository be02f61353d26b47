"""From a corpus to a manifest file, with the label tools applied on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featurestore.calls import (
    Slot,
    Word,
    check_beside,
    full_path,
    is_as_written,
    option_words,
    write_beside,
)
from featurestore.corpora.background import BackgroundRequest, add_background
from featurestore.corpora.interface import CorpusTable
from featurestore.corpora.option_kinds import PLACES
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError
from featurestore.manifest.labels import (
    LabelReport,
    apply_mapping,
    derive_label,
    drop_small_classes,
    explode_labels,
    read_mapping,
)
from featurestore.manifest.table import check_target, write_manifest
from featurestore.names import is_whole_number
from featurestore.outputs import check_file, columns_there


@dataclass(frozen=True, kw_only=True)
class ManifestRequest:
    """What `fs manifest` was asked for.

    Attributes:
        corpus: name in the registry.
        source: folder or annotation file.
        out: manifest to write, ``.csv`` or ``.parquet``.
        allow_missing: leave out rows whose audio is missing.
        group: which unit of independence to fill in.
        options: options of this corpus.
        derive: new label columns, ``NEW=COLUMN:REGEX``.
        mapping: CSV file of classes to rename, merge or drop.
        min_class_size: ``COLUMN=N``.
        explode: columns of label sets to spread over one column per class.
        background: the class of what is not annotated; None: none.
    """

    corpus: str
    source: Path
    out: Path
    allow_missing: bool = False
    group: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    derive: Sequence[str] = ()
    mapping: Path | None = None
    min_class_size: Sequence[str] = ()
    explode: Sequence[str] = ()
    background: BackgroundRequest | None = None


def make_manifest(request: ManifestRequest) -> tuple[CorpusTable, list[LabelReport]]:
    """Read a corpus, change its labels as asked, write the manifest; give the table that was written.

    Raises:
        UserError: one line; see `Corpus.read` and `featurestore.manifest.labels`.
    """
    check_target(request.out)
    check_file(request.out)
    if request.out.exists() and "path" not in columns_there(request.out):
        raise ConfigError(f"--out {request.out}: this file is no manifest and would be lost; choose another")
    if request.out.exists() and request.source.exists() and request.out.samefile(request.source):
        raise ConfigError(
            f"--out {request.out}: this is the source, which would be lost; choose another name"
        )
    check_beside(request.out)
    if request.out.exists() and not is_as_written(request.out):
        raise ConfigError(
            f"--out {request.out}: this manifest was made by hand, or changed since fs wrote it, and would "
            "be lost; choose another name, or move it away"
        )
    corpus = get_corpus(request.corpus)
    found = corpus.read(
        request.source, allow_missing=request.allow_missing, group=request.group, **dict(request.options)
    )
    table, reports = found.table, []
    for text in request.derive:
        new, _, rule = text.partition("=")
        column, colon, pattern = rule.partition(":")
        if not (new and column and colon and pattern):
            raise ConfigError(f"--derive: expected NEW=COLUMN:REGEX, got {text!r}")
        table, report = derive_label(table, new, column, pattern)
        reports.append(report)
    if request.mapping is not None:
        table, changed = apply_mapping(table, read_mapping(request.mapping))
        reports.extend(changed)
    for text in request.min_class_size:
        column, _, number = text.rpartition("=")
        if not column or not is_whole_number(number):
            raise ConfigError(f"--min-class-size: expected COLUMN=N, got {text!r}")
        table, report = drop_small_classes(table, column, int(number))
        reports.append(report)
    if request.background is not None:
        table, report, notes = add_background(table, request.background)
        reports.append(report)
        found = replace(found, notes=(*found.notes, *notes))
    for column in request.explode:
        table, report = explode_labels(table, column)
        reports.append(report)
    write_manifest(table, request.out)
    write_beside(request.out, manifest_words(request))
    return replace(found, table=table), reports


def manifest_words(request: ManifestRequest) -> tuple[Word, ...]:
    """The call that makes this manifest, from any folder."""
    own = {k: full_path(Path(v)) if k in PLACES else v for k, v in request.options.items()}
    options = {
        "allow_missing": request.allow_missing,
        "group": request.group,
        **own,
        "map": None if request.mapping is None else full_path(request.mapping),
        "min_class_size": tuple(request.min_class_size),
        "derive": tuple(request.derive),
        "explode": tuple(request.explode),
        **({} if request.background is None else request.background.options),
    }
    given = option_words((f"--{name.replace('_', '-')}", value) for name, value in options.items())
    return ("manifest", request.corpus, full_path(request.source), "--out", Slot.TABLE, *given)
