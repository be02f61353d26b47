"""`fs model check`: a model compared with itself and its reference, on the terminal and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.outputs import check_file, put_file, require_replaceable, writing
from studies.terminal.command import say_error
from studies.terminal.screen import console

if TYPE_CHECKING:
    from extractors.models.interface import Precision
    from extractors.run.model_check import ModelCheck


def run_model_check(
    spec: str, *, device: str, precision: Precision, out: Path | None, torch_weights: bool
) -> bool:
    """Check a model, print what was found, and write it to `out`.

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
    found = check_model(source, spec, device=device, precision=precision)
    print_model_check(found)
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
