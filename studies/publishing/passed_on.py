"""What a published store tells of its rows: neither folders and machines of who made it, nor labels unasked.

Rows are bound to the place of their audio, so folders are renamed, in the manifest and in the records alike:
what was below the folder that all files share is below ``/audio`` afterwards, under the same names.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from featurestore.archives.names import MARK
from featurestore.manifest.table import CONTRACT_COLUMNS, Manifest
from featurestore.printable import counted
from featurestore.store.key import KeyInfo
from featurestore.store.ledger import Record
from featurestore.store.reader import Features
from featurestore.upkeep.key_copy import Told

NEW_FOLDER = "/audio"
# A model that was named by a place on somebody's machine: ``/models/x``, ``onnx:/models/x.onnx``.
_LOCAL_MODEL = re.compile(r"((?:[a-z0-9]+:)*)(/.*)")


@dataclass(frozen=True, kw_only=True)
class PassedOn:
    """How one key is told, and what is left out of it.

    Attributes:
        told: for `copy_key`.
        left_out: a clause for each thing that does not go along.
        warnings: sentences on what goes along and may tell more than was meant.
    """

    told: Told
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def passed_on(features: Features, *, with_labels: bool) -> PassedOn:
    """How a key is told to others.

    Args:
        features: the key.
        with_labels: pass on labels and groups, the annotations of the corpus.
    """
    listed = common_folder(features.manifest.table["path"])
    embedded = common_folder(p for r in features.ledger.values() for p in (r.places or {}).get("path", ()))
    told = Told(
        info=_told_info,
        manifest=lambda manifest: _told_manifest(manifest, listed, with_labels=with_labels),
        record=lambda record: _told_record(record, embedded, listed),
        with_history=False,
    )
    return PassedOn(
        told=told,
        left_out=tuple(_left_out(features, with_labels=with_labels)),
        warnings=tuple(_warnings(features, with_labels=with_labels)),
    )


def common_folder(paths: Iterable[str]) -> str:
    """The deepest folder that all files are in, an archive being a file; "" of no paths."""
    folders = {os.path.dirname(path.split(MARK, 1)[0]) for path in paths if path}
    return os.path.commonpath(folders) if folders else ""


def with_folder_renamed(path: str, folder: str) -> str:
    """``/home/me/calls/a/1.wav`` → ``/audio/a/1.wav`` where the folder is ``/home/me/calls``."""
    return f"{NEW_FOLDER}/{path[len(folder) :].lstrip('/')}" if path else ""


def _told_info(info: KeyInfo) -> KeyInfo:
    given = dict(info.model_card.get("given", {}))
    found = _LOCAL_MODEL.fullmatch(str(given.get("model", "")))
    if found is None:
        return info
    given["model"] = found[1] + os.path.basename(found[2].rstrip("/"))
    return dataclasses.replace(info, model_card={**info.model_card, "given": given})


def _told_manifest(manifest: Manifest, folder: str, *, with_labels: bool) -> Manifest:
    table = manifest.table
    paths = table["path"].map(lambda path: with_folder_renamed(path, folder)).astype("str")
    told = table.assign(path=paths)
    if not with_labels:
        told = told[list(CONTRACT_COLUMNS)].assign(group="").astype({"group": "str"})
    return dataclasses.replace(manifest, table=told)


def _told_record(record: Record, embedded: str, listed: str) -> Record:
    def renamed(text: Any) -> str:
        for folder in sorted({embedded, listed} - {"", "/"}, key=len, reverse=True):
            text = str(text).replace(folder, NEW_FOLDER)
        return str(text)

    status = [s if s == "ok" else renamed(s) for s in record.rows["status"]]
    places = record.places
    if places is not None:
        paths = [with_folder_renamed(path, embedded) for path in places["path"]]
        places = {**places, "path": paths}
    rows = {**record.rows, "status": status}
    return dataclasses.replace(record, rows=rows, places=places, host="")


def _left_out(features: Features, *, with_labels: bool) -> Iterable[str]:
    yield "the audio, and the folders where it was: files are named below /audio"
    yield "the calls that made the key, and the names of the machines that ran them"
    if with_labels:
        return
    labels = features.label_columns
    if labels:
        yield f"{counted(len(labels), 'label column')} ({', '.join(labels)})"
    if (features.manifest.table["group"] != "").any():
        yield "the groups (recording, session, individual) that a split has to keep apart"


def _warnings(features: Features, *, with_labels: bool) -> Iterable[str]:
    rooted = [i for i in features.manifest.table["utterance_id"] if i.startswith("/")]
    if rooted:
        yield (
            f"{features.info.path}: {counted(len(rooted), 'utterance id')} (first {rooted[0]!r}) hold a path "
            "of this machine and go along, as ids cannot change"
        )
    if not with_labels and features.label_columns:
        yield (
            f"{features.info.path}: ids and file names go along, as rows are joined to the corpus by them; "
            "where these tell a label (a folder for each species, a code in a name), it is told"
        )
