"""Coverage of intervals and rejections of tests in `probes.statistics`, by simulation with a known truth.

    python benchmarks/coverage.py [--runs N | --quick] [--only TABLES] [--processes N] [--record]

Clips are drawn in groups (recordings, animals); a clip is right with a chance that depends on its class and,
on the logit scale, on its group. The truth is the mean chance over classes, exact by quadrature. Beside the
product stand the bootstrap of clips, the bootstrap of groups (both percentiles) and the jackknife that leaves
one group out, with t of G - 1 degrees of freedom on the logit scale. A setting holds where 93 to 97 % of the
intervals that are given cover; it is `wide` above, and `FAILS` below by more than three standard errors of
the simulation. ``--record`` keeps what is printed in ``benchmarks/results/coverage.md``. A full run takes
under 30 minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import describe
from scipy.special import expit, logit
from scipy.stats import t as student

from probes.statistics import compare_uar, holm, metric_interval, recall_intervals, uar_interval

RESULTS = Path(__file__).parent / "results" / "coverage.md"
GROUPS = (4, 6, 10, 20, 50)
UARS = (0.3, 0.5, 0.7, 0.9, 0.97)
EFFECTS = {"weak": 0.2, "strong": 0.8}
RESAMPLES = 400
BESIDE = 4  # the methods beside the product's are tried in every fourth run
HOLDS = (0.93, 0.97)
FloatArray = npt.NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A world to draw test parts from.

    Attributes:
        groups: Groups tested.
        uar: True UAR.
        effect: Standard deviation of a group's effect on the logit.
        ratio: Most frequent class to rarest.
        classes: How many.
        clips: Clips of a group, on average.
        seeds: Networks trained on the same rows.
        folds: Networks that each test their own groups, pooled; 1: one network tests all.
        layout: `crossed` (every group draws from all classes alike), `mixed` (groups prefer classes), `sizes`
            (groups of very unequal size), `label` (the label is the group's: one class each), `few` (as
            `label`, and the last class has one group only), `single` (every clip is a group).
    """

    groups: int
    uar: float
    effect: float = 0.8
    ratio: float = 1
    classes: int = 5
    clips: int = 20
    seeds: int = 1
    folds: int = 1
    layout: str = "crossed"


