"""What is stored: manifests, plans, and the Zarr store of layer-wise embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.lazy_names import lazy_names

if TYPE_CHECKING:
    from featurestore.manifest.table import Manifest, read_manifest, write_manifest
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features, Store, open_store

__all__ = ["Features", "Layer", "Manifest", "Store", "open_store", "read_manifest", "write_manifest"]

# So that `import featurestore` (and with it `fs --help`) loads neither zarr nor pandas.
__getattr__ = lazy_names(
    __name__,
    {
        "manifest.table": ("Manifest", "read_manifest", "write_manifest"),
        "store.layer": ("Layer",),
        "store.reader": ("Features", "Store", "open_store"),
    },
)
