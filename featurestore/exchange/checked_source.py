"""A source whose every row was looked at, before anything of it is written."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurestore.errors import ConfigError, CorruptData
from featurestore.exchange.interface import Advance, Source, slices
from featurestore.format.row_arrays import FAILED, STATUS_OK
from featurestore.manifest.table import MOST_SECONDS
from featurestore.store.key import MOST_UNIT_ROWS
from featurestore.store.key_request import KeyRequest
from featurestore.store.ledger import MOST_FRAMES


class CheckedSource:
    """A source whose every row was looked at.

    Attributes:
        source: the source.
        request: the key it is to become.
        status: `[n]` "ok" or "failed: why".
        notes: what the user should know, one sentence each.

    Raises:
        CorruptData: ids, statuses and values do not fit each other.
        ConfigError: an id is not in the manifest.
    """

    def __init__(self, source: Source, request: KeyRequest, advance: Advance) -> None:
        self.source = source
        self.request = request
        self.notes = list(source.notes)
        _check_ids(source)
        self._check_facts()
        self.status = self._statuses(advance)
        unused = len(source.manifest) - len(source.ids)
        if unused:
            self.notes.append(
                f"{unused} utterances of {source.manifest.source} have no row in {source.where}"
            )

    @property
    def ok(self) -> np.ndarray:
        """Which rows hold numbers, bool `[n]`."""
        return np.asarray(self.status == STATUS_OK, dtype=bool)

    def _statuses(self, advance: Advance) -> np.ndarray:
        source = self.source
        known = source.status is not None
        status = np.full(len(source.ids), STATUS_OK, dtype=object)
        if source.status is not None:
            status[:] = source.status
            wrong = [s for s in status if s != STATUS_OK and not str(s).startswith(FAILED)]
            if wrong:
                raise CorruptData(f'{source.where}: status {wrong[0]!r}; expected "ok" or "failed: why"')
        for rows in slices(len(status), source.block_rows):
            positions = np.arange(rows.start, rows.stop)
            for layer, values in source.read(positions):
                ok = status[rows] == STATUS_OK
                finite = np.isfinite(values).all(axis=(1, 2))
                for i in np.flatnonzero(ok & ~finite):
                    if known:
                        raise CorruptData(
                            f"{self._row(rows.start + i)}: is ok and yet holds NaN or infinity in layer "
                            f'{layer}; give it a status "failed: why"'
                        )
                    status[rows.start + i] = f"{FAILED}not a number in the imported file"
                for i in np.flatnonzero(~ok & ~np.isnan(values).all(axis=(1, 2)) & known):
                    raise CorruptData(
                        f"{self._row(rows.start + i)}: is {status[rows.start + i]!r} and yet holds numbers "
                        f'in layer {layer}; make them NaN, or the status "ok"'
                    )
            advance(len(positions))
        found = int((status != STATUS_OK).sum())
        if found and not known:
            self.notes.append(f"{found} rows of {source.where} hold NaN or infinity and are stored as failed")
        return status

    def _check_facts(self) -> None:
        """Refuse numbers that no record of a store can hold."""
        source, times = self.source, self.source.duration_s
        bounds = {"duration_s": (times, 0, MOST_SECONDS), "n_frames": (source.n_frames, -1, MOST_FRAMES)}
        for name, (values, low, high) in bounds.items():
            wrong = ~(np.isnan(values) | ((values >= low) & (values <= high)))
            if wrong.any():
                i = int(wrong.argmax())
                raise CorruptData(
                    f"{self._row(i)}: {name} is {values[i]:g}; expected {low:g} to {high:g}, or none given"
                )
        if self.request.unit_rows > MOST_UNIT_ROWS:
            raise ConfigError(
                f"{source.where}: units of {self.request.unit_rows} rows; expected at most {MOST_UNIT_ROWS}"
            )

    def _row(self, position: int) -> str:
        return f"{self.source.where}: row {position} ({self.source.ids[position]!r})"


def _check_ids(source: Source) -> None:
    ids = pd.Series(source.ids, dtype=object)
    if (ids == "").any():
        raise CorruptData(f"{source.where}: row {int((ids == '').to_numpy().argmax())} has an empty id")
    twice = ids.duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise CorruptData(f"{source.where}: row {row}: id {ids.iloc[row]!r} stands already above")
    missing = ids[~ids.isin(source.manifest.table["utterance_id"].astype(object))]
    if len(missing):
        raise ConfigError(
            f"{source.where}: {len(missing)} of {len(ids)} utterances are not in {source.manifest.source} "
            f"(first {missing.iloc[0]!r}); give the manifest that has them"
        )
