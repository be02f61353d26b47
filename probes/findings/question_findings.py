"""What the predictions of one question say: intervals, comparisons, and how firmly the layer is chosen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.classifiers.layer_combination import EACH
from probes.classifiers.numbers import numbers_of
from probes.findings.predicted_rows import PredictedRows, RowsSeen, no_rows
from probes.number_scores import NUMBER_METRICS
from probes.questions.embedding_options import INPUT, differing_options
from probes.statistics import (
    Comparison,
    Influence,
    Interval,
    LayerChoice,
    compare_influences,
    contrast,
    holm,
    interval_of,
    layer_choice,
)
from probes.statistics.design import Design, make_design, number_design
from probes.statistics.influence import influence_on

if TYPE_CHECKING:
    import pandas as pd

DIVERGED = "it predicts what is no number for some rows; try a lower learning_rate"
SETS_REASON = "the scores behind label sets are not kept, so that mAP has no interval"
MODELS, LAYERS, TRAINING, CLASSIFIERS = "models", "layers", "training", "classifiers"
# The same weights, whose embeddings differ in options of the input alone, or in others too.
PREPROCESSING, OPTIONS = "preprocessing", "embedding options"
# Fact of a model card → the two values that are contrasted, the first less the second.
SETS = {"domain": ("animal", "speech"), "fine_tuning": ("ASR", "none")}
SET_NAMES = {"domain": "pre-training", "fine_tuning": "fine-tuning"}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One line of ``comparisons.csv``.

    Attributes:
        contrast: What is asked, which is also the family that p-values are corrected in.
        a, b: What is compared: models, layers, classifiers, or sets of models.
        result: Score of `a` less that of `b`, as fractions.
        p_holm: Corrected for all comparisons of the family; NaN where it could not be tested.
        of: The models that `a` and `b` are, where these say more than their names.
        declared: Whether a study declared it before it looked; then `contrast` is what the study calls it.
    """

    contrast: str
    a: str
    b: str
    result: Comparison
    p_holm: float = float("nan")
    of: tuple[str, ...] = ()
    declared: bool = False

    @property
    def models(self) -> frozenset[str]:
        """What tells whether two comparisons are of the same pair."""
        return frozenset(self.of or (self.a, self.b))

    @property
    def members(self) -> tuple[str, ...]:
        """The models of either side, without the fact that a set is called by."""
        return tuple(side.rpartition(": ")[2] for side in (self.a, self.b))


@dataclass(frozen=True, eq=False)
class Judged:
    """A score, what each group adds to its error, and its interval.

    Attributes:
        rows: What was predicted.
        influence: None where the rows cannot be judged.
        interval: None where the rows cannot be judged.
    """

    rows: PredictedRows
    influence: Influence | None = None
    interval: Interval | None = None

    @property
    def reason(self) -> str:
        """Why there is no interval, or ""."""
        return self.rows.reason or ("" if self.interval is None else self.interval.reason)

    def compared(self, other: Judged) -> Comparison | None:
        """This score less another on the same rows; None where they cannot be compared."""
        if self.influence is None or other.influence is None or not self.rows.is_of(other.rows):
            return None
        if not len(self.influence.values):
            return None  # neither is defined on these rows
        return compare_influences(self.influence, other.influence)


class Designs:
    """Rows that were coded once for all models that were tested on them."""

    def __init__(self) -> None:
        self._known: list[tuple[PredictedRows, Design]] = []

    def judged(self, rows: PredictedRows, *, of_numbers: bool = False) -> Judged:
        """The score of rows, with its interval: UAR, or R² of numbers."""
        if rows.reason:
            return Judged(rows)
        predicted = rows.predicted_numbers() if of_numbers else rows.predicted
        if of_numbers and not np.isfinite(predicted).all():
            return Judged(no_rows(DIVERGED))
        same = (d for known, d in self._known if known.is_of(rows) and (d.number is not None) == of_numbers)
        design = next(same, None)
        if design is None:
            make = number_design if of_numbers else make_design
            design = make(numbers_of(rows.target) if of_numbers else rows.target, rows.group)
            self._known.append((rows, design))
        found = influence_on(design, predicted, "r2" if of_numbers else "uar")
        return Judged(rows, found, interval_of(found))


