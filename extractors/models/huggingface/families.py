"""The architectures of transformers this package knows: one line here, one file each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extractors.models.huggingface.architecture import least_parameters

if TYPE_CHECKING:
    import numpy as np
    import torch

    from extractors.models.interface import Extractor, ModelCard, Precision, Reference

# `model_type` of config.json → the module whose `FAMILY` knows it.
FAMILIES: Mapping[str, str] = {
    "wav2vec2": "extractors.models.huggingface.wav2vec_family",  # XLS-R and MMS too
    "hubert": "extractors.models.huggingface.wav2vec_family",
    "wavlm": "extractors.models.huggingface.wav2vec_family",
    "data2vec-audio": "extractors.models.huggingface.wav2vec_family",
    "unispeech": "extractors.models.huggingface.wav2vec_family",
    "unispeech-sat": "extractors.models.huggingface.wav2vec_family",
    "wav2vec2-conformer": "extractors.models.huggingface.wav2vec2_conformer",
    "sew": "extractors.models.huggingface.squeezed",
    "sew-d": "extractors.models.huggingface.squeezed",
    "wav2vec2-bert": "extractors.models.huggingface.wav2vec2_bert",
    "whisper": "extractors.models.huggingface.whisper",
    "audio-spectrogram-transformer": "extractors.models.huggingface.spectrogram_transformer",
    "clap": "extractors.models.huggingface.clap",
    "clap_audio_model": "extractors.models.huggingface.clap",
    "convnext": "extractors.models.huggingface.convnext",
    "efficientnet": "extractors.models.huggingface.efficientnet",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How an architecture becomes a card and an extractor.

    Attributes:
        describe: from its full configuration and its preprocessor_config.json (empty if there is none) to
            the fields of a `ModelCard` that follow from them.
        build: from a loaded model in eval mode, its preprocessor_config.json, its card, a torch device and
            the precision to an extractor on that device. ``bf16`` and ``fp16`` run under autocast, ``tf32``
            allows TF32 matrix products.
        keys: configuration keys that change hidden states; the rest is bookkeeping, heads and training.
        preprocessor_keys: the same of preprocessor_config.json.
        reference: a model that nothing was changed of, its preprocessor_config.json as for `build`, and one
            waveform `[n]` → its hidden states as transformers gives them, of each the frames `[t, d]` that
            count; None: nothing independent of `build` computes them.
        is_read: whether hidden states depend on a parameter of this name; a checkpoint may lack the others.
        front_end: of a folder, its name, its hub id where that is known, and what the user wrote, to what
            stands for preprocessor_config.json; None: that file.
        part: of a config.json that holds several models, the `model_type` and the config.json of this one.
        model_class: of transformers.
        stages: of a full configuration, a family for each stage of a network whose width grows from stage
            to stage, while this one is its embedding; None: all layers have one width.
        least_parameters: see `architecture.least_parameters`.
        needs_front_end: whether a model that is not in the catalogue is refused without
            preprocessor_config.json, since it would be taken for one that it may not be.
    """

    describe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    build: Callable[[Any, Mapping[str, Any], ModelCard, str, Precision], Extractor]
    keys: frozenset[str]
    preprocessor_keys: frozenset[str] = frozenset()
    reference: Callable[[Any, Mapping[str, Any], np.ndarray], Sequence[torch.Tensor]] | None = None
    is_read: Callable[[str], bool] = lambda name: not name.endswith("masked_spec_embed")
    front_end: Callable[[Path, str, str | None, str], Mapping[str, Any]] | None = None
    part: Callable[[Mapping[str, Any]], tuple[str, Mapping[str, Any]]] | None = None
    model_class: str = "AutoModel"
    stages: Callable[[Any], Sequence[Family]] | None = None
    least_parameters: Callable[[Mapping[str, Any]], int] = least_parameters
    needs_front_end: bool = False


def family_reference(family: Family, model: Any, preprocessor: Mapping[str, Any]) -> Reference | None:
    """The reference of a family; None without one.

    Args:
        family: of the model.
        model: in eval mode; nothing was changed of it.
        preprocessor: as for `Family.build`.
    """
    import torch
    from transformers import __version__

    from extractors.models.interface import Reference

    compute = family.reference
    if compute is None:
        return None

    def states(clip: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [state.numpy() for state in compute(model, preprocessor, clip)]

    return Reference(f"transformers {__version__}, {type(model).__name__}", states)


def find_family(model_type: str) -> Family:
    """The family of a known `model_type`."""
    family: Family = importlib.import_module(FAMILIES[model_type]).FAMILY
    return family
