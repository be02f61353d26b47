"""Keys in HDF5 files, our own and strangers'. Nothing outside the file is ever opened, nothing unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featurestore.errors import ConfigError, CorruptData, StoreError, UserError, one_line
from featurestore.exchange.interface import DTYPES, ReadOptions, Source, block_rows, slices
from featurestore.fingerprint import canonical_json
from featurestore.format.codecs import is_codec
from featurestore.format.layer_arrays import layer_name, parse_layer_name
from featurestore.layer_list import format_layers
from featurestore.manifest.table import Manifest, from_table, to_text
from featurestore.untrusted.documents import DocumentError, parse_json, require_regular

MAX_FILE_VERSION = 1
# What HDF5 and h5py raise where what they look for is not what it should be.
_FAULTS = (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, NotImplementedError)
_DAMAGED = "cannot be read as HDF5, and is probably damaged"
# Deflate packs a thousand bytes into one, and nothing that is numbers or text comes near that.
MOST_SHRINKING = 1100
# Of the texts of one array, and the fewest rows that are read at once: any number may point to one long text.
MOST_TEXT_CHARACTERS = 1 << 28
_TEXT_ROWS = 256
CACHE_BYTES = 2**20
LAYOUT = "HDF5 group with layer_NN [utterance, functional, feature]"


@contextmanager
def open_hdf5(path: Path, options: ReadOptions) -> Iterator[list[Source]]:
    """See `Format.open`.

    Raises:
        StoreError: not an HDF5 file, no key in it, or one that points outside of the file.
        CorruptData: arrays that do not fit each other, or that were not written to their end.
        ConfigError: something that the file does not say has to be given.
    """
    if options.id_map is not None:
        raise ConfigError("--id-map is for npz files; an HDF5 file names its utterances itself")
    try:
        require_regular(path)
        # HDF5 2 would cache 8 MiB of every array.
        file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES)
    except (DocumentError, OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"{path}: not a readable HDF5 file ({one_line(error)})") from error
    with file:
        yield _sources(path, file, options)


def _sources(path: Path, file: h5py.File, options: ReadOptions) -> list[Source]:
    try:
        version = file.attrs.get("format_version", 0)
        if isinstance(version, (int, np.integer)) and version > MAX_FILE_VERSION:
            raise StoreError(
                f"{path}: format version {version}, this program reads up to {MAX_FILE_VERSION}; upgrade it"
            )
        names = _key_names(path, file) if options.key is None else [options.key.strip("/")]
        if not names:
            raise StoreError(
                f"{path}: no group <model>/<dataset> with arrays layer_00 …; say where they are with --key"
            )
        return [_Key(path, file, name, options).source() for name in names]
    except UserError:
        raise
    except _FAULTS as error:
        raise CorruptData(f"{path}: {_DAMAGED} ({one_line(error)}); get another copy") from error


def _key_names(path: Path, file: h5py.File) -> list[str]:
    found = []
    for model in file:
        group = _child(path, file, model)
        if isinstance(group, h5py.Group):
            for dataset in group:
                inner = _child(path, group, dataset)
                if isinstance(inner, h5py.Group) and any(parse_layer_name(n) is not None for n in inner):
                    found.append(f"{model}/{dataset}")
    return found


def _child(path: Path, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What is in the group under this name, if it lies in this file; None where there is nothing."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    where = f"{path}:{group.name.rstrip('/')}/{name}"
    if not isinstance(link, h5py.HardLink):
        raise StoreError(f"{where} is a link to another place; refused, put the data itself into the file")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise StoreError(
                f"{where} keeps its values in another file; refused, put the data itself into the file"
            )
        if found.nbytes > MOST_SHRINKING * (path.stat().st_size + 1):
            raise CorruptData(
                f"{where} has {found.nbytes:,} bytes by its shape {found.shape}, more than a file of this "
                "size can hold"
            )
        if found.shape is None or not _is_whole(found):
            raise CorruptData(f"{where} was not written to its end; export it again")
    return found


def _is_whole(array: h5py.Dataset) -> bool:
    """Whether every value was written: HDF5 reads what was not as a fill value, without a word."""
    if array.size == 0:
        return True
    if array.chunks is not None:
        per_axis = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
        return bool(array.id.get_num_chunks() == math.prod(per_axis))
    return bool(array.id.get_storage_size() >= array.nbytes)


class _Key:
    """One group of the file on its way to a `Source`."""

    def __init__(self, path: Path, file: h5py.File, name: str, options: ReadOptions) -> None:
        self.path = path
        self.name = name
        self.where = f"{path}:/{name}"
        self.options = options
        group: Any = file
        for part in name.split("/") if name else []:
            group = _child(path, group, part) if isinstance(group, h5py.Group) else None
        if not isinstance(group, h5py.Group):
            raise StoreError(f"{self.where}: no such group; the file holds {', '.join(file) or 'nothing'}")
        self.group: h5py.Group = group

    def source(self) -> Source:
        """Everything but the values."""
        arrays = self._layer_arrays()
        first = next(iter(arrays.values()))
        n = int(first.shape[0])
        ids = self._text("utterance_id", n)
        if ids is None:
            raise CorruptData(f"{self.where}: no array utterance_id; it says whose row is whose")
        fingerprint = self._json("fingerprint")
        blank = np.full(n, "", dtype=object)
        audio_hash = self._text("audio_hash", n)
        model, _, dataset = self.name.rpartition("/")
        return Source(
            where=self.where,
            model=model if "/" not in model else "",
            dataset=dataset,
            ids=ids,
            status=self._text("status", n),
            n_frames=self._numbers("n_frames", n, np.full(n, -1, dtype=np.int32)),
            duration_s=self._numbers("duration_s", n, np.full(n, np.nan)),
            audio_hash=blank if audio_hash is None else audio_hash,
            manifest=self.options.manifest or self._manifest(ids),
            layers=tuple(arrays),
            functionals=self._functionals(int(first.shape[1])),
            n_features=int(first.shape[2]),
            dtype=DTYPES[first.dtype.str[1:]],
            unit_rows=self._unit_rows(),
            codec=self._codec(),
            fingerprint=fingerprint or {"layout": LAYOUT},
            versions={str(k): str(v) for k, v in (self._json("versions") or {}).items()},
            model_card=self._json("model_card") or {},
            is_export=fingerprint is not None,
            block_rows=block_rows(first.nbytes // n, multiple=first.chunks[0] if first.chunks else 1),
            read=partial(self._values, arrays),
        )

    def _layer_arrays(self) -> dict[int, h5py.Dataset]:
        found = {k: name for name in self.group if (k := parse_layer_name(name)) is not None}
        asked = self.options.layers
        if asked is not None and set(asked) - set(found):
            missing = format_layers(set(asked) - set(found))
            raise ConfigError(f"{self.where}: has layers {format_layers(found)}, not {missing}")
        arrays = {}
        for layer in sorted(found if asked is None else asked):
            array = _child(self.path, self.group, found[layer])
            place = f"{self.where}/{found[layer]}"
            if not isinstance(array, h5py.Dataset) or array.ndim != 3 or 0 in array.shape:
                shape = getattr(array, "shape", "a group")
                raise CorruptData(f"{place}: expected (utterance, functional, feature), got {shape}")
            if array.dtype.str[1:] not in DTYPES:
                raise CorruptData(
                    f"{place}: expected float32 or float16, got {array.dtype}; convert it first"
                )
            arrays[layer] = array
        if not arrays:
            raise StoreError(f"{self.where}: no arrays layer_00 …; the group holds {', '.join(self.group)}")
        first_layer, first = next(iter(arrays.items()))
        for layer, array in arrays.items():
            if array.shape != first.shape or array.dtype != first.dtype:
                raise CorruptData(
                    f"{self.where}: {layer_name(layer)} is {array.dtype} {array.shape}, "
                    f"{layer_name(first_layer)} is {first.dtype} {first.shape}; they must be alike"
                )
        return arrays

    def _values(self, arrays: dict[int, h5py.Dataset], rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """See `Source.read`."""
        first, last = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        in_a_row = last - first == len(rows) and bool((np.diff(rows) == 1).all())
        for layer, array in arrays.items():
            try:
                if in_a_row:
                    values = array[first:last]
                else:  # h5py wants increasing positions
                    order = np.argsort(rows)
                    values = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
                    values[order] = array[rows[order]]
            except _FAULTS as error:
                raise CorruptData(
                    f"{self.where}/{layer_name(layer)}: rows {first} to {last - 1} cannot be read "
                    f"({one_line(error)}); the file is damaged, get another copy"
                ) from error
            yield layer, values.astype(array.dtype.newbyteorder("="), copy=False)

    def _functionals(self, n: int) -> tuple[str, ...]:
        given, attribute = self.options.functionals, self.group.attrs.get("functionals")
        if attribute is None and given is None:
            raise ConfigError(f"{self.where}: has no attribute functionals; name its {n} with --functionals")
        stored = None if attribute is None else tuple(str(v) for v in np.atleast_1d(attribute))
        names = stored or given or ()
        if len(names) != n:
            raise CorruptData(
                f"{self.where}: {n} functionals stored, {len(names)} named ({', '.join(names)})"
            )
        if given is not None and given != names:
            raise ConfigError(
                f"{self.where}: holds {', '.join(names)}, not {', '.join(given)}; leave out --functionals"
            )
        return names

    def _unit_rows(self) -> int | None:
        value = self.group.attrs.get("unit_rows")
        return int(value) if isinstance(value, np.integer) and value > 0 else None

    def _codec(self) -> str | None:
        value = self.group.attrs.get("codec")
        return str(value) if is_codec(value) else None

    def _json(self, name: str) -> dict[str, Any] | None:
        text = self.group.attrs.get(name)
        if text is None:
            return None
        try:
            value = parse_json(text)
            canonical_json(value)
        except (ValueError, TypeError) as error:
            raise CorruptData(f"{self.where}: attribute {name} is not JSON ({one_line(error)})") from error
        if not isinstance(value, dict):
            raise CorruptData(f"{self.where}: attribute {name} is not a JSON object")
        return value

    def _array(self, name: str, n: int, group: h5py.Group | None = None) -> h5py.Dataset | None:
        parent = self.group if group is None else group
        array = _child(self.path, parent, name)
        if array is None:
            return None
        if not isinstance(array, h5py.Dataset) or array.shape != (n,):
            shape = getattr(array, "shape", "a group")
            raise CorruptData(f"{self.where}: {name}: expected shape ({n},), got {shape}")
        return array

    def _text(self, name: str, n: int, group: h5py.Group | None = None) -> np.ndarray | None:
        array = self._array(name, n, group)
        if array is None:
            return None
        if h5py.check_string_dtype(array.dtype) is None:
            raise CorruptData(f"{self.where}: {name}: expected text, got {array.dtype}")
        out = np.empty(n, dtype=object)
        step = block_rows(array.dtype.itemsize, multiple=array.chunks[0] if array.chunks else 1)
        if array.dtype.kind != "S":  # each row may be as long as the file, and is known when it is read
            step = min(step, max(_TEXT_ROWS, MOST_TEXT_CHARACTERS // self.path.stat().st_size))
        n_characters = 0
        for rows in slices(n, step):
            try:
                out[rows] = array.asstr("utf-8", errors="strict")[rows]
            except _FAULTS as error:
                raise CorruptData(f"{self.where}: {name} cannot be read ({one_line(error)})") from error
            n_characters += sum(map(len, out[rows]))
            if n_characters > MOST_TEXT_CHARACTERS:
                raise CorruptData(
                    f"{self.where}: {name}: expected at most {MOST_TEXT_CHARACTERS:,} characters of text, it "
                    "has more"
                )
        return out

    def _numbers(
        self, name: str, n: int, default: np.ndarray | None, group: h5py.Group | None = None
    ) -> np.ndarray:
        array = self._array(name, n, group)
        if array is None:
            if default is None:
                raise CorruptData(f"{self.where}: no array {name}")
            return default
        if array.dtype.kind not in "iuf":
            raise CorruptData(f"{self.where}: {name}: expected numbers, got {array.dtype}")
        try:
            values: np.ndarray = array[:]
        except _FAULTS as error:
            raise CorruptData(f"{self.where}: {name} cannot be read ({one_line(error)})") from error
        return values if default is None else values.astype(default.dtype)

    def _manifest(self, ids: np.ndarray) -> Manifest:
        group = _child(self.path, self.group, "manifest")
        if not isinstance(group, h5py.Group):
            raise ConfigError(f"{self.where}: holds no manifest; give one with --manifest")
        n = len(ids)
        table = pd.DataFrame({"utterance_id": ids})
        columns: dict[str, Any] = {}
        for name in self._manifest_columns(group):
            array = self._array(name, n, group)
            if array is None:
                raise CorruptData(f"{self.where}/manifest: no array {name!r}")
            column = str(array.attrs.get("column", name))
            if h5py.check_string_dtype(array.dtype) is not None:
                columns[column] = self._text(name, n, group)
            else:
                values = self._numbers(name, n, None, group)
                columns[column] = pd.array(values, dtype="Int64") if values.dtype.kind in "iu" else values
                if column == "channel":
                    columns[column][values < 0] = pd.NA
        table = pd.concat([table, pd.DataFrame(columns)], axis=1)
        # Back to the order that the data set has, which splits may depend on.
        order = np.argsort(self._numbers("manifest_row", n, np.arange(n, dtype=np.int64)), kind="stable")
        text = to_text(table.iloc[order].reset_index(drop=True))
        if "path" not in text:
            raise CorruptData(f"{self.where}/manifest: no column path; give a manifest with --manifest")
        return from_table(
            text, source=f"{self.where}/manifest", base=Path("/"), check_files=False, allow_empty=True
        )

    def _manifest_columns(self, group: h5py.Group) -> list[str]:
        ordered = group.attrs.get("columns")
        if ordered is None:
            return list(group)
        try:
            return [link_name(str(c)) for c in parse_json(ordered)]
        except (ValueError, TypeError) as error:
            raise CorruptData(f"{self.where}/manifest: attribute columns is not a JSON list") from error


def link_name(column: str) -> str:
    """A column's name as that of an HDF5 link: ``%``, ``/``, NUL and a lone ``.`` are written as ``%XX``."""
    escaped = column.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return "%2E" if escaped == "." else escaped
