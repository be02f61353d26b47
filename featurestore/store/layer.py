"""One layer of a key, read lazily as Zarr, Dask or NumPy, whole shards or single rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr import Array as ZarrArray

from featurestore.backends.read_faults import damage_in, first_of, not_damage
from featurestore.backends.storage import LocalStorage, Storage
from featurestore.errors import ConfigError, CorruptData, StoreError
from featurestore.format import layer_arrays
from featurestore.format.codecs import numcodecs_meant
from featurestore.store import fast_shards
from featurestore.store.key import KeyInfo
from featurestore.store.ledger import StoredObject, read_record
from featurestore.store.positions import as_position, as_positions
from featurestore.store.row_columns import read_ids

if TYPE_CHECKING:
    from dask.array import Array as DaskArray

# Where wanted rows lie in at most one in this many chunks of a shard, these are fetched instead of it.
SPARSE = 2
# Shards fetched at once: of a folder a few, so that one is checked while others are read; of a remote store
# more, to hide its latency.
LOCAL_READERS = 4
REMOTE_READERS = 8
PAGE_BYTES = 4096
# What a Zarr document says of the values of an array, besides its shape.
_OF_VALUES = ("data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "storage_transformers")


class Layer:
    """One layer of a key, aligned with the index it was asked from.

    Picklable: what travels to a worker is where the store is, never values.

    Args:
        storage: the root.
        info: the key.
        layer: hidden state index.
        rows: row in the Zarr array of every row here, int64 `[n]`, increasing.
        ok: bool `[n]`, which rows hold values (the others' audio failed).
        n_frames: int `[n]`, valid frames of every row; 0 where failed.
        frame_start: int64 `[n]`, where the frames of every row begin in the frame array; None in keys
            without frames.
        objects: size and checksum of every shard of this layer and of its frames, by name, from the ledger.
    """

    def __init__(
        self,
        storage: Storage,
        info: KeyInfo,
        layer: int,
        rows: np.ndarray,
        ok: np.ndarray,
        n_frames: np.ndarray,
        frame_start: np.ndarray | None,
        objects: Mapping[str, StoredObject],
    ) -> None:
        self.storage = storage
        self.info = info
        self.layer = layer
        self.rows = rows
        self.n_frames = n_frames
        self._frame_start = frame_start
        self._ok = ok
        self._objects = objects
        # Shards that are read in parts and are known to be those of their records.
        self._known: set[str] = set()

    def __repr__(self) -> str:
        return f"Layer({self.path!r}, shape={self.shape})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n, functionals, features)``."""
        return (len(self.rows), self.info.shape.n_functionals, self.info.shape.n_features)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype; values are handed out as float32."""
        return np.dtype(self.info.shape.dtype)

    @property
    def path(self) -> str:
        """The array below the root."""
        return f"{self.info.path}/{layer_arrays.layer_name(self.layer)}"

    @property
    def zarr(self) -> ZarrArray[Any]:
        """The raw Zarr array; ``index["row"]`` says which of its rows are meant here."""
        return open_array(self.storage, self.path)

    @property
    def shards(self) -> list[slice]:
        """Runs of rows here that lie in one shard: what a task should read at a time."""
        return shard_slices(self.rows, self.info.shape.unit_rows)

    def numpy(self, rows: int | slice | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The values as float32 `[n, functionals, features]`.

        Args:
            rows: a slice, positions in any order, or a boolean mask `[n]`; all rows by default. Of one
                position the values `[functionals, features]`.

        Raises:
            CorruptData: bytes do not match their checksum, or a shard is missing.
            IndexError: a position is out of range or no whole number, or a mask has another length.
        """
        rows = slice(None) if rows is None else rows
        if not isinstance(rows, slice) and np.ndim(rows) == 0:
            one: np.ndarray = self.numpy([as_position(rows, len(self.rows))])[0]
            return one
        positions = as_positions(rows, len(self.rows))
        if isinstance(rows, slice) and rows.step in (None, 1):
            return self._read(self.rows[positions], self._ok[positions])
        wanted = self.rows[positions]
        ordered, first, back = np.unique(wanted, return_index=True, return_inverse=True)
        return self._read(ordered, self._ok[positions[first]])[back]

    def sound(self, rows: slice | np.ndarray) -> np.ndarray:
        """`numpy`, where every row holds what its status says: numbers, or NaN alone where its audio failed.

        For what is handed on to others, and what is computed without looking at single rows.

        Args:
            rows: a slice, or positions.

        Raises:
            CorruptData: see `numpy`; or a row holds something else.
        """
        values = self.numpy(rows)
        ok = self._ok[rows]
        finite = np.isfinite(values).all(axis=(1, 2))
        wrong = np.where(ok, ~finite, False)
        if not ok.all():
            wrong |= ~ok & ~np.isnan(values).all(axis=(1, 2))
        if wrong.any():
            i = int(wrong.argmax())
            name = read_ids(self.storage, self.info)[self.rows[rows][i]]
            said = "is ok and holds NaN or infinity" if ok[i] else "failed and yet holds numbers"
            raise CorruptData(
                f"{self.storage.url}: {self.info.path}, layer {self.layer}: utterance {name!r} {said}; "
                "`fs verify` says what is damaged, `fs verify --repair` mends it"
            )
        return values

    def dask(self) -> DaskArray:
        """A lazy float32 array of the same shape; every chunk lies in one shard."""
        import dask.array as da

        sizes = tuple(s.stop - s.start for s in self.shards) or (0,)
        chunks = (sizes, *((n,) for n in self.shape[1:]))
        return da.from_array(_Lazy(self), chunks=chunks, name=False, asarray=False, inline_array=True)

    def frames(self, position: int) -> np.ndarray:
        """The frames of one utterance, float32 `[n_frames, features]`; none where its audio failed.

        Args:
            position: row of the index; a negative one counts from the end.

        Raises:
            ConfigError: the key holds no frames.
            CorruptData: see `numpy`.
            IndexError: there is no such row.
        """
        self._frame_shape()
        row = as_position(position, len(self.rows))
        return self.frames_of(slice(row, row + 1))

    def frames_dask(self) -> tuple[DaskArray, np.ndarray]:
        """The frames of all utterances one after the other, lazily.

        Returns:
            A float32 array `[total, features]`, every chunk from one shard, and offsets int64 `[n + 1]`:
            the frames of row i are ``offsets[i]:offsets[i + 1]``.

        Raises:
            ConfigError: the key holds no frames.
        """
        import dask.array as da
        from dask.delayed import delayed

        self._frame_shape()
        offsets = np.concatenate([[0], np.cumsum(self.n_frames, dtype=np.int64)])
        features = self.info.shape.n_features
        blocks = [
            da.from_delayed(
                delayed(_read_frames)(self, s.start, s.stop),
                shape=(int(offsets[s.stop] - offsets[s.start]), features),
                dtype=np.float32,
            )
            for s in self.shards
        ]
        if not blocks:
            return da.zeros((0, features), dtype=np.float32), offsets
        return da.concatenate(blocks), offsets

    def _frame_shape(self) -> layer_arrays.FrameShape:
        if self.info.frames is None:
            raise ConfigError(
                f"{self.storage.url}: {self.info.path} holds no frames; extract with --frames under another "
                "--name"
            )
        return self.info.frames

    def frames_of(self, positions: slice) -> np.ndarray:
        """Frames of neighbouring positions of one shard, joined: float32 `[frames, features]`.

        Args:
            positions: rows of the index, such as one of `shards`; joined in the order that it counts in.

        Raises:
            ConfigError: the key holds no frames.
            CorruptData: see `numpy`.
            IndexError: there is no such row.
            TypeError: not a slice.
        """
        self._frame_shape()
        if not isinstance(positions, slice):
            raise TypeError(f"expected a slice of {len(self.rows)} rows, got {type(positions).__name__}")
        chosen = as_positions(positions, len(self.rows))
        if not len(chosen):
            raise IndexError(f"no row {positions.start} in {len(self.rows)}")
        counts = self.n_frames[chosen]
        if not counts.sum():
            return np.zeros((0, self.info.shape.n_features), dtype=np.float32)
        assert self._frame_start is not None
        starts = self._frame_start[chosen]
        path = f"{self.info.path}/{layer_arrays.frames_name(self.layer)}"
        begin, end = int(starts.min()), int((starts + counts).max())
        shape, units = self._frame_shape(), self.rows[chosen] // self.info.shape.unit_rows
        if (starts + counts > (units + 1) * shape.unit_frames).any():  # there begin other utterances' frames
            error = ValueError(f"more frames than the {shape.unit_frames} of a shard")
            raise damaged(self.storage, path, error)
        self._require_own(int(units[0]), layer_arrays.frames_chunk)
        document = _frames_document(shape, self.info.n_units)
        with _reading(self.storage, path):
            block = np.asarray(_open_as(self.storage, path, document)[begin:end], dtype=np.float32)
        parts = [block[s - begin : s - begin + n] for s, n in zip(starts, counts, strict=True)]
        joined = np.concatenate(parts)
        if np.isnan(joined).any():
            raise self._no_values(path)
        return joined

    def iter_batches(
        self, batch_size: int, *, shuffle_seed: int | None = None, block_shards: int = 4
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches for training, read shard by shard.

        With a seed, shards come in random order and rows are shuffled within blocks of `block_shards`
        shards, so that at most that many are in memory. `torch.from_numpy` wraps the values as they are.

        Args:
            batch_size: rows per batch; the last may be shorter.
            shuffle_seed: seed of the order; None for the order of the index.
            block_shards: shards held and shuffled together.

        Yields:
            Positions `[b]` into the index, and values float32 `[b, functionals, features]`.
        """
        if batch_size < 1 or block_shards < 1:
            raise ValueError(f"expected a batch and a block of at least 1, got {batch_size}, {block_shards}")
        rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        shards = [np.arange(s.start, s.stop) for s in self.shards]
        if rng is not None:
            rng.shuffle(shards)
        rest = np.zeros(0, dtype=np.int64)
        held = np.zeros((0, *self.shape[1:]), dtype=np.float32)
        step = block_shards if rng is not None else 1
        for start in range(0, len(shards), step):
            fresh = np.sort(np.concatenate(shards[start : start + step]))
            positions = np.concatenate([rest, fresh])
            values = np.concatenate([held, self.numpy(fresh)])
            if rng is not None:
                order = rng.permutation(len(positions))
                positions, values = positions[order], values[order]
            whole = len(positions) - len(positions) % batch_size
            for first in range(0, whole, batch_size):
                yield positions[first : first + batch_size], values[first : first + batch_size]
            rest, held = positions[whole:], values[whole:].copy()
        if len(rest):
            yield rest, held

    def _read(self, rows: np.ndarray, ok: np.ndarray) -> np.ndarray:
        """Values of increasing, distinct Zarr rows: whole shards, or inner chunks where few are wanted."""
        out = _placed_empty((len(rows), *self.shape[1:]))
        pieces = shard_slices(rows, self.info.shape.unit_rows)
        whole = [p for p in pieces if self._is_worth_whole(rows[p])]
        if len(whole) > 1:
            readers = LOCAL_READERS if isinstance(self.storage, LocalStorage) else REMOTE_READERS

            def read(reader: int) -> None:
                # A share each instead of a task per shard: handing tasks over costs as much as reading.
                for piece in whole[reader::readers]:
                    self._read_shard(rows[piece], out[piece])

            with ThreadPoolExecutor(readers) as pool:
                list(pool.map(read, range(min(readers, len(whole)))))
        elif whole:
            self._read_shard(rows[whole[0]], out[whole[0]])
        few = [p for p in pieces if p not in whole]
        if few:
            positions = np.concatenate([np.arange(p.start, p.stop) for p in few])
            for unit in rows[[p.start for p in few]] // self.info.shape.unit_rows:
                self._require_own(int(unit), layer_arrays.layer_chunk)
            with _reading(self.storage, self.path), numcodecs_meant():
                array = _open_as(self.storage, self.path, _layer_document(self.info.shape, self.info.n_rows))
                out[positions] = array.oindex[rows[positions]]
            # Zarr reads a shard that is not there as NaN: rows that are ok never hold one.
            if np.isnan(out[positions[ok[positions]], 0, 0]).any():
                raise self._no_values(self.path)
        return out

    def _no_values(self, path: str) -> CorruptData:
        return CorruptData(
            f"{self.storage.url}: {path} has no values for rows recorded as complete; "
            "`fs verify` says which, `fs verify --repair` mends them"
        )

    def _require_own(self, unit: int, chunk: Callable[[int, int], str]) -> None:
        """Refuse a shard in another's place, which is sound by itself: for one that is read in parts.

        In folders alone. Of a remote object as many parts would have to be fetched as it has chunks.
        """
        name = chunk(self.layer, unit)
        recorded = self._objects.get(name)
        if name in self._known or recorded is None or not recorded.sums:
            return
        if isinstance(self.storage, LocalStorage):
            read = partial(self.storage.read_parts, f"{self.info.path}/{name}")
            found = fast_shards.sums_of(read, self.info.shard_chunks(name))
            if found not in (None, recorded.sums):  # one that is not there is said where it is read
                raise self._not_as_recorded(unit, name, ValueError("not the checksums of its record"))
        self._known.add(name)

    @cached_property
    def _unit_sizes(self) -> dict[int, int]:
        return {u.index: u.n_rows for u in self.info.units}

    def _is_worth_whole(self, rows: np.ndarray) -> bool:
        """Whether these increasing rows of one shard lie in so many of its chunks that it is read whole."""
        shape = self.info.shape
        # One plain block; or chunks that Zarr would decode into whatever they claim to hold.
        if shape.codec in ("raw", "pcodec"):
            return True
        wanted = np.count_nonzero(np.diff(rows // shape.chunk_rows)) + 1
        stored = -(-self._unit_sizes[int(rows[0]) // shape.unit_rows] // shape.chunk_rows)
        return bool(wanted * SPARSE > stored)

    def _read_shard(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fetch one shard, check it against its record, and copy these of its rows into `out`."""
        shape = self.info.shape
        unit = int(rows[0]) // shape.unit_rows
        name = layer_arrays.layer_chunk(self.layer, unit)
        key = f"{self.info.path}/{name}"
        local = rows - unit * shape.unit_rows
        n_rows = int(local[-1]) + 1
        contiguous = n_rows == len(local)
        block = out if contiguous else _placed_empty((n_rows, *self.shape[1:]))
        if isinstance(self.storage, LocalStorage) and self._scatter(unit, name, n_rows, block):
            if not contiguous:
                out[...] = block[local]
            return
        data = self.storage.get(key)
        if data is None:
            raise self._not_as_recorded(unit, name, FileNotFoundError("the shard is missing"))
        if not self._objects[name].matches(fast_shards.describe_shard(data, shape.n_chunks)):
            raise self._not_as_recorded(unit, name, ValueError("not the size and checksum of its record"))
        with _reading(self.storage, key):
            fast_shards.decode_layer_into(shape, data, n_rows, block)
        if not contiguous:
            out[...] = block[local]

    def _scatter(self, unit: int, name: str, n_rows: int, out: np.ndarray) -> bool:
        """Read a shard of a folder straight into place; False where values need decoding."""
        assert isinstance(self.storage, LocalStorage)
        buffers, recorded = fast_shards.scatter_plan(self.info.shape, n_rows, out), self._objects[name]
        if buffers is None or sum(b.nbytes for b in buffers) != recorded.n_bytes:
            return False
        size = self.storage.read_into(f"{self.info.path}/{name}", buffers)
        if size is None:
            raise self._not_as_recorded(unit, name, FileNotFoundError("the shard is missing"))
        if size != recorded.n_bytes or not recorded.matches(fast_shards.describe_pieces(buffers)):
            raise self._not_as_recorded(unit, name, ValueError("not the size and checksum of its record"))
        return fast_shards.finish_scatter(self.info.shape, n_rows, out, buffers)

    def _not_as_recorded(self, unit: int, name: str, error: Exception) -> Exception:
        """Damage, or a unit that somebody has done again since this layer was opened."""
        now = read_record(self.storage, self.info.path, unit)
        if now is None or now.objects.get(name) != self._objects[name]:
            return StoreError(
                f"{self.storage.url}: unit {unit} of {self.info.path} is being embedded again, or was, since "
                "it was opened; open it again"
            )
        return damaged(self.storage, f"{self.info.path}/{name}", error)


def _placed_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised float32 array that begins in the middle of a page.

    The kernel copies a file's pages at twice the speed where source and target do not lie within a few
    hundred bytes of each other, modulo the page size (4K aliasing). Values of a shard lie just behind the
    beginning of a page of the file.
    """
    n_bytes = int(np.prod(shape)) * 4
    raw = np.empty(n_bytes + PAGE_BYTES, dtype=np.uint8)
    start = (PAGE_BYTES // 2 - raw.ctypes.data) % PAGE_BYTES
    return raw[start : start + n_bytes].view(np.float32).reshape(shape)


def _read_frames(layer: Layer, start: int, stop: int) -> np.ndarray:
    return layer.frames_of(slice(start, stop))


class _Lazy:
    """What Dask slices: a `Layer` with NumPy's protocol for slices."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.shape = layer.shape
        self.dtype = np.dtype(np.float32)
        self.ndim = 3

    def __getitem__(self, item: tuple[slice, ...]) -> np.ndarray:
        rows, *rest = item if isinstance(item, tuple) else (item,)
        values = self._layer.numpy(rows)
        if not rest:
            return values
        # One row has no first axis any more.
        return values[(slice(None), *rest) if values.ndim == self.ndim else tuple(rest)]


def shard_slices(rows: np.ndarray, unit_rows: int) -> list[slice]:
    """Runs of positions whose rows lie in one shard; `rows` `[n]` increasing."""
    if not len(rows):
        return []
    cuts = np.flatnonzero(np.diff(rows // unit_rows)) + 1
    edges = [0, *cuts.tolist(), len(rows)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def open_array(storage: Storage, path: str) -> ZarrArray[Any]:
    """Open one array read-only.

    Raises:
        CorruptData: it is missing, or its document is damaged.
    """
    with _reading(storage, path), numcodecs_meant():
        return zarr.open_array(storage.zarr_store(), path=path, mode="r", zarr_format=3)


_layer_document = lru_cache(maxsize=16)(layer_arrays.layer_document)
_frames_document = lru_cache(maxsize=16)(layer_arrays.frames_document)


def _open_as(storage: Storage, path: str, document: bytes) -> ZarrArray[Any]:
    """`open_array`, where its document says of the values what `document` says; longer it may be.

    Raises:
        CorruptData: see `open_array`; or values are stored otherwise than the key's attributes call for, and
            would be read as others.
    """
    array = open_array(storage, path)
    found, wanted = json.loads(json.dumps(array.metadata.to_dict())), json.loads(document)
    (n, *row), (n_wanted, *row_wanted) = found["shape"], wanted["shape"]
    if n < n_wanted or row != row_wanted or any(found.get(k) != wanted.get(k) for k in _OF_VALUES):
        error = ValueError("its zarr.json is not what the key's attributes call for")
        raise damaged(storage, path, error)
    return array


def read_row(storage: Storage, array: ZarrArray[Any], row: int) -> np.ndarray:
    """One row of a layer array, of an utterance with status ok: float32 `[functionals, features]`.

    Raises:
        CorruptData: it is damaged or not there.
        StoreError: the store did not answer.
    """
    with _reading(storage, array.path):
        values = np.asarray(array[row], dtype=np.float32)
    if np.isnan(values).all():  # Zarr reads what is not there as fill value
        raise damaged(storage, array.path, ValueError(f"row {row} has no values"))
    return values


@contextmanager
def _reading(storage: Storage, path: str) -> Iterator[None]:
    """Raise `damaged` in place of whatever is raised while a `with` block runs."""
    try:
        yield
    except Exception as error:
        raise damaged(storage, path, error) from error


def damaged(storage: Storage, path: str, error: Exception) -> Exception:
    """One line for whatever a reader may raise over damaged bytes; an outage stays an outage."""
    other = not_damage(error) or damage_in(error)
    if other is not None:
        return other
    inner = first_of(error)
    said = " ".join(str(inner).split())[:200]
    return CorruptData(
        f"{storage.url}: {path} cannot be read ({type(inner).__name__}: {said}); "
        "`fs verify` says what is damaged, `fs verify --repair` mends it"
    )
