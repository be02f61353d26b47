"""From a configuration to the tasks it stands for: everything is checked before anything is fitted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from featurestore import open_store
from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError, CorruptData, KeyNotFound, LabelError, did_you_mean
from featurestore.fingerprint import digest as fingerprint_digest
from featurestore.format.row_arrays import STATUS_OK
from featurestore.layer_list import format_layers, parse_layers
from featurestore.manifest.labels import class_sizes, doubtful_classes, doubtful_spellings
from featurestore.printable import counted, enumerated
from featurestore.store.chosen_keys import ChosenKeys, chosen_keys
from featurestore.store.reader import Features
from probes import metrics
from probes.classifiers.attention import FramePooling
from probes.classifiers.layer_combination import EACH, check_layers
from probes.classifiers.multilabel import check_classifier, class_names, indicator
from probes.classifiers.numbers import REGRESSION
from probes.classifiers.registry import get_classifier, source_of
from probes.questions.controls import BY_GROUP, check_groups, check_portions
from probes.questions.curve import (
    DRAWS,
    distinct_shares,
    few_sentence,
    n_drawn_from,
    parse_shares,
)
from probes.questions.curve import GROUPS as BY_GROUPS
from probes.questions.embedding_options import option_facts
from probes.questions.groups import advice, is_group, no_group, require_other_groups
from probes.questions.labelled_rows import Labelled, labelled, unknown_label
from probes.questions.number_questions import (
    constant_sentences,
    mean_score,
    part_values,
    require_varied,
)
from probes.questions.tasks import FitSpec, ProbeConfig, ProbeTask
from probes.results.extractions import extraction_record
from probes.splits import GROUP, KINDS, PATH, Split, default_split, iter_splits, parse_split
from probes.splits.missing_parts import class_sentences


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All tasks a configuration stands for, and the splits they use.

    Attributes:
        tasks: What to fit.
        splits: Their descriptions, as ``_run.json`` keeps them.
        untrained: See `untrained_twins`.
        models: See `model_facts`.
        extractions: Key to `probes.results.extractions.extraction_record`.
        notes: Sentences about labels and splits that a reader of the scores has to know.
        replaced: Those of them that say which earlier answers no longer stand; see
            `probes.results.split_files.replaced_sentences`.
    """

    tasks: list[ProbeTask]
    splits: list[dict[str, Any]] = field(default_factory=list)
    untrained: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    extractions: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


def keys_of(config: ProbeConfig) -> ChosenKeys:
    """The keys that a configuration asks for.

    Raises:
        StoreError: there is no store.
        KeyNotFound: the store is empty, or has none of them.
        CorruptData: none of those with a name that was asked for can be read.
    """
    storage = open_store(config.store).storage
    keys = chosen_keys(storage, config.models or None, config.datasets or None)
    if not keys.known:
        raise KeyNotFound(f"{config.store}: the store is empty; fill it with `fs extract`")
    for at, what, asked in ((0, "model", config.models), (1, "dataset", config.datasets)):
        known = sorted({n[at] for n in keys.known})
        for name in asked:
            if name not in known:
                hint = did_you_mean(name, known)
                raise KeyNotFound(
                    f"{what} {name!r}: {config.store} does not hold it, it holds {', '.join(known)}{hint}"
                )
            damaged = [why for n, why in keys.unreadable.items() if n[at] == name]
            if damaged and not any(n[at] == name for n in keys.names):
                raise CorruptData(damaged[0])
    if not keys.infos and keys.unreadable:
        raise CorruptData(next(iter(keys.unreadable.values())))
    if not keys.infos:
        have = ", ".join(f"{m}/{d}" for m, d in keys.held)
        raise KeyNotFound(
            f"{config.store}: none of the models asked for has one of the datasets, it holds {have}"
        )
    return keys


