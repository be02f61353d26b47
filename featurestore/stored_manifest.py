"""The manifest inside a key: a store alone is enough to probe."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from featurestore import columns
from featurestore.blame import not_damage
from featurestore.errors import CorruptData, ManifestError
from featurestore.ids import read_ids
from featurestore.key import KeyInfo
from featurestore.manifest import Manifest, from_csv_text, to_csv_text
from featurestore.storage import Storage

MANIFEST_ARRAY = "manifest"
_NOT_TEXT = ("start_s", "end_s", "channel")


def store_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> bool:
    """Put the manifest into a key; False where it holds the same already."""
    name = f"{info.path}/{columns.entry_name(MANIFEST_ARRAY, 0)}"
    data = columns.encode_text(to_csv_text(manifest))
    if storage.get(name) == data:
        return False
    storage.put(name, data)
    return True


def read_stored_manifest(storage: Storage, info: KeyInfo) -> Manifest:
    """The manifest inside a key.

    Raises:
        CorruptData: it is missing or damaged.
    """
    name = f"{info.path}/{columns.entry_name(MANIFEST_ARRAY, 0)}"
    data = storage.get(name)
    if data is None:
        raise CorruptData(f"{storage.url}: {name} is missing; `fs manifest attach` puts it back")
    try:
        return from_csv_text(columns.decode_text(data), source=f"{storage.url}/{info.path}")
    except Exception as error:  # whatever a decoder may raise over damaged bytes
        if other := not_damage(error):
            raise other from error
        raise CorruptData(
            f"{storage.url}: {name} is damaged ({error}); `fs manifest attach` puts it back"
        ) from error


def with_rows_of(manifest: Manifest, stored: Manifest, ids: Sequence[str]) -> Manifest:
    """The manifest with the stored rows of these ids appended; labels it has not become ""."""
    kept = stored.table[stored.table["utterance_id"].isin(set(ids))]
    joined = pd.concat([manifest.table, kept], ignore_index=True).fillna(
        dict.fromkeys({*manifest.table.columns, *kept.columns} - set(_NOT_TEXT), "")
    )
    text = [c for c in joined.columns if c not in _NOT_TEXT]
    return Manifest(table=joined.astype(dict.fromkeys(text, "str")), source=manifest.source)


def attach_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> int:
    """Replace the labels stored with a key; embeddings are not touched.

    Returns:
        Utterances of the key that got a row.

    Raises:
        ManifestError: the manifest lacks an utterance of the key.
    """
    ids = {i for i in read_ids(storage, info).tolist() if i}
    lacking = sorted(ids - set(manifest.table["utterance_id"]))
    if lacking:
        raise ManifestError(
            f"{manifest.source}: lacks {len(lacking)} utterances of {info.path} (first {lacking[0]!r}); "
            "every stored utterance needs a row"
        )
    rows = manifest.table[manifest.table["utterance_id"].isin(ids)].reset_index(drop=True)
    store_manifest(storage, info, Manifest(table=rows, source=manifest.source))
    return len(ids)
