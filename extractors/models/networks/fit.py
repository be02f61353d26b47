"""Whether a card fits a network, as far as the network's file says."""

from __future__ import annotations

from extractors.models.networks.card import NetworkCard
from extractors.models.networks.interface import Network, NetworkInput
from featurestore.errors import did_you_mean


def static_misfit(network: Network, card: NetworkCard) -> tuple[str, str] | None:
    """Where in the card, and what, does not fit the network; None where all fits."""
    if misfit := _input_misfit(network, card):
        return misfit
    for k, layer in enumerate(card.layers):
        if layer.tensor not in network.tensors:
            hint = did_you_mean(layer.tensor, network.tensors)
            hint = hint or f"; the last are {', '.join(network.tensors[-3:])}"
            return f"layers[{k}].tensor", f"{layer.tensor!r} is no tensor of it{hint}"
    return None


def _input_misfit(network: Network, card: NetworkCard) -> tuple[str, str] | None:
    names = [entry.name for entry in network.inputs]
    if card.input.name is not None and card.input.name not in names:
        return "input.name", f"{card.input.name!r} is none of its inputs ({', '.join(names)})"
    if len(names) != 1:
        return "input", f"expected a network of one input, it has {', '.join(names) or 'none'}"
    [entry] = network.inputs
    if not entry.is_float32:
        return "input", f"expected float32, {entry.name!r} takes other numbers"
    axes, shown = card.input.axes, _shown(entry)
    if len(axes) != len(entry.sizes):
        return "input.axes", f"{shown} has {len(entry.sizes)} axes, not {len(axes)}: {', '.join(axes)}"
    sizes = dict(zip(axes, entry.sizes, strict=True))
    if sizes.get("channel") not in (None, 1):
        return "input.axes", f"expected one channel, {shown} has {sizes['channel']}"
    samples = sizes["samples"]
    if samples is not None and card.padded_samples != samples:
        return "window", f"{shown} takes {samples} samples and no others; expected window.samples: {samples}"
    return None


def _shown(entry: NetworkInput) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in entry.sizes)
    return f"input {entry.name!r} [{sizes}]"
