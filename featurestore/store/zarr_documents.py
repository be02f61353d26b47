"""The Zarr documents of a key: what its attributes call for, and putting them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featurestore.backends.storage import Storage
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.row_arrays import CLAIMS_ARRAY, LEDGER_ARRAY, MANIFEST_ARRAY, SEALED_ARRAY
from featurestore.store.key import COPY_NAME, FORMAT, KeyInfo


def key_documents(info: KeyInfo) -> dict[str, bytes]:
    """``zarr.json`` of every array that the key's attributes call for, by key-relative name."""
    rows, n_units = info.n_rows, info.n_units
    documents = {
        LEDGER_ARRAY: _ledger_document(info, {COPY_NAME: info.to_attributes()}),
        SEALED_ARRAY: row_arrays.sealed_document(n_units),
        CLAIMS_ARRAY: row_arrays.text_document(n_units, compress=False),
        MANIFEST_ARRAY: row_arrays.text_document(1, dimension="table"),
        **{name: row_arrays.column_document(name, rows) for name in info.row_arrays},
        **{layer_arrays.layer_name(k): layer_arrays.layer_document(info.shape, rows) for k in info.layers},
    }
    if info.frames is not None:
        document = layer_arrays.frames_document(info.frames, n_units)
        documents |= {layer_arrays.frames_name(k): document for k in info.layers}
    return {f"{name}/zarr.json": document for name, document in documents.items()}


def documents_before(info: KeyInfo) -> dict[str, list[bytes]]:
    """Documents as earlier versions wrote them, by key-relative name.

    The dimension of an array of one entry had no name, and the ledger no copy of the attributes.
    """
    one_unit = [None] if info.n_units == 1 else []
    copy = {COPY_NAME: info.to_attributes()} if info.has_checksum else {}
    ledger = [_ledger_document(info, copy, dimension) for dimension in one_unit]
    if not info.has_checksum:
        ledger.append(_ledger_document(info, {}))
    claims = [row_arrays.text_document(1, compress=False, dimension=dimension) for dimension in one_unit]
    before = {LEDGER_ARRAY: ledger, CLAIMS_ARRAY: claims}
    before[MANIFEST_ARRAY] = [row_arrays.text_document(1, dimension=None)]
    return {f"{name}/zarr.json": documents for name, documents in before.items()}


def _ledger_document(info: KeyInfo, attributes: dict[str, Any], dimension: str | None = "unit") -> bytes:
    return row_arrays.text_document(info.n_units, compress=False, dimension=dimension, attributes=attributes)


def key_document(info: KeyInfo) -> bytes:
    """``zarr.json`` of the key itself."""
    return layer_arrays.group_document(info.to_attributes())


def put_attributes(storage: Storage, info: KeyInfo) -> None:
    """Write the attributes of a key where they stand: their copy first, then the key's own document."""
    storage.put(
        f"{info.path}/{LEDGER_ARRAY}/zarr.json",
        key_documents(info)[f"{LEDGER_ARRAY}/zarr.json"],
    )
    storage.put(f"{info.path}/zarr.json", key_document(info))


def put_documents(storage: Storage, info: KeyInfo) -> None:
    """Write the documents of all arrays of a key."""
    for name, document in key_documents(info).items():
        storage.put(f"{info.path}/{name}", document)


def root_documents(models: Iterable[str]) -> dict[str, bytes]:
    """``zarr.json`` of the groups above the keys of these models, by name below the root."""
    attributes = {"zarr.json": {"feature_store": FORMAT}, **{f"{m}/zarr.json": {} for m in models}}
    return {name: layer_arrays.group_document(of_group) for name, of_group in attributes.items()}


def put_root_documents(storage: Storage, info: KeyInfo) -> None:
    """Write the groups above a key, where they are not there yet."""
    for name, document in root_documents([info.model]).items():
        if storage.get(name) is None:
            storage.put(name, document, if_absent=True)
