"""A model's weights: files and their hash, or a seed.

``untrained:MODEL`` is the architecture with seeded random weights: what a layer curve of a trained model is
worth shows beside the same architecture untrained. Weights come from the architecture's own initialiser, on
the CPU whatever the device, so a seed gives the same model everywhere. Versions of PyTorch and transformers
are part of the fingerprint: either may change an initialiser.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ModelError
from featurestore.outputs import put_file
from featurestore.untrusted.document_shape import by_name, fields, text
from featurestore.untrusted.documents import DocumentError, open_regular, read_json_document

if TYPE_CHECKING:
    import torch

_SEEDED = re.compile(r"(?:(\d{1,9}):)?(.+)", re.DOTALL)
_INDEX = fields({"weight_map": by_name(text)})


def weight_files(folder: Path, spec: str | None = None, *, allow_pickle: bool = False) -> list[Path]:
    """The weight files of a Hugging Face folder, sorted: safetensors.

    Many checkpoints of the wav2vec family were only ever published as ``pytorch_model.bin``, a pickle. With
    `allow_pickle` that is taken where there is no safetensors file; it is read with
    ``torch.load(weights_only=True)`` alone, which builds tensors and nothing else.

    Raises:
        ModelError: there are none, some of those an index names are missing, or there are both a single file
            and an index, of which what loads and what is hashed might not be the same.
    """
    shown = spec or folder
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        single = folder / f"{stem}.{suffix}"
        if suffix == "bin" and not allow_pickle and (index.is_file() or single.is_file()):
            raise ModelError(
                f"--model {shown}: holds {single.name} and no model.safetensors; pickled weights are read "
                "only when asked for: --torch-weights (by torch.load with weights_only, which runs no code)"
            )
        if index.is_file() and single.is_file():
            raise ModelError(
                f"--model {shown}: expected {single.name} or {index.name}, found both, which may be "
                "different weights; keep the one that is meant (of a hub id: in a copy of its folder)"
            )
        if index.is_file():
            return _indexed_files(folder, index, shown)
        if single.is_file():
            return [single]
    raise ModelError(
        f"--model {shown}: no weights; expected model.safetensors beside config.json "
        f"(for the architecture with random weights: untrained:{shown})"
    )


def _indexed_files(folder: Path, index: Path, shown: object) -> list[Path]:
    try:
        content = read_json_document(index)
        _INDEX(content, "")
    except DocumentError as error:
        raise ModelError(f"--model {shown}: {index.name} is damaged ({error})") from error
    names = sorted(set(content["weight_map"].values()))
    # An index names files beside it and nothing else.
    lacking = [n for n in names if Path(n).name != n or not os.path.isfile(folder / n)]
    if lacking:
        raise ModelError(
            f"--model {shown}: weight file {lacking[0][:100]} is missing ({len(lacking)} in all)"
        )
    return [folder / n for n in names]


def hash_weights(files: Sequence[Path]) -> str:
    """SHA-256 over the files' bytes, in order.

    The hash of each file is kept in the user's cache by its identity (path, size, times, inode), so that a
    large model is read once and not at every start. Of the times one is that of the last change of the inode,
    which copying with times (``rsync -t --inplace``) does not set back.
    """
    combined = hashlib.sha256()
    cache = _read_cache()
    changed = False
    for file in files:
        real = file.resolve()
        stat = real.stat()
        identity = f"{real}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"
        if identity not in cache:
            with open_regular(real) as stream:
                cache[identity] = hashlib.file_digest(stream, "sha256").hexdigest()
            changed = True
        combined.update(cache[identity].encode())
    if changed:
        # A cache that cannot be written costs a second hash, nothing else.
        with suppress(OSError):
            _cache_file().parent.mkdir(parents=True, exist_ok=True)
            put_file(json.dumps(cache).encode(), _cache_file())
    return combined.hexdigest()


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "featurestore" / "weights.json"


def _read_cache() -> dict[str, str]:
    try:
        content: dict[str, str] = read_json_document(_cache_file())
        by_name(text)(content, "")
    except DocumentError:
        return {}
    return content


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over named tensors, whatever file they came from."""
    import torch

    hashed = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        hashed.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def split_seed(argument: str) -> tuple[int, str]:
    """``"3:facebook/wav2vec2-base"`` → ``(3, "facebook/wav2vec2-base")``; without a number the seed is 0."""
    match = _SEEDED.fullmatch(argument)
    if match is None:
        return 0, argument
    return int(match[1] or 0), match[2]


def split_stage(argument: str) -> tuple[str, str]:
    """``"stage-2:MODEL"`` → ``("stage-2", "MODEL")``; without a stage, or a model, that one is empty."""
    first, _, rest = argument.partition(":")
    return (first, rest) if first.startswith("stage-") else ("", argument)


def split_card(argument: str) -> tuple[str, str]:
    """``"CARD:FILE"`` → ``("CARD", "FILE")``; without a card that one is empty."""
    card, _, file = argument.rpartition(":")
    return card, file


def untrained_name(name: str, seed: int) -> str:
    """Name of the model in the store, beside that of the trained one."""
    return f"{name}-untrained" if seed == 0 else f"{name}-untrained-{seed}"


def weights_fingerprint(files: Sequence[Path], seed: int | None) -> Mapping[str, Any]:
    """What decides the weights: their files, or the seed and what initialises by it."""
    if seed is None:
        return {"weights_sha256": hash_weights(files)}
    # Without the build (+cpu, +cu128): the CPU's generator is the same in all of them.
    torch = version("torch").partition("+")[0]
    return {"untrained": {"seed": seed, "torch": torch, "transformers": version("transformers")}}


def random_model(config: Any, seed: int, model_class: str = "AutoModel") -> Any:
    """A transformers model of this configuration and class, float32, on the CPU.

    The process's own random state is left as it was.
    """
    import torch
    import transformers

    kind = getattr(transformers, model_class)
    make = kind.from_config if model_class == "AutoModel" else kind._from_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(config, dtype=torch.float32)
