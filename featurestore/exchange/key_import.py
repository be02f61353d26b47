"""Files as keys of a store: everything is checked first, then written unit by unit, resumably."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.backends.storage import Storage, open_storage
from featurestore.calls import Call, Slot, Word, describe_table, file_sha256, full_path, option_words
from featurestore.errors import ConfigError, KeyNotFound, StoreError
from featurestore.exchange.checked_source import CheckedSource
from featurestore.exchange.interface import Advance, Format, ReadOptions, Source, counter
from featurestore.exchange.registry import format_names, get_format
from featurestore.format.codecs import kept_bits
from featurestore.format.number_types import DTypeName
from featurestore.layer_list import format_layers
from featurestore.manifest.table import Manifest, read_manifest
from featurestore.names import check_name
from featurestore.store.claims import Claims, Work, do_units
from featurestore.store.history import record_call
from featurestore.store.key import read_key
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import DEFAULT_UNIT_ROWS, Unit
from featurestore.store.writer import KeyWriter, UnitRows, delete_key, open_key, package_versions


@dataclass(frozen=True, kw_only=True)
class KeyImport:
    """One imported key.

    Attributes:
        model, dataset: its name in the store.
        layers: its layers.
        n_rows: utterances in the file.
        n_failed: utterances among them without numbers.
        n_units_written, n_units_kept: units written now, and units that were left as they are.
    """

    model: str
    dataset: str
    layers: tuple[int, ...]
    n_rows: int
    n_failed: int
    n_units_written: int
    n_units_kept: int


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """What an import did.

    Attributes:
        store: where the keys are now.
        keys: the keys.
        notes: what the user should know, one sentence each.
    """

    store: str
    keys: tuple[KeyImport, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the user says of the key that is made; see `import_`."""

    model: str | None
    dataset: str | None
    dtype: DTypeName | None
    codec: str | None
    unit_rows: int | None

    def __post_init__(self) -> None:
        if self.unit_rows is not None and self.unit_rows < 1:
            raise ConfigError(f"expected unit_rows of at least 1, got {self.unit_rows}")


