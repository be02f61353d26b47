"""What a safetensors file says it holds, checked against its own length before anything is read of it.

Eight bytes: the length of a JSON header; the header: dtype, shape and place of every tensor; the tensors.
See https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass

from featurestore.untrusted.document_shape import anything, by_name, fields, many, one_of, text, whole
from featurestore.untrusted.documents import DocumentError, open_regular, parse_json

# Models of thousands of tensors have headers of some hundred kilobytes.
MOST_HEADER_BYTES = 16 << 20
# Bits of each dtype that NumPy or PyTorch have; the rest is for hardware that nothing here runs on.
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_TENSOR = fields(
    {"dtype": one_of(*_BITS), "shape": many(whole(), most=8), "data_offsets": many(whole(), 2, 2)}
)


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of a file: its dtype as safetensors names it, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    n_bytes: int


def read_tensor_header(path: str | os.PathLike[str]) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name.

    Raises:
        DocumentError: no such file, or one whose header does not account for every byte of it.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if len(start) < 8:
            raise DocumentError(f"no safetensors file ({size} bytes)")
        (n_header,) = struct.unpack("<Q", start)
        if n_header > min(size - 8, MOST_HEADER_BYTES):
            raise DocumentError(f"no safetensors file (a header of {n_header:,} bytes in a file of {size:,})")
        header = parse_json(file.read(n_header))
    by_name(anything)(header, "header")
    by_name(text)(header.pop("__metadata__", {}), "__metadata__")
    found, places = {}, []
    for name, value in header.items():
        _TENSOR(value, name)
        begin, end = value["data_offsets"]
        n_bytes = math.prod(value["shape"]) * _BITS[value["dtype"]] // 8
        if end - begin != n_bytes:
            raise DocumentError(f"{name}: {n_bytes:,} bytes by its shape, {end - begin:,} by its place")
        places.append((begin, end))
        found[name] = TensorInfo(dtype=value["dtype"], shape=tuple(value["shape"]), n_bytes=n_bytes)
    at = 0
    for begin, end in sorted(places):
        if begin != at:
            raise DocumentError("its tensors overlap, or leave a gap")
        at = end
    if at != size - 8 - n_header:
        raise DocumentError(f"its tensors take {at:,} bytes, the file has {size - 8 - n_header:,} for them")
    return found