def make_plan(config: ProbeConfig, opened: tuple[list[Features], list[str]] | None = None) -> Plan:
    """Check a configuration against its store and list its tasks; `opened` is what `open_keys` gave."""
    features, left_out = opened or open_keys(config.store, keys_of(config))
    layers = _select_layers(features, config.layers)
    for label in config.labels:
        known = sorted({name for f in features for name in f.label_columns})
        if label not in known:
            raise LabelError(unknown_label(label, known, config.store))
    plan = Plan(
        tasks=[],
        untrained=untrained_twins(features),
        models=model_facts(features),
        extractions={f.info.path: extraction_record(f) for f in features},
        notes=list(left_out),
    )
    for f in features:
        plan.notes.extend(_pending_notes(f))
        _check_inputs(f, config)
        looks = _looks(f, layers, config)
        for label in config.labels:
            if label not in f.label_columns:
                continue  # a label of another data set of this call
            for split in config.splits:
                found = labelled(f, label, split, config.task)
                if found.sets is not None:
                    _check_sets(config, found.rows.what)
                spec = split or default_split(found.rows, config.split_seed)
                if split is None and spec == "stratified-group":
                    plan.notes.append(
                        f"{found.rows.what}: split 'stratified-group' was chosen, since 'group' would leave "
                        "classes out of test or validation; --split logo tests every group once"
                    )
                if split is None and spec == "random":
                    plan.notes.append(f"label {label!r} of {f.dataset}: {no_group(f, label, found.position)}")
                plan.notes.extend(_label_notes(f, label, found, spec))
                _plan_split(plan, config, f, label, found, spec, looks)
    return replace(plan, notes=list(dict.fromkeys(plan.notes)))


def _plan_split(
    plan: Plan,
    config: ProbeConfig,
    f: Features,
    label: str,
    found: Labelled,
    spec: str,
    looks: Sequence[tuple[str, tuple[int, ...]]],
) -> None:
    """Add the tasks of one label and split of one key to a plan, with the split's folds and notes."""
    for control in config.controls:
        check_groups(control, found.rows)
    require_other_groups(f, label, spec, found.rows, found.position)
    groups = found.group_digest() if {BY_GROUP, BY_GROUPS} & {*config.controls, *config.curves} else ""
    clips = found.clips(spec)
    fits = {combine: config.fits(combine) for combine in config.combine}
    sources = {name: source_of(name) for name in config.classifiers}
    described: list[dict[str, Any]] = []
    ordinary: list[ProbeTask] = []
    counts: dict[str, list[int]] = {curve: [] for curve in config.curves}
    for fold, split in enumerate(iter_splits(spec, found.rows, config.split_seed)):
        check_portions(config.controls, found.rows, len(split.train))
        require_varied(found.rows, split, several=KINDS[parse_split(spec).kind].several)
        digest = found.digest(split)
        described.append({**_describe(f, label, found, split, fold, digest), "clips": clips})
        for curve, of_fold in counts.items():
            of_fold.append(n_drawn_from(curve, found.rows, split))
        of_fold_tasks = [
            ProbeTask(
                store=config.store,
                model=f.model,
                dataset=f.dataset,
                label=label,
                layers=at,
                classifier=classifier,
                split=spec,
                split_seed=config.split_seed,
                fold=fold,
                data=digest,
                fits=tuple(fits[combine][classifier]),
                combine=combine,
                source=sources[classifier],
                control=control,
                groups=groups if control == BY_GROUP else "",
                clips=clips,
                device=config.device,
                task=config.task,
            )
            for control in ("", *config.controls)
            for combine, at in looks
            for classifier in config.classifiers
        ]
        plan.tasks.extend(of_fold_tasks)
        ordinary += [task for task in of_fold_tasks if not task.control]
    _require_measurable(described, f, found, spec)
    name = f"{label} · {f.dataset} · split: {spec}"
    _plan_curves(plan, config, ordinary, counts, groups, name)
    plan.notes.extend(class_sentences(name, described, ("train", "test")))
    plan.notes.extend(constant_sentences(name, described))
    plan.splits.extend(described)


def _plan_curves(
    plan: Plan,
    config: ProbeConfig,
    ordinary: Sequence[ProbeTask],
    counts: Mapping[str, Sequence[int]],
    groups: str,
    name: str,
) -> None:
    """Add the learning curves of one label and split of one key to a plan.

    Args:
        plan: Where to.
        config: What is asked.
        ordinary: Its tasks on all training rows, of all folds.
        counts: By curve, the training groups or rows of each fold.
        groups: Digest of the groups.
        name: What notes begin with.
    """
    shares = parse_shares(config.curve_shares)
    for curve, of_folds in counts.items():
        kept = distinct_shares(shares, of_folds)
        plan.tasks.extend(
            _on_shares(task, curve, kept, config.curve_draws or DRAWS, groups) for task in ordinary
        )
        if few := few_sentence(curve, shares, kept, of_folds):
            plan.notes.append(f"{name}: {few}")


