"""Codecs of layer values by name, and the Zarr codecs that each stands for.

``fast``, ``raw`` and ``small`` are Zarr's own. ``pcodec`` and ``bitround<N>`` come from numcodecs and stand
in documents under the names that zarr-python gives them, ``numcodecs.pcodec`` and ``numcodecs.bitround``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import numpy as np
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from featurestore.errors import ConfigError, DependencyMissing
from featurestore.format.decoding import BLOSC_HEADER_BYTES, blosc_bytes

CODEC_NAMES = ("fast", "small", "raw", "pcodec")
CODECS_IN_WORDS = "fast, small, raw, pcodec, or bitround with mantissa bits, such as bitround10"
# Bits of the fraction that IEEE 754 stores. Rounding to all of them changes nothing.
MANTISSA_BITS = {"float32": 23, "float16": 10}
_BITROUND = re.compile(r"bitround([1-9][0-9]?)")


def kept_bits(codec: str) -> int | None:
    """Mantissa bits that a ``bitround<N>`` keeps; None for codecs that keep all."""
    found = _BITROUND.fullmatch(codec)
    return int(found[1]) if found else None


def is_codec(codec: object) -> TypeGuard[str]:
    """Whether this names a codec, for values of some type."""
    return isinstance(codec, str) and (codec in CODEC_NAMES or kept_bits(codec) is not None)


def check_codec(codec: object, dtype: str, source: str = "--codec") -> str:
    """The codec, if it is one for values of this type.

    Args:
        codec: a name.
        dtype: ``float32`` or ``float16``.
        source: where the name comes from, for the message.

    Raises:
        ConfigError: it is none.
    """
    if not is_codec(codec):
        raise ConfigError(f"{source}: expected {CODECS_IN_WORDS}, got {codec!r}")
    bits, most = kept_bits(codec), MANTISSA_BITS[dtype]
    if bits is not None and bits >= most:
        raise ConfigError(
            f"{source} {codec}: {dtype} has {most} mantissa bits, so 1 to {most - 1} can be kept; "
            "small keeps all of them"
        )
    return codec


def require_codec(codec: str) -> None:
    """Nothing, where what this codec needs is installed.

    Raises:
        DependencyMissing: it is not.
    """
    if codec == "pcodec":
        try:
            import pcodec  # noqa: F401
        except ImportError as error:
            raise DependencyMissing(
                "values stored with codec pcodec need it: pip install 'featurestore-audio[pcodec]'"
            ) from error


def is_blosc(codec: str) -> bool:
    """Whether chunks are compressed by Blosc, and so begin with its header."""
    return codec == "small" or kept_bits(codec) is not None


def chunk_codecs(codec: str, dtype: str) -> list[Any]:
    """The Zarr codecs of an inner chunk; its checksum is the last."""
    if codec == "fast":
        return [BytesCodec(), Crc32cCodec()]
    if codec == "pcodec":
        from zarr.codecs.numcodecs import PCodec

        return [PCodec(level=8), Crc32cCodec()]
    size = np.dtype(dtype).itemsize
    blosc = BloscCodec(typesize=size, cname="zstd", clevel=5, shuffle="bitshuffle", blocksize=0)
    bits = kept_bits(codec)
    if bits is None:
        return [BytesCodec(), blosc, Crc32cCodec()]
    from zarr.codecs.numcodecs import BitRound

    return [BitRound(keepbits=bits), BytesCodec(), blosc, Crc32cCodec()]


def codec_told(codecs: list[dict[str, Any]]) -> str:
    """The codec whose inner chunks a document describes so; the caller compares the whole document."""
    told = {c["name"]: c.get("configuration", {}) for c in codecs}
    if "numcodecs.pcodec" in told:
        return "pcodec"
    if "numcodecs.bitround" in told:
        return f"bitround{told['numcodecs.bitround']['keepbits']}"
    return "small" if "blosc" in told else "fast"


@contextmanager
def numcodecs_meant() -> Iterator[None]:
    """Codecs of numcodecs without Zarr's warning, at each use, that its standard does not have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr", UserWarning)
        yield


def rounded(values: np.ndarray, codec: str) -> np.ndarray:
    """Values as this codec stores them; float of any shape, the array itself where it keeps all bits.

    Raises:
        ConfigError: a finite value would be rounded up to infinity.
    """
    bits = kept_bits(codec)
    if bits is None:
        return values
    from numcodecs.bitround import BitRound

    kept: np.ndarray = BitRound(bits).encode(np.ascontiguousarray(values)).view(values.dtype)
    finite = np.isfinite(values)
    if np.isinf(kept[finite]).any():
        raise ConfigError(
            f"--codec {codec}: {np.abs(values[finite]).max():g} would be rounded up to infinity; keep more "
            "bits, or use another codec"
        )
    # Bits of a NaN are rounded like those of a number: some would become -0.
    return np.where(finite, kept, np.where(np.isnan(values), values.dtype.type(np.nan), values))


def unpack_blosc(chunk: bytes, out: np.ndarray) -> None:
    """Decode one chunk as `unpack_pcodec` does.

    Raises:
        ValueError: it does not hold that.
    """
    if (found := blosc_bytes(chunk[:BLOSC_HEADER_BYTES], len(chunk))) != out.nbytes:
        raise ValueError(f"a Blosc chunk of {found} bytes of values, expected {out.nbytes}")
    from numcodecs import blosc

    try:
        blosc.decompress(chunk, out)
    except RuntimeError as error:
        raise ValueError(f"no Blosc chunk: {error}") from None


def unpack_pcodec(chunk: bytes, out: np.ndarray) -> None:
    """Decode one chunk, its checksum checked, into a contiguous array of as many values as it must hold.

    Nothing is allocated for what the chunk claims to hold.

    Raises:
        ValueError: it does not hold that.
    """
    from pcodec import standalone

    try:
        progress = standalone.simple_decompress_into(chunk, out.reshape(-1))
    except (RuntimeError, TypeError) as error:  # its way to say that the bytes are none of its own
        raise ValueError(f"no pcodec chunk: {error}") from None
    if progress.n_processed != out.size or not progress.finished:
        raise ValueError(f"a pcodec chunk of other than {out.size} values")