def import_(
    source: str | os.PathLike[str],
    store_url: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002 - the word on the command line
    model: str | None = None,
    dataset: str | None = None,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    id_map: str | os.PathLike[str] | None = None,
    key: str | None = None,
    layers: Iterable[int] | None = None,
    functionals: Iterable[str] | None = None,
    dtype: DTypeName | None = None,
    codec: str | None = None,
    unit_rows: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Read a file into a store, as keys like any other; see docs/exchange.md.

    The whole file is checked before anything is written. Rows are written unit by unit: after an
    interruption the same call goes on where it was. Nothing is ever unpickled, and no other file opened.

    Args:
        source: an HDF5 file that `export` wrote or one laid out like it, or an npz in the paper's layout.
        store_url: the store; made if it does not exist.
        format: ``hdf5`` or ``npz``.
        model: the key's model in the store; default as in the file (an npz has none).
        dataset: the key's dataset in the store; default as in the file (an npz has none).
        manifest: utterances and labels, instead of those in the file (an npz has none).
        id_map: npz only: CSV with ``position`` (or ``old_id``) and ``utterance_id``; may hold ``status``,
            ``n_frames``, ``duration_s`` and ``audio_hash``. Without it entry i is row i of the manifest.
        key: HDF5 only: the group to import; default all.
        layers: HDF5: which layers to import; npz: which layers the rows of an entry are (default 0, 1, …).
        functionals: names of the statistics, where the file does not say (npz: mean, std).
        dtype: how to store numbers that were not extracted by this package; default as in the file.
        codec: how a new key is compressed; default as in the file, else ``fast``.
        unit_rows: rows per unit of a new key; default as in the file, else 1024.
        overwrite: replace the key if it exists.
        on_progress: called with rows done and rows in all; each row counts once checked, once written.

    Raises:
        ConfigError, ManifestError: an option, the manifest or the id map does not fit.
        StoreError: the file is none of its format, or the store cannot be written.
        CorruptData: the file contradicts itself or is damaged; nothing was written.
        FingerprintMismatch: the key exists with other contents.
    """
    path = Path(source)
    kind = _readable_format(format, path)
    asked = _Asked(model=model, dataset=dataset, dtype=dtype, codec=codec, unit_rows=unit_rows)
    options = _read_options(manifest, id_map, key, layers, functionals)
    return _import(kind, path, options, asked, open_storage(store_url), overwrite, on_progress)


def _read_options(
    manifest: Manifest | str | os.PathLike[str] | None,
    id_map: str | os.PathLike[str] | None,
    key: str | None,
    layers: Iterable[int] | None,
    functionals: Iterable[str] | None,
) -> ReadOptions:
    if not (manifest is None or isinstance(manifest, Manifest)):
        # Rows without a sample are rows: the study's code counts them, and so do the positions of its files.
        manifest = read_manifest(manifest, check_files=False, allow_empty=True)
    return ReadOptions(
        manifest=manifest,
        id_map=None if id_map is None else Path(id_map),
        key=key,
        layers=None if layers is None else tuple(sorted(set(layers))),
        functionals=None if functionals is None else tuple(functionals),
    )


def _readable_format(name: str, path: Path) -> Format:
    kind = get_format(name)
    if kind.open is None:
        readable = ", ".join(format_names(readable=True))
        raise ConfigError(f"format {kind.name} is written but not read; expected one of {readable}")
    if not path.is_file():
        raise StoreError(f"{path}: no such file; expected a file in format {kind.name}")
    return kind


def _import(
    kind: Format,
    path: Path,
    options: ReadOptions,
    asked: _Asked,
    storage: Storage,
    overwrite: bool,
    on_progress: Callable[[int, int], None] | None,
) -> ImportSummary:
    """See `import_`."""
    assert kind.open is not None
    with kind.open(path, options) as sources:
        alone = len(sources) == 1
        if not alone and (asked.model is not None or asked.dataset is not None):
            held = ", ".join(f"{s.model}/{s.dataset}" for s in sources)
            raise ConfigError(f"{path} holds {len(sources)} keys ({held}); choose one of them with --key")
        advance = counter(2 * sum(len(s.ids) for s in sources), on_progress)
        checked = [CheckedSource(s, _request(s, path, kind.name, asked), advance) for s in sources]
        calls = [_call(c, path, kind.name, options, asked, alone=alone) for c in checked]
        imported = [
            _write(c, call, storage, overwrite, advance) for c, call in zip(checked, calls, strict=True)
        ]
    return ImportSummary(
        store=storage.url,
        keys=tuple(k for k, _ in imported),
        notes=tuple(n for _, notes in imported for n in notes),
    )


def _request(source: Source, path: Path, format_name: str, asked: _Asked) -> KeyRequest:
    model, dataset = asked.model or source.model, asked.dataset or source.dataset
    for what, name in (("model", model), ("dataset", dataset)):
        if not name:
            raise ConfigError(f"{source.where}: names no {what}; give it with --{what}")
        check_name(name, what)
    dtype = asked.dtype or source.dtype
    if source.is_export:
        if dtype != source.dtype:
            raise ConfigError(
                f"{source.where}: was extracted as {source.dtype} and comes back as that; leave out --dtype"
            )
        fingerprint: dict[str, Any] = dict(source.fingerprint)
    else:
        fingerprint = {
            "imported": {
                "format": format_name,
                "source_sha256": file_sha256(path),
                **source.fingerprint,
                "layers": list(source.layers),
            },
            "functionals": list(source.functionals),
            "dtype": dtype,
        }
    codec = asked.codec or source.codec or "fast"
    if (bits := kept_bits(codec)) is not None and codec != source.codec:  # else it is told there already
        fingerprint["mantissa_bits"] = bits
    return KeyRequest(
        model=model,
        dataset=dataset,
        fingerprint=fingerprint,
        functionals=source.functionals,
        layers=source.layers,
        n_features=source.n_features,
        dtype=dtype,
        codec=codec,
        unit_rows=asked.unit_rows or source.unit_rows or DEFAULT_UNIT_ROWS,
        versions=source.versions or _versions(),
        model_card=source.model_card,
    )


def _versions() -> dict[str, str]:
    return package_versions(("featurestore-audio", "numpy", "h5py", "zarr"))


def _call(
    checked: CheckedSource,
    path: Path,
    format_name: str,
    options: ReadOptions,
    asked: _Asked,
    *,
    alone: bool,
) -> Call:
    """The `fs import` that makes this key; the file may hold it `alone`, or have to be told which it is."""
    source, request, table = checked.source, checked.request, options.manifest
    words: list[Word] = ["import", full_path(path), "--store", Slot.STORE, "--format", format_name]
    words += ["--manifest", Slot.TABLE] if table is not None else []
    words += option_words(
        {
            "--key": options.key if alone else f"{source.model}/{source.dataset}",
            "--model": request.model,
            "--dataset": request.dataset,
            "--id-map": None if options.id_map is None else full_path(options.id_map),
            "--layers": None if options.layers is None else format_layers(options.layers),
            "--functionals": None if options.functionals is None else ",".join(options.functionals),
            "--dtype": asked.dtype,
            "--codec": asked.codec,
            "--unit-rows": asked.unit_rows,
        }.items()
    )
    read = None if table is None else describe_table(table.source, len(table))
    return Call(words=tuple(words), table=read)


def _write(
    checked: CheckedSource, call: Call, storage: Storage, overwrite: bool, advance: Advance
) -> tuple[KeyImport, list[str]]:
    source, request = checked.source, checked.request
    if overwrite:
        delete_key(storage, request.model, request.dataset)
    _refuse_frames(storage, request, source)
    writer, notes = open_key(storage, request, source.manifest, source.ids)
    record_call(storage, writer.info, call)
    units = _Units(storage, checked, writer, advance)
    pending = units.pending(notes)
    advance(len(source.ids) - sum(u.n_rows for u in pending))
    units.write(pending)
    writer.finish()
    return KeyImport(
        model=request.model,
        dataset=request.dataset,
        layers=source.layers,
        n_rows=len(source.ids),
        n_failed=int((~checked.ok).sum()),
        n_units_written=len(pending),
        n_units_kept=len(writer.info.units) - len(pending),
    ), [*checked.notes, *notes]


def _refuse_frames(storage: Storage, request: KeyRequest, source: Source) -> None:
    try:
        info = read_key(storage, request.model, request.dataset)
    except KeyNotFound:
        return
    if info.frames is not None:
        raise ConfigError(
            f"{storage.url}: key {info.path} keeps frames, and {source.where} has none; give another "
            "--model or --dataset, or replace the key with --overwrite"
        )


class _Units:
    """The rows of a checked source, by the units of the key that they go into."""

    def __init__(self, storage: Storage, checked: CheckedSource, writer: KeyWriter, advance: Advance) -> None:
        self._checked, self._source, self._writer, self._advance = checked, checked.source, writer, advance
        self._claims = Claims(storage, writer.info.path)
        self._row_of = {str(i): row for row, i in enumerate(checked.source.ids)}
        self._versions = _versions()

    def pending(self, notes: list[str]) -> list[Unit]:
        """Units that can be written; a note is added of each that holds what the file lacks."""
        found = []
        for unit in self._writer.pending_units(self._source.layers):
            strangers = [i for i in self._ids(unit) if i and i not in self._row_of]
            if strangers:
                notes.append(
                    f"unit {unit.index} of {self._writer.info.path} stays uncommitted: it holds "
                    f"{len(strangers)} utterances that {self._source.where} lacks (first {strangers[0]!r})"
                )
            else:
                found.append(unit)
        return found

    def write(self, units: list[Unit]) -> None:
        """Write those that nobody else writes, each under its claim."""
        work = Work(
            claims=self._claims,
            units=units,
            is_committed=self._is_committed,
            on_done_by_others=lambda unit: self._advance(unit.n_rows),
        )
        do_units(work, self._write, lambda unit: self._advance(unit.n_rows))

    def _ids(self, unit: Unit) -> np.ndarray:
        return self._writer.ids[unit.first_row : unit.stop_row]

    def _is_committed(self, unit: Unit) -> bool:
        return self._writer.is_committed(unit, self._source.layers)

    def _write(self, unit: Unit) -> None:
        source, checked = self._source, self._checked
        began = time.perf_counter()
        # -1: a pruned row, which is nobody's.
        rows = np.array([self._row_of.get(i, -1) for i in self._ids(unit)])
        there = rows >= 0
        ok = there & checked.ok[rows]

        def layers() -> Iterator[tuple[int, np.ndarray]]:
            for layer, found in source.read(rows[there]):
                if ok.all():
                    yield layer, found
                    continue
                # A row that fails in one layer holds no numbers in any.
                values = np.full((unit.n_rows, *found.shape[1:]), np.nan, dtype=found.dtype)
                values[ok] = found[ok[there]]
                yield layer, values

        self._writer.write_unit(
            unit,
            layers(),
            UnitRows(
                status=[str(s) if t else "" for s, t in zip(checked.status[rows], there, strict=True)],
                n_frames=np.where(there, source.n_frames[rows], 0),
                duration_s=np.where(there, source.duration_s[rows], np.nan),
                audio_hash=[str(h) if t else "" for h, t in zip(source.audio_hash[rows], there, strict=True)],
            ),
            audio_s=float(np.nansum(source.duration_s[rows[ok]])),
            elapsed_s=time.perf_counter() - began,
            versions=self._versions,
            is_held=lambda: self._claims.holds(unit.index),
        )
