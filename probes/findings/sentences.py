"""Findings in plain sentences, made of their numbers alone."""

from __future__ import annotations

import math

from featurestore.printable import counted
from probes.findings.question_findings import CLASSIFIERS, LAYERS, MODELS, Compared
from probes.metrics import points
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
    """What a comparison says: which is higher and by how much, or that the two cannot be told apart."""
    result, groups = found.result, counted(found.result.n_groups, "group")
    if math.isnan(result.low) and points(result.difference) == "0.0":
        return (
            f"{found.a} and {found.b} have the same score on these test clips; no interval: {result.reason}."
        )
    if math.isnan(result.low):
        first, second = (found.a, found.b) if result.difference >= 0 else (found.b, found.a)
        said = f"{points(abs(result.difference))} points above {second} on these test clips"
        return f"{first} is {said}; no interval: {result.reason}."
    between = f"95 % interval {points(result.low)} to {points(result.high)}"
    if not found.p_holm <= ALPHA:
        return (
            f"{found.a} and {found.b} cannot be told apart: {points(result.difference)} points, {between}, "
            f"{groups}; this test part shows differences from about {points(result.detectable)}."
        )
    first, second = (found.a, found.b) if result.difference > 0 else (found.b, found.a)
    corrected = " after Holm's correction" if found.p_holm != result.p else ""
    if result.difference < 0:
        between = f"95 % interval {points(-result.high)} to {points(-result.low)}"
    return (
        f"{first} is {points(abs(result.difference))} points above {second}: {between}, {groups}, "
        f"{p_text(found.p_holm)}{corrected}."
    )


def choice_sentence(model: str, choice: LayerChoice) -> str:
    """How firmly a layer is chosen on validation rows; "" where nothing can be said."""
    at = choice.layers.index(choice.chosen)
    share = float(choice.chosen_share[at])
    if math.isnan(share):
        return f"{model}: {choice.reason}."
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
