"""Keys as files of other tools: written under a temporary name, which is changed when they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featurestore.errors import ConfigError, KeyNotFound, StoreError, one_line
from featurestore.exchange.interface import Advance, Format, Selection, counter
from featurestore.exchange.registry import get_format
from featurestore.format.row_arrays import STATUS_OK
from featurestore.outputs import files_in, written_whole
from featurestore.printable import json_text
from featurestore.store.chosen_keys import chosen_keys
from featurestore.store.reader import Store, open_store
from featurestore.untrusted.documents import DocumentError, read_json_document

MARKER = "_export.json"  # readers of Parquet folders skip names that begin so
MARKER_FORMAT = "featurestore-export"
MARKER_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class KeyExport:
    """One exported key.

    Attributes:
        model, dataset: its name.
        layers: layers written.
        n_rows: committed rows.
        n_failed: rows among them whose audio failed.
        n_rows_left_out: rows of the plan that are not committed, and so are not in the export.
    """

    model: str
    dataset: str
    layers: tuple[int, ...]
    n_rows: int
    n_failed: int
    n_rows_left_out: int


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What an export wrote.

    Attributes:
        out: the file or folder.
        keys: what is in it.
        n_bytes: its size.
        notes: what was left out or renamed, one sentence each.
    """

    out: Path
    format: str
    keys: tuple[KeyExport, ...]
    n_bytes: int
    notes: tuple[str, ...]


def export(
    store_url: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002 - the word on the command line
    models: Iterable[str] | None = None,
    datasets: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Write keys of a store to files that other tools read; see docs/exchange.md for the layouts.

    Only committed rows are exported; the summary says how many are not. Memory does not grow with the
    store: one shard is held at a time, for npz one of every layer. The result appears under its name when
    it is complete; an interrupted export leaves at most a ``.…partial`` beside it.

    Args:
        store_url: the store.
        out: a file (hdf5) or a folder (all other formats).
        format: ``hdf5``, ``parquet``, ``npz`` or ``hear``.
        models: models to export; default all.
        datasets: datasets to export; default all.
        layers: which layers; default all of each key.
        overwrite: replace what stands at `out`: a file or a folder that an earlier export wrote.
        on_progress: called with rows done and rows in all, each row counted once per layer.

    Raises:
        ConfigError: an option that cannot work.
        KeyNotFound: the store does not hold a model, dataset or layer asked for.
        StoreError: `out` exists, has no room, or cannot be written; or a layer is not complete.
        CorruptData: stored bytes are damaged; nothing is exported.
    """
    kind = get_format(format)
    target = _checked_target(out)
    store = open_store(store_url)
    if "://" not in store.url and target.resolve().is_relative_to(Path(store.url).resolve()):
        raise ConfigError(f"{target} lies inside the store {store.url}; give a path outside of it")
    _check_replaceable(target, kind, overwrite)
    selections, notes = _selections(store, models, datasets, layers)
    _check_room(target, selections)
    advance = counter(sum(s.n_rows * len(s.layers) for s in selections), on_progress)
    try:
        more, n_bytes = _write(kind, selections, target, overwrite, advance)
    except StoreError:
        raise
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise StoreError(
            f"cannot write {target}: {reason}; nothing was exported, mend it and run again"
        ) from error
    keys = tuple(map(_describe, selections))
    return ExportSummary(out=target, format=kind.name, keys=keys, n_bytes=n_bytes, notes=(*notes, *more))


def _write(
    kind: Format, selections: Sequence[Selection], target: Path, overwrite: bool, advance: Advance
) -> tuple[list[str], int]:
    """Write all or nothing; notes of the format, and bytes written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target, replace=partial(_rename, overwrite=overwrite)) as place:
        if kind.is_folder:
            place.mkdir()
            (place / MARKER).write_text(_marker(kind, selections), encoding="utf-8")
        notes = kind.write(selections, place, advance)
        n_bytes = sum(f.stat().st_size for f in files_in(place))
    return notes, n_bytes


def _checked_target(out: str | os.PathLike[str]) -> Path:
    text = os.fspath(out)
    if "://" in text:
        raise ConfigError(f"--out {text}: exports are local; give a path and copy the result there")
    target = Path(os.path.abspath(text))
    if not text or not target.name:
        raise ConfigError(f"--out {text!r}: give the name of a file or folder to write")
    return target


