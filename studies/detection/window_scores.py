"""Probabilities of all windows of a recording as a Parquet file, written as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.arrays import Float64Array, FloatArray

# Windows of one row group.
GROUP_ROWS = 16_384


class ScoresFile:
    """Columns ``start_s``, ``end_s``, ``channel``, and ``p:CLASS`` of each class; NaN where there is none.

    Args:
        path: of the file.
        classes: names `[C]`.

    Attributes:
        channel: of the windows that come next; None for the mean of all.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.channel: int | None = None
        numbers = [pa.field(f"p:{name}", pa.float32()) for name in classes]
        times = [pa.field("start_s", pa.float64()), pa.field("end_s", pa.float64())]
        self._schema = pa.schema([*times, pa.field("channel", pa.int32()), *numbers])
        self._writer: Any = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Float64Array, Float64Array, int | None, FloatArray]] = []
        self._n = 0

    def add(self, start_s: Float64Array, end_s: Float64Array, p: FloatArray) -> None:
        """The next windows: the stretches that they are about `[n]`, probabilities `[n, C]`."""
        self._rows.append((start_s, end_s, self.channel, p))
        self._n += len(p)
        if self._n >= GROUP_ROWS:
            self._write()

    def close(self) -> None:
        """Write what is left; nothing may be added afterwards."""
        if self._writer is not None:
            self._write()
            self._writer.close()
            self._writer = None

    def _write(self) -> None:
        import pyarrow as pa

        if not self._n:
            return
        start, end = (np.round(np.concatenate([r[i] for r in self._rows]), 6) for i in (0, 1))
        channel = pa.concat_arrays([pa.array([r[2]] * len(r[3]), pa.int32()) for r in self._rows])
        p = np.concatenate([r[3] for r in self._rows])
        columns = [pa.array(start), pa.array(end), channel, *(pa.array(column) for column in p.T.copy())]
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows, self._n = [], 0
