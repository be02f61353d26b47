"""What of a study has been done, of what: so that a second run need not ask every question again.

Kept in ``_study.json`` of the results folder, with the study file as it was read. A stage counts as done only
for the very same inputs (options, keys with their records and labels, version), and only while the folder's
tables are those that the last stage left.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featurestore.fingerprint import digest
from featurestore.outputs import put_file, writing
from featurestore.printable import json_text
from featurestore.store.stored_manifest import manifest_object
from featurestore.store.writer import package_versions
from featurestore.untrusted.documents import DocumentError, read_json_document
from studies.study_file.document import Document
from studies.study_run.forecast import Forecast
from studies.study_run.last_seen import STUDY_NAME, finished_before
from studies.study_run.readiness import Readiness

_TABLES = ("results.parquet", "_controls.parquet", "_curve.parquet", "_refit.parquet", "_run.json")
_FOLDERS = ("_tasks", "_predictions", "_validation")
_VERSIONS_OF = ("featurestore-audio", "numpy", "scikit-learn", "torch", "zarr")


class StageRecord:
    """Which stages are done.

    Args:
        results: folder of the results.
        document: the study file.
    """

    def __init__(self, results: Path, document: Document) -> None:
        self._path = results / STUDY_NAME
        self._results = results
        self._document = document
        self._versions = package_versions(_VERSIONS_OF)
        kept = self._read()
        same_folder = kept.get("folder") == self.folder_digest()
        done = kept.get("done")
        is_plain = isinstance(done, dict) and all(isinstance(inputs, str) for inputs in done.values())
        self._finished = finished_before(results)
        self._spent = _spent(kept.get("spent"))
        forecasts = kept.get("forecasts")
        self._forecasts: list[Any] = list(forecasts) if isinstance(forecasts, list) else []
        self._done: dict[str, str] = dict(done) if same_folder and is_plain and isinstance(done, dict) else {}

    def _read(self) -> Mapping[str, Any]:
        try:
            content = read_json_document(self._path)
        except DocumentError:  # damaged or none: everything is asked again, which costs time and no number
            return {}
        return content if isinstance(content, dict) else {}

    def inputs(self, stage: str, config: Any, keys: Iterable[Readiness] = (), store: Any = None) -> str:
        """Digest of everything that a stage depends on."""
        of_keys = [key_digest(store, key) for key in keys]
        return digest([stage, config, of_keys, self._versions])

    def is_done(self, stage: str, inputs: str) -> bool:
        """Whether what a stage was done of last are these inputs.

        Inputs of before do not count: where labels were changed and changed back, the tables show the answers
        that were found in between.
        """
        return self._done.get(stage) == inputs

    def seconds_of_a_fit(self, probing: str) -> float | None:
        """Wall-clock seconds that a fit of a probing took, with reading and scoring; None: none was."""
        n_fits, seconds = self._spent.get(probing, (0, 0.0))
        return seconds / n_fits if n_fits else None

    def spend(self, probing: str, n_fits: int, seconds: float) -> None:
        """Take what fits of a probing took; the next `note` keeps it."""
        n_before, before = self._spent.get(probing, (0, 0.0))
        self._spent[probing] = (n_before + n_fits, before + seconds)

    def keep_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Keep what the plan of the last run predicted, and what the run took."""
        self._forecasts = [{**asdict(f), "ratio": f.ratio} for f in forecasts]
        self._put()

    @property
    def finished(self) -> str:
        """What `LastSeen` saw when all of the study was done last; "" where it is not, or cannot be seen."""
        return self._finished

    def finish(self, seen: str) -> None:
        """Note that all is done, of what `LastSeen` sees now."""
        self._finished = seen
        self._put()

    def note(self, stage: str, inputs: str) -> None:
        """Note a stage as done, with the folder as it is now."""
        self._done[stage] = inputs
        self._finished = ""
        self._put()

    def _put(self) -> None:
        content = {
            "file": str(self._document.path.absolute()),
            "text": self._document.text,
            "set": list(self._document.overrides.values()),
            "versions": dict(self._versions),
            "done": dict(sorted(self._done.items())),
            "folder": self.folder_digest(),
            "finished": self._finished,
            "spent": {name: {"fits": n, "seconds": s} for name, (n, s) in sorted(self._spent.items())},
            "forecasts": self._forecasts,
        }
        with writing(self._path, "free some room and run the same command again"):
            self._results.mkdir(parents=True, exist_ok=True)
            put_file((json_text(content, indent=2) + "\n").encode(), self._path)

    def folder_digest(self) -> str:
        """Digest of names, sizes and times of what `fs probe` keeps in the folder."""
        lines = hashlib.sha256()
        for name in _TABLES:
            lines.update(_line(self._results / name))
        for folder in _FOLDERS:
            if (self._results / folder).is_dir():
                for path in sorted(os.scandir(self._results / folder), key=lambda entry: entry.name):
                    lines.update(_line(Path(path.path)))
        return lines.hexdigest()


def _spent(kept: Any) -> dict[str, tuple[int, float]]:
    """Fits and seconds by probing; of what is kept otherwise nothing."""
    found = {}
    for name, of in kept.items() if isinstance(kept, dict) else ():
        n_fits, seconds = (of.get("fits"), of.get("seconds")) if isinstance(of, dict) else (None, None)
        if isinstance(n_fits, int) and isinstance(seconds, int | float) and n_fits > 0 and seconds > 0:
            found[str(name)] = (n_fits, float(seconds))
    return found


def _line(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return f"{path.name} none\n".encode()
    return f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode()


def key_digest(store: Any, key: Readiness) -> str:
    """Digest of what a key holds: attributes, records of all units, labels."""
    from featurestore.store.ledger import read_sound_records

    assert key.info is not None
    storage = store.storage
    records = read_sound_records(storage, key.info.path)
    manifest = storage.get(manifest_object(key.info)) or b""
    return digest(
        [
            key.info.to_attributes(),
            [records[unit].to_json() for unit in sorted(records)],
            hashlib.sha256(manifest).hexdigest(),
        ]
    )
