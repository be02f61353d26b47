"""The utterance table: which stretch of which file, its id, and its labels.

A manifest is CSV or Parquet. ``path`` is required (relative to the manifest's folder, absolute, or the URL of
an object in a bucket); ``utterance_id``, ``start_s``, ``end_s``, ``channel``, ``split`` and ``group`` are
optional; every other column is a label. Labels and ids are text and survive byte for byte: ``007`` stays
``007``, ``NA`` stays ``NA``, an empty cell means *no label*.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import pandas as pd

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import (
    MARK,
    NO_MEMBER_NAME,
    file_of,
    kind_of,
    member_path,
    plain_member,
    split_member,
)
from featurestore.archives.object_file import is_object, look_at_all, split_object
from featurestore.archives.opened import open_archive
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import (
    ANNOTATION_COLUMNS,
    RECORDER_COLUMNS,
    near_misses,
    not_in_seconds,
)
from featurestore.outputs import put_file
from featurestore.printable import counted
from featurestore.untrusted.parquet_tables import read_parquet_cells
from featurestore.untrusted.text_table import (
    FIRST_ROW,
    OtherSeparatorError,
    TextTableError,
    mend_number,
    numbers_of,
    read_table,
)

#: Which stretch of which file a row is.
PLACE_COLUMNS = ("path", "start_s", "end_s", "channel")
CONTRACT_COLUMNS = ("utterance_id", *PLACE_COLUMNS, "split", "group")
#: Of these, those that are no text.
NUMBER_COLUMNS = ("start_s", "end_s", "channel")
#: Of manifests inside a store only; see `Manifest.found_audio`.
FOUND_COLUMN = "found_audio"
RESERVED_COLUMNS = ("row", "status", "n_frames", "duration_s", "audio_hash", FOUND_COLUMN)
MOST_CHANNELS = 1024
SPLIT_PARTS = ("train", "val", "test")
MAX_REPORTED_PROBLEMS = 20
# In a bucket, whose tables of contents are read.
_ARCHIVES_AT_ONCE = 8
# Of a recording, 300 years; and of its channels.
MOST_SECONDS = 1e10
HIGHEST_RECORDED_CHANNEL = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A validated manifest.

    Attributes:
        table: one row per utterance, RangeIndex, columns ``utterance_id, path, start_s, end_s, channel,
            split, group`` followed by the labels. ``path`` is absolute; ``start_s``/``end_s`` are float64
            seconds (NaN: from the start / to the end of the file); ``channel`` is Int64 counted from 0
            (NA: all channels); all other columns are str, "" where nothing is given.
        source: the file it was read from, for messages.
        found_audio: of manifests inside a store: utterance id → hash, size and time of what was found at the
            row's place, where that place is not the one it was embedded from; see
            `featurestore.store.sound_identity`.
    """

    table: pd.DataFrame
    source: str
    found_audio: Mapping[str, str] = field(default_factory=dict)

    @property
    def label_columns(self) -> list[str]:
        """Names of the label columns, in file order."""
        return [c for c in self.table.columns if c not in CONTRACT_COLUMNS]

    def __len__(self) -> int:
        return len(self.table)


def learnable_columns(columns: Iterable[str]) -> list[str]:
    """Label columns that hold something to be learned: all but what annotations and recorders say besides."""
    others = {*CONTRACT_COLUMNS, *ANNOTATION_COLUMNS, *RECORDER_COLUMNS}
    return [str(c) for c in columns if c not in others]


def read_manifest(
    path: str | os.PathLike[str], *, check_files: bool = True, allow_empty: bool = False
) -> Manifest:
    """Read and validate a whole manifest before anything else starts.

    Args:
        path: a ``.csv`` or ``.parquet`` file, in any case.
        check_files: also require that every audio file exists.
        allow_empty: rows may end where they start, or before: they hold no audio, and count as rows.

    Raises:
        ManifestError: one line with all problems found (up to 20), each with its row number. Rows are
            counted as a spreadsheet shows them: the header is row 1, blank rows and comments count. A column
            that seems to stand for one of the contract's, such as ``start``, is refused: it would be a label.
    """
    source = Path(path)
    table = read_cells(source)
    columns = list(table.columns)
    _check_names(columns, source)
    clashes = sorted(set(columns) & set(RESERVED_COLUMNS))
    if clashes:
        raise ManifestError(
            f"{source}: column name {clashes[0]!r} is reserved for the store; rename that column"
        )
    if len(table) == 0:
        raise ManifestError(f"{source}: expected at least one utterance, found a header only")
    return from_table(
        table, source=str(source), base=source.parent, check_files=check_files, allow_empty=allow_empty
    )


