"""One row per channel that is embedded, where the manifest does not say which."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd

from featurestore.errors import ManifestError
from featurestore.manifest.table import Manifest


def with_channels(manifest: Manifest, choice: str, counts: Mapping[str, int]) -> Manifest:
    """The manifest with a channel for every row that has none.

    A channel that the manifest names always stands. With ``each`` a row becomes one row per channel of its
    file, ``ID#0``, ``ID#1`` …, all with the labels of the row; where it has no `group`, its own id becomes
    theirs, since channels of one recording must not straddle a split.

    Args:
        manifest: as read.
        choice: ``mix`` (nothing changes), ``each``, or a channel counted from 0.
        counts: with ``each``: channels of every file that a row without a channel names, 0 where it cannot be
            opened; such a row stays as it is, to fail by itself.

    Raises:
        ManifestError: an id that this makes is another row's already.
    """
    table = manifest.table
    silent = table["channel"].isna()
    if choice == "mix" or not silent.any():
        return manifest
    if choice != "each":
        return dataclasses.replace(manifest, table=table.assign(channel=table["channel"].fillna(int(choice))))
    # Rows that stay as they are count one channel without a number.
    n_channels = [counts[p] if s else 0 for p, s in zip(table["path"], silent, strict=True)]
    repeats = [max(1, n) for n in n_channels]
    rows = table.loc[table.index.repeat(repeats)].reset_index(drop=True)
    number = pd.Series([k for n in n_channels for k in (range(n) if n else [-1])])
    numbered = (number >= 0).to_numpy()
    ids = rows["utterance_id"]
    rows["group"] = rows["group"].mask(numbered & (rows["group"] == ""), ids)
    rows["utterance_id"] = ids.mask(numbered, ids + "#" + number.astype(str)).astype("str")
    rows["channel"] = rows["channel"].mask(numbered, number.astype("Int64"))
    repeated = rows["utterance_id"].duplicated()
    if repeated.any():
        first = rows["utterance_id"][repeated].iloc[0]
        raise ManifestError(
            f"{manifest.source}: --channel each makes utterance_id {first!r}, "
            "which another row has already; rename one of them"
        )
    return dataclasses.replace(manifest, table=rows)
