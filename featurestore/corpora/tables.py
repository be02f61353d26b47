"""What all readers share: text tables, folders of audio, ids, and the search for missing files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from featurestore.corpora.interface import NO_GROUP, Corpus, CorpusTable, Draft
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.manifest.table import CONTRACT_COLUMNS, RESERVED_COLUMNS
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, mend_number, read_table

# Formats that libsndfile reads (https://libsndfile.github.io/libsndfile/formats.html).
_SUFFIXES = ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .rf64 .caf"
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())
# Audio that it does not.
_UNREAD = ".aac .amr .cbin .m4a .mp4 .wac .webm .wma"
UNREAD_SUFFIXES = frozenset(_UNREAD.split())
MAX_NAMED = 10


def read_text_table(
    path: Path,
    required: Sequence[str],
    *,
    filled: Sequence[str] = (),
    separator: str = ",",
    quoted: bool = True,
) -> pd.DataFrame:
    """A delimited file with every cell as text, byte for byte; see `featurestore.untrusted.text_table`.

    Args:
        path: The file.
        required: Columns that it must have.
        filled: Of these, the columns in which no cell may be empty, such as file names.
        separator: Between cells.
        quoted: Whether ``"`` encloses cells.

    Raises:
        ManifestError: no such file, not a table, a required column is not there, or a cell is empty.
    """
    try:
        table = read_table(path, separator=separator, quoted=quoted)
    except TextTableError as error:
        hint = f"; expected a table with {_list(required)}" if not path.exists() else ""
        raise ManifestError(f"{path}: {error}{hint}") from error
    absent = [c for c in required if c not in table.columns]
    if absent:
        raise ManifestError(
            f"{path}: expected columns {_list(required)}, got {_list(table.columns)}; "
            f"column {absent[0]!r} is not there{_meant(absent[0], table.columns)}"
        )
    for name in filled:
        empty = np.flatnonzero((table[name].str.strip() == "").to_numpy())
        if len(empty):
            raise ManifestError(
                f"{path}: row {int(table.index[empty[0]]) + FIRST_ROW}: {name!r} is empty; fill it in or "
                f"remove the row ({count(len(empty), 'such row')})"
            )
    return table


def _meant(name: str, columns: Iterable[str]) -> str:
    """`did_you_mean` that takes other case, blanks and signs (``Begin.Time..s.`` of R) for the same name."""
    plain = {re.sub(r"[\W_]+", "", c.casefold()): c for c in columns}
    same = plain.get(re.sub(r"[\W_]+", "", name.casefold()))
    return f"; did you mean {same!r}? rename it" if same else did_you_mean(name, columns)


def first_file(root: Path, names: Iterable[str]) -> Path:
    """The first of `names` that exists below `root`.

    Raises:
        ManifestError: none does.
    """
    candidates = list(names)
    for name in candidates:
        if (root / name).is_file():
            return root / name
    found = "no such file" if len(candidates) == 1 else "none of them"
    raise ManifestError(f"{root}: expected {' or '.join(candidates)} in this folder, found {found}")


def seconds(cells: pd.Series, source: Path) -> pd.Series:
    """Text cells as float64 seconds.

    Raises:
        ManifestError: a cell is not a number; names the file, the row as a spreadsheet counts (the index
            of `cells` plus 2), and the cell.
    """
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy()))
    if len(bad):
        first = int(bad[0])
        cell = cells.iloc[first]
        raise ManifestError(
            f"{source}: row {int(cells.index[first]) + FIRST_ROW}: expected a number of seconds in "
            f"{cells.name!r}, got {cell!r}{mend_number(cell) or '; correct it'} "
            f"({count(len(bad), 'such row')})"
        )
    return numbers


def list_files(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> list[str]:
    """Files below `root` with one of these suffixes (any case), relative, with ``/``, sorted.

    Hidden files (``._name.wav`` of macOS archives) and ``__MACOSX`` are passed over. The order is that
    of the composed (NFC) names, the same on every file system.

    Raises:
        ManifestError: a folder cannot be read.
    """
    wanted = tuple(s.lower() for s in suffixes)
    found = [name for name in _walk(root) if name.lower().endswith(wanted)]
    return sorted(found, key=lambda name: (nfc(name), name))


def _walk(root: Path) -> Iterator[str]:
    """Every file below `root` that is not hidden, relative."""

    def stop(error: OSError) -> None:
        raise ManifestError(
            f"{error.filename}: this folder cannot be read ({error.strerror}); allow it, or move it elsewhere"
        )

    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=stop):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = [d for d in inner if not d.startswith(".") and d != "__MACOSX"]
        relative = PurePosixPath(os.path.relpath(folder, root).replace(os.sep, "/"))
        yield from (str(relative / n) for n in names if not n.startswith("."))


def left_out(root: Path, read: Iterable[str] = AUDIO_SUFFIXES, of: Iterable[str] = ()) -> tuple[str, ...]:
    """The note about files below `root` with other suffixes than those `read`, counted by suffix.

    Args:
        root: the folder.
        read: the suffixes that are read, lower case.
        of: only files with one of these suffixes count; default all.
    """
    wanted, counted = tuple(read), tuple(of)
    sizes: Counter[str] = Counter()
    folders: dict[bool, set[str]] = {True: set(), False: set()}
    for name in _walk(root):
        is_read = name.lower().endswith(wanted)
        if is_read or not counted or name.lower().endswith(counted):
            folders[is_read].update(map(str, PurePosixPath(name).parents))
            sizes[PurePosixPath(name).suffix.lower() or "without a suffix"] += not is_read
    said = [f"{n:,} {suffix}" for suffix, n in sorted(sizes.items(), key=lambda i: (-i[1], i[0])) if n]
    if not said:
        return ()
    n = sum(sizes.values())
    empty = sorted(folders[False] - folders[True])
    lost = f"; nothing is read from {name_some(empty)}" if empty else ""
    return (
        f"left out {count(n, 'file')} that {'is' if n == 1 else 'are'} not read: {', '.join(said)}{lost}",
    )


def clip_rows(root: Path, files: pd.Series, **columns: pd.Series) -> pd.DataFrame:
    """Rows of a `Draft`: the files below `root`, then `columns`, all with the same index."""
    return pd.DataFrame({"file": files, "path": files.map(lambda f: str(root / f)), **columns})


def passed_over(files: Sequence[str], why: str = "named otherwise") -> tuple[str, ...]:
    """The note about files that are no clips of the corpus; none where there are none."""
    return (f"passed over {count(len(files), 'file')} {why}: {name_some(files)}",) if len(files) else ()


def look_up(column: pd.Series, found: Mapping[str, str], otherwise: str = "") -> pd.Series:
    """Each cell's entry in `found`, as text even if there is none for any of them."""
    return column.map(lambda cell: found.get(cell, otherwise)).astype("str")