@dataclass(frozen=True, eq=False)
class QuestionFindings:
    """What is found of one question: one label of one data set, asked by one classifier on one kind of split.

    Attributes:
        answers: Fits behind each model's answer, of the layer that validation chose in every fold; of a
            combination of layers where no single one was probed.
        places: Fits behind each layer, or combination of layers: (model, combine, layers) → fits.
        read: Test predictions of fits: columns fingerprint, utterance_id, group, target, prediction, as
            categories.
        read_validation: The same of their validation rows.
        is_sets: Whether labels are sets.
        is_numbers: Whether they are numbers.
        twins: Models with random weights → their trained twins.
        facts: Model → what its card says of its training: domain, fine_tuning, architecture; and how
            it embedded each data set (`probes.questions.embedding_options`).
        dataset: The data set.
        declared: Comparisons of sets of models that a study declared; see `probes.findings.declared_sets`.
    """

    answers: Mapping[str, pd.DataFrame]
    places: Mapping[tuple[str, str, str], pd.DataFrame]
    read: Callable[[pd.DataFrame], pd.DataFrame]
    read_validation: Callable[[pd.DataFrame], pd.DataFrame]
    is_sets: bool = False
    is_numbers: bool = False
    twins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: str = ""
    designs: Designs = field(default_factory=Designs)
    declared: Callable[[], Sequence[Compared]] = tuple
    seen: RowsSeen = field(default_factory=RowsSeen)

    @cached_property
    def judged_answers(self) -> dict[str, Judged]:
        """The answer of each model."""
        return dict(self._judged(self.answers))

    @cached_property
    def judged_places(self) -> dict[tuple[str, str, str], Judged]:
        """Every layer, or combination of layers, of each model."""
        return dict(self._judged(self.places))

    def _judged(self, fits: Mapping[Any, pd.DataFrame]) -> Iterable[tuple[Any, Judged]]:
        for name, rows in fits.items():
            if self.is_sets:
                yield name, Judged(no_rows(SETS_REASON))
            else:
                predicted = self.seen.predicted_rows(self.read(rows), rows)
                yield name, self.designs.judged(predicted, of_numbers=self.is_numbers)

    @cached_property
    def number_scores(self) -> dict[str, dict[str, Interval]]:
        """Of numbers every score of the answer of each model, over the test rows of all folds together."""
        found = {}
        for model, judged in self.judged_answers.items() if self.is_numbers else ():
            if judged.influence is not None:
                design, guess = judged.influence.design, judged.rows.predicted_numbers()
                found[model] = {m: interval_of(influence_on(design, guess, m)) for m in NUMBER_METRICS}
        return found

    @cached_property
    def choices(self) -> dict[str, LayerChoice]:
        """How firmly validation rows choose the layer of each model, where their predictions were kept."""
        found = {}
        for model in self.answers:
            layers = {int(k[2]): fits for k, fits in self.places.items() if k[:2] == (model, EACH)}
            if len(layers) < 2 or self.is_sets:
                continue
            rows = {
                k: self.seen.predicted_rows(self.read_validation(fits), fits)
                for k, fits in sorted(layers.items())
            }
            first = next(iter(rows.values()))
            if any(r.reason or not r.is_of(first) for r in rows.values()):
                continue
            target: Any = first.target
            predicted: list[Any] = [r.predicted for r in rows.values()]
            if self.is_numbers:
                target, predicted = numbers_of(target), [r.predicted_numbers() for r in rows.values()]
                if not all(np.isfinite(p).all() for p in predicted):
                    continue
            metric = "r2" if self.is_numbers else "uar"
            found[model] = layer_choice(target, predicted, first.group, layers=list(rows), metric=metric)
        return found

    @cached_property
    def model_comparisons(self) -> list[Compared]:
        """Every pair of models, those that differ in options alone, untrained twins, and sets of models."""
        judged = {m: j for m, j in self.judged_answers.items() if j.influence is not None}
        pairs = list(itertools.combinations(judged, 2))
        twins = [(t, u) for u, trained in self.twins.items() for t in trained]
        known = [(t, u) for t, u in twins if t in judged and u in judged]
        found = []
        for family, of in ((MODELS, pairs), (TRAINING, known)):
            found += _family(family, ((self.shown(a), self.shown(b), judged[a], judged[b]) for a, b in of))
        found += self._of_options(judged)
        for fact, values in SETS.items():
            found += self._of_sets(fact, values, judged)
        said = self.declared()
        # What was declared stands for what is compared anyway.
        told = {c.members for c in said}
        return [*said, *(c for c in found if c.members not in told)]

    def _of_options(self, judged: Mapping[str, Judged]) -> list[Compared]:
        """The same weights on the same data set, embedded with other options, each named by its values."""
        families: dict[str, list[tuple[str, str, Judged, Judged]]] = {PREPROCESSING: [], OPTIONS: []}
        of: dict[tuple[str, str], tuple[str, str]] = {}
        for a, b in itertools.combinations(judged, 2):
            differ = differing_options(self.facts.get(a, {}), self.facts.get(b, {}), self.dataset)
            if not differ:
                continue
            named = []
            for side, model in enumerate((a, b)):
                options = ", ".join(f"{name} {values[side]}" for name, values in differ.items())
                named.append(f"{self.shown(model)} ({options})")
            kind = PREPROCESSING if all(name.startswith(INPUT) for name in differ) else OPTIONS
            families[kind].append((named[0], named[1], judged[a], judged[b]))
            of[named[0], named[1]] = (self.shown(a), self.shown(b))
        return [replace(c, of=of[c.a, c.b]) for kind, pairs in families.items() for c in _family(kind, pairs)]

    def shown(self, model: str) -> str:
        """How a model is called in comparisons: by its name, and by the combination that its answer is of."""
        combine = str(self.answers[model]["combine"].iloc[0])
        return model if combine == EACH else f"{model} {combine}"

    def _of_sets(self, fact: str, values: tuple[str, str], judged: Mapping[str, Judged]) -> list[Compared]:
        """Models of one value of a fact against those of the other."""
        sides: list[dict[str, list[str]]] = [{}, {}]
        for model in judged:
            facts = self.facts.get(model, {})
            if facts.get(fact) in values and model not in self.twins:
                sides[values.index(facts[fact])].setdefault(str(facts.get("architecture")), []).append(model)
        if not all(sides):
            return []
        # Models that differ in nothing else say more than all models together.
        both = [k for k in sides[0] if k in sides[1] and fact == "fine_tuning"]
        chosen = [[m for k in (both or side) for m in side[k]] for side in sides]
        scores = [[judged[m].influence for m in names] for names in chosen]
        known = [[s for s in side if s is not None] for side in scores]
        if not same_rows([judged[m].rows for names in chosen for m in names]):
            return []
        names = [f"{v}: {', '.join(models)}" for v, models in zip(values, chosen, strict=True)]
        how = "matched " if both else ""
        return [
            Compared(
                contrast=f"{how}{SET_NAMES[fact]}",
                a=names[0],
                b=names[1],
                result=(result := contrast(known[0], known[1])),
                p_holm=result.p,
            )
        ]

    @cached_property
    def layer_comparisons(self) -> list[Compared]:
        """The layer that validation chose against each other one, model by model."""
        found = []
        for model, answer in self.judged_answers.items():
            chosen = set(self.answers[model]["layers"])
            name = f"{model} layer {chosen.pop()}" if len(chosen) == 1 else f"{model}, chosen in each fold"
            others = [
                (f"{model} layer {layers}", judged)
                for (of, combine, layers), judged in self.judged_places.items()
                if of == model and combine == EACH and f"{model} layer {layers}" != name
            ]
            if answer.influence is not None and set(self.answers[model]["combine"]) == {EACH}:
                found += _family(LAYERS, ((name, other, answer, judged) for other, judged in others))
        return found


