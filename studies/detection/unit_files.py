"""Results of a recording: tables, and a record that is put last, without which it is not done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from featurestore.calls import file_sha256
from featurestore.errors import ConfigError, CorruptData
from featurestore.fingerprint import digest
from featurestore.manifest.location import stamp_of
from featurestore.outputs import put_file, writing
from featurestore.printable import json_text
from featurestore.untrusted.document_shape import (
    anything,
    by_name,
    fields,
    many,
    nothing_or,
    number,
    one_of,
    row_of,
    text,
    whole,
)
from featurestore.untrusted.documents import DocumentError, read_json_document
from studies.detection.events import Event
from studies.detection.recordings import Recording
from studies.detection.tables import TABLES, Detected

FORMAT = "featurestore-audio detection"
RUN_NAME = "detect.json"
RECORDS, SCORES = "records", "scores"
ADVICE = "free some room, or choose another --out"
_CHANNEL = nothing_or(whole(0))
_RUN = fields({"format": one_of(FORMAT), "decides": by_name(anything)})
_RECORD = fields(
    {
        "format": one_of(FORMAT),
        **dict.fromkeys(("run", "path", "name", "audio_hash"), text),
        "stamp": row_of(whole(-1), whole(-1)),
        **dict.fromkeys(("rate_hz", "n_windows", "n_silent", "n_failed"), whole()),
        "duration_s": number(0),
        "files": by_name(text),
        "events": many(row_of(number(0), number(0), _CHANNEL, text, number(0, 1), whole(1))),
    }
)


class RecordingError(Exception):
    """Why a recording has no results; the message has one line."""


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """What was found in a recording.

    Attributes:
        run: digest of all that decided it.
        path, name: of the recording.
        stamp: size and modification time of the file when it was read.
        audio_hash: of its samples (of the last channel that was read).
        rate_hz: of the file.
        duration_s: of the recording.
        n_windows, n_silent, n_failed: windows of all channels; those without a sample other than zero;
            those that the model had no vector for.
        events: in the order of their times.
        files: name below the results → SHA-256.
    """

    run: str
    path: str
    name: str
    stamp: tuple[int, int]
    audio_hash: str
    rate_hz: int
    duration_s: float
    n_windows: int
    n_silent: int
    n_failed: int
    events: tuple[Event, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    def detected(self, label: str) -> Detected:
        """What its tables are made of."""
        return Detected(path=self.path, rate_hz=self.rate_hz, label=label, events=self.events)

    def is_of(self, run: str, recording: Recording) -> bool:
        """Whether it is of this run and of the file as it is now."""
        return self.run == run and self.path == recording.path and self.stamp == stamp_of(recording.path)


def record_path(out: Path, name: str) -> Path:
    """Where the record of a recording is."""
    return out / RECORDS / f"{name}.json"


def table_name(format_: str, recording: str) -> str:
    """Name of a table below the results."""
    return f"{format_}/{recording}{TABLES[format_][0]}"


def read_run(out: Path) -> Mapping[str, Any] | None:
    """All that decided the results of a folder, see `DetectPlan.decides`; None where there are none.

    Raises:
        ConfigError: a file of that name is something else.
    """
    path = out / RUN_NAME
    if not path.is_file():
        return None
    try:
        content = read_json_document(path)
        _RUN(content, RUN_NAME)
        digest(content["decides"])  # which infinity has none of
    except (DocumentError, ValueError) as error:
        raise ConfigError(f"{path}: not of `fs detect` ({error}); choose another folder") from error
    decides: Mapping[str, Any] = content["decides"]
    return decides


def scores_name(recording: str) -> str:
    """Name of the windows' probabilities below the results."""
    return f"{SCORES}/{recording}.parquet"