def is_reserved(name: str) -> bool:
    """Whether a label column cannot have this name."""
    return name in ("file", *CONTRACT_COLUMNS, *RESERVED_COLUMNS)


def plain_path(path: str) -> str:
    """An absolute path without ``..``, which is gone when a folder is that it only passes through."""
    if not {".", ".."} & set(path.split(os.sep)):
        return path
    folder, name = os.path.split(path)
    if name in (".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), name)


def _plain_once() -> Callable[[str], str]:
    """`plain_path` of many paths of which most are the same."""
    known: dict[str, str] = {}
    return lambda path: known[path] if path in known else known.setdefault(path, plain_path(path))


def nfc(text: str) -> str:
    """Composed Unicode: an ``ñ`` of a macOS folder (n + tilde) equals the ``ñ`` of a table."""
    return unicodedata.normalize("NFC", text)


def stem(name: str) -> str:
    """File name without folders and last suffix, of a name with ``/``."""
    return PurePosixPath(name).stem


def count(n: int, noun: str) -> str:
    """``1 row``, ``2 rows``, ``72,920 rows``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def name_some(names: Sequence[str]) -> str:
    """The first ten names and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def finish(
    corpus: Corpus, draft: Draft, source: Path, *, allow_missing: bool, group: str | None
) -> CorpusTable:
    """Turn a draft into a table in the manifest contract.

    Raises:
        ConfigError: `group` is not one that this draft offers.
        ManifestError: no rows, a label named like a contract column, or audio files missing.
    """
    rows, notes = draft.rows.reset_index(drop=True), list(draft.notes)
    labels = [c for c in rows.columns if c not in (*CONTRACT_COLUMNS, "file")]
    clash = [c for c in labels if c in RESERVED_COLUMNS or not str(c).strip()]
    if clash:
        raise ManifestError(f"{source}: a label column cannot be named {str(clash[0])!r}; rename it")
    if not len(rows):
        raise ManifestError(
            f"{source}: found no utterances of {corpus.title}; see its layout in docs/corpora.md"
        )
    meaning, group_cells = _choose_group(corpus, draft, [str(c) for c in labels], group)
    table = pd.DataFrame(
        {
            "path": rows["path"].astype("str").map(_plain_once()),
            "start_s": _floats(rows, "start_s"),
            "end_s": _floats(rows, "end_s"),
            "channel": pd.Series(rows.get("channel", pd.NA), index=rows.index, dtype="Int64"),
            "split": rows.get("split", ""),
            "group": group_cells.reset_index(drop=True) if group_cells is not None else "",
            **{c: rows[c] for c in labels},
        }
    )
    given = rows.get("utterance_id")
    table.insert(0, "utterance_id", make_ids(rows["file"], table) if given is None else given)
    text = [c for c in table.columns if c not in ("start_s", "end_s", "channel")]
    table[text] = table[text].astype("str")
    table = _drop_empty_stretches(table, notes)
    _note_repeats(table, notes)
    table, missing, n_lost = _drop_missing(corpus, table, source, allow_missing, draft.hint)
    if corpus.published_rows is not None and len(table) != corpus.published_rows:
        notes.append(f"{count(len(table), 'row')} here, {corpus.published_rows:,} in the published corpus")
    return CorpusTable(
        table=table.reset_index(drop=True),
        group=meaning,
        missing=missing,
        n_rows_lost=n_lost,
        notes=tuple(notes),
    )


def make_ids(files: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Ids that depend on nothing but the corpus: ``Walrus/72021005``, ``data/x:1.5-2#0``.

    File name without suffix, ``:start-end`` for a segment, ``#channel`` for one channel. Two files that
    differ only in their suffix keep it; a repeated row gets ``~2``, ``~3``, …
    """
    unique = pd.Series(files.unique(), dtype=object)
    bare = unique.map(lambda f: nfc(str(PurePosixPath(f).with_suffix(""))))
    clash = bare.duplicated(keep=False)
    name_of = dict(zip(unique, bare.where(~clash, unique.map(nfc)), strict=True))
    ids = files.map(name_of).astype("str")
    segment = table["start_s"].notna() | table["end_s"].notna()
    if segment.any():
        times = ":" + _plain(table["start_s"]) + "-" + _plain(table["end_s"])
        ids = ids + times.where(segment, "")
    if table["channel"].notna().any():
        ids = ids + ("#" + table["channel"].astype("string")).fillna("").astype("str")
    repeat = ids.groupby(ids).cumcount() + 1
    return ids + ("~" + repeat.astype("str")).where(repeat > 1, "")


def _choose_group(
    corpus: Corpus, draft: Draft, labels: Sequence[str], group: str | None
) -> tuple[str, pd.Series | None]:
    """What the group stands for, one sentence, and its cells; "" and None for no group."""
    if group == NO_GROUP or (group is None and not draft.groups):
        return "", None
    name = group if group is not None else next(iter(draft.groups))
    if name in draft.groups:
        return f"{name}: {corpus.groups[name]}", draft.groups[name]
    if name in labels:
        return f"{name}: the label column of that name", draft.rows[name]
    offers = ", ".join(dict.fromkeys([*draft.groups, *labels, NO_GROUP]))
    raise ConfigError(f"corpus {corpus.name} cannot group by {name!r} here; it offers {offers}")


def _drop_empty_stretches(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    # A manifest does not allow them: no audio lies between the two times.
    empty = (table["end_s"] <= table["start_s"].fillna(0.0)) | (table["start_s"] < 0)
    if not empty.any():
        return table
    notes.append(
        f"dropped {count(int(empty.sum()), 'row')} whose end is not after its start: "
        + name_some(list(table.loc[empty, "utterance_id"]))
    )
    return table[~empty]


def _note_repeats(table: pd.DataFrame, notes: list[str]) -> None:
    """Say which rows stand for a stretch of sound that an earlier row has; they are kept."""
    again = table.duplicated(["path", "start_s", "end_s", "channel"])
    if again.any():
        n = int(again.sum())
        verb = "names" if n == 1 else "name"
        names = name_some(list(table.loc[again, "utterance_id"]))
        notes.append(f"{count(n, 'row')} {verb} the same sound as an earlier row: {names}")


def _drop_missing(
    corpus: Corpus, table: pd.DataFrame, source: Path, allow_missing: bool, hint: Callable[[], str]
) -> tuple[pd.DataFrame, tuple[str, ...], int]:
    paths = table["path"].unique()
    absent = [str(p) for p in paths if not os.path.isfile(p)]
    if not absent:
        return table, (), 0
    lost = table["path"].isin(absent)
    inside = [os.path.relpath(p, source if source.is_dir() else source.parent) for p in absent]
    names = [path if name.startswith("..") else name for name, path in zip(inside, absent, strict=True)]
    said = (
        f"{source}: {len(absent):,} of {count(len(paths), 'audio file')} of {corpus.title} missing, "
        f"which costs {int(lost.sum()):,} of {count(len(table), 'row')}: {name_some(names)}"
    )
    if not allow_missing:
        elsewhere = hint()
        said += f"; {elsewhere}" if elsewhere else ""
        raise ManifestError(f"{said}; complete the copy, or leave those rows out with --allow-missing")
    if lost.all():
        raise ManifestError(f"{said}; nothing is left, so check that this is the right folder")
    return table[~lost], tuple(names), int(lost.sum())


def _floats(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, index=rows.index, dtype="float64")
    return rows[column].astype("float64")


def _plain(times: pd.Series) -> pd.Series:
    """Seconds in their shortest exact form, without ``.0``; "" where not given."""
    cells = ["" if np.isnan(t) else repr(float(t)).removesuffix(".0") for t in times.to_numpy()]
    return pd.Series(cells, index=times.index, dtype="str")


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names)) or "none"
