"""A TFLite file as a graph: what its operators give, and the part of it that leads to some tensors.

LiteRT hands out what a file names as its outputs; other tensors share memory and are overwritten, unless an
option for debugging keeps all of them. So a file is cut: the tensors wanted become its outputs, operators
past the last of them go, and nothing that is not asked for is computed. Weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extractors.models.huggingface.model_folder import named_line

# Stands behind the first offset of every TFLite file.
IDENTIFIER = b"TFL3"
# Number of the type in TFLite's schema.
_FLOAT32 = 0


@dataclass(frozen=True)
class GraphTensor:
    """A tensor of a graph.

    Attributes:
        index: its number.
        name: its name.
        shape: as the file has it, unknown sizes as 1.
        signature: the same, unknown sizes as None.
        is_float32: whether it holds float32.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int | None, ...]
    is_float32: bool


class TfliteGraph:
    """The first subgraph of a TFLite file.

    Attributes:
        inputs: its inputs.
        results: first output of every operator, in the order in which they run.

    Args:
        content: the file.

    Raises:
        ValueError: this is no TFLite file, or a damaged one.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        if content[4:8] != IDENTIFIER:
            raise ValueError(f"no TFLite file: bytes 4 to 7 are {content[4:8]!r} and not {IDENTIFIER!r}")
        self._content = content
        try:
            graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
            self.inputs = tuple(_tensor(graph, graph.Inputs(i)) for i in range(graph.InputsLength()))
            operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
            self.results = tuple(_tensor(graph, operator.Outputs(0)) for operator in operators)
        except Exception as error:  # whatever reading outside a damaged file may raise
            raise ValueError(f"a damaged TFLite file ({named_line(error)})") from error

    def last_result(self, prefix: str) -> GraphTensor | None:
        """What the last operator gives whose result is called by this prefix; None if there is none."""
        return next((t for t in reversed(self.results) if t.name.startswith(prefix)), None)

    def up_to(self, tensors: Sequence[GraphTensor]) -> bytes:
        """A TFLite file that computes these results, which are its outputs in this order, and nothing more.

        Raises:
            ValueError: the file is damaged.
        """
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        stop = 1 + max(self.results.index(tensor) for tensor in tensors)
        builder = flatbuffers.Builder(len(self._content))
        try:
            model = schema.ModelT.InitFromPackedBuf(self._content, 0)
            graph = model.subgraphs[0]
            graph.operators = graph.operators[:stop]
            graph.outputs = np.array([tensor.index for tensor in tensors], dtype=np.int32)
            model.signatureDefs = None  # they name the outputs of the whole
            builder.Finish(model.Pack(builder), IDENTIFIER)
        except Exception as error:  # as above
            raise ValueError(f"a damaged TFLite file ({named_line(error)})") from error
        return bytes(builder.Output())


def _tensor(graph: Any, index: int) -> GraphTensor:
    tensor = graph.Tensors(index)
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    signature = [int(tensor.ShapeSignature(i)) for i in range(tensor.ShapeSignatureLength())]
    return GraphTensor(
        index=index,
        name=tensor.Name().decode(),
        shape=shape,
        signature=tuple(size if size >= 0 else None for size in signature or shape),
        is_float32=tensor.Type() == _FLOAT32,
    )