def _check_names(columns: list[str], source: Path) -> None:
    """Refuse a table without paths, and names that differ from one of the contract's by a slip."""
    unnamed = next((i for i, c in enumerate(columns, start=1) if is_unnamed(c)), 0)
    if unnamed:
        raise ManifestError(
            f"{source}: column {unnamed} has no name; name it, or remove it (of row numbers: "
            "index=False in pandas, row.names=FALSE in R)"
        )
    if any("\n" in c for c in columns):
        raise ManifestError(f"{source}: every column needs a name on one line; found {columns!r}")
    if lost := not_in_seconds(columns):
        raise ManifestError(f"{source}: {lost}")
    if padded := [c for c in columns if c != c.strip()]:
        name = padded[0].strip()
        hint = f"did you mean {name!r}? " if name in CONTRACT_COLUMNS else ""
        raise ManifestError(
            f"{source}: column {padded[0]!r} has blanks around its name; {hint}"
            "remove the blanks behind separators"
        )
    found = ", ".join(map(repr, columns)) or "no columns"
    absent = "path" not in columns
    if missed := near_misses(columns):
        mapped = ",".join(f"{ours}={theirs}" for ours, theirs in missed.items())
        what = "a column 'path'" if absent else " and ".join(map(repr, missed))
        raise ManifestError(
            f"{source}: expected {what}, found {found}; did you mean {next(iter(missed))}? rename "
            f"{' and '.join(map(repr, missed.values()))}, or have it read by "
            f"`fs manifest table {shlex.quote(str(source))} --columns {shlex.quote(mapped)} --out NEW.csv`"
        )
    if absent:
        raise ManifestError(
            f"{source}: expected a column 'path', found {found}; "
            "add a column 'path' with one audio file per row"
        )


def is_unnamed(column: str) -> bool:
    """Whether a column has no name: pandas reads one and writes ``Unnamed: 0``."""
    return not column.strip() or re.fullmatch(r"Unnamed: \d+", column) is not None


def from_table(
    table: pd.DataFrame, *, source: str, base: Path, check_files: bool = True, allow_empty: bool = False
) -> Manifest:
    """Validate a table of text cells; see `read_manifest`. Relative paths are taken from `base`.

    Its index + `FIRST_ROW` is the row that a message names.
    """
    rows = table.index.to_numpy() + FIRST_ROW
    problems = _Problems(source, rows)
    given = {name: table[name].astype(object).to_numpy() for name in table.columns}
    raw = dict.fromkeys(CONTRACT_COLUMNS, np.full(len(table), "", dtype=object)) | given

    paths, split = raw["path"], raw["split"]
    problems.where(paths == "", lambda i: "empty path; give an audio file")
    start, end = (_parse_seconds(raw[name], name, problems) for name in ("start_s", "end_s"))
    effective_start = np.where(np.isnan(start), 0.0, start)
    problems.where(
        (end <= effective_start) & (not allow_empty),
        lambda i: f"end_s {end[i]:g} is not after start_s {effective_start[i]:g}; swap or correct them",
    )
    problems.where(start < 0, lambda i: f"start_s {start[i]:g} is negative; times count from 0")
    channel = _parse_channel(raw["channel"], problems)
    problems.where(
        ~np.isin(split.astype(str), (*SPLIT_PARTS, "")),
        lambda i: f"split {split[i]!r}; expected train, val, test or nothing",
    )

    ids = given["utterance_id"] if "utterance_id" in given else _derived_ids(raw)
    _check_ids(ids, "utterance_id" in given, problems, rows)

    root = os.path.abspath(base)
    given_paths = (str(p) for p in paths)
    absolute = np.array(
        plain_paths(p if is_object(p) else os.path.join(root, p) for p in given_paths), dtype=object
    )
    problems.where(
        np.array([bool(_object_problem(p)) for p in absolute]), lambda i: _object_problem(absolute[i])
    )
    if check_files:
        _check_files(absolute, paths, problems)
    problems.raise_if_any()

    read = {"utterance_id": ids, "path": absolute, "start_s": start, "end_s": end, "channel": channel}
    clean = pd.DataFrame(raw | read)
    text = [c for c in clean.columns if c not in NUMBER_COLUMNS]
    return Manifest(table=clean.astype(dict.fromkeys(text, "str")), source=source)


