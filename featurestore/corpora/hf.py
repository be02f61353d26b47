"""Data sets of Hugging Face as Parquet files, with the audio inside (its `Audio` feature).

``Dataset.push_to_hub`` and ``to_parquet`` of ``datasets`` write them, and the hub's own conversion does:
``data/train-00000-of-00002.parquet``, ``<subset>/<split>/0000.parquet``. What a column is stands in each
file's schema (`featurestore.corpora.hf_features`) or in ``README.md`` (`featurestore.corpora.hf_card`). No
audio is read here: rows are members of their files (`featurestore.archives.names`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import cell_member, member_path
from featurestore.archives.opened import open_archive
from featurestore.archives.parquet_file import KEPT_BYTES, ParquetArchive
from featurestore.corpora.audio_files import bare_name, list_files, name_some
from featurestore.corpora.hf_card import NAME, chosen_subset, described, read_card
from featurestore.corpora.hf_features import Feature, schema_features
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.split_parts import part_of
from featurestore.corpora.tables import is_reserved, refuse_row
from featurestore.errors import LabelError, ManifestError, one_line
from featurestore.manifest.labels import join_labels
from featurestore.manifest.table import NUMBER_COLUMNS, to_text
from featurestore.printable import counted
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.parquet_tables import read_parquet_columns

# train-00000-of-00002, with the checksum that earlier versions added.
_NUMBERED = re.compile(r"-\d{5,}-of-\d{5,}(-[0-9a-f]{16})?$")
_NUMBER_ALONE = re.compile(r"\d+")
# The hub converts the beginning of large data sets only, and calls their splits so.
_PARTIAL = "partial-"
# What reading costs as much as decoding a clip does, about.
LARGE_GROUP_BYTES = 16 << 20
_TAKEN = {*NUMBER_COLUMNS, "group"}


def read(source: Path, *, audio_column: str | None = None, subset: str | None = None) -> Draft:
    """Read the Parquet files below `source`, or one file, in the order of their names; rows as they lie.

    Columns of classes become their names, lists of classes sets joined with ``|``; columns called
    ``start_s``, ``end_s``, ``channel``, ``group`` or ``utterance_id`` (if unique) are taken for what they
    say; other texts and numbers become labels.
    """
    root = source if source.is_dir() else source.parent
    card = read_card(root)
    files, notes = _files_and_splits(source, root, card, subset)
    tables, first, sizes = [], None, list[int]()
    for file, split in files.items():
        opened = _open(root / file)
        features = _features(opened, root / file, card.features_of(subset))
        column = _audio_column(features, opened, root / file, audio_column)
        if first is not None and (names := list(features)) != list(first):
            raise ManifestError(
                f"{root / file}: has columns {described(names)}, files before it {described(list(first))}; "
                "name one of several data sets with --subset, or give its folder"
            )
        first = features
        sizes += opened.group_bytes(column)
        tables.append(_rows(root, file, opened, features, column).assign(hf_split=split))
    rows = pd.concat(tables, ignore_index=True)
    rows.insert(0, "utterance_id", _ids(rows))
    notes = (*notes, *_large_groups(sizes))
    return _draft(rows, first or {}, source, notes)


def _large_groups(sizes: Sequence[int]) -> tuple[str, ...]:
    """The note about row groups that are read again and again; none where all fit, or are small."""
    if sum(sizes) <= KEPT_BYTES or max(sizes) <= LARGE_GROUP_BYTES:
        return ()
    return (
        f"row groups of up to {max(sizes) / 1e6:,.0f} MB of audio, of which one is read for a clip, so that "
        "`fs extract` is slow; write the files anew with small ones, to_parquet(…, batch_size=10)",
    )


def _files_and_splits(
    source: Path, root: Path, card: Any, subset: str | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Parquet files, relative, with the name of each one's split."""
    if source.is_file():
        if source.suffix.lower() != ".parquet":
            raise ManifestError(f"{source}: expected a .parquet file, or a folder of such")
        return {source.name: _split_name(source.name)}, ()
    names = list_files(root, [".parquet"])
    if not names:
        saved = (
            " (.arrow files are of save_to_disk: write them with to_parquet)"
            if list_files(root, [".arrow"])
            else ""
        )
        raise ManifestError(f"{source}: expected .parquet files in this folder, found none{saved}")
    chosen = chosen_subset(card, subset, source)
    if chosen is None:
        below = [n for n in names if subset is None or subset in PurePosixPath(n).parts[:-1]]
        if not below:
            folders = sorted({PurePosixPath(n).parts[0] for n in names if "/" in n})
            raise ManifestError(f"{source}: no folder {subset!r}; there are {described(folders)}")
        return {n: _split_name(n) for n in below}, ()
    found = {n: split or _split_name(n) for n in names if (split := chosen.split_of(n)) is not None}
    if not found:
        patterns = described([pattern for _, pattern in chosen.files])
        raise ManifestError(f"{source}: no file fits {patterns}, which {NAME} has for {chosen.name!r}")
    others = sorted(set(names) - set(found))
    left = f"left out {counted(len(others), 'file')} that {NAME} does not have in {chosen.name!r}: "
    return found, (left + name_some(others),) if others else ()


