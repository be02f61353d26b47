"""What a study asks of probes: classifiers, splits, labels and layers that exist, no question twice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.compute.batch_system import read_cluster_file
from featurestore.compute.memory import parse_bytes
from featurestore.compute.task_runners import check_cluster
from featurestore.errors import did_you_mean
from featurestore.layer_list import format_layers, parse_layers
from studies.study_file.mistakes import Place
from studies.study_file.reading import StudyFile
from studies.study_file.schema import Confounding, Probing
from studies.study_run.corpus_checks import lacking_label
from studies.study_run.requests import Columns, ProbeCall, cluster_of, probe_configs
from studies.study_run.scope import Scope, pairs_of

if TYPE_CHECKING:
    from probes.questions.tasks import ProbeConfig

#: Model → the layers that its keys hold, or will; None where that is not known here.
Held = Mapping[str, Sequence[int] | None]


def look_at_probings(
    file: StudyFile,
    scope: Scope,
    columns: Columns,
    held: Held,
    cluster: str | None,
    *,
    with_cluster: bool,
) -> list[ProbeCall]:
    """The calls of `run_probe` that a study stands for; what cannot be is noted.

    Args:
        file: the study.
        scope: the part of it that is meant.
        columns: label columns of each corpus.
        held: layers of each model.
        cluster: in place of the file's.
        with_cluster: whether clusters of the file are used here, and have to be at hand.
    """
    calls = []
    for name in scope.probings:
        at: Place = ("probings", name)
        asked = file.study.probings[name]
        _check_settings(file, at, asked, with_cluster=with_cluster and cluster is None)
        models = [m for m in asked.models or file.study.models if m in scope.models]
        check_rows(file, at, asked, [c for _, c in pairs_of(file, name) if c in scope.corpora], columns)
        check_layers(file, at, asked.layers, models, held)
        if file.found.has_below(at):
            continue
        with file.found.of(at):
            calls += [
                ProbeCall(name=name, config=config)
                for config in probe_configs(file, name, scope, columns, cluster=cluster)
            ]
    _check_questions(file, calls)
    return calls


def _check_settings(file: StudyFile, at: Place, asked: Probing, *, with_cluster: bool) -> None:
    from probes.classifiers.numbers import check_task
    from probes.classifiers.registry import check_combinations, get_classifier
    from probes.questions.controls import check_controls
    from probes.questions.curve import check_curves
    from probes.questions.refit import check_refit

    found = file.found
    for i, name in enumerate(asked.classifiers):
        with found.of((*at, "classifiers", i)):
            get_classifier(name)
    if not found.has_below((*at, "classifiers")):
        with found.of((*at, "task")):
            check_task(asked.task, asked.classifiers)
        with found.of((*at, "combine")):
            check_combinations(asked.combine, asked.classifiers)
        with found.of((*at, "controls")):
            check_controls(asked.controls or (), asked.classifiers)
        with found.of((*at, "refit")):
            check_refit(asked.refit, asked.classifiers)
    with found.of((*at, "curves") if asked.curves else at):
        check_curves(asked.curves or (), asked.curve_shares, asked.curve_draws)
    for name in asked.grid:
        if name not in asked.classifiers:
            hint = did_you_mean(name, asked.classifiers)
            found.add((*at, "grid", name), f"settings for {name!r}, which classifiers does not name{hint}")
        elif not found.has_below((*at, "classifiers")):
            _check_grid(file, (*at, "grid", name), name, asked)
    check_split(file, at, asked)
    with found.of((*at, "cluster")):
        check_cluster(asked.cluster)
        if with_cluster and (config := cluster_of(file, asked.cluster)) != asked.cluster:
            read_cluster_file(Path(str(config)))
    if asked.memory is not None:
        with found.of((*at, "memory")):
            parse_bytes(asked.memory)


def _check_grid(file: StudyFile, at: Place, classifier: str, asked: Probing) -> None:
    """Note settings that a classifier does not take, each where it stands; then sets that cannot be."""
    from probes.classifiers.layer_combination import EACH, WEIGHTED
    from probes.classifiers.registry import expand_grid

    combine = WEIGHTED if WEIGHTED in asked.combine else EACH
    for name, value in asked.grid[classifier].items():
        with file.found.of((*at, name)):
            expand_grid(classifier, {name: value}, combine)
    if not file.found.has_below(at):
        with file.found.of(at):
            expand_grid(classifier, asked.grid[classifier], combine)


def check_split(file: StudyFile, at: Place, asked: Probing | Confounding) -> None:
    """Note a split that there is not, and groups that it cannot hold out."""
    from probes.splits import GROUP, parse_split, with_group

    if asked.split is not None:
        with file.found.of((*at, "split")):
            parse_split(asked.split)
    if not file.found.has_below((*at, "split")):
        for i, column in enumerate(asked.groups or ()):
            with file.found.of((*at, "groups", i)):
                with_group(asked.split or GROUP, column)


def check_rows(
    file: StudyFile, at: Place, asked: Probing | Confounding, corpora: Sequence[str], columns: Columns
) -> None:
    """Note labels and groups that the corpora do not have."""
    from probes.splits import GROUP, PATH

    known = {c: columns[c] for c in dict.fromkeys(corpora) if columns.get(c) is not None}
    if isinstance(asked.labels, dict):
        for corpus, labels in asked.labels.items():
            for i, label in enumerate(labels):
                has = known.get(corpus)
                if has is not None and label not in has:
                    file.found.add((*at, "labels", corpus, i), lacking_label(label, corpus, has))
    every = len(known) == len(set(corpora))
    all_columns = sorted({name for has in known.values() for name in has or ()})
    which = " and ".join(known)
    for i, label in enumerate(asked.labels if isinstance(asked.labels, list) else ()):
        if every and label not in all_columns:
            file.found.add((*at, "labels", i), lacking_label(label, which, all_columns))
    for i, column in enumerate(asked.groups or ()):
        if every and column not in (GROUP, PATH, *all_columns):
            hint = did_you_mean(column, [GROUP, PATH, *all_columns])
            file.found.add((*at, "groups", i), f"corpus {which!r} has no column {column!r}{hint}")


def check_layers(file: StudyFile, at: Place, layers: str | None, models: Sequence[str], held: Held) -> None:
    """Note layers that no model has, and models that have none of them."""
    if layers is None:
        return
    asked = set(parse_layers(layers))
    known = {m: set(held[m] or ()) for m in models if held.get(m) is not None}
    for model, has in known.items():
        if not asked & has:
            file.found.add(
                (*at, "layers"),
                f"layers {layers}: model {model!r} has none of them, it has {format_layers(has)}",
            )
            return
    lacking = asked - set().union(*known.values()) if known else set()
    if lacking and len(known) == len(models):
        have = format_layers(set().union(*known.values()))
        file.found.add(
            (*at, "layers"), f"layers {layers}: no model has {format_layers(lacking)}, there are {have}"
        )


def _check_questions(file: StudyFile, calls: Sequence[ProbeCall]) -> None:
    """Note two probings that ask the same in different ways: in one folder their answers would be pooled."""
    for a, b in itertools.combinations(calls, 2):
        both = [name for name in a.config.labels if name in b.config.labels]
        if both and a.config.task != b.config.task and set(a.config.datasets) & set(b.config.datasets):
            file.found.add(
                ("probings", b.name, "task"),
                f"probing {a.name!r} asks for label {both[0]!r} by {a.config.task} in the same results; put "
                "one of them into a study file with results of its own",
            )
            continue
        if a.name == b.name or not _same_question(a.config, b.config):
            continue
        if not (_within(a.config, b.config) or _within(b.config, a.config)):
            file.found.add(
                ("probings", b.name),
                f"asks what probing {a.name!r} asks too (corpus, label, classifier, split), with other "
                "seeds, settings or layers, and their answers would be mixed; make them one, give another "
                "split_seed, or put this into a study file with results of its own",
            )


def _same_question(a: ProbeConfig, b: ProbeConfig) -> bool:
    shared = all(
        set(getattr(a, name)) & set(getattr(b, name))
        for name in ("models", "datasets", "labels", "classifiers", "splits")
    )
    return shared and a.split_seed == b.split_seed


def _within(a: ProbeConfig, b: ProbeConfig) -> bool:
    """Whether all fits that `a` asks of what both ask are fits that `b` asks too."""
    if b.layers is not None and (
        a.layers is None or set(parse_layers(a.layers)) - set(parse_layers(b.layers))
    ):
        return False
    if not set(a.combine) <= set(b.combine) and set(a.combine) & set(b.combine):
        return False
    if not set(a.combine) & set(b.combine):
        return True  # other ways to look at layers stand beside each other
    fits_a, fits_b = a.fits(), b.fits()
    return all(set(fits_a[c]) <= set(fits_b[c]) for c in set(a.classifiers) & set(b.classifiers))
