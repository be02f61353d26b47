"""What a study asks of the other commands: their configurations, made as the command line makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.study_file.reading import StudyFile
from studies.study_file.schema import Confounding, Extraction, Probing
from studies.study_run.scope import Pair, Scope

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from featurestore.corpora.conversion import ManifestRequest
    from probes.confounds import ConfoundsConfig
    from probes.questions.tasks import ProbeConfig

# Beside the tables of probes, and passed over by what reads the folder as one table.
CONFOUNDS_FOLDER = "_confounds"
# What a key of the file is called in `ExtractConfig`, where that differs.
_FIELDS = {"normalise": "normalisation", "short_clips": "short_policy"}
#: Label columns of each corpus; None where they are not known here.
Columns = Mapping[str, Sequence[str] | None]


@dataclass(frozen=True, kw_only=True)
class ProbeCall:
    """One call of `run_probe`.

    Attributes:
        name: of the probing, for people.
        config: the call.
    """

    name: str
    config: ProbeConfig


def manifest_path(file: StudyFile, corpus: str) -> Path:
    """Where the manifest of a corpus is, or will be."""
    given = file.study.corpora[corpus].manifest
    return file.place(given) if given else file.place(file.study.manifests) / f"{corpus}.csv"


def option_places(file: StudyFile, corpus: str) -> dict[str, Path]:
    """Places that the options of an adapter name."""
    from featurestore.corpora.option_kinds import PLACES

    options = file.study.corpora[corpus].options
    return {name: file.place(str(options[name])) for name in PLACES if name in options}


def manifest_request(file: StudyFile, corpus: str, out: Path) -> ManifestRequest:
    """The call of `fs manifest` behind a corpus that has an adapter.

    Raises:
        ConfigError: an option has a value of another kind.
    """
    from featurestore.corpora.conversion import ManifestRequest
    from featurestore.corpora.option_kinds import option_value

    asked = file.study.corpora[corpus]
    options = {name: option_value(name, value) for name, value in asked.options.items()}
    options |= {name: str(place) for name, place in option_places(file, corpus).items()}
    return ManifestRequest(
        corpus=str(asked.adapter),
        source=file.place(str(asked.source)),
        out=out,
        allow_missing=asked.allow_missing,
        group=asked.group,
        options={name: value for name, value in options.items() if value not in ((), False)},
        derive=tuple(asked.derive or ()),
        mapping=file.place(asked.map) if asked.map else None,
        min_class_size=tuple(asked.min_class_size or ()),
        explode=tuple(asked.explode or ()),
    )


def model_spec(file: StudyFile, model: str) -> str:
    """What follows ``--model``: paths absolute."""
    from extractors.models.registry import lasting_spec

    spec = file.study.models[model].model
    return str(file.place(spec)) if spec.startswith((".", "~")) else lasting_spec(spec, file.folder)


def extraction_options(file: StudyFile, pair: Pair) -> dict[str, Any]:
    """Options of a model and corpus under the names of the file: the model's, the corpus's, the study's."""
    model, corpus = pair
    layers = (file.study.extract, file.study.corpora[corpus].extract, file.study.models[model])
    found: dict[str, Any] = {}
    for options in layers:
        given = {name: getattr(options, name) for name in Extraction.model_fields}
        found |= {name: value for name, value in given.items() if value is not None}
    return found


def extract_config(
    file: StudyFile, pair: Pair, manifest: Path, *, cluster: str | None = None, device: str | None = None
) -> ExtractConfig:
    """The call of `fs extract` for a model and a corpus.

    Raises:
        ConfigError: options that cannot be together.
    """
    from extractors.config import ExtractConfig
    from extractors.forward.functionals import parse_functionals

    options = extraction_options(file, pair)
    if "functionals" in options:
        options["functionals"] = parse_functionals(",".join(options["functionals"]))
    if device is not None:
        options["device"] = device
    return ExtractConfig(
        manifest=manifest,
        dataset=pair[1],
        model=model_spec(file, pair[0]),
        store=file.store,
        name=pair[0],
        cluster=cluster,
        **{_FIELDS.get(name, name): value for name, value in options.items()},
    )


def probe_configs(
    file: StudyFile, name: str, scope: Scope, columns: Columns, *, cluster: str | None = None
) -> list[ProbeConfig]:
    """The calls of one probing."""
    from probes.questions.tasks import ProbeConfig

    asked = file.study.probings[name]
    return [
        ProbeConfig(
            **_shared(file, asked, scope, labels, corpora),
            out=file.results,
            task=asked.task,
            classifiers=tuple(asked.classifiers),
            combine=tuple(asked.combine),
            grid=asked.grid,
            n_seeds=asked.seeds,
            controls=tuple(asked.controls or ()),
            curves=tuple(asked.curves or ()),
            curve_draws=asked.curve_draws,
            curve_shares=asked.curve_shares,
            refit=asked.refit,
            cluster=cluster or cluster_of(file, asked.cluster),
            memory=asked.memory,
            device=asked.device,
        )
        for labels, corpora in corpora_by_labels(file, asked, scope, columns).items()
    ]


def confounds_config(file: StudyFile, scope: Scope, columns: Columns) -> ConfoundsConfig | None:
    """The call of `run_confounds`: one for all corpora, since a folder holds the tables of its last call."""
    from probes.confounds import ConfoundsConfig

    asked = file.study.confounds
    if asked is None:
        return None
    by_labels = corpora_by_labels(file, asked, scope, columns)
    labels = tuple(dict.fromkeys(label for labels in by_labels for label in labels))
    corpora = [c for c in scope.corpora if any(c in those for those in by_labels.values())]
    return ConfoundsConfig(
        **_shared(file, asked, scope, labels, corpora),
        out=file.results / CONFOUNDS_FOLDER,
        results=file.results,
        workers=asked.workers,
    )


def _shared(
    file: StudyFile,
    asked: Probing | Confounding,
    scope: Scope,
    labels: tuple[str, ...],
    corpora: Sequence[str],
) -> dict[str, Any]:
    return {
        "store": file.store,
        "labels": labels,
        "models": tuple(m for m in asked.models or file.study.models if m in scope.models),
        "datasets": tuple(corpora),
        "layers": asked.layers,
        "split": asked.split,
        "groups": tuple(asked.groups or ()),
        "split_seed": asked.split_seed,
    }


def corpora_by_labels(
    file: StudyFile, asked: Probing | Confounding, scope: Scope, columns: Columns
) -> dict[tuple[str, ...], list[str]]:
    """Labels → the corpora that are asked for these, and no others; corpora with none are left out."""
    found: dict[tuple[str, ...], list[str]] = {}
    by_corpus = asked.labels if isinstance(asked.labels, dict) else None
    for corpus in asked.corpora or list(by_corpus or file.study.corpora):
        if corpus not in scope.corpora:
            continue
        if by_corpus is not None:
            labels = by_corpus.get(corpus, [])
        elif asked.labels is not None:
            # As fs probe: of corpora together each is asked for the labels that it has.
            has = columns.get(corpus)
            labels = [name for name in asked.labels if has is None or name in has]
        else:
            labels = file.study.corpora[corpus].labels or []
        if labels:
            found.setdefault(tuple(labels), []).append(corpus)
    return found


def cluster_of(file: StudyFile, spec: str | None) -> str | None:
    """A cluster spec, whose file is relative to the study's."""
    is_file = spec is not None and spec.endswith((".yaml", ".yml")) and "://" not in spec
    return str(file.place(str(spec))) if is_file else spec
