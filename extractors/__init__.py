"""How embeddings are computed: audio, models, exact batches, functionals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# oneDNN keeps compiled kernels, with their scratch memory, of every shape it has met, and clips have many
# lengths: memory would grow with the corpus up to its limit of 1,024 kernels. The blocks of a model share
# about this many. Read at the first product, so before any model runs.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.models.registry import find_model
    from extractors.results import ExtractSummary
    from extractors.run.extraction import extract

__all__ = ["ExtractConfig", "ExtractSummary", "extract", "find_model"]

_HOMES = {
    "ExtractConfig": "extractors.config",
    "ExtractSummary": "extractors.results",
    "extract": "extractors.run.extraction",
    "find_model": "extractors.models.registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
