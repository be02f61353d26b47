"""From what a user writes after ``--model`` to a model, found and then loaded.

A built-in name with its argument (``mfcc``, ``logmel:44100``, ``untrained:ID``, ``hear:MODULE:WEIGHTS``),
a name some installed package registers, a folder or a hub id, or a stage of one of these (``stage-2:ID``).
A package registers its own extractor as an entry point of the group ``featurestore.extractors``: a callable
that takes what stands behind ``NAME:`` (None if nothing does) and returns a `ModelSource`.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from extractors.models.arithmetic import products_in
from extractors.models.aves import AvesSource, is_aves
from extractors.models.huggingface.model_folder import TransformersSource, from_hub, named_line, one_line
from extractors.models.interface import Extractor, ModelSource, Precision
from extractors.models.package_versions import refuse_earlier
from extractors.models.weights import split_card, split_seed, split_stage
from featurestore.errors import ConfigError, ModelError

ENTRY_POINT_GROUP = "featurestore.extractors"

# Name → what makes a source of its argument: a line for each.
BUILT_IN: Mapping[str, str] = {
    "logmel": "extractors.models.logmel_mfcc:LogMelSource",
    "mfcc": "extractors.models.logmel_mfcc:MfccSource",
    "catch22": "extractors.models.catch22:Catch22Source",
    "untrained": "extractors.models.registry:untrained_source",
    "hear": "extractors.models.hear:HearSource",
    "avex": "extractors.models.avex:AvexSource",
    "birdnet": "extractors.models.birdnet:BirdnetSource",
    "onnx": "extractors.models.networks.source:onnx_source",
    "tflite": "extractors.models.networks.source:tflite_source",
}


def find_model(spec: str, *, allow_pickle: bool = False) -> ModelSource:
    """Find a model without loading its weights.

    Args:
        spec: ``NAME`` or ``NAME:ARGUMENT`` of a built-in or registered extractor, a model folder, the
            ``.torchaudio.pt`` of an AVES model, an ``.onnx`` or ``.tflite`` with its card beside it, the
            ``.tflite`` of a BirdNET, a hub id, or ``stage-K:`` and a folder or hub id.
        allow_pickle: also read ``pytorch_model.bin``, see `weight_files`.

    Raises:
        ModelError: there is no such model, its family is not supported, or it has no usable weights.
        DependencyMissing: it needs a package that is not installed.
        ConfigError: PyTorch or transformers is too old to be exact, or `spec` is empty.
    """
    refuse_earlier()
    if not spec.strip():  # of a shell's variable that is not set; as a folder it would be the one we are in
        raise ConfigError("--model: expected a built-in name, a folder, a file or a hub id, got nothing")
    name, colon, argument = spec.partition(":")
    make = _factory(name)
    if make is not None:
        source = make(argument if colon else None)
        if not isinstance(source, ModelSource):
            raise ModelError(
                f"--model {spec}: the extractor registered as {name!r} gave a {type(source).__name__}; "
                "expected a ModelSource (card, fingerprint, load)"
            )
        return source
    return _from_files(spec, spec, allow_pickle=allow_pickle)


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


def lasting_spec(spec: str, folder: str | Path = "") -> str:
    """The same model for whoever runs from another folder: paths in it absolute, names as they are.

    What `find_model` takes for a name is one, whatever lies in this folder: ``logmel`` beside a folder
    ``logmel`` is the built-in.

    Args:
        spec: what stands after ``--model``.
        folder: what relative paths in it start from; default: the folder this runs in.
    """
    name, colon, argument = spec.partition(":")
    if name == "untrained" and argument:
        model = split_stage(split_seed(argument)[1])[1]
        return f"untrained:{argument.removesuffix(model)}{_absolute(model, folder)}"
    if name == "hear" and argument:
        module, colon, weights = argument.partition(":")
        return f"hear:{module}{colon}{_absolute(weights, folder) if weights else ''}"
    if name == "avex" and argument.endswith((".yml", ".yaml")):
        return f"avex:{_absolute(argument, folder)}"
    if name == "birdnet" and argument:
        stage, file = split_stage(argument)
        return ":".join(["birdnet", *filter(None, (stage, _absolute(file, folder) if file else ""))])
    stage, model = split_stage(spec)
    if stage and model:
        return f"{stage}:{_absolute(model, folder)}"
    if name in ("onnx", "tflite") and argument:
        from extractors.models.networks.card import packaged_cards

        card, file = split_card(argument)
        card = card if card in packaged_cards() else _absolute(card, folder) if card else ""
        return ":".join(filter(None, (name, card, _absolute(file, folder))))
    return spec if _is_named(name) else _absolute(spec, folder)


def _absolute(model: str, folder: str | Path) -> str:
    """The absolute path of what is a file or folder here; anything else, such as a hub id, as it is."""
    path = folder / Path(os.path.expanduser(model))
    if not os.path.exists(path):  # False too for what no path can be
        return model
    # A file keeps its own name, which may be a link's: its suffix says what it is.
    return str(path.resolve() if path.is_dir() else path.parent.resolve() / path.name)


def runs_code(spec: str) -> bool:
    """Whether `find_model` would import what the spec names: a HEAR module, another package's extractor."""
    name = spec.partition(":")[0]
    return name == "hear" or (name not in BUILT_IN and _is_named(name))


