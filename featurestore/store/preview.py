"""What opening a key for writing would find, without writing anything."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import KeyNotFound
from featurestore.manifest.table import Manifest
from featurestore.store.key import KeyInfo, read_key
from featurestore.store.ledger import is_complete, read_ledger
from featurestore.store.plan import Unit, next_segment, units_of
from featurestore.store.row_index import read_ids
from featurestore.store.stored_manifest import read_stored_manifest, with_rows_of
from featurestore.store.writer import KeyRequest, KeyWriter, check_request


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A key as it would be opened.

    Attributes:
        writer: of the key; nothing has been written through it.
        pending: units that are not committed for all layers asked for.
    """

    writer: KeyWriter
    pending: list[Unit]


def preview_key(
    storage: Storage,
    request: KeyRequest,
    manifest: Manifest,
    ordered_ids: np.ndarray,
    *,
    overwrite: bool,
    prune: bool,
    again: Collection[int] = (),
) -> Preview:
    """Look at a key as `open_key` would open it.

    Args:
        storage: the root.
        request: what an extraction wants.
        manifest: all utterances.
        ordered_ids: `[n]` ids in the order of the plan.
        overwrite: as if the key were not there.
        prune: without the utterances that the manifest no longer has.
        again: units that are done again.

    Raises:
        UserError: the key exists and cannot take what is wanted; see `writer.check_request`.
    """
    info: KeyInfo | None = None
    if not overwrite:
        try:
            info = read_key(storage, request.model, request.dataset)
        except KeyNotFound:
            info = None
    if info is None:
        info = request.to_info(len(ordered_ids))
        writer = KeyWriter(storage, info, np.asarray(ordered_ids, dtype=object), manifest)
        return Preview(writer=writer, pending=info.units)
    check_request(storage, info, request, ordered_ids)
    ledger = read_ledger(storage, info.path)
    wanted = list(request.layers)
    pending = [u for u in info.units if u.index in again or not is_complete(ledger.get(u.index), u, wanted)]
    ids = np.asarray(read_ids(storage, info), dtype=object)
    stored = set(ids.tolist())
    gone = sorted(stored - set(ordered_ids.tolist()) - {""})
    if gone and prune:
        dropped = set(gone)
        ids = np.array(["" if i in dropped else i for i in ids], dtype=object)
    elif gone:
        manifest = with_rows_of(manifest, read_stored_manifest(storage, info), gone)
    new = [i for i in ordered_ids if i not in stored]
    if new:
        segment = next_segment(info.segments, len(new), info.shape.unit_rows)
        gap = np.full(segment.first_row - len(ids), "", dtype=object)
        ids = np.concatenate([ids, gap, np.array(new, dtype=object)])
        pending += units_of([segment], info.shape.unit_rows)
    return Preview(writer=KeyWriter(storage, info, ids, manifest), pending=pending)