@dataclass(frozen=True)
class Drawn:
    """Target `[n]`, right or wrong `[S, n]`, group `[n]`, and the true recall of each class `[C]`."""

    target: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]
    truth: FloatArray

    def predictions(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Predicted classes `[S, n]`: a wrong one is any other, each as often."""
        n_classes = len(self.truth)
        other = (self.target + rng.integers(1, n_classes, self.right.shape)) % n_classes
        return np.where(self.right, self.target, other)

    @property
    def true_uar(self) -> float:
        """Mean of the true recalls of the classes that were drawn."""
        return float(self.truth[np.unique(self.target)].mean())


def chances(uar: float, n_classes: int) -> FloatArray:
    """Recalls of classes, spread on the logit scale, with this mean `[C]`."""
    spread = np.linspace(-0.8, 0.8, n_classes) if uar < 0.95 else np.linspace(-0.5, 0.5, n_classes)
    low, high = logit(uar) - 2, logit(uar) + 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(middle + spread).mean() < uar else (low, middle)
    return np.asarray(expit(low + spread))


def intercepts(chance: FloatArray, effect: float) -> FloatArray:
    """Logits whose mean chance over groups of this effect is `chance`, of the same shape."""
    low, high = np.full(chance.shape, -20.0), np.full(chance.shape, 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = mean_chance(middle, effect) < chance
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def mean_chance(intercept: FloatArray, effect: float) -> FloatArray:
    return np.asarray((expit(intercept[..., None] + effect * _NODES) * _WEIGHTS).sum(-1))


def shares(setting: Setting) -> FloatArray:
    pi = np.geomspace(1, 1 / setting.ratio, setting.classes)
    return np.asarray(pi / pi.sum())


def draw_rows(setting: Setting, rng: np.random.Generator) -> tuple[Any, Any]:
    """Class and group of each clip."""
    n, k = setting.groups, setting.classes
    pi = shares(setting)
    if setting.layout == "single":
        return rng.choice(k, n * setting.clips, p=pi), np.arange(n * setting.clips)
    sizes = np.full(n, setting.clips)
    if setting.layout == "sizes":
        sizes = np.maximum(1, np.round(setting.clips * np.exp(0.8 * rng.standard_normal(n) - 0.32))).astype(
            int
        )
    group = np.repeat(np.arange(n), sizes)
    if setting.layout in ("label", "few"):
        own = np.arange(n) % (k if setting.layout == "label" else k - 1)
        if setting.layout == "few":
            own[-1] = k - 1
        return own[group], group
    if setting.layout == "mixed":
        prefer = rng.dirichlet(0.7 * k * pi, n)
        return np.concatenate([rng.choice(k, s, p=p) for s, p in zip(sizes, prefer, strict=True)]), group
    return rng.choice(k, len(group), p=pi), group


class World:
    """A setting with its networks, whose true recalls are fixed; `draw` makes a test part."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        rng = np.random.default_rng(seed)
        base = intercepts(chances(setting.uar, setting.classes), setting.effect)
        # Networks of other seeds and folds differ a little in every class.
        n = max(setting.seeds, setting.folds)
        apart = 0.25 * rng.standard_normal((n, setting.classes)) if n > 1 else np.zeros((1, setting.classes))
        self.intercept = base + apart - apart.mean(axis=0)
        self.chance = mean_chance(self.intercept, setting.effect)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A test part."""
        setting = self.setting
        target, group = draw_rows(setting, rng)
        effect = setting.effect * rng.standard_normal(group.max() + 1)
        # Seeds agree on half of the rows.
        chance = rng.random(len(target))
        agree = rng.random(len(target)) < 0.5
        if setting.folds > 1:
            fold = group % setting.folds
            right = chance < expit(self.intercept[fold, target] + effect[group])
            weight = np.bincount(np.arange(setting.groups) % setting.folds, minlength=setting.folds)
            return Drawn(target, right[None], group, weight @ self.chance / weight.sum())
        rows = []
        for s in range(setting.seeds):
            own = np.where(agree, chance, rng.random(len(target))) if s else chance
            rows.append(own < expit(self.intercept[s, target] + effect[group]))
        return Drawn(target, np.array(rows), group, self.chance[: setting.seeds].mean(axis=0))


def cells(drawn: Drawn) -> tuple[FloatArray, FloatArray]:
    """Rows and rows that are right, the mean over seeds, by group and class `[G, C]`."""
    n_classes = len(drawn.truth)
    at = drawn.group * n_classes + drawn.target
    size = (drawn.group.max() + 1) * n_classes
    rows = np.bincount(at, minlength=size).reshape(-1, n_classes)
    right = np.bincount(at, weights=drawn.right.mean(axis=0), minlength=size).reshape(-1, n_classes)
    used = rows.sum(0) > 0
    return rows[:, used].astype(float), right[:, used]


def mean_recall(right: FloatArray, rows: FloatArray) -> FloatArray:
    """UAR `[...]` of counts `[..., C]`, over the classes that occur."""
    occurs = rows > 0
    return np.asarray((np.where(occurs, right / np.where(occurs, rows, 1), 0)).sum(-1) / occurs.sum(-1))


def clip_bootstrap(drawn: Drawn, rng: np.random.Generator, n: int = RESAMPLES) -> tuple[float, float]:
    """Percentiles of UAR over resamples of clips, the usual interval."""
    right = drawn.right.mean(axis=0)
    values, kind = np.unique(np.stack([drawn.target, right], axis=1), axis=0, return_inverse=True)
    times = rng.multinomial(len(right), np.bincount(kind.ravel()) / len(right), size=n)
    of_class = values[:, :1] == np.unique(drawn.target)
    uars = mean_recall(times @ (of_class * values[:, 1:]), times @ of_class.astype(float))
    return _middle(uars)


def group_bootstrap(drawn: Drawn, rng: np.random.Generator, n: int = RESAMPLES) -> tuple[float, float]:
    """Percentiles of UAR over resamples of whole groups."""
    rows, right = cells(drawn)
    times = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n)
    return _middle(mean_recall(times @ right, times @ rows))


def _middle(resampled: FloatArray) -> tuple[float, float]:
    """Between which 95 % of the values lie."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def jackknife(drawn: Drawn) -> tuple[float, float]:
    """Leave-one-group-out jackknife, t of G - 1 degrees of freedom, on the logit scale."""
    rows, right = cells(drawn)
    n = len(rows)
    estimate = float(mean_recall(right.sum(0), rows.sum(0)))
    without = mean_recall(right.sum(0) - right, rows.sum(0) - rows)
    if not 0 < estimate < 1:
        return estimate, estimate
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()) / (estimate * (1 - estimate))
    half = student.ppf(0.975, n - 1) * error
    return float(expit(logit(estimate) - half)), float(expit(logit(estimate) + half))


