"""Findings in plain sentences, made of their numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from featurestore.printable import counted, enumerated
from probes.findings.question_findings import CLASSIFIERS, LAYERS, MODELS, Compared
from probes.metrics import is_shown_as_zero, points
from probes.statistics import Interval, LayerChoice

ALPHA = 0.05


def p_text(p: float) -> str:
    """A p-value, such as ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def interval_text(interval: Interval | None) -> str:
    """An interval in %, such as ``81.2 to 89.0``; "" where there is none."""
    if interval is None or math.isnan(interval.low):
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def comparison_sentence(found: Compared) -> str:
    """What a comparison says: which is higher and by how much, or that the two are alike.

    A difference that is shown as 0.0 points has no direction.
    """
    named = f"Declared contrast '{found.contrast}': " if found.declared else ""
    return named + (_without_interval(found) if math.isnan(found.result.low) else _with_interval(found))


def _without_interval(found: Compared) -> str:
    result = found.result
    if math.isclose(result.difference, 0, abs_tol=1e-12):
        said = f"{found.a} and {found.b} have the same score on these test clips"
    elif is_shown_as_zero(result.difference):
        said = f"{found.a} and {found.b} are equal to a tenth of a point on these test clips"
    else:
        first, second = _ordered(found)
        said = f"{first} is {points(abs(result.difference))} points above {second} on these test clips"
    return f"{said}; no interval: {result.reason}."


def _with_interval(found: Compared) -> str:
    result, groups = found.result, counted(found.result.n_groups, "group")
    between = f"95 % interval {points(result.low)} to {points(result.high)}"
    if not found.p_holm <= ALPHA:
        seen = points(result.detectable)
        limit = "less than 0.1" if is_shown_as_zero(result.detectable) else f"about {seen}"
        return (
            f"{found.a} and {found.b} cannot be told apart: {points(result.difference)} points, {between}, "
            f"{groups}; this test part shows differences from {limit}."
        )
    corrected = " after Holm's correction" if found.p_holm != result.p else ""
    p = f"{p_text(found.p_holm)}{corrected}"
    if is_shown_as_zero(result.difference):
        return (
            f"{found.a} and {found.b} are told apart, but by less than 0.1 points: {between}, {groups}, {p}."
        )
    first, second = _ordered(found)
    if result.difference < 0:
        between = f"95 % interval {points(-result.high)} to {points(-result.low)}"
    return f"{first} is {points(abs(result.difference))} points above {second}: {between}, {groups}, {p}."


def _ordered(found: Compared) -> tuple[str, str]:
    """The higher of the two first."""
    return (found.a, found.b) if found.result.difference > 0 else (found.b, found.a)


def choice_sentences(choices: Mapping[str, LayerChoice]) -> list[str]:
    """How firmly validation rows choose the layer of each model; where they cannot say, why."""
    unknown: dict[str, list[str]] = {}
    for model, choice in choices.items():
        if not _is_judged(choice):
            unknown.setdefault(choice.reason, []).append(model)
    told = [_choice_sentence(model, choice) for model, choice in choices.items() if _is_judged(choice)]
    return [*told, *(f"{', '.join(models)}: {reason}." for reason, models in unknown.items())]


def choice_summary(choices: Mapping[str, LayerChoice]) -> str:
    """One line for all models of a question: of how many the layer is settled; "" of no models."""
    judged = {model: choice for model, choice in choices.items() if _is_judged(choice)}
    if not choices:
        return ""
    if not judged:
        reasons = "; ".join(dict.fromkeys(choice.reason for choice in choices.values()))
        return f"How firmly validation chooses layers cannot be told: {reasons}."
    models = counted(len(judged), "model")
    firm = [model for model, choice in judged.items() if len(choice.not_worse) == 1]
    sizes = [len(choice.not_worse) for choice in judged.values() if len(choice.not_worse) > 1]
    if not sizes:
        return f"Validation tells the chosen layer from every other: {models}."
    between = f"{min(sizes)}" if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"
    rest = f"; of {enumerated(firm)} it is settled" if firm else ""
    return (
        f"Validation does not settle the layer of {len(sizes)} of {models}: {between} layers cannot be told "
        f"from each other{rest}."
    )


def _is_judged(choice: LayerChoice) -> bool:
    return not math.isnan(float(choice.chosen_share[choice.layers.index(choice.chosen)]))


def _choice_sentence(model: str, choice: LayerChoice) -> str:
    """How firmly a layer is chosen on validation rows."""
    share = float(choice.chosen_share[choice.layers.index(choice.chosen)])
    others = [k for k in choice.not_worse if k != choice.chosen]
    groups = counted(choice.n_groups, "group")
    told = ""
    if others:
        # The share is of these very groups: fresh ones choose the same layer far less often (see
        # docs/statistics.md).
        named = f"layer {others[0]}" if len(others) == 1 else f"layers {', '.join(map(str, others))}"
        it = "it" if len(others) == 1 else "one of them"
        told = f"{named} cannot be told from it, and other groups may choose {it}"
    return (
        f"{model}: layer {choice.chosen} is chosen in {100 * share:.0f} % of resamples of the {groups} of "
        f"validation; {told or 'every other layer is worse'}."
    )


def headline(compared: list[Compared], model: str, most: int = 6) -> list[str]:
    """Sentences of the comparisons that one reads first.

    Args:
        compared: Those of a question.
        model: The one that validation chose: other models are compared with it, not with each other.
        most: So many sentences, and one that counts the rest.
    """
    sets = [c for c in compared if c.contrast not in (MODELS, LAYERS, CLASSIFIERS)]
    pairs = [c for c in compared if c.contrast == MODELS]
    of_model = [c for c in pairs if model in (c.a, c.b)]
    twins = {c.models for c in sets}  # said already
    shown = [*sets, *(c for c in of_model if c.models not in twins)][:most]
    said = {c.models for c in shown}
    left = sum(c.models not in said for c in [*sets, *pairs])
    rest = [f"{counted(left, 'comparison')} of models more in comparisons.csv."] if left else []
    return [*map(comparison_sentence, shown), *rest]