def classifier_comparisons(of: Mapping[str, QuestionFindings]) -> dict[str, list[Compared]]:
    """Classifiers on the same question and model: classifier → its comparisons with those after it."""
    of_classifier: dict[tuple[str, str], str] = {}
    pairs = []
    for a, b in itertools.combinations(of, 2):
        left, right = of[a].judged_answers, of[b].judged_answers
        for m in (m for m in left if m in right):
            names = f"{m} {a}", f"{m} {b}"
            of_classifier[names] = a
            pairs.append((*names, left[m], right[m]))
    found: dict[str, list[Compared]] = {}
    for one in _family(CLASSIFIERS, pairs):
        found.setdefault(of_classifier[one.a, one.b], []).append(one)
    return found


def _family(name: str, pairs: Iterable[tuple[str, str, Judged, Judged]]) -> list[Compared]:
    """Compare the pairs that can be compared, and correct their p-values for each other."""
    results = ((a, b, left.compared(right)) for a, b, left, right in pairs)
    found = [Compared(contrast=name, a=a, b=b, result=r) for a, b, r in results if r is not None]
    adjusted = holm([c.result.p for c in found])
    return [replace(c, p_holm=float(p)) for c, p in zip(found, adjusted, strict=True)]


def same_rows(rows: Sequence[PredictedRows]) -> bool:
    """Whether all predictions are of the very same test rows."""
    return all(r.is_of(rows[0]) for r in rows[1:])
