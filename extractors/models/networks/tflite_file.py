"""A TFLite file as a network, run by LiteRT: one clip after the other, since batches are no faster there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from extractors.models.huggingface.model_folder import named_line
from extractors.models.networks.interface import NetworkInput, Run
from extractors.models.networks.tflite_graph import GraphTensor, TfliteGraph
from featurestore.audio.decoder_noise import HUSH
from featurestore.untrusted.documents import open_regular


class TfliteNetwork:
    """See `Network`.

    Attributes:
        graph: of the file.

    Args:
        file: the TFLite file.

    Raises:
        ValueError: this is no TFLite file, or a damaged one.
        DocumentError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        with open_regular(file) as stream:
            self.graph = TfliteGraph(stream.read())
        self.inputs: Sequence[NetworkInput] = [
            NetworkInput(t.name, _batch_of_one(t), t.is_float32) for t in self.graph.inputs
        ]
        self._by_name = {tensor.name: tensor for tensor in self.graph.results}
        self.tensors: Sequence[str] = list(self._by_name)
        self.weight_files: Sequence[Path] = [file]

    def runner(self, tensors: Sequence[str]) -> Run:
        """See `Network.runner`."""
        from ai_edge_litert.interpreter import Interpreter

        content = self.graph.up_to([self._by_name[name] for name in tensors])
        try:
            with HUSH:  # LiteRT greets on standard error
                interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot load it ({named_line(error)})") from error
        [entry] = interpreter.get_input_details()
        shape = tuple(entry["shape"])

        def run(batch: np.ndarray) -> Sequence[np.ndarray]:
            nonlocal shape
            if batch.shape != shape:
                interpreter.resize_tensor_input(entry["index"], batch.shape, strict=True)
                interpreter.allocate_tensors()
                shape = batch.shape
            interpreter.set_tensor(entry["index"], batch)
            interpreter.invoke()
            return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]

        return run


def _batch_of_one(tensor: GraphTensor) -> tuple[int | None, ...]:
    """The sizes of an input, which takes one clip at a time where any number may stand first."""
    first, *others = tensor.signature or (None,)
    return (1, *others) if others and first is None else (first, *others)