def _check_replaceable(target: Path, kind: Format, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise StoreError(f"{target} exists; give another --out, or replace it with --overwrite")
    if kind.is_folder:
        # Never a folder that holds anything else: a slip in --out must not cost somebody's data.
        if target.is_symlink() or not target.is_dir() or not _is_export(target):
            raise StoreError(f"{target} is not a folder that an export wrote; give another --out")
    elif target.is_dir():
        raise StoreError(f"{target} is a folder, and format {kind.name} writes a file; give another --out")
    elif not (target.is_file() and kind.holds_export is not None and kind.holds_export(target)):
        raise StoreError(f"{target} is no file that an export wrote, and would be lost; give another --out")


def _is_export(folder: Path) -> bool:
    try:
        found = read_json_document(folder / MARKER)
    except DocumentError:
        return not any(folder.iterdir())
    return isinstance(found, dict) and found.get("format") == MARKER_FORMAT


def _selections(
    store: Store,
    models: Iterable[str] | None,
    datasets: Iterable[str] | None,
    layers: Iterable[int] | None,
) -> tuple[list[Selection], list[str]]:
    models, datasets = (None if asked is None else set(asked) for asked in (models, datasets))
    chosen = chosen_keys(store.storage, models, datasets)
    for what, at, asked in (("model", 0, models), ("dataset", 1, datasets)):
        there = {name[at] for name in chosen.known}
        if missing := sorted((asked or set()) - there):
            raise KeyNotFound(
                f"{store.url}: no {what} {missing[0]!r}; it holds {', '.join(sorted(there)) or 'nothing'}"
            )
    asked_layers = None if layers is None else tuple(sorted(set(layers)))
    if asked_layers == ():
        raise ConfigError("--layers: expected at least one layer")
    selections: list[Selection] = []
    notes = []
    for key in sorted([*chosen.names, *chosen.unreadable]):
        if key in chosen.unreadable:
            notes.append(f"left out: {chosen.unreadable[key]}")
            continue
        features = store.features(*key)
        selection = Selection(features=features, layers=asked_layers or tuple(features.layers))
        if not selection.n_rows or not selection.layers:
            notes.append(f"{features.model}/{features.dataset} has no committed rows and is left out")
            continue
        for layer in selection.layers:
            features.layer(layer)  # raises where it is absent or not complete, before anything is written
        notes += _parts_left_out(selection)
        selections.append(selection)
    if not selections:
        raise StoreError(f"{store.url}: nothing to export: {'; '.join(notes) or 'no key fits'}")
    return selections, notes


def _parts_left_out(selection: Selection) -> list[str]:
    key = f"{selection.features.model}/{selection.features.dataset}"
    notes = []
    if n_left_out := _n_left_out(selection):
        notes.append(
            f"{key}: {n_left_out} rows are not committed yet and are left out; "
            "run the same `fs extract` again to complete them"
        )
    if selection.features.info.frames is not None:
        notes.append(f"{key}: its frames are left out; exports hold the functionals")
    return notes


def _n_left_out(selection: Selection) -> int:
    features = selection.features
    return sum(u.n_rows for u in features.info.units) - sum(u.n_rows for u in features.units)


def _check_room(target: Path, selections: Sequence[Selection]) -> None:
    parent = next(p for p in target.parents if p.exists())
    need = sum(s.n_rows * len(s.layers) * s.row_bytes for s in selections)
    if any(s.features.info.shape.dtype == "float16" for s in selections):
        need //= 2  # a lower bound will do: not every format widens
    free = shutil.disk_usage(parent).free
    if need > free:
        raise StoreError(
            f"{target}: needs about {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in {parent}; "
            "make room, give another --out, or export fewer --layers"
        )


def _describe(selection: Selection) -> KeyExport:
    return KeyExport(
        model=selection.features.model,
        dataset=selection.features.dataset,
        layers=selection.layers,
        n_rows=selection.n_rows,
        n_failed=int((selection.features.index["status"] != STATUS_OK).sum()),
        n_rows_left_out=_n_left_out(selection),
    )


def _marker(kind: Format, selections: Sequence[Selection]) -> str:
    keys: list[dict[str, Any]] = []
    for selection in selections:
        attributes = selection.features.attrs
        keys.append(
            {
                **vars(_describe(selection)),
                **{n: attributes[n] for n in ("functionals", "n_features", "fingerprint", "versions")},
                "label_columns": selection.features.label_columns,
            }
        )
    content = {
        "format": MARKER_FORMAT,
        "format_version": MARKER_VERSION,
        "exchange_format": kind.name,
        "keys": keys,
    }
    return json_text(content, indent=1) + "\n"


def _rename(made: Path, target: Path, *, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise StoreError(f"{target} has appeared meanwhile; give another --out, or --overwrite")
    if made.is_dir() and target.is_dir():
        # A folder cannot replace one that holds files, so the old one steps aside first.
        aside = made.with_suffix(".old")
        target.rename(aside)
        try:
            made.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)
    else:
        made.replace(target)
