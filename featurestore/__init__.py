"""What is stored: manifests, plans, and the Zarr store of layer-wise embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.manifest.table import Manifest, read_manifest, write_manifest
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features, Store, open_store

__all__ = ["Features", "Layer", "Manifest", "Store", "open_store", "read_manifest", "write_manifest"]

_HOMES = {
    "Features": "featurestore.store.reader",
    "Layer": "featurestore.store.layer",
    "Store": "featurestore.store.reader",
    "open_store": "featurestore.store.reader",
    "Manifest": "featurestore.manifest.table",
    "read_manifest": "featurestore.manifest.table",
    "write_manifest": "featurestore.manifest.table",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import featurestore` (and with it `fs --help`) loads neither zarr nor pandas.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
