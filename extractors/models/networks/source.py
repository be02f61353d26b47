"""``onnx:[CARD:]FILE`` and ``tflite:[CARD:]FILE``: any network from a waveform to embeddings, by its card.

The card (`NetworkCard`) is a YAML file: that named, one of the package, or the one beside the network. It is
held against the network when the model is found: names, axes, sizes, and by running the network once. The
runtimes compute on the CPU, in float32.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from extractors.models.black_box import (
    Embed,
    FrameCounter,
    MeasuredExtractor,
    measured_hop,
    probe_pair,
    same_together,
)
from extractors.models.huggingface.model_folder import named_line
from extractors.models.interface import Extractor, ModelCard, Precision
from extractors.models.networks.card import find_card, read_card
from extractors.models.networks.fit import static_misfit
from extractors.models.networks.interface import ReadNetwork
from extractors.models.networks.layer_runner import LayerRunner
from extractors.models.networks.padded_windows import VECTOR_POSITIONS, PaddedWindowExtractor
from extractors.models.torch_tools import probe_clip
from extractors.models.weights import hash_weights, split_card
from featurestore.errors import DependencyMissing, ModelError, one_line
from featurestore.names import suggest_name
from featurestore.untrusted.documents import DocumentError

Kind = Literal["onnx", "tflite"]
# Kind → modules it needs, and what reads its files.
_NEEDS: Mapping[Kind, Sequence[str]] = {
    "onnx": ("onnx", "onnxruntime"),
    "tflite": ("ai_edge_litert.interpreter",),
}
_READERS: Mapping[Kind, str] = {
    "onnx": "extractors.models.networks.onnx_file:OnnxNetwork",
    "tflite": "extractors.models.networks.tflite_file:TfliteNetwork",
}


def onnx_source(argument: str | None, *, spec: str | None = None) -> NetworkSource:
    """``onnx:FILE`` or ``onnx:CARD:FILE``."""
    return NetworkSource("onnx", argument, spec=spec)


def tflite_source(argument: str | None, *, spec: str | None = None) -> NetworkSource:
    """``tflite:FILE`` or ``tflite:CARD:FILE``."""
    return NetworkSource("tflite", argument, spec=spec)


class NetworkSource:
    """A network in a file, and its card.

    Args:
        kind: of the file.
        argument: ``FILE`` or ``CARD:FILE``.
        spec: what the user wrote after ``--model``; None: ``KIND:`` and the argument.

    Raises:
        DependencyMissing: the runtime is not installed.
        ModelError: there is no such file or card, or they do not fit each other.
    """

    def __init__(self, kind: Kind, argument: str | None, *, spec: str | None = None) -> None:
        self._kind = kind
        self.spec = spec or (kind if argument is None else f"{kind}:{argument}")
        named, file = split_card(argument or "")
        if not file:
            raise ModelError(f"--model {self.spec}: expected {kind}:FILE or {kind}:CARD:FILE")
        for module in _NEEDS[kind]:
            try:
                importlib.import_module(module)
            except ImportError as error:
                package = module.partition(".")[0].replace("_", "-")
                raise DependencyMissing(
                    f"--model {self.spec}: needs {package} ({named_line(error, 100)}); "
                    f"pip install 'featurestore-audio[{kind}]'"
                ) from error
        self._file = Path(os.path.expanduser(file))
        if not self._file.is_file():
            raise ModelError(f"--model {self.spec}: there is no file {file}; expected a .{kind} file")
        self._card_file = find_card(named, self._file, self.spec)
        self._card = read_card(self._card_file, self.spec)
        runner = self._runner()
        self._weights = hash_weights(runner.network.weight_files)
        self.card = self._describe(runner)

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {"family": self._kind, "weights_sha256": self._weights, "card": self._card.computation()}

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; always on the CPU, in float32."""
        runner = self._runner()
        if self._card.padded_samples is None or self._card.window is None:
            return MeasuredExtractor(self._embed_with(runner), self.card, "cpu", "fp32")
        [first, *_] = self._probe(runner, self._card.padded_samples)
        return PaddedWindowExtractor(
            self.card,
            runner,
            VECTOR_POSITIONS if self._card.is_pooled else first.shape[1],
            padding="both" if self._card.window.padding == "both" else "right",
            together=runner.batch_size != 1
            and same_together(
                lambda batch: _tensors(runner, batch, self._all),
                probe_pair(self._card.padded_samples),
                "fp32",
            ),
        )

    @property
    def _all(self) -> list[int]:
        return list(range(len(self._card.layers)))

    def _runner(self) -> LayerRunner:
        """The network, which fits its card by name and size.

        Raises:
            ModelError: it does not, or cannot be read.
        """
        module, _, name = _READERS[self._kind].partition(":")
        read: ReadNetwork = getattr(importlib.import_module(module), name)
        try:
            network = read(self._file)
        except DocumentError as error:
            raise ModelError(f"--model {self.spec}: {self._file} cannot be read ({error})") from error
        except ValueError as error:
            raise ModelError(
                f"--model {self.spec}: expected a network as {self._kind}, {self._file.name} is {error}"
            ) from error
        if misfit := static_misfit(network, self._card):
            raise self._misfit(*misfit)
        try:
            return LayerRunner(network, self._card)
        except ValueError as error:
            raise ModelError(f"--model {self.spec}: {self._file.name}: {error}") from error

    def _misfit(self, place: str, text: str) -> ModelError:
        return ModelError(
            f"--model {self.spec}: card {self._card_file}: {place}: {text} (network {self._file.name})"
        )

    def _probe(self, runner: LayerRunner, n_samples: int) -> list[np.ndarray]:
        """All layers of some quiet noise, which must be of one shape.

        Raises:
            ModelError: they are not, or the network fails.
        """
        try:
            found = runner(probe_clip(n_samples)[None], self._all)
        except (ValueError, RuntimeError) as error:
            raise self._misfit("layers", f"{one_line(error)}, on {n_samples} samples of noise") from error
        shapes = [list(layer.shape[1:]) for layer in found]
        for k, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise self._misfit(
                    f"layers[{k}]",
                    f"expected {shapes[0]} as of layers[0], got {shape}; write a card for each shape",
                )
        if 0 in shapes[0]:
            raise self._misfit("layers", f"{n_samples} samples give no frame")
        return found

    def _describe(self, runner: LayerRunner) -> ModelCard:
        card = self._card
        most, padded = card.window.samples if card.window else None, card.padded_samples
        n_samples = padded or min(card.sample_rate_hz, most or card.sample_rate_hz)
        [first, *_] = self._probe(runner, n_samples)
        known = ("domain", "fine_tuning", "training_hours", "licence", "source")
        return ModelCard(
            name=card.name or suggest_name(self._file.stem),
            family=self._kind,
            n_layers=len(card.layers),
            n_features=first.shape[-1],
            sample_rate_hz=card.sample_rate_hz,
            hop_samples=self._hop(runner, n_samples, VECTOR_POSITIONS if card.is_pooled else first.shape[1]),
            normalisation=card.normalisation,
            normalisation_source="its card",
            receptive_samples=card.grid.receptive_samples if card.grid else None,
            max_samples=most,
            fixed_samples=padded,
            pooled=card.is_pooled,
            repeat_short=padded is None,  # what is padded is padded as its authors do
            **{name: getattr(card, name) for name in known},
        )

    def _hop(self, runner: LayerRunner, n_samples: int, n_positions: int) -> int:
        """Samples per frame, where so many samples give so many positions; see `ModelCard`."""
        card = self._card
        if card.padded_samples or card.is_pooled:
            return max(1, n_samples // n_positions)
        if card.grid:
            self._check_grid(runner)
            return card.grid.hop_samples
        return measured_hop(
            lambda n: _count(runner, n), card.sample_rate_hz, card.window.samples if card.window else None
        )

    def _check_grid(self, runner: LayerRunner) -> None:
        """Count the frames of some lengths, which must be as the card says."""
        assert self._card.grid is not None
        hop, receptive = self._card.grid.hop_samples, self._card.grid.receptive_samples
        counted = FrameCounter(lambda n: _count(runner, n), max(self._card.sample_rate_hz, receptive))
        for n in (receptive - 1, receptive, receptive + hop - 1, receptive + hop, receptive + 20 * hop):
            expected = max(0, (n - receptive) // hop + 1)
            if (found := counted(n)) != expected:
                raise self._misfit(
                    "grid",
                    f"{n} samples give {found} frames; hop_samples {hop} and receptive_samples {receptive} "
                    f"would give {expected}",
                )

    def _embed_with(self, runner: LayerRunner) -> Embed:
        """See `MeasuredExtractor`."""

        def embed(batch: torch.Tensor, layers: Sequence[int]) -> Sequence[torch.Tensor]:
            found = _tensors(runner, batch.numpy(), layers)
            if not self._card.is_pooled:
                return found
            # A vector stands for all of its window: clips of several weigh them by length.
            n = -(-batch.shape[1] // self.card.hop_samples) if self._card.window else 1
            return [vectors[:, None].expand(-1, n, -1) for vectors in found]

        return embed


def _tensors(runner: LayerRunner, batch: np.ndarray, layers: Sequence[int]) -> list[torch.Tensor]:
    return [torch.from_numpy(values) for values in runner(batch, layers)]


def _count(runner: LayerRunner, n_samples: int) -> int:
    """Frames of a clip of so many samples; the network may raise if it is too short."""
    [frames] = runner(probe_clip(n_samples)[None], [0])
    return int(frames.shape[1])