def read_record(out: Path, name: str) -> UnitRecord | None:
    """The record of a recording; None where there is none.

    Raises:
        CorruptData: it cannot be read, or names files that are none of this recording's, which `withdraw`
            would remove.
    """
    path = record_path(out, name)
    if not path.is_file():
        return None
    try:
        content = read_json_document(path)
        _RECORD(content, path.name)
        one_of(name)(content["name"], "name")
        own = [*(table_name(f, name) for f in TABLES), scores_name(name)]
        for file in content["files"]:
            one_of(*own)(file, "files")
    except DocumentError as error:
        raise CorruptData(
            f"{path}: not a record of `fs detect` ({error}); delete it and run again"
        ) from error
    events = tuple(
        Event(start_s=a, end_s=b, channel=c, label=d, probability=p, n_windows=n)
        for a, b, c, d, p, n in content["events"]
    )
    # A later version may say more.
    known = {f.name: content[f.name] for f in dataclass_fields(UnitRecord) if f.name in content}
    return UnitRecord(**{**known, "stamp": tuple(content["stamp"]), "events": events})


def read_records(out: Path) -> list[UnitRecord]:
    """All records below a folder of results, sorted by the names of their recordings."""
    places = (p.relative_to(out / RECORDS).as_posix() for p in (out / RECORDS).rglob("*.json"))
    found = (read_record(out, place.removesuffix(".json")) for place in places)
    return sorted((r for r in found if r is not None), key=lambda r: r.name)


def write_unit(
    out: Path,
    record: UnitRecord,
    label: str,
    formats: Iterable[str],
    *,
    before: UnitRecord | None,
    scores: Path | None,
    overwrite: bool,
) -> UnitRecord:
    """Put the tables of a recording, then its record.

    Args:
        out: folder of the results.
        record: without its files.
        label: name of the label column.
        formats: of `TABLES`.
        before: record of an earlier run, whose files may be replaced.
        scores: file with the windows' probabilities, which becomes part of the results.
        overwrite: replace any file.

    Raises:
        RecordingError: a file of somebody's own would be lost.
        StoreError: a file cannot be written.
    """
    texts = {table_name(f, record.name): TABLES[f][1](record.detected(label)).encode() for f in formats}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in texts.items()}
    if scores is not None:
        hashes[scores_name(record.name)] = file_hash(scores)
    for name, new in hashes.items():
        there = file_hash(out / name)
        mine = there in ("", new) or (before is not None and before.files.get(name) == there)
        if not (mine or overwrite):
            raise RecordingError(
                f"{out / name} was changed since it was written, and its recording or the request too: move "
                "it away, or replace it with --overwrite"
            )
    record = UnitRecord(**{**vars(record), "files": hashes})
    with writing(out, ADVICE):
        path = record_path(out, record.name)
        path.unlink(missing_ok=True)
        for name, data in texts.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            put_file(data, out / name)
        if scores is not None:
            (out / scores_name(record.name)).parent.mkdir(parents=True, exist_ok=True)
            scores.replace(out / scores_name(record.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file((json_text(_as_json(record), indent=1) + "\n").encode(), path)
    return record


def withdraw(out: Path, record: UnitRecord) -> None:
    """Remove what an earlier run left of a recording, but for files that were changed since."""
    with writing(out, ADVICE):
        for name, was in record.files.items():
            if file_hash(out / name) == was:
                (out / name).unlink()
        with suppress(FileNotFoundError):
            record_path(out, record.name).unlink()


def require_name_free(out: Path, record: UnitRecord | None, recording: Recording) -> None:
    """Refuse results under a name that another recording has.

    Raises:
        ConfigError: it has.
    """
    if record is not None and record.path != recording.path:
        raise ConfigError(
            f"{recording.path}: its results would take the place of those of {record.path} in {out}; choose "
            "another --out"
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file; "" where there is none."""
    return file_sha256(path) if path.is_file() else ""


def _as_json(record: UnitRecord) -> dict[str, Any]:
    events = [astuple(e) for e in record.events]
    return {"format": FORMAT, **vars(record), "stamp": list(record.stamp), "events": events}
