"""An ONNX file as a network, run by ONNX Runtime.

ONNX Runtime hands out what a file names as its outputs. So a file is cut: the tensors wanted become its
outputs, and only what leads to them stays. Weights stay as they are. The file may keep them in others beside
it (``external data``); these are files of that folder and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.models.huggingface.model_folder import named_line
from extractors.models.networks.interface import NetworkInput, Run
from featurestore.untrusted.documents import open_regular


class OnnxNetwork:
    """See `Network`.

    Args:
        file: the ONNX file.

    Raises:
        ValueError: this is no ONNX file, or its weights lie elsewhere than beside it.
        DocumentError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        import onnx
        from google.protobuf.message import DecodeError

        self._folder = file.absolute().parent
        with open_regular(file) as stream:
            content = stream.read()
        try:
            self._model = onnx.ModelProto.FromString(content)
        except DecodeError as error:
            raise ValueError(f"no ONNX file, or a damaged one ({named_line(error)})") from error
        graph = self._model.graph
        if not graph.node or not graph.output:
            raise ValueError("no ONNX file, or one without a graph")
        weights = {tensor.name for tensor in graph.initializer}
        self.inputs: Sequence[NetworkInput] = [
            _input(value) for value in graph.input if value.name not in weights
        ]
        self.tensors: Sequence[str] = [name for node in graph.node for name in node.output if name]
        self.weight_files: Sequence[Path] = [file, *self._files_beside()]

    def runner(self, tensors: Sequence[str]) -> Run:
        """See `Network.runner`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # it writes to standard error; what is wrong comes as an exception
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self._folder)
        )
        [entry] = self.inputs
        try:
            session = onnxruntime.InferenceSession(
                self._up_to(tensors), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of many classes of its own, whose base is this
            raise ValueError(f"ONNX Runtime cannot load it ({named_line(error)})") from error

        def run(batch: np.ndarray) -> Sequence[np.ndarray]:
            try:
                return session.run(list(tensors), {entry.name: batch})  # type: ignore[no-any-return]
            except Exception as error:  # as above
                if "allocate" in str(error):
                    raise MemoryError(named_line(error)) from error
                raise RuntimeError(named_line(error)) from error

        return run

    def _up_to(self, tensors: Sequence[str]) -> bytes:
        """An ONNX file of what leads to these tensors, which are its outputs in this order."""
        import onnx

        graph = self._model.graph
        needed, kept = set(tensors), []
        for node in reversed(graph.node):  # a node stands behind those it takes from
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(_taken_by(node))
        cut = onnx.ModelProto(
            ir_version=self._model.ir_version,
            opset_import=self._model.opset_import,
            functions=self._model.functions,
        )
        cut.graph.name = graph.name or "network"
        cut.graph.node.extend(reversed(kept))
        cut.graph.initializer.extend(t for t in graph.initializer if t.name in needed)
        cut.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in needed)
        cut.graph.input.extend(graph.input)
        types = {value.name: value for value in (*graph.value_info, *graph.output)}
        cut.graph.output.extend(types.get(name, onnx.ValueInfoProto(name=name)) for name in tensors)
        return cut.SerializeToString()  # type: ignore[no-any-return]

    def _files_beside(self) -> list[Path]:
        """Files that hold weights, sorted."""
        names = set()
        for tensor in _tensors_in(self._model.graph, self._model.functions):
            if tensor.data_location == tensor.EXTERNAL:
                names.add(next((e.value for e in tensor.external_data if e.key == "location"), ""))
        for name in sorted(names):
            if not name or Path(name).name != name or not os.path.isfile(self._folder / name):
                raise ValueError(f"one whose weights lie in {name!r}; expected a file beside it")
        return [self._folder / name for name in sorted(names)]


def _input(value: Any) -> NetworkInput:
    kind = value.type.tensor_type
    sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return NetworkInput(value.name, sizes, is_float32=kind.elem_type == 1)


def _taken_by(node: Any) -> Iterator[str]:
    """Names that a node takes, those that graphs inside it take from around them among them."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _taken_by(inner)


def _tensors_in(graph: Any, functions: Iterable[Any] = ()) -> Iterator[Any]:
    """Every tensor with values in a graph, in graphs inside it, and in the nodes of functions."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in (*graph.node, *(node for function in functions for node in function.node)):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors_in(inner)