def _split_name(file: str) -> str:
    """The split that a file's name, or that of its folder, stands for, as ``datasets`` has it."""
    path = PurePosixPath(file)
    name = _NUMBERED.sub("", path.stem)
    if _NUMBER_ALONE.fullmatch(name):
        name = path.parent.name.removeprefix(_PARTIAL)
    return name


def _open(path: Path) -> ParquetArchive:
    try:
        opened = open_archive(str(path))
    except ArchiveError as error:
        raise ManifestError(f"{path}: {error}; get it once more") from None
    assert isinstance(opened, ParquetArchive)
    return opened


def _features(opened: ParquetArchive, path: Path, card: Mapping[str, Feature]) -> dict[str, Feature]:
    """Features by column; a card's, where the file itself does not say."""
    try:
        found = schema_features(opened.schema)
    except DocumentError as error:
        raise ManifestError(f"{path}: what its schema says of Hugging Face's features: {error}") from None
    if b"huggingface" not in (opened.schema.metadata or {}):
        found |= {name: card[name] for name in found if name in card}
    return found


def _audio_column(
    features: Mapping[str, Feature], opened: ParquetArchive, path: Path, wanted: str | None
) -> str:
    if wanted is not None:
        if opened.leaf(wanted) is None:
            has = described(opened.audio_columns())
            raise ManifestError(f"{path}: no column {wanted!r} of audio; bytes are in {has}")
        return wanted
    found = [name for name, f in features.items() if f.kind == "audio"] or opened.audio_columns()
    if len(found) != 1:
        what = "none" if not found else described(found)
        how = "name one with --audio-column" if found else f"its columns are {described(opened.schema.names)}"
        raise ManifestError(f"{path}: expected one column of audio, found {what}; {how}")
    if opened.leaf(found[0]) is None:
        raise ManifestError(
            f"{path}: column {found[0]!r} is said to be audio and holds no bytes, but "
            f"{opened.schema.field(found[0]).type}"
        )
    return found[0]


def _rows(
    root: Path, file: str, opened: ParquetArchive, features: Mapping[str, Feature], column: str
) -> pd.DataFrame:
    """A row for each of a file: its place, the name that the audio had, and the labels."""
    import pyarrow.compute as pc

    named = f"{column}.path" if opened.leaf(column) == f"{column}.bytes" else None
    labels = [name for name, f in features.items() if f.kind in ("value", "set") and name != column]
    leaves = [p for p in ((named,) if named else ()) if opened.has_leaf(p)]
    try:
        table = read_parquet_columns(root / file, [*leaves, *labels])
    except DocumentError as error:
        raise ManifestError(f"{root / file}: cannot be read ({one_line(error)}); get it once more") from None
    numbers = range(table.num_rows)
    place = str(root / file)
    found: dict[str, Any] = {
        "path": [member_path(place, cell_member(column, i)) for i in numbers],
        "file": [f"{PurePosixPath(file).with_suffix('')}/{i}" for i in numbers],
        "audio_name": [""] * table.num_rows,
    }
    if leaves:
        paths = pc.struct_field(table.column(column), "path").to_pylist()
        found["audio_name"] = [path or "" for path in paths]
    rows = pd.DataFrame(found)
    for name in labels:
        rows[_label_name(name)] = _cells(table.column(name), name, features[name], root / file)
    return rows