def _on_shares(task: ProbeTask, curve: str, shares: Sequence[float], n_draws: int, groups: str) -> ProbeTask:
    """A task with its fits on every share of every draw; all training rows are one draw."""
    fits: tuple[FitSpec, ...] = tuple(
        replace(fit, share=share, draw=draw)
        for share in shares
        for draw in range(n_draws if share < 1 else 1)
        for fit in task.fits
    )
    return replace(task, fits=fits, curve=curve, groups=groups if curve == BY_GROUPS else "")


def open_keys(store: str, keys: ChosenKeys) -> tuple[list[Features], list[str]]:
    """The keys whose records can be read and that hold something, and a sentence for each of the others.

    Raises:
        CorruptData: there is no other.
        KeyNotFound: of those that can be read none holds anything yet.
    """
    storage, features, left_out = open_storage(store), [], list(keys.left_out)
    damage: CorruptData | None = None
    empty: list[str] = []
    for info in keys.infos:
        try:
            found = Features(storage, info)
        except CorruptData as error:
            damage = error
            left_out.append(f"left out: {error}")
            continue
        if found.units or not found.info.units:
            features.append(found)
            continue
        empty.append(info.path)
        left_out.append(
            f"left out: {info.path}: nothing of it is embedded yet; the same `fs extract` again embeds it"
        )
    if damage is not None and not features:
        raise damage
    if empty and not features:
        raise KeyNotFound(
            f"{store}: nothing of {enumerated(empty)} is embedded yet; run the same `fs extract` again, or "
            "remove it with `fs rm`"
        )
    return features, left_out


def _pending_notes(f: Features) -> Iterator[str]:
    """That a part of a key is not embedded, which no score of it can show."""
    planned = sum(u.n_rows for u in f.info.units)
    done = sum(u.n_rows for u in f.units)
    if done < planned:
        yield (
            f"{f.info.path}: {planned - done:,} of {counted(planned, 'utterance')} are not embedded yet and "
            "are left out; the same `fs extract` again embeds them"
        )


def _label_notes(f: Features, label: str, found: Labelled, spec: str) -> Iterator[str]:
    """What a reader of the scores has to know of a label."""
    what, rows, index = f"label {label!r} of {f.dataset}", found.rows, f.index
    of_classes = found.rows.numbers is None
    for sentence in doubtful_classes(pd.Series(found.cells, dtype=object)) if of_classes else ():
        yield f"{what}: {sentence}"
    if rows.grouped_by != PATH:
        named = "" if rows.grouped_by == GROUP else f" ({rows.grouped_by})"
        for sentence in doubtful_spellings(
            rows.group, f"group{named}", f"groups{named}", "give them one name"
        ):
            yield f"{what}: {sentence}, or one may be trained and the other tested"
    if rows.fold is not None:
        for sentence in doubtful_spellings(rows.fold, "fold", "folds", "give them one name"):
            yield f"{what}: {sentence}"
    unlabelled = int(((index[label] == "") & (index["status"] == STATUS_OK)).sum())
    if unlabelled:
        yield f"{what}: {unlabelled:,} of {len(index):,} clips have no label and are left out"
    plain = of_classes and found.sets is None
    if plain and not KINDS[parse_split(spec).kind].grouped and is_group(rows.label, rows.group):
        yield (
            f"{what}: {label} is the group, which split {spec!r} holds none of out; "
            f"{advice(f, rows, found.position)}"
        )


def _require_measurable(
    described: Sequence[Mapping[str, Any]], f: Features, found: Labelled, spec: str
) -> None:
    """Refuse a split in no fold of which a class that is tested is trained: every score would be 0.

    Of numbers and of label sets nothing is asked.

    Raises:
        LabelError: it is such a split. Of splits by group `require_other_groups` told before.
    """
    if found.sets is not None or found.rows.numbers is not None:
        return
    for split in described:
        parts = split["parts"]
        if set(parts["test"]["per_class"]) - set(parts["train"]["classes_missing"]):
            return
    example = next(iter(described[0]["parts"]["test"]["per_class"]))
    raise LabelError(
        f"{found.rows.what}: in no fold of split {spec!r} is a class of the test rows trained, such as "
        f"{example!r} in fold 0, so that every score would be 0; {advice(f, found.rows, found.position)}"
    )


def untrained_twins(features: Sequence[Features]) -> dict[str, list[str]]:
    """Models with random weights, each with the trained models of the same architecture.

    Told by the fingerprints, which say what the weights are, and not by names.
    """
    models = {f.model: dict(f.attrs["fingerprint"].get("model") or {}) for f in features}
    twins = {}
    for name, own in models.items():
        if "untrained" not in own:
            continue
        twins[name] = sorted(
            other
            for other, found in models.items()
            if "untrained" not in found and all(found.get(k) == own.get(k) for k in ("family", "config"))
        )
    return twins


