"""The architectures of transformers this package knows: one line here, one file each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extractors.models.interface import Extractor, ModelCard, Precision

# `model_type` of config.json → the module whose `FAMILY` knows it.
FAMILIES: Mapping[str, str] = {
    "wav2vec2": "extractors.models.huggingface.wav2vec_family",  # XLS-R and MMS too
    "hubert": "extractors.models.huggingface.wav2vec_family",
    "wavlm": "extractors.models.huggingface.wav2vec_family",
    "data2vec-audio": "extractors.models.huggingface.wav2vec_family",
    "unispeech-sat": "extractors.models.huggingface.wav2vec_family",
    "wav2vec2-bert": "extractors.models.huggingface.wav2vec2_bert",
    "whisper": "extractors.models.huggingface.whisper",
    "audio-spectrogram-transformer": "extractors.models.huggingface.spectrogram_transformer",
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
        is_read: whether hidden states depend on a parameter of this name; a checkpoint may lack the others.
    """

    describe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    build: Callable[[Any, Mapping[str, Any], ModelCard, str, Precision], Extractor]
    keys: frozenset[str]
    preprocessor_keys: frozenset[str] = frozenset()
    is_read: Callable[[str], bool] = lambda name: not name.endswith("masked_spec_embed")


def find_family(model_type: str) -> Family:
    """The family of a known `model_type`."""
    family: Family = importlib.import_module(FAMILIES[model_type]).FAMILY
    return family