def _label_name(name: str) -> str:
    """The column of the manifest; what the manifest has its own meaning for is called ``hf_…``."""
    clash = (is_reserved(name) and name not in _TAKEN) or name in ("audio_name", "hf_split")
    return f"hf_{name}" if clash else name


def _cells(column: Any, name: str, feature: Feature, path: Path) -> Sequence[str]:
    if feature.kind == "set":
        return _sets(column.to_pylist(), name, feature.names, path)
    if feature.names is None:
        return list(to_text(pd.DataFrame({name: column.to_pandas()}))[name])
    names = feature.names
    return [_class_name(cell, name, names, path, i) for i, cell in enumerate(column.to_pylist())]


def _sets(cells: Sequence[Any], name: str, names: tuple[str, ...] | None, path: Path) -> list[str]:
    """Cells of label sets; "" where there is none."""
    found = []
    for row, cell in enumerate(cells):
        if cell is None:
            found.append("")
            continue
        labels = [str(v) if names is None else _class_name(v, name, names, path, row) for v in cell]
        try:
            found.append(join_labels(labels))
        except LabelError as error:
            raise ManifestError(f"{path}: column {name!r}, row {row} (counted from 0): {error}") from None
    return found


def _class_name(cell: Any, name: str, names: Sequence[str], path: Path, row: int) -> str:
    """The name of a class; "" of none, and of -1, which ``datasets`` has for an unknown one."""
    if cell is None or cell == -1:
        return ""
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, int) or not 0 <= cell < len(names):
        raise ManifestError(
            f"{path}: column {name!r}, row {row} (counted from 0): expected a class from 0 to "
            f"{len(names) - 1}, got {cell!r}"
        )
    return names[cell]


def _ids(rows: pd.DataFrame) -> pd.Series:
    """Names of the audio where no two are one, without folders and suffix if that will do; else file, row."""
    names = rows["audio_name"].astype("str")
    if (names != "").all():
        base = names.str.replace("\\", "/").str.rsplit("/", n=1).str[-1]
        for ids in (base.map(bare_name), base, names):
            if ids.is_unique:
                return ids
    return rows["file"].astype("str")


def _draft(
    rows: pd.DataFrame, features: Mapping[str, Feature], source: Path, notes: tuple[str, ...]
) -> Draft:
    if "hf_utterance_id" in rows and rows["hf_utterance_id"].is_unique:
        rows["utterance_id"] = rows.pop("hf_utterance_id")
    for name in NUMBER_COLUMNS:
        if name in rows:
            rows[name] = _numbers(rows[name], source)
    groups = {"group": rows.pop("group")} if "group" in rows else {}
    parts = {name: part_of(name) for name in rows["hf_split"].unique()}
    rows["split"] = rows["hf_split"].map(parts).astype("str")
    strange = sorted(name for name, part in parts.items() if not part)
    if not strange or not any(parts.values()):
        rows = rows.drop(columns="hf_split")
    if strange and any(parts.values()):
        notes = (*notes, f"{name_some(strange)}: no part of a split; the column hf_split has these names")
    lost = [name for name, f in features.items() if f.kind == "other"]
    if lost:
        notes = (*notes, f"left out {counted(len(lost), 'column')} of other kinds: {name_some(lost)}")
    return Draft(rows=rows.drop(columns="audio_name"), groups=groups, notes=notes)


def _numbers(cells: pd.Series, source: Path) -> pd.Series:
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    refuse_row(
        numbers.isna() & (cells != ""),
        source,
        lambda i: f"expected a number in {cells.name!r}, got {cells[i]!r}",
    )
    return numbers if cells.name != "channel" else numbers.astype("Int64")


HF = Corpus(
    name="hf",
    title="a data set of Hugging Face, as Parquet files with the audio inside",
    licence="see the card of the data set",
    citation="",
    where="https://huggingface.co/datasets, or Dataset.to_parquet",
    groups={"group": "the data set's own column of that name"},
    options={
        "audio_column": "which column holds the audio, where several do",
        "subset": "which subset (configuration) of the data set, by its card or by its folder",
    },
    reader=read,
    takes_file=True,
)
