"""``croissant.json``: a publication in the words of MLCommons Croissant 1.0.

The rows of each key are a record set over its CSV table. Croissant knows no Zarr: the arrays are a file set
by their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from studies.publishing.checksums import NAME as SUMS_NAME
from studies.publishing.described import STORE_FOLDER, PublishedKey, Words
from studies.publishing.licences import UNKNOWN, Licence

VERSION = "http://mlcommons.org/croissant/1.0"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"row": "sc:Integer", "n_frames": "sc:Integer", "duration_s": "sc:Float"}
_SAID = {
    "row": "Row of the layer arrays.",
    "utterance_id": "Name of the stretch of audio.",
    "status": "ok, or failed: why; values of a failed row are NaN.",
    "n_frames": "Frames that the functionals are over; -1 unknown.",
    "duration_s": "Seconds of audio.",
    "audio_hash": "Hash of the decoded samples.",
    "path": "File, below the folder that the corpus was in.",
    "start_s": "Start in seconds; empty: of the file.",
    "end_s": "End in seconds; empty: of the file.",
    "channel": "Counted from 0; empty: the mean of all.",
    "split": "train, val, test, or empty.",
    "group": "What must not straddle a split; empty where it is not passed on.",
}
_TOO_ODD = re.compile(r"[^A-Za-z0-9._/ +=@-]")


def croissant(
    words: Words,
    keys: Sequence[PublishedKey],
    licences: Sequence[Licence],
    sums: Mapping[str, str],
    said_of_it: str,
) -> str:
    """The document.

    Args:
        words: what who publishes says.
        keys: what is published.
        licences: of corpora and models.
        sums: SHA-256 of the tables, by name.
        said_of_it: one paragraph on how it was made, in Markdown.
    """
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": words.title,
        "description": said_of_it,
        "license": words.licence,
        "datePublished": date.today().isoformat(),
        "version": "1.0.0",
        "creator": [{"@type": "sc:Person", "name": n} for n in words.creators or (UNKNOWN,)],
        "url": words.url or UNKNOWN,
        "keywords": ["audio", "embeddings", "zarr"],
        "usageInfo": [f"{x.what}: {x.text} ({x.known_from})" for x in licences],
        "citeAs": "; ".join(dict.fromkeys(x.corpus.citation for x in licences if x.corpus)) or UNKNOWN,
        "isLiveDataset": False,
        "distribution": [_sums_file(), *(part for key in keys for part in _distribution(key, sums))],
        "recordSet": [_record_set(key) for key in keys],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _sums_file() -> dict[str, Any]:
    """The list of checksums has none of its own: it names this document's."""
    return {
        "@type": "cr:FileObject",
        "@id": SUMS_NAME,
        "name": SUMS_NAME,
        "description": "SHA-256 of every file of this publication, as sha256sum -c reads it.",
        "contentUrl": SUMS_NAME,
        "encodingFormat": "text/plain",
        # What the specification's own examples have in place of a sum.
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }


def _distribution(key: PublishedKey, sums: Mapping[str, str]) -> list[dict[str, Any]]:
    table = {
        "@type": "cr:FileObject",
        "@id": key.table_name,
        "name": key.table_name,
        "description": f"Rows of {key.path}.",
        "contentUrl": key.table_name,
        "encodingFormat": "text/csv",
        "sha256": sums[key.table_name],
    }
    arrays = {
        "@type": "cr:FileSet",
        "@id": f"{STORE_FOLDER}/{key.path}",
        "name": f"arrays of {key.path}",
        "description": f"Zarr v3 group with layer_NN (utterance, functional, feature) of {key.path}.",
        "encodingFormat": "application/vnd.zarr",
        "includes": f"{STORE_FOLDER}/{key.path}/**",
    }
    return [table, arrays]


def _record_set(key: PublishedKey) -> dict[str, Any]:
    columns = list(key.table().columns)
    fields = []
    for i, column in enumerate(columns):
        # Ids of fields are for programs; a label may have any name.
        plain = f"label_{i}" if _TOO_ODD.search(column) else column
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{key.path}/{plain}",
                "name": plain,
                "description": _SAID.get(column, f"Label {column}."),
                "dataType": _TYPES.get(column, "sc:Text"),
                "source": {"fileObject": {"@id": key.table_name}, "extract": {"column": column}},
            }
        )
    return {
        "@type": "cr:RecordSet",
        "@id": key.path,
        "name": key.path,
        "description": f"One record for each row of {key.path}, in the order of its arrays.",
        "key": {"@id": f"{key.path}/utterance_id"},
        "field": fields,
    }