@dataclass(frozen=True)
class Row:
    """What a setting gave: shares of runs `given` and covered, and of intervals that lie too high or low."""

    setting: Setting
    runs: int
    given: float
    covered: float
    too_high: float
    too_low: float
    width: float
    beside: tuple[float, float, float]  # clip bootstrap, group bootstrap, jackknife

    @property
    def verdict(self) -> str:
        """See `verdict`."""
        return verdict(self.covered, self.given, self.runs)


def verdict(covered: float, given: float, runs: int) -> str:
    """Whether coverage is within 93 to 97 %, three standard errors of the simulation aside."""
    n = given * runs
    if n < 1:
        return "none given"
    if n < 30:
        return "too rare to tell"
    error = 3 * np.sqrt(0.95 * 0.05 / n)
    if covered < 0.95 - max(0.02, error):
        return "FAILS"
    return "wide" if covered > HOLDS[1] else "holds"


def coverage(job: tuple[Setting, int, int]) -> Row:
    setting, runs, seed = job
    world, rng = World(setting, seed), np.random.default_rng((seed, 1))
    ends, truths, beside = [], [], []
    for run in range(runs):
        drawn = world.draw(rng)
        group = None if setting.layout == "single" else drawn.group
        i = uar_interval(drawn.target, drawn.predictions(rng), group)
        truth = drawn.true_uar
        ends.append((i.low, i.high))
        truths.append(truth)
        if run % BESIDE:
            continue
        others = [clip_bootstrap(drawn, rng)]
        others += [(np.nan, np.nan)] * 2 if group is None else [group_bootstrap(drawn, rng), jackknife(drawn)]
        beside.append([low <= truth <= high for low, high in others])
    low, high = np.array(ends).T
    truth = np.array(truths)
    given = ~np.isnan(low)
    n = max(1, given.sum())
    return Row(
        setting=setting,
        runs=runs,
        given=float(given.mean()),
        covered=float(((low <= truth) & (truth <= high)).sum() / n),
        too_high=float((truth < low).sum() / n),
        too_low=float((truth > high).sum() / n),
        width=float(np.nanmean(high - low)) if given.any() else float("nan"),
        beside=tuple(np.mean(beside, axis=0)),
    )


@dataclass(frozen=True)
class Tested:
    """Rejections of equal models, coverage of the difference, and power where the detectable one is true."""

    setting: Setting
    runs: int
    given: float
    rejected: float
    covered: float
    family: float
    power: float


def pair(world: World, rng: np.random.Generator, n_models: int, shift: float = 0.0) -> tuple[Drawn, Any]:
    """Right or wrong of equally good models `[M, n]` on the same rows; the first is better by `shift`.

    Half of a group's effect is shared and half a model's own, and models agree on half of the rows.
    """
    setting = world.setting
    target, group = draw_rows(setting, rng)
    n = group.max() + 1
    shared, own = rng.standard_normal(n), rng.standard_normal((n_models, n))
    chance, agree = rng.random(len(target)), rng.random(len(target)) < 0.5
    better = intercepts(np.clip(world.chance[0] + shift, 0.001, 0.999), setting.effect)
    right = []
    for m in range(n_models):
        intercept = better if m == 0 else world.intercept[0]
        effect = setting.effect * np.sqrt(0.5) * (shared + own[m])
        draw = np.where(agree, chance, rng.random(len(target)))
        right.append(draw < expit(intercept[target] + effect[group]))
    return Drawn(target, np.array(right), group, world.chance[0]), np.array(right)


