"""Hugging Face model folders and hub ids: configuration to card, weights to extractor, checked strictly."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from extractors.models.catalogue import CATALOGUE, Facts, facts_for
from extractors.models.huggingface.architecture import (
    check_architecture,
    check_preprocessor,
    making,
    require_room,
)
from extractors.models.huggingface.families import FAMILIES, Family, family_reference, find_family
from extractors.models.interface import Extractor, ModelCard, Precision, Reference
from extractors.models.weights import random_model, untrained_name, weight_files, weights_fingerprint
from featurestore.errors import ModelError
from featurestore.untrusted.documents import DocumentError, read_json_document

# What is fetched of a hub repository: never code, and of the weights one copy.
_CONFIGS = ["config.json", "preprocessor_config.json"]
_SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
_PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]
# …/models--ORG--NAME/snapshots/REVISION: how the hub's cache lays a repository out.
_CACHED = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\][^/\\]+$")


class TransformersSource:
    """A model folder with config.json, and weights unless they are to be random.

    Args:
        folder: holds config.json, weights, and preprocessor_config.json if the model has one.
        spec: what the user wrote, for messages.
        model_id: hub id, where it is known.
        seed: of random weights; None: the folder's.
        stage: of a network whose width grows from stage to stage, as ``stage-2``; empty: its embedding, and
            all of any other model.
        allow_pickle: see `weight_files`.

    Raises:
        ModelError: the folder is not that of a known architecture, has no weights, or no such stage.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec: str,
        model_id: str | None = None,
        seed: int | None = None,
        stage: str = "",
        allow_pickle: bool = False,
    ) -> None:
        self.spec = spec
        self._folder = folder
        self._seed = seed
        self._raw = read_json(folder / "config.json", spec)
        model_type = str(self._raw.get("model_type"))
        if model_type not in FAMILIES:
            raise ModelError(
                f"--model {spec}: config.json says model_type {model_type!r}; "
                f"supported are {', '.join(FAMILIES)}"
            )
        self._model_type = model_type
        self._family: Family = find_family(model_type)
        if seed is None:
            refuse_other_weights(folder, self._raw, spec)
        self._files = [] if seed is not None else weight_files(folder, spec, allow_pickle=allow_pickle)
        cached = _CACHED.search(str(folder.absolute()))
        if model_id is None and cached:
            model_id = f"{cached[1]}/{cached[2]}"
        name = (model_id or folder.resolve().name).rsplit("/", 1)[-1]
        self._preprocessor = self._front_end(name, model_id)
        self._config, whole = self._describe()
        self._stage = stage
        facts = facts_for(
            name, model_id, model_type, n_layers=whole["n_layers"], n_features=whole["n_features"]
        )
        if facts is None and self._preprocessor is None and self._family.needs_front_end:
            raise ModelError(
                f"--model {spec}: no preprocessor_config.json in this folder, and the catalogue does not "
                f"know the model; nothing says which spectrogram this {model_type} takes: copy the file from "
                "where the model was published"
            )
        if stage:
            self._family = self._family_at(stage)
            whole = self._family.describe(self._config, self._preprocessor or {})
            name = f"{name}-{stage}"
        self.card = self._card(name, facts, whole)

    @property
    def has_blocks(self) -> bool:
        """Whether it is a stack of transformer blocks of one width."""
        return self._family.stages is None

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        self._require_room()
        full = self._config.to_dict()
        content: dict[str, Any] = {
            "family": self.card.family,
            # Of the full configuration: keys a file leaves out have their defaults all the same.
            "config": {k: full[k] for k in sorted(self._family.keys) if full.get(k) is not None},
        }
        front_end = {
            k: v for k, v in (self._preprocessor or {}).items() if k in self._family.preprocessor_keys
        }
        if front_end:
            content["preprocessor"] = front_end
        if self._family.stages is not None:
            content["part"] = self._stage or "embedding"
        return {**content, **weights_fingerprint(self._files, self._seed)}

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        with making(f"--model {self.spec}"):
            return self._family.build(self._model(), self._preprocessor or {}, self.card, device, precision)

    def reference(self) -> Reference | None:
        """See `Referenced.reference`."""
        if self._family.reference is None:
            return None
        return family_reference(self._family, self._model(), self._preprocessor or {})

    def _model(self) -> Any:
        self._require_room()
        with making(f"--model {self.spec}"):
            if self._seed is not None:
                return random_model(self._config, self._seed, self._family.model_class).eval()
            return self._load_weights().eval()

    def _require_room(self) -> None:
        files = self._files if self._seed is None else None
        require_room(self._family.least_parameters(self._config.to_dict()), files, f"--model {self.spec}")

    def _load_weights(self) -> Any:
        import torch
        import transformers
        from safetensors import SafetensorError

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            model, info = getattr(transformers, self._family.model_class).from_pretrained(
                self._folder,
                config=self._config,  # what of the file is architecture, and nothing else of it
                use_safetensors=self._files[0].suffix == ".safetensors",
                weights_only=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
            raise ModelError(f"--model {self.spec}: cannot be loaded ({one_line(error)})") from error
        lacking = [k for k in info["missing_keys"] if self._family.is_read(k)]
        which = sorted(lacking or map(str, info["mismatched_keys"]))
        if which:
            raise ModelError(
                f"--model {self.spec}: the weights lack {len(which)} parameters of the architecture "
                f"(first {which[0]!r}); they would be random, so the model is refused"
            )
        return model

    def _describe(self) -> tuple[Any, Mapping[str, Any]]:
        """The full configuration (keys that equal a default may be left out of the file) and what follows."""
        try:
            part = self._family.part
            kind, raw = (self._model_type, self._raw) if part is None else part(self._raw)
            config = architecture(kind, raw, self._family.keys)
            return config, self._family.describe(config, self._preprocessor or {})
        except Exception as error:  # transformers validates with exceptions of its own
            raise ModelError(
                f"--model {self.spec}: config.json is not that of a {self._model_type} model "
                f"({one_line(error)})"
            ) from error

    def _front_end(self, name: str, model_id: str | None) -> Mapping[str, Any] | None:
        """What is done to the audio, of the file that says it."""
        if self._family.front_end is not None:
            return self._family.front_end(self._folder, name, model_id, self.spec)
        file = self._folder / "preprocessor_config.json"
        said = read_json(file, self.spec) if file.exists() else None
        check_preprocessor(said or {}, f"--model {self.spec}: {file.name}")
        return said

    def _family_at(self, stage: str) -> Family:
        """The family of a stage.

        Raises:
            ModelError: there is no such stage.
        """
        stages = [] if self._family.stages is None else self._family.stages(self._config)
        by_name = {f"stage-{k}": family for k, family in enumerate(stages, start=1)}
        if stage in by_name:
            return by_name[stage]
        if by_name:
            raise ModelError(
                f"--model {self.spec}: expected one of {', '.join(by_name)}, got {stage}; without a stage it "
                "is the embedding"
            )
        raise ModelError(
            f"--model {self.spec}: a {self._model_type} has no stages, its layers are of one width; leave "
            f"{stage}: out"
        )

    def _card(self, name: str, facts: Facts | None, fields: Mapping[str, Any]) -> ModelCard:
        common: dict[str, Any] = {"family": self._model_type, **fields}
        if "normalisation" not in common:
            common |= self._waveform_normalisation(facts)
        if self._seed is not None:
            return ModelCard(name=untrained_name(name, self._seed), trained=False, **common)
        known = {} if facts is None else facts.card_fields()
        return ModelCard(name=name, **common, **known)

    def _waveform_normalisation(self, facts: Facts | None) -> dict[str, Any]:
        if self._preprocessor is not None:
            said = bool(self._preprocessor.get("do_normalize", True))
            normalisation = "zero-mean-unit-variance" if said else "none"
            source = f"preprocessor_config.json says do_normalize={str(said).lower()}"
        elif facts is not None and facts.normalisation is not None:
            normalisation, source = facts.normalisation, f"the catalogue's card of {facts.model_id}"
        else:
            normalisation = "none"
            source = "the folder has no preprocessor_config.json, so none is applied"
        return {"normalisation": normalisation, "normalisation_source": source}


def architecture(model_type: str, raw: Mapping[str, Any], keys: Collection[str]) -> Any:
    """The configuration of what `raw`, a config.json, says about the architecture.

    transformers takes many more keys from that file, and acts on them: an ``attn_implementation`` can name a
    kernel to be fetched from the hub and run, ``auto_map`` a file with code; ``fusion_config``, ``dtype`` and
    others change how a model computes. None of that is for a folder to say, so keys that are not listed are
    left out: the fields that this kind of model has of its own, and `keys`.
    """
    import inspect

    from transformers import AutoConfig, PreTrainedConfig

    kind = type(AutoConfig.for_model(model_type))
    own = set(inspect.signature(kind.__init__).parameters) | set(kind.attribute_map) | set(keys)
    own -= {"self", "kwargs", *getattr(PreTrainedConfig, "__dataclass_fields__", ())}
    said = {k: v for k, v in raw.items() if k in own}
    check_architecture(said)
    return AutoConfig.for_model(model_type, **said)


def refuse_other_weights(folder: Path, raw: Mapping[str, Any], spec: str) -> None:
    """Refuse a folder whose files say that its weights are not (only) those of its weight files.

    Raises:
        ModelError: what is found.
    """
    if raw.get("transformers_weights") is not None:
        raise ModelError(
            f"--model {spec}: config.json names a file of weights (transformers_weights); expected "
            "model.safetensors or its index: rename the file that is meant and take that line out"
        )
    if raw.get("quantization_config") is not None:
        raise ModelError(
            f"--model {spec}: config.json has a quantization_config; expected weights that are not "
            "quantised: use the model it was made from, or save it dequantised"
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"--model {spec}: adapter_config.json lies in this folder; an adapter's weights are not read: "
            "merge it into the model (merge_and_unload of peft), or take its files out"
        )


def from_hub(
    spec: str,
    model_id: str,
    *,
    built_in: Sequence[str],
    seed: int | None = None,
    stage: str = "",
    allow_pickle: bool = False,
) -> TransformersSource:
    """A hub id; its files are fetched once and then read from the hub's cache.

    Raises:
        ModelError: the hub has no such model, or no usable one.
    """
    folder = _fetch(spec, model_id, _CONFIGS if seed is not None else [*_CONFIGS, *_SAFETENSORS], built_in)
    if seed is None and not any(folder.glob("model*.safetensors")):
        if not allow_pickle:
            raise ModelError(
                f"--model {spec}: the hub repository has no model.safetensors; if it has pytorch_model.bin, "
                "--torch-weights reads that (by torch.load with weights_only, which runs no code)"
            )
        folder = _fetch(spec, model_id, [*_CONFIGS, *_PICKLES], built_in)
    if not (folder / "config.json").is_file():
        raise ModelError(f"--model {spec}: the hub repository has no config.json")
    return TransformersSource(
        folder, spec=spec, model_id=model_id, seed=seed, stage=stage, allow_pickle=allow_pickle
    )


def _fetch(spec: str, model_id: str, patterns: Sequence[str], built_in: Sequence[str]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(model_id, allow_patterns=list(patterns), cache_dir=constants.HF_HUB_CACHE)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        # Without a network nobody knows whether the hub has it: that is said, and not that it has none.
        if isinstance(error, LocalEntryNotFoundError):
            why = (
                "not in the hub's cache on this machine, and the hub was not reached "
                f"({named_line(error.__cause__ or error, 100)})"
            )
            mend = "check the network, or download the model elsewhere and give its folder"
        else:
            why = f"the hub gave no such model ({named_line(error, 160)})"
            mend = "check the id, or download it and give its folder"
        raise ModelError(
            f"--model {spec}: not a folder here, not one of {', '.join(built_in)}, and {why}"
            f"{_catalogued(model_id)}; {mend}"
        ) from error


def _catalogued(model_id: str) -> str:
    """Hub ids of the catalogue of which a part of the name was written (``whisper``): at most three."""
    if "/" in model_id:
        return ""
    names = (facts.model_id for facts in CATALOGUE)
    ids = [name for name in names if "/" in name and model_id.lower() in name.lower()][:3]
    return f"; hub ids look like {', '.join(ids)}" if ids else ""


def one_line(error: BaseException, n_characters: int = 200) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())[:n_characters]


def named_line(error: BaseException, n_characters: int = 200) -> str:
    """An error's kind and its message without line breaks."""
    return f"{type(error).__name__}: {one_line(error, n_characters)}"


def read_json(file: Path, spec: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: it cannot be read or is not an object.
    """
    try:
        content: Any = read_json_document(file)
    except DocumentError as error:
        raise ModelError(f"--model {spec}: {file.name} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"--model {spec}: {file.name} is not a JSON object")
    return content
