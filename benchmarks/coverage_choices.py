"""Contrasts of sets of models, and choices of layers, with a known truth: two tables of `coverage.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from coverage_worlds import GROUPS, FloatArray, Setting, intercepts_of, several

from probes.statistics import contrast, influences, layer_choice

ALPHA = 0.05
# True UARs of the models of both sets, less the setting's; of equal sets the same in both.
SETS = {"3 and 3": ((-0.06, 0.0, 0.06), (-0.06, 0.0, 0.06)), "1 and 4": ((0.0,), (0.0,) * 4)}
SHIFT = -0.05
RESAMPLES = 300
N_LAYERS, BEST = 13, 8
# True UARs of layers, less that of the best: all alike; three within a point; one that stands out.
CURVES: dict[str, FloatArray] = {
    "flat": np.zeros(N_LAYERS),
    "plateau": -0.003 * np.maximum(0, np.abs(np.arange(N_LAYERS) - BEST)) ** 1.8,
    "peak": -0.03 * np.abs(np.arange(N_LAYERS) - BEST) ** 0.8,
}


@dataclass(frozen=True)
class Contrasted:
    """Shares of contrasts with an interval, of equal sets rejected, and of intervals that cover."""

    setting: Setting
    sets: str
    runs: int
    given: float
    rejected: float
    covered: float
    reasons: str

    @property
    def verdict(self) -> str:
        """Whether 4 to 6 % of equal sets are told apart, three standard errors of the simulation aside."""
        return rejection_verdict(self.rejected, self.given * self.runs)


def rejection_verdict(rejected: float, n: float) -> str:
    """`holds` at 4 to 6 %, `cautious` below and `FAILS` above by more than three standard errors."""
    if n < 1:
        return "none given"
    if n < 30:
        return "too rare to tell"
    error = 3 * np.sqrt(ALPHA * (1 - ALPHA) / n)
    if rejected > ALPHA + max(0.01, error):
        return "FAILS"
    return "cautious" if rejected < ALPHA - max(0.01, error) else "holds"


def contrasts(job: tuple[tuple[Setting, str], int, int]) -> Contrasted:
    """Contrasts of equal sets, and of sets `SHIFT` apart."""
    (setting, sets), runs, seed = job
    rng = np.random.default_rng((seed, 4))
    first, second = SETS[sets]
    n_first = len(first)
    alike, _ = intercepts_of(setting, [setting.uar + u for u in (*first, *second)])
    apart, truth = intercepts_of(setting, [setting.uar + u for u in (*(SHIFT + u for u in first), *second)])
    p, covered, reasons = [], [], []
    for _ in range(runs):
        target, guess, group = several(setting, alike, rng)
        each = influences(target, list(guess), group)
        found = contrast(each[:n_first], each[n_first:])
        p.append(found.p if not found.reason else np.nan)
        reasons.append(found.reason)
        target, guess, group = several(setting, apart, rng)
        each = influences(target, list(guess), group)
        found = contrast(each[:n_first], each[n_first:])
        if not found.reason:
            there = np.unique(target)
            true = float(truth[:n_first, there].mean() - truth[n_first:, there].mean())
            covered.append(found.low <= true <= found.high)
    values = np.array(p)
    known = values[~np.isnan(values)]
    return Contrasted(
        setting=setting,
        sets=sets,
        runs=runs,
        given=len(known) / runs,
        rejected=float((known <= ALPHA).mean()) if len(known) else float("nan"),
        covered=float(np.mean(covered)) if covered else float("nan"),
        reasons=_most(reasons),
    )


def _most(reasons: Iterable[str]) -> str:
    """The reason that is given most often where none is given, in its first words."""
    said = [r.split(" ")[1] if r[:1].isdigit() else "one group" for r in reasons if r]
    return max(set(said), key=said.count) if said else ""


@dataclass(frozen=True)
class Chosen:
    """What a setting gave of choices among 13 layers.

    Attributes:
        contained: Share of runs whose `not_worse` holds the layer that is truly best.
        size: Layers in `not_worse`, on average.
        share: `chosen_share` of the layer that was chosen, on average.
        again: How often another validation set of as many groups chooses that layer, on average.
        best: How often the truly best is chosen.
        given: Share of runs in which something is said of other layers.
    """

    setting: Setting
    curve: str
    runs: int
    given: float
    contained: float
    size: float
    share: float
    again: float
    best: float

    @property
    def verdict(self) -> str:
        """Whether the best layer is in the set as often as stated, three standard errors aside."""
        n = self.given * self.runs
        if n < 30:
            return "none given" if n < 1 else "too rare to tell"
        error = 3 * np.sqrt(ALPHA * (1 - ALPHA) / n)
        return "FAILS" if self.contained < 1 - ALPHA - error else "holds"


def choices(job: tuple[tuple[Setting, str], int, int]) -> Chosen:
    """Choices of a layer by validation sets of one world; each set is a fresh one for the others."""
    (setting, curve), runs, seed = job
    rng = np.random.default_rng((seed, 5))
    intercept, _ = intercepts_of(setting, setting.uar + CURVES[curve])
    chosen, contained, sizes, shares = [], [], [], []
    for run in range(runs):
        target, guess, group = several(setting, intercept, rng)
        found = layer_choice(target, list(guess), group, n_resamples=RESAMPLES, seed=run)
        chosen.append(found.chosen)
        told = [c is not None and not np.isnan(c.p) for c in found.comparisons]
        if any(told):
            contained.append(BEST in found.not_worse)
            sizes.append(len(found.not_worse))
        shares.append(found.chosen_share[found.chosen])
    counts = np.bincount(chosen, minlength=N_LAYERS)
    # The run itself is not a fresh set.
    again = (counts[chosen] - 1) / (runs - 1)
    known = bool(contained)
    return Chosen(
        setting=setting,
        curve=curve,
        runs=runs,
        given=len(contained) / runs,
        contained=float(np.mean(contained)) if known else float("nan"),
        size=float(np.mean(sizes)) if known else float("nan"),
        share=float(np.mean(shares)),
        again=float(again.mean()),
        best=float(counts[BEST] / runs),
    )


CONTRASTS = [
    (Setting(groups=g, uar=u, ratio=r), sets)
    for r, u, sets, g in itertools.product((1, 30), (0.7, 0.9), SETS, GROUPS)
]
CHOICES = [
    (Setting(groups=g, uar=0.7, ratio=r), curve)
    for r, curve, g in itertools.product((1, 30), CURVES, GROUPS[:-1])
]


def contrast_table(rows: Iterable[Contrasted]) -> list[str]:
    """Lines of Markdown."""
    names = "imbalance, UAR, models, groups, given %, rejects equal sets %, difference covers %, verdict"
    lines = [_head(names)]
    for r in rows:
        s = r.setting
        lines.append(
            f"| 1:{s.ratio:g} | {s.uar:g} | {r.sets} | {s.groups} | {_percent(r.given, 0)} | "
            f"{_percent(r.rejected)} | {_percent(r.covered)} | {r.verdict} |"
        )
    return lines


def choice_table(rows: Iterable[Chosen]) -> list[str]:
    """Lines of Markdown."""
    names = "imbalance, layers, groups, told %, holds the best layer %, layers in it, verdict, "
    names += "share of the chosen %, fresh sets choose it %, the best is chosen %"
    lines = [_head(names)]
    for r in rows:
        s = r.setting
        size = "" if np.isnan(r.size) else f"{r.size:.1f}"
        lines.append(
            f"| 1:{s.ratio:g} | {r.curve} | {s.groups} | {_percent(r.given, 0)} | {_percent(r.contained)} | "
            f"{size} | {r.verdict} | "
            + " | ".join(_percent(share, 0) for share in (r.share, r.again, r.best))
            + " |"
        )
    return lines


def _head(names: str) -> str:
    heads = names.split(", ")
    return "\n".join(["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"])


def _percent(share: float, digits: int = 1) -> str:
    return "" if np.isnan(share) else f"{100 * share:.{digits}f}"
