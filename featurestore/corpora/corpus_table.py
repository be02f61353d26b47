"""From what a reader found to a table in the manifest contract: ids, groups, and files that are missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.archives.opened import is_there
from featurestore.corpora.audio_files import bare_name, name_some
from featurestore.corpora.interface import NO_GROUP, Corpus, CorpusTable, Draft
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.table import CONTRACT_COLUMNS, NUMBER_COLUMNS, RESERVED_COLUMNS, nfc, plain_paths
from featurestore.printable import counted


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
    meaning, group_cells = _chosen_group(corpus, draft, [str(c) for c in labels], group)
    table = pd.DataFrame(
        {
            "path": plain_paths(rows["path"].astype("str")),
            "start_s": pd.Series(rows.get("start_s"), index=rows.index, dtype="float64"),
            "end_s": pd.Series(rows.get("end_s"), index=rows.index, dtype="float64"),
            "channel": pd.Series(rows.get("channel", pd.NA), index=rows.index, dtype="Int64"),
            "split": rows.get("split", ""),
            "group": group_cells,
            **{c: rows[c] for c in labels},
        }
    )
    given = rows.get("utterance_id")
    table.insert(0, "utterance_id", _ids_of(rows["file"], table) if given is None else given)
    text = [c for c in table.columns if c not in NUMBER_COLUMNS]
    table[text] = table[text].astype("str")
    table = _without_empty_stretches(table, notes, keep=draft.keep_empty)
    _note_repeats(table, notes)
    table, missing, n_lost = _drop_missing(corpus, table, source, allow_missing, draft.hint)
    if corpus.published_rows is not None and len(table) != corpus.published_rows:
        notes.append(f"{counted(len(table), 'row')} here, {corpus.published_rows:,} in the published corpus")
    return CorpusTable(
        table=table.reset_index(drop=True),
        group=meaning,
        missing=missing,
        n_rows_lost=n_lost,
        notes=tuple(notes),
    )


def _ids_of(files: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Ids that depend on nothing but the corpus: ``Walrus/72021005``, ``data/x:1.5-2#0``.

    File name without suffix, ``:start-end`` for a segment, ``#channel`` for one channel. Two files that
    differ only in their suffix keep it; a repeated row gets ``~2``, ``~3``, …
    """
    unique = pd.Series(files.unique(), dtype=object)
    bare = unique.map(lambda f: nfc(bare_name(f)))
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


def _chosen_group(
    corpus: Corpus, draft: Draft, labels: Sequence[str], group: str | None
) -> tuple[str, pd.Series | str]:
    """What the group stands for, one sentence, and its cells; both "" for no group."""
    if group == NO_GROUP or (group is None and not draft.groups):
        return "", ""
    name = group if group is not None else next(iter(draft.groups))
    if name in draft.groups:
        return f"{name}: {corpus.groups[name]}", draft.groups[name].reset_index(drop=True)
    if name in labels:
        return f"{name}: the label column of that name", draft.rows[name].reset_index(drop=True)
    offers = ", ".join(dict.fromkeys([*draft.groups, *labels, NO_GROUP]))
    raise ConfigError(f"corpus {corpus.name} cannot group by {name!r} here; it offers {offers}")


def _without_empty_stretches(table: pd.DataFrame, notes: list[str], *, keep: bool) -> pd.DataFrame:
    """Drop what no manifest allows, or allows where asked: no audio lies between the two times."""
    negative = table["start_s"] < 0
    empty = (table["end_s"] <= table["start_s"].fillna(0.0)) & ~negative
    names = table["utterance_id"]
    if keep and empty.any():
        notes.append(
            f"kept {counted(int(empty.sum()), 'row')} whose end is not after its start; `fs extract` takes "
            "them with --preset sarkar2025 or --segments librosa, as failed: " + name_some(list(names[empty]))
        )
    dropped = negative if keep else negative | empty
    if dropped.any():
        notes.append(
            f"dropped {counted(int(dropped.sum()), 'row')} whose end is not after its start: "
            + name_some(list(names[dropped]))
        )
    return table[~dropped]


def _note_repeats(table: pd.DataFrame, notes: list[str]) -> None:
    """Say which rows stand for a stretch of sound that an earlier row has; they are kept."""
    again = table.duplicated(["path", "start_s", "end_s", "channel"])
    if again.any():
        n = int(again.sum())
        verb = "names" if n == 1 else "name"
        names = name_some(list(table.loc[again, "utterance_id"]))
        notes.append(f"{counted(n, 'row')} {verb} the same sound as an earlier row: {names}")


def _drop_missing(
    corpus: Corpus, table: pd.DataFrame, source: Path, allow_missing: bool, hint: Callable[[], str]
) -> tuple[pd.DataFrame, tuple[str, ...], int]:
    paths = table["path"].unique()
    absent = [str(p) for p in paths if not is_there(str(p))]
    if not absent:
        return table, (), 0
    lost = table["path"].isin(absent)
    inside = [os.path.relpath(p, source if source.is_dir() else source.parent) for p in absent]
    names = [path if name.startswith("..") else name for name, path in zip(inside, absent, strict=True)]
    said = (
        f"{source}: {len(absent):,} of {counted(len(paths), 'audio file')} of {corpus.title} missing, "
        f"which costs {int(lost.sum()):,} of {counted(len(table), 'row')}: {name_some(names)}"
    )
    if not allow_missing:
        elsewhere = hint()
        said += f"; {elsewhere}" if elsewhere else ""
        raise ManifestError(f"{said}; complete the copy, or leave those rows out with --allow-missing")
    if lost.all():
        raise ManifestError(f"{said}; nothing is left, so check that this is the right folder")
    return table[~lost], tuple(names), int(lost.sum())


def _plain(times: pd.Series) -> pd.Series:
    """Seconds in their shortest exact form, without ``.0``; "" where not given."""
    cells = ["" if np.isnan(t) else repr(float(t)).removesuffix(".0") for t in times.to_numpy()]
    return pd.Series(cells, index=times.index, dtype="str")