def _derived_ids(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    """Default utterance ids: the path as written, without its suffix, plus times and channel if given.

    ``a/b.wav`` from 1.5 to 2 s becomes ``a/b:1.5-2``. The text of the times is kept as it stands in the
    manifest, so that the id does not depend on how floats are printed.
    """
    cells = [list(map(str, raw[name])) for name in PLACE_COLUMNS]
    ids = []
    for p, s, e, c in zip(*cells, strict=True):
        stem, _ = _stem_and_suffix(p)
        times = f":{s}-{e}" if s or e else ""
        ids.append(stem + times + (f"#{c}" if c else ""))
    # Two files that differ only in their suffix (a.wav, a.flac) keep it, so that ids stay unique.
    if len(set(ids)) < len(ids):
        seen = pd.Series(ids).duplicated(keep=False).to_numpy()
        ids = [i + _stem_and_suffix(p)[1] if d else i for i, p, d in zip(ids, cells[0], seen, strict=True)]
    return np.array(ids, dtype=object)


def _stem_and_suffix(path: str) -> tuple[str, str]:
    """A path without its suffix, and that; the cell of a Parquet file has none."""
    parts = split_member(path)
    if parts is None and is_object(path):
        return os.path.splitext(path)  # two slashes behind the scheme stay two
    if parts is None:
        plain = PurePath(path)
        return (str(plain.with_suffix("")), plain.suffix) if plain.name else (path, "")
    if kind_of(parts[0]) == "parquet":
        return path, ""
    stem, suffix = os.path.splitext(parts[1])
    return member_path(parts[0], stem), suffix


def write_manifest(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table in the manifest contract as CSV or Parquet, by suffix; missing values become "".

    Raises:
        ManifestError: the suffix is neither ``.csv`` nor ``.parquet``, or nothing can be written there.
    """
    target = check_target(path)
    text = to_text(table)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".csv":
            content = text.to_csv(index=False, lineterminator="\n", quoting=_quoting_for(text)).encode()
        else:
            content = text.to_parquet(index=False)
        put_file(content, target)
    except OSError as error:
        raise ManifestError(f"{target}: cannot be written ({error.strerror}); choose another name") from error
    return target


def check_target(path: str | os.PathLike[str]) -> Path:
    """Where a manifest is to be written, refused before anything is read if it cannot be.

    Raises:
        ManifestError: a URL, a folder, or a suffix that is neither ``.csv`` nor ``.parquet``.
    """
    target = Path(path)
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise ManifestError(f"{target}: expected a name ending in .csv or .parquet")
    if re.match(r"[a-z0-9]+:/", str(target)):
        raise ManifestError(f"{target}: expected a file on this machine; only stores can be remote")
    if target.is_dir():
        raise ManifestError(f"{target}: expected a file to write, this is a folder; choose another name")
    return target


def to_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every cell as text; floats in shortest exact form, missing values as ""."""
    return pd.DataFrame({c: _cells_as_text(table[c]) for c in table.columns}, index=table.index)


def to_csv_text(manifest: Manifest) -> str:
    """The manifest as CSV text, for keeping inside a store."""
    text = to_text(manifest.table)
    if manifest.found_audio:
        text[FOUND_COLUMN] = [manifest.found_audio.get(i, "") for i in text["utterance_id"]]
    return text.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)


def _quoting_for(text: pd.DataFrame) -> Literal[0, 1]:
    """Quote all where a cell holds a carriage return: pandas writes it bare and reads a line end."""
    bare = any("\r" in cell for name in text.columns for cell in text[name].unique())
    return csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL


def from_csv_text(text: str, *, source: str) -> Manifest:
    """Inverse of `to_csv_text`; audio files are not looked for.

    Raises:
        ManifestError: it is none.
    """
    _check_cells(text, source)
    # The C parser of pandas before 3.1 ends a text at a NUL character.
    engine: Literal["c", "python"] = "python" if "\0" in text else "c"
    table = pd.read_csv(
        io.StringIO(text), dtype=str, keep_default_na=False, na_filter=False, index_col=False, engine=engine
    )
    if table["utterance_id"].duplicated().any():
        raise ManifestError(f"{source}: an utterance_id stands twice")
    found: dict[str, str] = {}
    if FOUND_COLUMN in table:
        column = table.pop(FOUND_COLUMN)
        found = dict(zip(table["utterance_id"][column != ""], column[column != ""], strict=True))
    # Whether rows may hold no audio was asked when the key was made.
    manifest = from_table(table, source=source, base=Path(), check_files=False, allow_empty=True)
    return replace(manifest, found_audio=found)


def _check_cells(text: str, source: str) -> None:
    """Refuse what pandas would fill up: memory is taken for the cells that stand in a stored manifest.

    Raises:
        ManifestError: a contract column is missing, a column stands twice or is the store's own, or a row has
            more or fewer cells than there are columns.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # labels may be as long as they like
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = next(rows, [])
        if not set(CONTRACT_COLUMNS) <= set(columns) or len(set(columns)) != len(columns):
            raise ManifestError(f"{source}: its columns are not those of a stored manifest")
        if {*columns} & {*RESERVED_COLUMNS} - {FOUND_COLUMN}:
            raise ManifestError(f"{source}: a column of the name of one of the store's own")
        n = len(columns)
        wrong = next((i for i, row in enumerate(rows) if len(row) != n), None)
    except csv.Error as error:
        raise ManifestError(f"{source}: not a readable table ({error})") from error
    if wrong is not None:
        raise ManifestError(f"{source}: row {wrong + 2} has another number of cells than the {n} columns")


def read_cells(source: Path) -> pd.DataFrame:
    """A CSV or Parquet file as text cells, whatever its columns; see `read_table`.

    Raises:
        ManifestError: no such file, not such a table, or cells that are no text and no numbers.
    """
    if not source.is_file():
        what = "this is no file" if source.exists() else "no such manifest file"
        raise ManifestError(f"{source}: {what}; expected a .csv or .parquet file")
    suffix = source.suffix.lower()
    try:
        if suffix == ".parquet":
            table = read_parquet_cells(source)
            _refuse_nested(table)
            return to_text(table)
        if suffix == ".csv":
            return read_table(source)
    except OtherSeparatorError as error:
        reader = f"fs manifest table {shlex.quote(str(source))} --out NEW.csv"
        raise ManifestError(f"{source}: {error}, or have it read by `{reader}`") from error
    except TextTableError as error:
        raise ManifestError(f"{source}: {error}") from error
    except (ValueError, OSError) as error:  # DocumentError among them
        reason = " ".join(str(error).split())
        raise ManifestError(f"{source}: not a readable table ({reason})") from error
    raise ManifestError(f"{source}: expected a .csv or .parquet file, got {source.suffix or 'no suffix'!r}")


def _refuse_nested(table: pd.DataFrame) -> None:
    """Cells of Parquet that Python would write out in its own way, such as ``b'dog'`` and ``['dog']``."""
    for name in table.columns:
        if pd.api.types.is_object_dtype(table[name].dtype) or isinstance(table[name].dtype, pd.ArrowDtype):
            odd = table[name].map(
                lambda cell: isinstance(cell, (bytes, bytearray, np.ndarray, list, dict, tuple))
            )
            if odd.any():
                row = int(odd.to_numpy().argmax())
                kind = type(table[name].iloc[row])
                what = "bytes" if issubclass(kind, (bytes, bytearray)) else "a list or a struct"
                mend = "decode them" if what == "bytes" else "join a set of labels with '|', sorted"
                raise ManifestError(
                    f"column {str(name)!r}, row {row + FIRST_ROW}: expected text, got {what}; {mend}"
                )


def _cells_as_text(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _cells_as_text(column.astype(column.cat.categories.dtype))
    if pd.api.types.is_float_dtype(column.dtype):
        # Shortest text that reads back as this number in its own precision: 0.1 of float32 is "0.1".
        own = column.dropna().to_numpy().dtype
        number = own.type if own in (np.float32, np.float16) else np.float64
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = np.isfinite(values) & (values == np.trunc(values)) & (np.abs(values) < 2**53)
        cells = [
            "" if np.isnan(v) else str(int(v) if w else number(v)) for v, w in zip(values, whole, strict=True)
        ]
        return pd.Series(cells, index=column.index, dtype="str")
    missing = column.isna()
    return column.astype(object).where(~missing, "").map(str).astype("str")


def _parse_numbers(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers, float64 `[n]`, NaN where a cell is none; and which cells are empty, bool `[n]`."""
    return numbers_of(pd.Series(cells)), cells == ""


def _parse_seconds(cells: np.ndarray, name: str, problems: _Problems) -> np.ndarray:
    numbers, empty = _parse_numbers(cells)
    problems.where(
        ~(np.abs(numbers) <= MOST_SECONDS) & ~empty,
        lambda i: f"{name} {cells[i]!r} is not a number of seconds{mend_number(cells[i])}",
    )
    return numbers


def _parse_channel(cells: np.ndarray, problems: _Problems) -> pd.Series:
    numbers, empty = _parse_numbers(cells)
    # libsndfile opens no file of more; a number beyond 64 bits would come out as another one.
    good = (numbers >= 0) & (numbers < MOST_CHANNELS) & (numbers == np.trunc(numbers))
    problems.where(
        ~good & ~empty,
        lambda i: f"channel {cells[i]!r}; expected a whole number from 0 to {MOST_CHANNELS - 1}",
    )
    return pd.Series(np.where(good, numbers, np.nan)).astype("Int64")


def _check_ids(ids: np.ndarray, given: bool, problems: _Problems, rows: np.ndarray) -> None:
    problems.where(ids == "", lambda i: "empty utterance_id")
    duplicated = pd.Series(ids).duplicated(keep="first").to_numpy()
    if not duplicated.any():
        return
    how = "make it unique" if given else "give an utterance_id column, or remove the repeated row"
    problems.where(
        duplicated & (ids != ""),
        lambda i: (
            f"utterance_id {ids[i]!r} stands already in row {rows[int((ids == ids[i]).argmax())]}; {how}"
        ),
    )


def nfc(text: str) -> str:
    """Composed Unicode: an ``ñ`` of a macOS folder (n + tilde) equals the ``ñ`` of a table."""
    return unicodedata.normalize("NFC", text)


def plain_paths(paths: Iterable[str]) -> list[str]:
    """Absolute paths without ``.`` and ``..``; those of members of archives too.

    ``/a/b/../x.wav`` is gone when ``b`` is, and is another name for the same file.
    """
    real = cache(os.path.realpath)

    def plain(path: str) -> str:
        parts = split_member(path)
        if parts is None and is_object(path):
            return path  # names of objects are what they are: nothing leads out of a bucket
        if parts is not None:
            # A name that leads out of its archive stays, to be refused.
            return member_path(plain(parts[0]), plain_member(parts[1]) or parts[1])
        if "/." not in path or not {".", ".."} & set(path.split(os.sep)):
            return path
        folder, name = os.path.split(path)
        return real(path) if name in (".", "..") else os.path.join(real(folder), name)

    return [plain(path) for path in paths]


def _check_files(absolute: np.ndarray, written: np.ndarray, problems: _Problems) -> None:
    # lexists: a broken link or a folder is somebody's recording gone wrong, recorded as a failed clip; a name
    # that is not there at all is a manifest gone wrong.
    named = {p for p in set(absolute) if not _object_problem(p)}
    inside = {p: parts for p in named if (parts := split_member(p)) is not None}
    exists = {p: is_object(p) or p in inside or os.path.lexists(p) for p in set(absolute)}
    looks = look_at_all(sorted({file_of(p) for p in named if is_object(p)}))
    exists |= {p: look is not None for p, look in looks.items() if p in exists}
    missing = np.array([not exists[p] for p in absolute]) & (written != "")
    first, needed = _once_a_file(missing, absolute)
    problems.where(first, lambda i: _missing(written[i], absolute[i], needed(i)))
    if inside:
        _check_members(absolute, inside, problems)


def _missing(written: str, path: str, needed: str) -> str:
    if is_object(path):
        return f"no object {path!r}{needed}; correct its name, or that of the bucket"
    looked = "" if written == path else f" (looked for {path})"
    return f"no audio file {written!r}{looked}{needed}{_alike(path)}"


def _object_problem(path: str) -> str:
    """Why a path that looks like an object's in a bucket is none, without secrets; "" if it is one."""
    if not is_object(path):
        return ""
    try:
        split_object(file_of(path))
    except ValueError as error:
        return str(error)
    return ""


def _once_a_file(bad: np.ndarray, absolute: np.ndarray) -> tuple[np.ndarray, Callable[[int], str]]:
    """A file that many rows name is one problem: the first row of each, and what to say of the others."""
    bad_rows = np.flatnonzero(bad)
    _, at, n_rows = np.unique(absolute[bad_rows].astype(str), return_index=True, return_counts=True)
    first = np.zeros(len(bad), dtype=bool)
    first[bad_rows[at]] = True
    of_row = dict(zip(bad_rows[at].tolist(), n_rows.tolist(), strict=True))
    return first, lambda i: f", which {of_row[i]:,} rows need" if of_row[i] > 1 else ""


def _check_members(absolute: np.ndarray, inside: Mapping[str, tuple[str, str]], problems: _Problems) -> None:
    """Members that are not in their archives; an archive that cannot be read is one problem.

    Args:
        absolute: path of every row.
        inside: archive and member of the paths that name one.
        problems: where they go.
    """
    of_archive: dict[str, list[str]] = {}
    for path, (archive, _) in inside.items():
        of_archive.setdefault(archive, []).append(path)
    why_not: dict[str, str] = {}
    _open_at_once(filter(is_object, of_archive))
    for archive, paths in sorted(of_archive.items()):
        try:
            problem_of = open_archive(archive).problem
        except ArchiveError as error:
            rows = np.isin(absolute, paths)
            needed = f"{counted(int(rows.sum()), 'row')} need{'s' if rows.sum() == 1 else ''} it"
            said = f"archive {archive} {error} ({needed})"
            problems.where(rows & (np.cumsum(rows) == 1), lambda _, said=said: said)  # type: ignore[misc]
            continue
        twice = _named_alike(archive)
        for path in paths:
            member = inside[path][1]
            problem = problem_of(member) if plain_member(member) else NO_MEMBER_NAME
            if problem:
                why_not[path] = f"member {member!r} of {archive} {problem}"
            elif twice and os.path.lexists(path):
                why_not[path] = f"{path!r} is a file, and the name of a member of an archive; rename the file"
    first, of_rows = _once_a_file(np.array([p in why_not for p in absolute]), absolute)
    problems.where(first, lambda i: why_not[absolute[i]] + of_rows(i) + _alike_member(*inside[absolute[i]]))


def _open_at_once(archives: Iterable[str]) -> None:
    """Read the tables of contents of archives in buckets side by side, and leave what is wrong to the next.

    Raises:
        AudioUnreachable: the service does not answer.
    """

    def opened(archive: str) -> None:
        with suppress(ArchiveError):
            open_archive(archive)

    with ThreadPoolExecutor(_ARCHIVES_AT_ONCE) as pool:
        list(pool.map(opened, archives))


def _alike_member(archive: str, member: str) -> str:
    """What an archive holds instead of a member that it does not; "" if nothing is like it."""
    if kind_of(archive) == "parquet" or not plain_member(member):
        return ""
    members, like = open_archive(archive).members(), nfc(member).casefold()
    near = next((m for m in members if m != member and nfc(m).casefold() == like), "")
    return f"; there is {near!r}" if near else ""


def _named_alike(archive: str) -> bool:
    """Whether files lie beside an archive whose own names look like those of its members."""
    if is_object(archive):  # whose name never is that of an object
        return False
    folder, name = os.path.split(archive)
    return any(other.startswith(name + MARK) for other in os.listdir(folder))


def _alike(path: str) -> str:
    """What is there instead of a file that is not, for the end of a message; "" if nothing is like it."""
    place = Path(path)
    if "\\" in path and os.path.lexists(path.replace("\\", "/")):
        return "; write / between folders"
    while not os.path.isdir(place.parent):  # nor is a name that no system takes
        place = place.parent
    name = nfc(place.name)
    try:
        there = {n: nfc(n) for n in sorted(os.listdir(place.parent))}
    except OSError:
        return ""
    if name in there.values():
        return (
            f"; it is there with {place.name!r} in another Unicode form: take the name from the folder, or "
            "have the table read by `fs manifest table`"
        )
    near = next((n for n, composed in there.items() if composed.casefold() == name.casefold()), "")
    return f"; there is {near!r}" if near else ""


class _Problems:
    """Collects problems by row and raises one error that names the first of them."""

    def __init__(self, source: str, rows: np.ndarray) -> None:
        self._source = source
        self._count = 0
        self._rows = rows
        self._found: list[tuple[int, str]] = []

    def where(self, mask: np.ndarray, message: Callable[[int], str]) -> None:
        rows = np.flatnonzero(mask)
        self._count += len(rows)
        # Of all kinds the first rows are shown: of each kind no more can be among them.
        self._found += [(int(i), message(int(i))) for i in rows[:MAX_REPORTED_PROBLEMS]]

    def raise_if_any(self) -> None:
        if not self._found:
            return
        self._found.sort(key=lambda item: item[0])
        shown = [f"row {self._rows[i]}: {m}" for i, m in self._found[:MAX_REPORTED_PROBLEMS]]
        more = self._count - len(shown)
        tail = f"; and {more} more" if more else ""
        count = f"{self._count} problem{'s' if self._count > 1 else ''}"
        raise ManifestError(f"{self._source}: {count}: " + "; ".join(shown) + tail)