def untrained_source(argument: str | None) -> ModelSource:
    """``untrained:MODEL`` or ``untrained:SEED:MODEL``: a folder's or hub id's architecture, random weights.

    MODEL may be a stage of one: ``untrained:stage-2:MODEL``.

    Raises:
        ModelError: no model is named, or there is no such architecture.
    """
    if not argument:
        raise ModelError("--model untrained: expected untrained:MODEL, MODEL being a folder or a hub id")
    seed, model = split_seed(argument)
    return _from_files(f"untrained:{argument}", model, seed=seed)


def _from_files(spec: str, model: str, *, seed: int | None = None, allow_pickle: bool = False) -> ModelSource:
    stage, model = split_stage(model) if ":" in model else ("", model)
    path = Path(os.path.expanduser(model))
    if stage and (not model or path.is_file() or is_aves(path) or _is_named(model.partition(":")[0])):
        raise ModelError(
            f"--model {spec}: expected {stage}:MODEL, MODEL being a folder with config.json or a hub id"
        )
    is_named = not os.path.exists(path) and _is_named(model.partition(":")[0])
    if seed is not None and (path.suffix in (".tflite", ".onnx") or is_named):
        raise ModelError(
            f"--model {spec}: {model} has no initialiser that weights could be drawn by; expected "
            "untrained:MODEL, MODEL being a folder, an AVES export or a hub id"
        )
    if not os.path.exists(path) and not model.startswith((".", "/", "~")):
        return from_hub(
            spec, model, built_in=list(BUILT_IN), seed=seed, stage=stage, allow_pickle=allow_pickle
        )
    if not os.path.exists(path):
        raise ModelError(f"--model {spec}: there is no such folder")
    if is_aves(path):
        return AvesSource(path, spec=spec, seed=seed)
    if path.suffix in (".tflite", ".onnx") and path.is_file():
        return _from_network(spec, path)
    if not path.is_dir():
        raise ModelError(
            f"--model {spec}: expected a model folder, a .torchaudio.pt, .onnx or .tflite file, a hub id, or "
            f"one of {', '.join(BUILT_IN)}"
        )
    if not (path / "config.json").is_file():
        raise ModelError(
            f"--model {spec}: no config.json in this folder; expected a Hugging Face model folder, or one "
            "with NAME.torchaudio.pt and NAME.torchaudio.model_config.json"
        )
    return TransformersSource(path, spec=spec, seed=seed, stage=stage, allow_pickle=allow_pickle)


def _from_network(spec: str, path: Path) -> ModelSource:
    """The network of a file by the card beside it; a TFLite file without one is taken for a BirdNET."""
    from extractors.models.networks.card import SUFFIX

    if path.suffix == ".tflite" and not path.with_suffix(SUFFIX).is_file():
        from extractors.models.birdnet import BirdnetSource

        return BirdnetSource(_absolute(str(path), ""), spec=spec)
    from extractors.models.networks.source import NetworkSource

    return NetworkSource("onnx" if path.suffix == ".onnx" else "tflite", str(path), spec=spec)


def _is_named(name: str) -> bool:
    """Whether a built-in or registered extractor is called so."""
    return name in BUILT_IN or bool(_registered(tuple(sys.path)).select(name=name))


# Looks into every installed package. The path names what can be found, so that a package installed meanwhile
# by another path is seen.
@lru_cache(maxsize=4)
def _registered(_path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=ENTRY_POINT_GROUP)


def _factory(name: str) -> Callable[[str | None], Any] | None:
    """What makes a source, built in or registered; a built-in name cannot be taken over."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    for point in _registered(tuple(sys.path)).select(name=name):
        try:
            return point.load()  # type: ignore[no-any-return]
        except Exception as error:  # whatever the other package's code raises
            raise ModelError(
                f"--model {name}: the extractor {point.value} cannot be imported ({named_line(error)})"
            ) from error
    return None


def check_compiler(device: str | None, sources: list[ModelSource]) -> None:
    """Refuse to compile models without transformer blocks of ours to see; then compile something small.

    Args:
        device: to compile for; None: of another machine, which is not tried.
        sources: what would be compiled.

    Raises:
        ConfigError: a model has none, or PyTorch cannot compile for this device here.
    """
    for source in sources:
        has_blocks = isinstance(source, TransformersSource) and source.has_blocks
        if not has_blocks and not isinstance(source, AvesSource):
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
