"""Corpora of a study: their manifests are there, or are made, and have the labels that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.calls import BESIDE_SUFFIX, is_as_written
from featurestore.errors import ConfigError, did_you_mean
from featurestore.manifest.table import CONTRACT_COLUMNS
from featurestore.outputs import columns_there, put_file, writing
from featurestore.printable import enumerated
from studies.study_file.mistakes import Place
from studies.study_file.reading import StudyFile
from studies.study_run.requests import manifest_path, manifest_request

if TYPE_CHECKING:
    from featurestore.corpora.interface import CorpusTable
    from featurestore.manifest.labels import LabelReport


@dataclass(frozen=True, kw_only=True)
class MadeManifest:
    """A manifest that an adapter made, and what there is to say of it.

    Attributes:
        corpus: whose.
        made: where it was made.
        target: where it belongs.
        table: what was found.
        reports: what label tools did.
    """

    corpus: str
    made: Path
    target: Path
    table: CorpusTable
    reports: Sequence[LabelReport]

    def put(self) -> bool:
        """Put it where it belongs; False where the same is there already.

        Raises:
            ConfigError: something else is there.
            StoreError: it cannot be written.
        """
        beside = self.target.with_name(self.target.name + BESIDE_SUFFIX)
        data = self.made.read_bytes()
        call = self.made.with_name(self.made.name + BESIDE_SUFFIX).read_bytes()
        there = [p.is_file() and p.read_bytes() for p in (self.target, beside)]
        if there == [data, call]:
            return False
        if self.target.exists() and "path" not in columns_there(self.target):
            raise ConfigError(
                f"{self.target}: this is no manifest of ours and would be lost; "
                "give another folder for manifests"
            )
        if self.target.exists() and there[0] != data and not is_as_written(self.target):
            raise ConfigError(
                f"{self.target}: this manifest was made by hand, or changed since fs wrote it, and would be "
                "lost; give another folder for manifests, or move it away"
            )
        with writing(self.target, "choose another folder for manifests"):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            put_file(data, self.target)
            put_file(call, beside)
        return True


@dataclass(kw_only=True)
class Corpora:
    """Manifests of the corpora in scope.

    Attributes:
        manifests: corpus → its manifest, to be read now; none of those that are not at hand.
        columns: corpus → its label columns; None where they are not known.
        made: manifests made by adapters.
    """

    manifests: dict[str, Path] = field(default_factory=dict)
    columns: dict[str, list[str] | None] = field(default_factory=dict)
    made: list[MadeManifest] = field(default_factory=list)


def look_at_corpora(file: StudyFile, names: Iterable[str], scratch: Path, *, with_audio: bool) -> Corpora:
    """Read every manifest, and make those that adapters make; mistakes are noted.

    Args:
        file: the study.
        names: of the corpora.
        scratch: an empty folder for what is made.
        with_audio: whether audio has to be at hand; without it what is not there is passed over.
    """
    corpora = Corpora()
    for name in names:
        corpora.columns[name] = None
        at: Place = ("corpora", name)
        asked = file.study.corpora[name]
        target = manifest_path(file, name)
        if asked.manifest is not None:
            if with_audio or target.exists():
                with file.found.of((*at, "manifest")):
                    corpora.columns[name] = _labels_of(target, check_files=with_audio)
                    corpora.manifests[name] = target
        elif asked.adapter is None or asked.source is None:
            continue  # a mistake, and noted
        elif with_audio or file.place(asked.source).exists():
            _make(file, name, scratch, target, corpora)
        elif target.exists():
            with file.found.of(at):
                corpora.columns[name] = _labels_of(target, check_files=False)
                corpora.manifests[name] = target
        _check_labels(file, name, corpora.columns[name])
    return corpora


def _labels_of(path: Path, *, check_files: bool) -> list[str]:
    from featurestore.manifest.table import read_manifest

    # Whether a key takes rows without a sample is seen when it is planned.
    return read_manifest(path, check_files=check_files, allow_empty=True).label_columns


def _make(file: StudyFile, name: str, scratch: Path, target: Path, corpora: Corpora) -> None:
    from featurestore.corpora.conversion import make_manifest
    from featurestore.corpora.option_kinds import option_value
    from featurestore.corpora.registry import get_corpus

    at: Place = ("corpora", name)
    asked = file.study.corpora[name]
    with file.found.of((*at, "adapter")):
        corpus = get_corpus(str(asked.adapter))
        for option, value in asked.options.items():
            of_option = (*at, "options", option)
            if option not in corpus.options:
                file.found.add(of_option, _unknown_option(option, corpus.name, corpus.options))
                continue
            with file.found.of(of_option):
                option_value(option, value)
    if any(file.found.has_below((*at, key)) for key in ("adapter", "options")):
        return
    with file.found.of(at):
        request = manifest_request(file, name, scratch / f"{name}.csv")
        table, reports = make_manifest(request)
        # Label tools add columns and take some away.
        corpora.columns[name] = [c for c in columns_there(request.out) if c not in CONTRACT_COLUMNS]
        corpora.manifests[name] = request.out
        corpora.made.append(
            MadeManifest(corpus=name, made=request.out, target=target, table=table, reports=reports)
        )


def _unknown_option(option: str, corpus: str, known: Iterable[str]) -> str:
    names = list(known)
    hint = did_you_mean(option, names) or (f"; it has {enumerated(names)}" if names else "; it has none")
    return f"adapter {corpus} has no option {option!r}{hint}"


def _check_labels(file: StudyFile, name: str, columns: Sequence[str] | None) -> None:
    at: Place = ("corpora", name, "labels")
    for i, label in enumerate(file.study.corpora[name].labels or []):
        if columns is not None and label not in columns:
            file.found.add((*at, i), lacking_label(label, name, columns))


def lacking_label(label: str, corpus: str, columns: Sequence[str]) -> str:
    """That a corpus has no such label column, and which is nearest."""
    from probes.questions.labelled_rows import unknown_label

    return unknown_label(label, list(columns), f"corpus {corpus!r}")