def model_facts(features: Sequence[Features]) -> dict[str, dict[str, str]]:
    """What models are contrasted by: domain and fine-tuning, where known, and their architecture.

    Besides, for each data set, the options that it was embedded with (`option_facts`).
    """
    found: dict[str, dict[str, str]] = {}
    for f in features:
        fingerprint = f.attrs["fingerprint"]
        card, own = f.info.model_card, dict(fingerprint.get("model") or {})
        known = {k: str(card[k]) for k in ("domain", "fine_tuning") if card.get(k)}
        facts = found.setdefault(f.model, {})
        facts |= known | {"architecture": fingerprint_digest([own.get("family"), own.get("config")])}
        facts |= option_facts(f.dataset, fingerprint)
    return found


def _check_inputs(f: Features, config: ProbeConfig) -> None:
    """Refuse a key that lacks what a classifier reads."""
    for name, fits in config.fits(config.combine[0]).items():
        classifier = get_classifier(name)
        if isinstance(classifier, FramePooling):
            for fit in fits:
                classifier.check(f, json.loads(fit.hparams))


def _looks(f: Features, layers: set[int], config: ProbeConfig) -> list[tuple[str, tuple[int, ...]]]:
    """What to look at in one key: ``(combine, layers)``."""
    held = tuple(layer for layer in f.layers if layer in layers)
    looks: list[tuple[str, tuple[int, ...]]] = []
    for combine in config.combine:
        check_layers(combine, held, f"{f.model}/{f.dataset}", config.layers)
        looks += [(EACH, (layer,)) for layer in held] if combine == EACH else [(combine, held)]
    return looks


def _select_layers(features: Sequence[Features], spec: str | None) -> set[int]:
    held = {layer for f in features for layer in f.layers}
    if spec is None:
        return held
    asked = set(parse_layers(spec))
    for f in features:
        if not asked & set(f.layers):
            raise KeyNotFound(
                f"layers {spec}: {f.model}/{f.dataset} has none of them, it has {format_layers(f.layers)}"
            )
    lacking = asked - held
    if lacking:
        raise KeyNotFound(
            f"layers {spec}: nothing in this call has layer {format_layers(lacking)}, "
            f"the store has {format_layers(held)}"
        )
    return asked


def _check_sets(config: ProbeConfig, what: str) -> None:
    """Refuse what cannot be fitted on sets of labels."""
    if config.controls:
        raise ConfigError(f"{what} holds sets of labels: controls are for single labels; leave out --control")
    if config.curves:
        raise ConfigError(
            f"{what} holds sets of labels: learning curves are for single labels; leave out --curve, or take "
            "one class at a time (--explode)"
        )
    for combine in config.combine:
        for name, fits in config.fits(combine).items():
            check_classifier(name, combine, [json.loads(fit.hparams) for fit in fits], what)


def _describe(
    f: Features, label: str, found: Labelled, split: Split, fold: int, digest: str
) -> dict[str, Any]:
    """A split as ``_run.json`` shows it; of label sets a row counts for each of its labels."""
    parts: dict[str, dict[str, Any]] = {}
    rows = found.rows
    for name, where in split.parts():
        cells = found.cells[where]
        groups = sorted(set(rows.group[where]) - {""})
        parts[name] = {
            "rows": len(where),
            "per_class": dict(sorted(class_sizes(pd.Series(cells, dtype=object)).items())),
            "groups": groups,
            "classes_missing": list(split.missing[name]),
        }
        if rows.numbers is not None:
            parts[name] |= {"per_class": {}, "numbers": part_values(rows, where)}
    return {
        **({} if rows.numbers is None else {"task": REGRESSION}),
        "model": f.model,
        "dataset": f.dataset,
        "label": label,
        "split": split.name,
        "split_seed": split.seed,
        "fold": fold,
        "rows_left_out": len(rows) - sum(len(where) for _, where in split.parts()),
        "chance": _chance(found, split),
        "digest": digest,
        "extraction": fingerprint_digest(found.key_fingerprint),
        "parts": parts,
    }


def _chance(found: Labelled, split: Split) -> float:
    if found.rows.numbers is not None:
        return mean_score(found.rows, split)
    if found.sets is None:
        label = found.rows.label.astype(str)
        return metrics.chance_level(label[split.test], label[split.train])
    return metrics.chance_precision(indicator(found.sets[split.test], class_names(found.sets)))
