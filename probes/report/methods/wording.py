r"""Sentences with names and references in them, as Markdown, as HTML and as plain text.

Names come from data. A sentence holds them between two marks that no name can hold, so that each form escapes
them in its own way.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from featurestore.printable import printable
from probes.report.methods.references import REFERENCES

# Of the private use area: no text of a language.
_NAME, _CITE, _END = "\ue000", "\ue001", "\ue002"
_PART = re.compile(f"{_NAME}([^{_END}]*){_END}|{_CITE}([^{_END}]*){_END}")


@dataclass(frozen=True)
class Paragraph:
    """A heading and its sentences, made with `name` and `cite`."""

    heading: str
    sentences: tuple[str, ...]


def name(text: object) -> str:
    """A name or value from data, to stand in a sentence."""
    return _NAME + re.sub("[\ue000-\ue002]", "\ufffd", printable(text)) + _END


def names(texts: Iterable[object]) -> str:
    """Names, with commas between."""
    return ", ".join(map(name, texts))


def cite(*keys: str) -> str:
    """References, by their keys in `REFERENCES`, in brackets after a space; "" of none."""
    return f" {_CITE}{';'.join(keys)}{_END}" if keys else ""


def cited(paragraphs: Sequence[Paragraph]) -> list[str]:
    """Keys of all references, in the order in which they are first named."""
    found = [
        key
        for paragraph in paragraphs
        for sentence in paragraph.sentences
        for match in _PART.finditer(sentence)
        for key in (match[2] or "").split(";")
        if key
    ]
    return list(dict.fromkeys(found))


def as_text(sentence: str) -> str:
    """Plain text."""
    return _filled(sentence, str, lambda keys: f"({_short(keys)})", str)


def as_html(sentence: str) -> str:
    """HTML: names as code."""
    return _filled(
        sentence,
        lambda text: f"<code>{html.escape(text)}</code>",
        lambda keys: f"({html.escape(_short(keys))})",
        html.escape,
    )


def as_markdown(sentence: str) -> str:
    """Markdown as Pandoc reads it: names as code, references as ``[@key]``."""
    return _filled(sentence, _code, lambda keys: "[" + "; ".join(f"@{k}" for k in keys) + "]", str)


def markdown(paragraphs: Sequence[Paragraph]) -> str:
    """A page of Markdown."""
    parts = ["# Methods"]
    for paragraph in paragraphs:
        parts += [f"## {paragraph.heading}", " ".join(map(as_markdown, paragraph.sentences))]
    return "\n\n".join(parts) + "\n"


def _short(keys: Iterable[str]) -> str:
    return "; ".join(REFERENCES[key].short for key in keys)


def _code(text: str) -> str:
    """A code span: its fence is longer than any run of backticks in the text."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def _filled(
    sentence: str,
    of_name: Callable[[str], str],
    of_keys: Callable[[list[str]], str],
    of_own: Callable[[str], str],
) -> str:
    out, at = [], 0
    for match in _PART.finditer(sentence):
        out.append(of_own(sentence[at : match.start()]))
        out.append(of_name(match[1]) if match[1] is not None else of_keys(match[2].split(";")))
        at = match.end()
    return "".join([*out, of_own(sentence[at:])])
