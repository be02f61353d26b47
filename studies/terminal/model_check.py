"""`fs model check`: a model compared with itself and its reference, on the terminal and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError
from featurestore.fingerprint import canonical_json
from featurestore.outputs import check_file, put_file, require_replaceable, writing
from featurestore.store.history import record_check
from featurestore.store.key import KeyInfo, find_keys
from featurestore.store.reader import open_store
from studies.terminal.command import say_error
from studies.terminal.screen import console

if TYPE_CHECKING:
    from extractors.models.interface import Precision
    from extractors.run.model_check import ModelCheck
    from featurestore.backends.storage import Storage


def run_model_check(
    spec: str,
    *,
    device: str,
    precision: Precision,
    out: Path | None,
    torch_weights: bool,
    store: str | None = None,
) -> bool:
    """Check a model, print what was found, write it to `out`, and keep it in its keys of a store.

    Returns:
        Whether all layers are within the tolerance.
    """
    from extractors.models.registry import find_model
    from extractors.run.model_check import NAME_OF_JSON, check_model
    from extractors.run.plan import resolve_device

    if out is not None:
        check_file(out)
        require_replaceable(out, NAME_OF_JSON.encode(), "certificate of fs model check")
    device = resolve_device(device)
    source = find_model(spec, allow_pickle=torch_weights)
    keys = [] if store is None else _keys_of(source.fingerprint(), store, spec)
    found = check_model(source, spec, device=device, precision=precision)
    print_model_check(found)
    for storage, key in keys:
        kept = record_check(storage, key, found.to_record())
        why_not = (
            "kept" if kept else "not kept: this key was made by a version that kept no history, or is full"
        )
        console().print(f"{key.path}: {why_not}")
    if out is not None:
        with writing(out, "choose another --out"):
            out.parent.mkdir(parents=True, exist_ok=True)
            put_file(found.to_json().encode(), out)
    if found.beyond:
        worst = max(found.beyond, key=lambda layer: max(layer.batch, layer.reference or 0.0))
        say_error(
            f"error: --model {spec}: layer {worst.layer} deviates by "
            f"{max(worst.batch, worst.reference or 0.0):.2g} of its largest value, allowed "
            f"{found.tolerance:.0e}; embed with --batch-seconds 0.001 where it is the batch, and do not "
            "trust this layer where it is the reference"
        )
    return not found.beyond


def _keys_of(fingerprint: Mapping[str, Any], url: str, spec: str) -> list[tuple[Storage, KeyInfo]]:
    """Keys that were embedded by this very model.

    Raises:
        StoreError: the store cannot be read.
        ConfigError: it has none.
    """
    storage = open_store(url, mode="r+").storage
    keys, _ = find_keys(storage)
    wanted = canonical_json(fingerprint)
    found = [key for key in keys if canonical_json(key.fingerprint.get("model")) == wanted]
    if not found:
        raise ConfigError(
            f"--store {url}: expected a key that was embedded by {spec}, of the same weights; found "
            f"{', '.join(key.path for key in keys[:5]) or 'none'}{' …' if len(keys) > 5 else ''}"
        )
    return [(storage, key) for key in found]


def print_model_check(found: ModelCheck) -> None:
    """Reference, versions, and a line for each layer."""
    out = console()
    lengths = ", ".join(f"{n:,}" for n in found.clip_samples)
    out.print(f"{found.name} on {found.device} in {found.precision}: clips of {lengths} samples in one batch")
    out.print(f"reference: {found.reference or 'none; nothing independent computes this model'}")
    out.print(f"allowed: {found.tolerance:.0e} of the largest value of a clip and layer")
    for layer in found.layers:
        by = "" if layer.reference is None else f"; reference {layer.reference:.1e}"
        out.print(f"layer {layer.layer}: batch against alone {layer.batch:.1e}{by}")
