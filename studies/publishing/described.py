"""What a publication says of its keys: numbers from their records, licences, how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from featurestore.layer_list import format_layers
from featurestore.printable import counted
from featurestore.store.reader import Features
from probes.report.methods import embeddings
from probes.report.methods.document import methods_bibtex
from probes.report.methods.wording import Paragraph, as_markdown, name
from probes.results.extractions import extraction_record
from studies.publishing.licences import UNKNOWN, Licence

MARK = "<!-- A store published with fs publish. -->"
STORE_FOLDER = "features.zarr"
_FACTS = ("utterance_id", "status", "n_frames", "duration_s", "audio_hash", "path")
_TIMES = ("start_s", "end_s", "channel", "split", "group")


@dataclass(frozen=True, kw_only=True)
class Words:
    """What only the person who publishes can say.

    Attributes:
        title: of the publication.
        licence: of the embeddings.
        creators: who made them.
        url: where it will be found.
    """

    title: str
    licence: str = UNKNOWN
    creators: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class PublishedKey:
    """One key of a publication, as it is told there.

    Attributes:
        features: of the published copy.
        record: see `extraction_record`.
        left_out: a clause for each thing that did not go along.
        n_bytes: of its objects.
    """

    features: Features
    record: Mapping[str, Any]
    left_out: tuple[str, ...]
    n_bytes: int

    @property
    def path(self) -> str:
        """``model/dataset``."""
        return self.features.info.path

    @property
    def table_name(self) -> str:
        """The file with its rows."""
        return f"tables/{self.path}.csv"

    def table(self) -> pd.DataFrame:
        """Its rows in the order of the store: ``row``, facts, place, split, and labels that go along."""
        index = self.features.index
        return index[["row", *_FACTS, *_TIMES, *self.features.label_columns]]


def published_key(features: Features, left_out: Sequence[str], n_bytes: int) -> PublishedKey:
    """What there is to say of a key."""
    return PublishedKey(
        features=features,
        record=extraction_record(features),
        left_out=tuple(left_out),
        n_bytes=n_bytes,
    )


def methods_of(keys: Sequence[PublishedKey]) -> Paragraph:
    """How the embeddings were made, from the records of the keys."""
    records = {key.path: key.record for key in keys if embeddings.is_whole(key.record)}
    said = list(embeddings.sentences(records, {})) if records else []
    said += [f"How {name(k.path)} was made is not on record." for k in keys if k.path not in records]
    return Paragraph("Embeddings", tuple(said))


def references_of(keys: Sequence[PublishedKey]) -> str:
    """``references.bib``."""
    return methods_bibtex([methods_of(keys)])


def data_card(
    words: Words, keys: Sequence[PublishedKey], licences: Sequence[Licence], certificates: Sequence[str]
) -> str:
    """``README.md``."""
    title = _cell(words.title)
    source = words.url or "URL-OR-FOLDER-OF-THIS"
    parts = [
        MARK,
        f"# {title}",
        f"Embeddings of audio, layer by layer: {counted(len(keys), 'key')} of a feature store, and no audio.",
        *_keys_table(keys),
        "## How to use it",
        "```sh\npip install featurestore-audio\n"
        f"fs pull {source} --store features.zarr   # copies, and holds every object to its checksum\n"
        "fs probe --store features.zarr --label LABEL --out results\n```",
        f"`{STORE_FOLDER}` is a Zarr v3 group that any Zarr reader opens; `tables/` has the rows of each key "
        "as CSV, and `croissant.json` describes all of it for machines (MLCommons Croissant 1.0).",
        "Labels that are not here are joined by utterance id: `fs manifest attach features.zarr TABLE.csv "
        "--without-audio`.",
        "## Licences",
        *_licences_table(words, licences),
        "Embeddings are made from recordings and by a model. Whether they may be used for something is "
        "decided by all of these licences; `unknown` means that nobody said, and is no permission.",
        "## What was left out",
        *_left_out(keys),
        "## How the embeddings were made",
        " ".join(as_markdown(s) for s in methods_of(keys).sentences),
        "References by key: `references.bib`. The data sets have papers of their own:",
        *_citations(licences),
        "## Certificates",
        _certificates(certificates),
        "## Checksums",
        "`SHA256SUMS` lists every object: `sha256sum -c SHA256SUMS`, and `fs pull` does the same. They find "
        "damage; only the sum of that file, told by another way, says that it is from who you think: "
        "`fs pull … --sha256 SUM`.",
    ]
    return "\n\n".join(parts) + "\n"


def _keys_table(keys: Sequence[PublishedKey]) -> list[str]:
    rows = [
        "| model | data set | utterances | failed | hours | layers | functionals | features | type | MB |"
    ]
    rows.append("|" + "---|" * 10)
    for key in keys:
        info, record = key.features.info, key.record
        cells = [
            info.model,
            info.dataset,
            f"{record['n_utterances']:,}",
            f"{record['n_failed']:,}",
            f"{record['audio_s'] / 3600:.4g}",
            format_layers(list(info.layers)),
            ", ".join(info.functionals),
            str(info.shape.n_features),
            info.shape.dtype,
            f"{key.n_bytes / 1e6:.4g}",
        ]
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    pending = [f"{k.path} ({k.features.n_pending_units})" for k in keys if k.features.n_pending_units]
    said = (
        [f"Units that were not extracted yet when this was published: {', '.join(pending)}."]
        if pending
        else []
    )
    return ["\n".join(rows), *said]


def _licences_table(words: Words, licences: Sequence[Licence]) -> list[str]:
    rows = ["| what | licence | known from |", "|---|---|---|"]
    by = "said by who published this" if words.licence != UNKNOWN else "nobody said"
    lines = [("embeddings", words.licence, by), *((x.what, x.text, x.known_from) for x in licences)]
    rows += [f"| {' | '.join(map(_cell, line))} |" for line in lines]
    return ["\n".join(rows)]


def _left_out(keys: Sequence[PublishedKey]) -> list[str]:
    of_keys: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        of_keys.setdefault(key.left_out, []).append(key.path)
    lines = []
    for clauses, paths in of_keys.items():
        lines.append(f"{', '.join(f'`{p}`' for p in paths)}:")
        lines.append("\n".join(f"- {_cell(clause)}" for clause in clauses))
    return lines


def _citations(licences: Sequence[Licence]) -> list[str]:
    lines = [
        f"- {_cell(x.what)}: {_cell(x.corpus.citation)} ({_cell(x.corpus.where)})"
        if x.corpus
        else f"- {_cell(x.what)}: not known"
        for x in licences
        if x.what.startswith("corpus ")
    ]
    return ["\n".join(lines)]


def _certificates(names: Sequence[str]) -> str:
    if not names:
        return (
            "None. `fs model check MODEL --out FILE` makes one, `fs publish --certificate FILE` passes it on."
        )
    return "What `fs model check` found of the models: " + ", ".join(f"`{n}`" for n in names) + "."


def _cell(text: str) -> str:
    """Text of somebody's, as text in Markdown: no markup, on one line."""
    plain = " ".join(str(text).split())
    for mark in ("\\", "|", "<", ">", "[", "]", "*", "_", "`", "#"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain
