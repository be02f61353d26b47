"""The methods of a report: paragraphs, the page's section, Markdown and BibTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probes.report.methods import embeddings, probing, sureness
from probes.report.methods.references import TOOLS, bibtex
from probes.report.methods.wording import Paragraph, as_html, cite, cited, markdown, name

if TYPE_CHECKING:
    from probes.report.clips.embedded_keys import EmbeddedKeys
    from probes.report.data import ReportData

# What every file of ours begins with.
MARKDOWN_MARK = "<!-- Methods of a report of featurestore-audio, from the records of the run. -->"
BIBTEX_MARK = "% References of a report of featurestore-audio"


def methods(data: ReportData, keys: EmbeddedKeys) -> list[Paragraph]:
    """What was done in a results folder, in paragraphs."""
    paths = dict.fromkeys(f"{m}/{q.dataset}" for q in data.questions for m in q.models)
    found_records = {path: keys.extraction(path) for path in paths}
    records = {p: r for p, r in found_records.items() if r is not None and embeddings.is_whole(r)}
    rates: Mapping[str, Sequence[int]] = {path: keys.native_rates(path) for path in records}
    unknown = [name(path) for path in paths if path not in records]
    embedded = list(embeddings.sentences(records, rates)) if records else []
    if unknown:
        embedded.append(f"How the embeddings of {', '.join(unknown)} were made is not on record.")
    paragraphs = {
        "Embeddings": embedded,
        "Splits": probing.split_sentences(data),
        "Probes": probing.classifier_sentences(data),
        "Choice": [*probing.choice_sentences(data), *probing.refit_sentences(data)],
        "Scores": [*probing.metric_sentences(data), *sureness.sentences(data)],
        "Software": software(data),
    }
    found = [Paragraph(heading, tuple(sentences)) for heading, sentences in paragraphs.items()]
    return [paragraph for paragraph in found if paragraph.sentences]


def software(data: ReportData) -> list[str]:
    """The versions that fitted the probes."""
    versions = data.run.get("versions", {})
    if not versions:
        return ["The versions of the programs that fitted the probes are not on record."]
    shown = ", ".join(f"{name(package)} {name(version)}" for package, version in versions.items())
    tools = [key for package, key in TOOLS.items() if package in versions]
    return [f"Probes were fitted with {shown}{cite(*tools)}."]


def methods_markdown(paragraphs: Sequence[Paragraph]) -> str:
    """``methods.md``; its references are those of `methods_bibtex`, by their keys, as Pandoc reads them."""
    return f"{MARKDOWN_MARK}\n\n{markdown(paragraphs)}"


def methods_bibtex(paragraphs: Sequence[Paragraph]) -> str:
    """``references.bib``."""
    return bibtex(cited(paragraphs))


def page_context(paragraphs: Sequence[Paragraph]) -> dict[str, Any]:
    """The section of the page."""
    from markupsafe import Markup

    return {
        "methods": [
            # `as_html` has escaped everything.
            {"heading": p.heading, "text": Markup(" ".join(map(as_html, p.sentences)))}
            for p in paragraphs
        ]
    }
