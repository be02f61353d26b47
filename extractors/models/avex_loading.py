"""Which model of avex is meant, and loading it so that nothing of it is left random.

avex loads without checking: a checkpoint whose names do not match sets nothing, and says so nowhere. It
reads pickles in the way that runs their code, and some of its classes run code of the hub. None of that is
done here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extractors.models.huggingface.model_folder import named_line
from featurestore.errors import ModelError
from featurestore.untrusted.document_shape import anything, fields, text, whole
from featurestore.untrusted.documents import DocumentError, read_yaml_document

SUFFIXES = (".yml", ".yaml")
# Classes of avex that load a hub repository with trust_remote_code.
_RUNS_CODE = ("birdmae", "eat_hf", "eathf")
_FILE = fields({"model_spec": anything}, {"checkpoint_path": text})
_SPEC = fields({"name": text, "audio_config": anything})
_AUDIO = fields({"sample_rate": whole(1000, 1_000_000), "target_length_seconds": whole(1, 3600)})


@dataclass(frozen=True, kw_only=True)
class AvexSpec:
    """A model of avex.

    Attributes:
        name: its name in a store.
        said: what decides the architecture, for the fingerprint.
        content: avex's own `ModelSpec`.
        registered: avex's name of it; None: the spec is in a file of the user's.
        checkpoint: where its weights are, of a spec in a file; None: where avex has them.
    """

    name: str
    said: Any
    content: Any
    registered: str | None = None
    checkpoint: str | None = None


def find_spec(avex: Any, argument: str, spec: str) -> AvexSpec:
    """A name that avex has registered, or a YAML file with a spec of its own.

    Args:
        avex: the package.
        argument: what stands behind ``avex:``.
        spec: what the user wrote, for messages.

    Raises:
        ModelError: there is no such model or file, it lacks what has to be known, or it would run code.
    """
    if argument.endswith(SUFFIXES):
        found = _read_file(avex, Path(os.path.expanduser(argument)), spec)
    else:
        content = avex.get_model_spec(argument)
        if content is None:
            raise ModelError(
                f"--model {spec}: avex {avex.__version__} has no such model; expected one of those that "
                "`python -c 'import avex; avex.list_models()'` lists, or a spec of yours: avex:FILE.yml"
            )
        found = AvexSpec(name=argument, said=argument, content=content, registered=argument)
    if found.content.name in _RUNS_CODE:
        raise ModelError(
            f"--model {spec}: avex runs code of a hub repository for its class {found.content.name!r}, which "
            "is never done here; export the network to ONNX and give it a card (onnx:CARD:FILE)"
        )
    return found


def _read_file(avex: Any, file: Path, spec: str) -> AvexSpec:
    where = f"--model {spec}: {file.name}"
    if not file.is_file():
        raise ModelError(f"{where}: there is no such file; expected a YAML file with avex's model_spec")
    try:
        said = read_yaml_document(file)
        # As avex takes them too: the spec alone.
        said = said if not isinstance(said, Mapping) or "model_spec" in said else {"model_spec": said}
        _FILE(said, "")
        content = said["model_spec"]
        _SPEC(content, "model_spec")
        # avex's own default is 16 kHz, whatever the network was trained with.
        _AUDIO(content["audio_config"], "model_spec.audio_config")
    except DocumentError as error:
        raise ModelError(f"{where}: {error}") from error
    checkpoint = said.get("checkpoint_path")
    if checkpoint is not None and "://" not in checkpoint:
        checkpoint = str(file.parent / os.path.expanduser(checkpoint))
        if not os.path.isfile(checkpoint):
            raise ModelError(f"{where}: checkpoint_path: there is no file {checkpoint}")
    if checkpoint is None and content.get("pretrained") is False:
        raise ModelError(
            f"{where}: model_spec.pretrained: expected true, or a checkpoint_path; without either avex takes "
            "weights of its own choice, or none"
        )
    classes = avex.list_model_classes()
    if content["name"] not in classes:
        raise ModelError(
            f"{where}: model_spec.name: expected a class of avex, one of {', '.join(sorted(classes))}; got "
            f"{content['name']!r}"
        )
    from avex.configs import ModelSpec

    try:
        made = ModelSpec(**{"device": "cpu", **content})
        # Where weights lie says nothing of them, they are hashed; a device is no property of a model.
        deciding = made.model_dump(mode="json", exclude={"device"}, exclude_none=True)
    except (ValueError, TypeError) as error:  # a key may be no text
        raise ModelError(f"{where}: avex takes no such model_spec ({named_line(error)})") from error
    return AvexSpec(name=file.stem, said=deciding, content=made, checkpoint=checkpoint)


def load(avex: Any, found: AvexSpec, device: str, spec: str) -> Any:
    """The model on a device, its classifier left out where avex can.

    Raises:
        ModelError: avex cannot load it.
    """
    try:
        with _without_pickled_code():
            if found.registered is not None:
                model = avex.load_model(found.registered, device=device, return_features_only=True)
            else:
                # avex writes into what it is given.
                content = found.content.model_copy(deep=True)
                model = avex.load_model(
                    content, device=device, checkpoint_path=found.checkpoint, return_features_only=True
                )
            return model.eval()
    except Exception as error:
        raise ModelError(f"--model {spec}: avex cannot load it ({named_line(error)})") from error


def load_twice(avex: Any, found: AvexSpec, spec: str) -> tuple[Any, Any, list[str]]:
    """The model on the CPU, the same again, and names of what of it no checkpoint sets.

    What begins at random begins elsewhere the second time, and so do the ones and zeros that norms and biases
    begin with; what a checkpoint leaves at the weights of another training is drawn anew. Whoever runs both
    sees whether it matters to the features.

    Raises:
        ModelError: see `load`.
    """
    models = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]), _other_constants(seed == 2), _noted_gaps() as gaps:
            torch.manual_seed(seed)
            model = load(avex, found, "cpu", spec)
            left = _trained(model) & set(gaps[id(model)][1] if id(model) in gaps else ())
            if seed == 2:
                state = model.state_dict()
                for name in sorted(left):
                    state[name].uniform_(0.5, 1.5)
            models.append(model)
    first, second = (model.state_dict() for model in models)
    return models[0], models[1], [k for k, v in first.items() if not torch.equal(v, second[k])]


def _trained(model: torch.nn.Module) -> set[str]:
    """Names of what training sets: parameters, and statistics of batch norms."""
    statistics = {k for k in model.state_dict() if k.endswith((".running_mean", ".running_var"))}
    return statistics | {name for name, _ in model.named_parameters()}


@contextmanager
def _noted_gaps() -> Iterator[dict[int, tuple[torch.nn.Module, list[str]]]]:
    """Note what the last checkpoint that a module was given did not have, by the module's id."""
    gaps: dict[int, tuple[torch.nn.Module, list[str]]] = {}
    kept = torch.nn.Module.load_state_dict

    def noting(self: torch.nn.Module, *given: Any, **named: Any) -> Any:
        result = kept(self, *given, **named)
        gaps[id(self)] = self, list(result.missing_keys)  # the module too, so that no other gets its id
        return result

    torch.nn.Module.load_state_dict = noting  # type: ignore[method-assign]
    try:
        yield gaps
    finally:
        torch.nn.Module.load_state_dict = kept  # type: ignore[method-assign]


@contextmanager
def _other_constants(wanted: bool) -> Iterator[None]:
    """Let what begins as a constant begin as random numbers."""
    init = torch.nn.init
    names = ("ones_", "zeros_", "constant_") if wanted else ()
    kept = {name: getattr(init, name) for name in names}

    def drawn(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        with torch.no_grad():
            return tensor.uniform_(0.5, 1.5)

    for name in names:
        setattr(init, name, drawn)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(init, name, function)


@contextmanager
def _without_pickled_code() -> Iterator[None]:
    """Let `torch.load` build tensors and nothing else, whatever it is asked to."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
