"""From waveforms to a network's input, and from its tensors to layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extractors.models.networks.card import Layer, NetworkCard, Scaling
from extractors.models.networks.interface import Network, Run

# Kept set up: the layers wanted, and the last alone, by which frames are counted.
_MOST_RUNS = 2


class LayerRunner:
    """The layers of a network.

    Attributes:
        network: the network.
        batch_size: clips it takes at once; None: any number; 1 also where it has no axis for them.

    Args:
        network: the network, of one input.
        card: its card, with as many input axes as the network has, and tensors that it has.

    Raises:
        ValueError: the runtime cannot take it.
    """

    def __init__(self, network: Network, card: NetworkCard) -> None:
        self.network = network
        self._card = card
        [entry] = network.inputs
        self.batch_size = dict(zip(card.input.axes, entry.sizes, strict=True)).get("batch", 1)
        self._runs: dict[tuple[int, ...], Run] = {}
        self._run_of(tuple(range(len(card.layers))))  # which most ask for

    def __call__(self, waveforms: np.ndarray, layers: Sequence[int]) -> list[np.ndarray]:
        """Layers of waveforms `[b, n]`: each `[b, t, d]`, or `[b, d]` of vectors; float32.

        Raises:
            RuntimeError: the network cannot compute it.
            ValueError: it gives other axes than the card says.
        """
        scaled = _scaled(waveforms, self._card.scaling)
        step = self.batch_size or len(scaled)
        groups = [scaled[i : i + step] for i in range(0, len(scaled), step)]
        parts = [self._at_once(group, step, tuple(layers)) for group in groups]
        return [np.concatenate(of_layer) for of_layer in zip(*parts, strict=True)]

    def _run_of(self, layers: tuple[int, ...]) -> Run:
        if layers not in self._runs:
            if len(self._runs) >= _MOST_RUNS:
                del self._runs[next(iter(self._runs))]
            self._runs[layers] = self.network.runner([self._card.layers[k].tensor for k in layers])
        return self._runs[layers]

    def _at_once(self, waveforms: np.ndarray, n_rows: int, layers: tuple[int, ...]) -> list[np.ndarray]:
        """Layers of as many waveforms as the network takes, or of fewer, with silence in place of others."""
        batch = np.zeros((n_rows, waveforms.shape[1]), dtype=np.float32)
        batch[: len(waveforms)] = waveforms
        axes = self._card.input.axes
        sizes = {"batch": n_rows, "channel": 1, "samples": batch.shape[1]}
        if "batch" in axes and axes.index("batch") > axes.index("samples"):
            batch = batch.T
        found = self._run_of(layers)(np.ascontiguousarray(batch.reshape([sizes[axis] for axis in axes])))
        wanted = [self._card.layers[k] for k in layers]
        return [layer_array(v, layer)[: len(waveforms)] for v, layer in zip(found, wanted, strict=True)]


def layer_array(values: np.ndarray, layer: Layer) -> np.ndarray:
    """A tensor as a layer: `[b, t, d]`, or `[b, d]` of vectors; float32.

    Raises:
        ValueError: it has other axes than the card says, or holds no fractions.
    """
    if values.ndim != len(layer.axes):
        raise ValueError(
            f"{layer.tensor!r} has {values.ndim} axes {list(values.shape)}; the card says "
            f"{len(layer.axes)}: {', '.join(layer.axes)}"
        )
    if values.dtype.kind != "f":
        raise ValueError(f"{layer.tensor!r} holds {values.dtype}; expected floating-point numbers")
    others = tuple(i for i, axis in enumerate(layer.axes) if axis == "averaged")
    if others:
        values = values.mean(others)
    kept = [axis for axis in layer.axes if axis != "averaged"]
    values = values.transpose([kept.index(axis) for axis in ("batch", "time", "feature") if axis in kept])
    return np.asarray(values if "batch" in kept else values[None], dtype=np.float32)


def _scaled(windows: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Windows `[b, n]`, each scaled by itself."""
    if scaling.remove_mean:
        windows = windows - windows.mean(1, keepdims=True)
    if scaling.peak is not None:
        largest = np.abs(windows).max(1, keepdims=True)
        windows = np.divide(windows, largest, out=np.zeros_like(windows), where=largest > 0)
        windows = windows * np.float32(scaling.peak)
    return windows
