"""The process apart in which Arrow decodes files of anybody, and what comes back of it.

Arrow's decoders check much and not all: a crafted file, or a changed bit, can make them abort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.apart.kept_process import KeptProcess

if TYPE_CHECKING:
    import pyarrow as pa

# The system's own memory pool takes no room ahead, so that the process can be held to what it needs.
ARROW = KeptProcess(
    ARROW_DEFAULT_MEMORY_POOL="system", ARROW_IO_THREADS="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"
)


def table_of(written: memoryview, n_rows: int) -> pa.Table:
    """A table from the stream of Arrow that the process apart has written.

    Every place and code in it is looked at: who decodes a crafted file and lives may still be damaged.

    Args:
        written: the stream.
        n_rows: its rows, which a table without columns has too.

    Raises:
        ArrowInvalid: it is none.
    """
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.py_buffer(written)).read_all()
    table.validate(full=True)
    if not table.num_columns:
        return pa.table({"": pa.nulls(n_rows)}).select([])
    if table.num_rows != n_rows:
        raise pa.ArrowInvalid(f"{table.num_rows:,} of {n_rows:,} rows came back")
    return table