def tests(job: tuple[Setting, int, int]) -> Tested:
    setting, runs, seed = job
    world, rng = World(setting, seed), np.random.default_rng((seed, 2))
    p, covered, family, detectable = [], [], [], []
    for run in range(runs):
        drawn, _ = pair(world, rng, 4 if run % 4 == 0 else 2)
        guess = drawn.predictions(rng)
        c = compare_uar(drawn.target, guess[0], guess[1], drawn.group)
        p.append(c.p)
        detectable.append(c.detectable)
        if not c.reason:
            covered.append(c.low <= 0 <= c.high)
        if run % 4 == 0:
            every = [
                compare_uar(drawn.target, guess[a], guess[b], drawn.group).p
                for a, b in itertools.combinations(range(4), 2)
            ]
            family.append(np.nanmin([1.0, *holm(every)]) <= 0.05)
    shift = float(np.nanmedian(detectable))
    # Where the median detectable difference is true; beyond the scale it cannot be.
    found = []
    if setting.uar + shift < 0.97:
        for _ in range(runs // 2):
            drawn, _ = pair(world, rng, 2, shift)
            guess = drawn.predictions(rng)
            found.append(compare_uar(drawn.target, guess[0], guess[1], drawn.group).p <= 0.05)
    values = np.array(p)
    return Tested(
        setting,
        runs,
        len(covered) / runs,
        float(np.mean(values[~np.isnan(values)] <= 0.05)) if (~np.isnan(values)).any() else float("nan"),
        float(np.mean(covered)) if covered else float("nan"),
        float(np.mean(family)),
        float(np.mean(found)) if found else float("nan"),
    )


def scores_of(drawn: Drawn, rng: np.random.Generator) -> FloatArray:
    """Scores `[n, C]`: a right row has its class on top; wrong rows have another."""
    n_classes = len(drawn.truth)
    guess = drawn.predictions(rng)[0]
    scores = rng.standard_normal((len(guess), n_classes))
    scores[np.arange(len(guess)), guess] += 2.0
    return np.asarray(scores)


def other_metrics(job: tuple[Setting, int, int]) -> list[tuple[str, Row]]:
    """Coverage for metrics besides UAR; their truth is that of 2,000 groups."""
    setting, runs, seed = job
    world, rng = World(setting, seed), np.random.default_rng((seed, 3))
    names = ("accuracy", "f1_macro", "auroc_macro", "map", "recall")
    many = World(replace(setting, groups=4000), seed).draw(rng)
    given_many = {True: many.predictions(rng)[0], False: scores_of(many, rng)}
    truth = {
        m: metric_interval(m, many.target, given_many[m in ("accuracy", "f1_macro")], many.group).estimate
        if m in ("accuracy", "f1_macro")
        else _point(m, many.target, given_many[False])
        for m in names[:-1]
    }
    seen: dict[str, list[tuple[float, float, float]]] = {m: [] for m in names}
    for _ in range(runs):
        drawn = world.draw(rng)
        if len(np.unique(drawn.target)) < setting.classes:
            continue
        guess, scores = drawn.predictions(rng)[0], scores_of(drawn, rng)
        for m in names[:-1]:
            what = guess if m in ("accuracy", "f1_macro") else scores
            i = metric_interval(m, drawn.target, what, drawn.group)
            seen[m].append((i.low, i.high, truth[m]))
        middle = setting.classes // 2
        i = recall_intervals(drawn.target, guess, drawn.group)[middle]
        seen["recall"].append((i.low, i.high, float(drawn.truth[middle])))
    out = []
    for m in names:
        low, high, true = np.array(seen[m]).T
        given = ~np.isnan(low)
        n = max(1, given.sum())
        row = Row(
            setting,
            len(low),
            float(given.mean()),
            float(((low <= true) & (true <= high)).sum() / n),
            float((true < low).sum() / n),
            float((true > high).sum() / n),
            float(np.nanmean(high - low)) if given.any() else float("nan"),
            (np.nan, np.nan, np.nan),
        )
        out.append((m, row))
    return out


def _point(metric: str, target: Any, scores: FloatArray) -> float:
    from probes.metrics import auroc_macro, mean_average_precision

    return (auroc_macro if metric == "auroc_macro" else mean_average_precision)(target, scores)


def settings_of(quick: bool) -> dict[str, list[Setting]]:
    """Settings of each table."""
    if quick:
        return {
            "crossed": [Setting(groups=g, uar=0.7) for g in (6, 20)],
            "layouts": [Setting(groups=20, uar=0.7, layout="label")],
            "tests": [Setting(groups=10, uar=0.7)],
            "metrics": [Setting(groups=10, uar=0.7)],
        }
    crossed = [
        Setting(groups=g, uar=u, effect=e, ratio=r)
        for r, e, u, g in itertools.product((1, 30), EFFECTS.values(), UARS, GROUPS)
    ]
    layouts = []
    for g, u in itertools.product(GROUPS, (0.5, 0.9)):
        layouts += [
            Setting(groups=g, uar=u, seeds=5),
            Setting(groups=g, uar=u, seeds=5, ratio=30),
            Setting(groups=g, uar=u, folds=5),
            Setting(groups=g, uar=u, folds=5, ratio=30),
            Setting(groups=g, uar=u, ratio=16, classes=10),
            Setting(groups=g, uar=u, ratio=16, layout="mixed"),
            Setting(groups=g, uar=u, ratio=16, layout="sizes"),
            Setting(groups=g, uar=u, layout="single", ratio=16, effect=0.2),
        ]
        if g >= 10:
            layouts += [Setting(groups=g, uar=u, layout="label"), Setting(groups=g, uar=u, layout="few")]
            layouts += [Setting(groups=g, uar=u, layout="few", clips=3)]
    layouts.append(Setting(groups=5, uar=0.7, layout="label"))  # one group a class: none is given
    layouts += [Setting(groups=g, uar=0.7) for g in (2, 3)]
    tested = [
        Setting(groups=g, uar=u, effect=e, ratio=r)
        for r, e, u, g in itertools.product((1, 30), EFFECTS.values(), (0.7, 0.9), GROUPS)
    ]
    metrics = [
        Setting(groups=g, uar=u, ratio=r) for r, u, g in itertools.product((1, 30), (0.7, 0.9), GROUPS)
    ]
    return {"crossed": crossed, "layouts": layouts, "tests": tested, "metrics": metrics}


def interval_table(rows: Iterable[Row]) -> list[str]:
    names = "layout, classes, imbalance, effect, seeds × folds, UAR, groups, given %, covers %, "
    names += "truth below × above, width, verdict, clip bootstrap, group bootstrap, jackknife with G - 1"
    heads = [name.replace(" × ", " and ") for name in names.split(", ")]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for r in rows:
        s = r.setting
        clips = f", {s.clips} clips" if s.clips != 20 else ""
        lines.append(
            f"| {s.layout}{clips} | {s.classes} | 1:{s.ratio:g} | {s.effect:g} | {s.seeds}, {s.folds} | "
            f"{s.uar:g} | "
            f"{s.groups} | {percent(r.given, 0)} | {percent(r.covered if r.given else np.nan)} | "
            f"{percent(r.too_high)}, {percent(r.too_low)} | {number(r.width)} | {r.verdict} | "
            + " | ".join(percent(b) for b in r.beside)
            + " |"
        )
    return lines


def test_table(rows: Iterable[Tested]) -> list[str]:
    names = "imbalance, effect, UAR, groups, given %, rejects equal models %, difference covers %, "
    names += "Holm (6 of 4 equal models) rejects any %, power at the detectable difference %"
    heads = names.split(", ")
    lines = ["| " + " | ".join(heads) + " |", "|--:" * len(heads) + "|"]
    for r in rows:
        s = r.setting
        lines.append(
            f"| 1:{s.ratio:g} | {s.effect:g} | {s.uar:g} | {s.groups} | {percent(r.given, 0)} | "
            f"{percent(r.rejected)} | {percent(r.covered)} | {percent(r.family)} | {percent(r.power, 0)} |"
        )
    return lines


def metric_table(rows: Iterable[tuple[str, Row]]) -> list[str]:
    lines = [
        "| metric | imbalance | UAR | groups | given | covers | verdict |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, r in sorted(rows, key=lambda x: x[0]):
        s = r.setting
        lines.append(
            f"| {name} | 1:{s.ratio:g} | {s.uar:g} | {s.groups} | {percent(r.given, 0)} | "
            f"{percent(r.covered if r.given else np.nan)} | {r.verdict} |"
        )
    return lines


def percent(share: float, digits: int = 1) -> str:
    return "" if np.isnan(share) else f"{100 * share:.{digits}f}"


def number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def summary(rows: list[Row]) -> str:
    given = [r for r in rows if r.given * r.runs >= 30]
    counts = {v: sum(r.verdict == v for r in given) for v in ("holds", "wide", "FAILS")}
    least, most = min(r.covered for r in given), max(r.covered for r in given)
    return (
        f"Of {len(rows)} settings {len(given)} have intervals in 30 runs or more: {counts['holds']} hold, "
        f"{counts['wide']} are wider than they need be, {counts['FAILS']} fail; least and most coverage "
        f"{percent(least)} and {percent(most)} %."
    )


def report(quick: bool, runs: int, processes: int, only: tuple[str, ...]) -> Iterable[str]:
    """The page, a part at a time."""
    began = time.monotonic()
    todo = settings_of(quick)
    yield f"# Coverage\n\n{runs} runs a setting. {describe('scipy')}"
    with get_context("spawn").Pool(processes) as pool:

        def every(function: Callable[[Any], Any], name: str, share: float = 1.0) -> list[Any]:
            jobs = [(s, max(20, int(runs * share)), i) for i, s in enumerate(todo[name])]
            out = []
            for done, result in enumerate(pool.imap(function, jobs, chunksize=1), 1):
                out.append(result)
                print(f"{name}: {done} of {len(jobs)}, {time.monotonic() - began:.0f} s", file=sys.stderr)
            return out

        if "crossed" in only:
            rows = every(coverage, "crossed")
            yield "\n".join(["\n## Intervals of UAR\n", summary(rows), "", *interval_table(rows)])
        if "layouts" in only:
            rows = every(coverage, "layouts")
            yield "\n".join(
                ["\n## Other layouts, seeds and folds\n", summary(rows), "", *interval_table(rows)]
            )
        if "metrics" in only:
            flat = [row for rows in every(other_metrics, "metrics", 0.5) for row in rows]
            yield "\n".join(["\n## Other metrics\n", summary([r for _, r in flat]), "", *metric_table(flat)])
        if "tests" in only:
            yield "\n".join(["\n## Comparisons of equal models\n", *test_table(every(tests, "tests"))])
    yield f"\n{(time.monotonic() - began) / 60:.1f} minutes in {processes} processes."


def digest(page: str) -> list[str]:
    """Of the table of UAR: coverage, and in brackets how often an interval is given, by groups."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for line in page.split("## Other layouts")[0].splitlines():
        if line.startswith("| crossed"):
            _, _, imbalance, effect, _, uar, groups, given, covers = line.strip("| ").split(" | ")[:9]
            cells.setdefault((imbalance, effect, uar), {})[groups] = f"{covers} ({given})"
    heads = ["imbalance", "group effect", "UAR", *(f"{g} groups" for g in GROUPS)]
    lines = ["| " + " | ".join(heads) + " |", "|--:" * len(heads) + "|"]
    for key, by_groups in cells.items():
        lines.append("| " + " | ".join([*key, *(by_groups.get(str(g), "") for g in GROUPS)]) + " |")
    return lines


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by the processes that are started
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="test parts drawn for each setting")
    parser.add_argument("--quick", action="store_true", help="five settings, 60 runs each: under 20 s")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="crossed,layouts,metrics,tests", help="tables to make")
    parser.add_argument("--record", action="store_true", help=f"keep what is printed in {RESULTS.name}")
    parser.add_argument("--digest", action="store_true", help="the table of docs/statistics.md")
    arguments = parser.parse_args()
    if arguments.digest:
        print("\n".join(digest(RESULTS.read_text("utf-8"))))
        return
    parts = []
    runs = 60 if arguments.quick else arguments.runs
    for part in report(arguments.quick, runs, arguments.processes, tuple(arguments.only.split(","))):
        print(part, flush=True)
        parts.append(part)
    if arguments.record:
        RESULTS.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
