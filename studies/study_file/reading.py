"""A study file read: its document, its study, and what is wrong with it so far."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import ConfigError, did_you_mean
from featurestore.outputs import REMOTE_SCHEMES
from featurestore.printable import enumerated
from studies.study_file.document import Document, read_document
from studies.study_file.mistakes import Found, Place
from studies.study_file.schema import Confounding, Probing, Study
from studies.study_file.shape import study_of

PLURALS = {"corpus": "corpora", "model": "models", "probing": "probings"}


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A study with the file it stands in.

    Attributes:
        document: the file's values and lines.
        study: what it says; parts with mistakes are left out.
        found: mistakes; whoever looks further adds to them, and raises them before anything is done.
    """

    document: Document
    study: Study
    found: Found

    @property
    def folder(self) -> Path:
        """What relative paths start from."""
        return self.document.path.absolute().parent

    def place(self, text: str) -> Path:
        """A path of the file, absolute."""
        return self.folder / os.path.expanduser(text)  # a home that is none stays as it is written

    @property
    def store(self) -> str:
        """Path or URL of the store."""
        text = self.study.store
        is_url = "://" in text or text.split(":")[0] in REMOTE_SCHEMES
        return text if is_url else str(self.place(text))

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return self.place(self.study.results)

    @property
    def pages(self) -> list[Path]:
        """Pages that a report of the study has."""
        names = ["index.html", *(["published.html"] if self.study.report.published else [])]
        return [self.place(self.study.report.out) / name for name in names]

    def names(self, kind: str) -> list[str]:
        """Names of corpora, models or probings as they are written, those with mistakes too."""
        written = self.document.value.get(PLURALS[kind])
        return list(written) if isinstance(written, dict) else []


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study file and check what it says of itself; nothing else is looked at.

    Args:
        path: the file.
        overrides: see `read_document`.

    Raises:
        Mistakes: it is no YAML, or too little of it is sound to look further. Other mistakes are in `found`.
    """
    document, found = read_document(path, overrides)
    study = study_of(document, found)
    if study is None:
        found.raise_if_any()
        raise ConfigError(f"{path}: this is no study; see docs/study.md")
    file = StudyFile(document=document, study=study, found=found)
    _check_corpora(file)
    _check_distinct(file)
    for name, probing in study.probings.items():
        _check_references(file, ("probings", name), probing)
    if study.confounds is not None:
        _check_references(file, ("confounds",), study.confounds)
    for name, model in study.models.items():
        if model.fine_tuned_from is not None:
            at = ("models", name, "fine_tuned_from")
            check_known(file, at, [model.fine_tuned_from], "model")
            if model.fine_tuned_from == name:
                file.found.add(at, f"expected another model than {name!r} itself")
    for name, contrast in study.contrasts.items():
        for side in ("a", "b"):
            value = getattr(contrast, side)
            if isinstance(value, list):
                check_known(file, ("contrasts", name, side), value, "model")
    return file


def _check_corpora(file: StudyFile) -> None:
    only_with_adapter = (
        "source",
        "options",
        "group",
        "allow_missing",
        "derive",
        "map",
        "min_class_size",
        "explode",
    )
    for name, corpus in file.study.corpora.items():
        at: Place = ("corpora", name)
        written = file.document.value["corpora"][name]
        if corpus.manifest is None and corpus.adapter is None and not file.found.has_below(at):
            file.found.add(at, "expected a manifest, or an adapter with a source")
        if corpus.manifest is not None and corpus.adapter is not None:
            file.found.add((*at, "adapter"), "expected a manifest or an adapter, got both; leave one out")
        elif corpus.manifest is not None:
            for key in only_with_adapter:
                if key in written:
                    file.found.add((*at, key), f"{key} goes with an adapter, and this corpus has a manifest")
        elif (
            corpus.adapter is not None and corpus.source is None and not file.found.has_below((*at, "source"))
        ):
            file.found.add(at, "expected a key 'source' (folder or file that the adapter reads)")


def _check_distinct(file: StudyFile) -> None:
    """Note a corpus that is another one once more: its clips would be embedded twice, and count twice."""
    seen: dict[str, str] = {}
    for name, corpus in file.study.corpora.items():
        if file.found.has_below(("corpora", name)):
            continue
        told = corpus.model_dump(exclude={"labels"})
        place = file.place(str(corpus.manifest or corpus.source)).resolve()
        first = seen.setdefault(f"{place} {told | {'manifest': None, 'source': None}}", name)
        if first != name:
            text = (
                f"the same as corpus {first!r} but for labels; leave one out: labels of all can stand in one"
            )
            file.found.add(("corpora", name), text)


def _check_references(file: StudyFile, place: Place, part: Probing | Confounding) -> None:
    for kind in ("corpus", "model"):
        key = PLURALS[kind]
        check_known(file, (*place, key), getattr(part, key) or [], kind)
    if isinstance(part.labels, dict):
        at = (*place, "labels")
        check_known(file, at, part.labels, "corpus")
        lacking = [c for c in part.corpora or [] if c not in part.labels]
        if lacking:
            file.found.add(at, f"no labels for corpus {lacking[0]!r}, which corpora names; add some")
    elif part.labels is None:
        for corpus in part.corpora or file.study.corpora:
            has = file.study.corpora.get(corpus)
            if has is not None and has.labels is None and not file.found.has_below(("corpora", corpus)):
                file.found.add(
                    place, f"no labels: corpus {corpus!r} names none; add labels here or to the corpus"
                )
                break


def check_known(file: StudyFile, place: Place, names: Iterable[str], kind: str) -> None:
    """Note names that the file has no corpus, model or probing of."""
    known = file.names(kind)
    is_list = not isinstance(names, Mapping)
    for i, name in enumerate(names):
        if name not in known:
            at = place if isinstance(names, list) and len(names) == 1 else (*place, i if is_list else name)
            file.found.add(at, unknown_name(name, kind, known))


def unknown_name(name: str, kind: str, known: Collection[str]) -> str:
    """That there is no corpus, model or probing of a name, and which is nearest."""
    hint = did_you_mean(name, known) or f"; there are {enumerated(known)}"
    return f"no {kind} {name!r}{hint}"
