"""Which files hold a model's weights, and their hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from featurestore.errors import ModelError

_BLOCK_BYTES = 1 << 22


def weight_files(folder: Path, spec: str | None = None) -> list[Path]:
    """The safetensors files of a model folder, sorted.

    Raises:
        ModelError: there are none; pickled weights are never read, since a pickle can run code.
    """
    shown = spec or folder
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"--model {shown}: {index.name} is damaged ({error})") from error
        lacking = [n for n in names if not (folder / n).is_file()]
        if lacking:
            raise ModelError(f"--model {shown}: weight file {lacking[0]} is missing ({len(lacking)} in all)")
        return [folder / n for n in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    pickled = [n for n in ("pytorch_model.bin", "pytorch_model.pt") if (folder / n).exists()]
    if pickled:
        raise ModelError(
            f"--model {shown}: holds {pickled[0]} and no model.safetensors; pickled weights are not read, "
            "convert them once with transformers: AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    raise ModelError(f"--model {shown}: no weights; expected model.safetensors beside config.json")


def hash_weights(files: Sequence[Path]) -> str:
    """SHA-256 over the files' bytes, in order.

    The hash of each file is kept in the user's cache by its identity (path, size, modification time, inode),
    so that a large model is read once and not at every start.
    """
    combined = hashlib.sha256()
    cache = _read_cache()
    changed = False
    for file in files:
        real = file.resolve()
        stat = real.stat()
        identity = f"{real}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
        if identity not in cache:
            cache[identity] = _hash_file(real)
            changed = True
        combined.update(cache[identity].encode())
    if changed:
        _write_cache(cache)
    return combined.hexdigest()


def _hash_file(file: Path) -> str:
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            hashed.update(block)
    return hashed.hexdigest()


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "featurestore" / "weights.json"


def _read_cache() -> dict[str, str]:
    try:
        content = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(cache: dict[str, str]) -> None:
    file = _cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.partial")
        temporary.write_text(json.dumps(cache))
        temporary.replace(file)
    except OSError:
        # A cache that cannot be written costs a second hash, nothing else.
        return
