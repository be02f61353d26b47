"""A model with the HEAR API whose values depend on the whole batch, as some published ones do."""

from __future__ import annotations

import torch

from tests.extractors.hear_tiny import TinyModel, load_model  # noqa: F401
from tests.extractors.hear_tiny import get_timestamp_embeddings as _get


def get_timestamp_embeddings(audio: torch.Tensor, model: TinyModel) -> tuple[torch.Tensor, torch.Tensor]:
    return _get(audio / audio.std(), model)
