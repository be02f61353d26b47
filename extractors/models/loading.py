"""Loading a model, and compiling its blocks where that is asked for."""

from __future__ import annotations

import warnings

from extractors.models.arithmetic import products_in
from extractors.models.aves import AvesSource
from extractors.models.huggingface.model_folder import TransformersSource, one_line
from extractors.models.interface import Extractor, ModelSource, Precision
from featurestore.errors import ConfigError, ModelError


def load_model(
    source: ModelSource, device: str, precision: Precision, *, compiled: bool, spec: str
) -> Extractor:
    """A model on its device, its blocks compiled if asked for.

    Every block is compiled by itself, for any shape: the hooks between blocks stay as they are.

    Args:
        source: the model.
        device: torch device.
        precision: of its forward passes.
        compiled: whether to compile.
        spec: what the user wrote after ``--model``, for the message.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch

    from extractors.models.torch_tools import LayerTap

    try:
        with products_in(precision):  # some are run when loaded, to see what they do
            extractor = source.load(device, precision)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"--model {spec}: does not fit the memory of {device} ({one_line(error)}); give another "
            "--device, or several models one after the other"
        ) from error
    tap = getattr(extractor, "tap", None)
    if compiled and isinstance(tap, LayerTap):
        for block in tap.blocks:
            # Not `block.compile()`, which takes the hooks in too, and one of them ends the forward.
            block.forward = torch.compile(block.forward, dynamic=True)
    return extractor


def check_compiler(device: str | None, sources: list[ModelSource]) -> None:
    """Refuse to compile models without transformer blocks of ours to see; then compile something small.

    Args:
        device: to compile for; None: of another machine, which is not tried.
        sources: what would be compiled.

    Raises:
        ConfigError: a model has none, or PyTorch cannot compile for this device here.
    """
    for source in sources:
        if not isinstance(source, (TransformersSource, AvesSource)):
            raise ConfigError(
                f"--compile: {source.card.name} has no transformer blocks to compile; leave --compile out"
            )
    if device is None or not sources:
        return
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own modules are full of deprecations
            torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(3, device=device))
    except Exception as error:  # whatever a compiler tool chain may raise
        raise ConfigError(
            f"--compile: PyTorch cannot compile for {device} here ({one_line(error)}); it needs a C++ "
            "compiler (CPU) or Triton (CUDA); leave --compile out"
        ) from error
