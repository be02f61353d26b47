"""Coverage of intervals and rejections of tests in `probes.statistics`, by simulation with a known truth.

    python benchmarks/coverage.py [--runs N | --quick] [--only TABLES] [--processes N] [--record]

Clips are drawn in groups (recordings, animals); a clip is right with a chance that depends on its class and,
on the logit scale, on its group. The truth is the mean chance over classes, exact by quadrature. Beside the
product stand the bootstrap of clips, the bootstrap of groups (both percentiles) and the jackknife that leaves
one group out, with t of G - 1 degrees of freedom on the logit scale. A setting holds where 93 to 97 % of the
intervals that are given cover; it is `wide` above, and `FAILS` below by more than three standard errors of
the simulation. Contrasts hold where they tell 4 to 6 % of equal sets apart; they are `cautious` below.
``--record`` makes all tables and keeps them in ``benchmarks/results/coverage.md`` (with ``--only`` these
alone): under 15 minutes on two cores. ``--digest`` prints the tables of ``docs/statistics.md`` from that.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from coverage_choices import CHOICES, CONTRASTS, choice_table, choices, contrast_table, contrasts
from coverage_record import TITLES, digest, with_section
from coverage_worlds import GROUPS, Drawn, FloatArray, Setting, World, intercepts, several
from machine import describe
from scipy.special import expit, logit
from scipy.stats import t as student

from probes.statistics import compare_uar, holm, metric_interval, recall_intervals, uar_interval

RESULTS = Path(__file__).parent / "results" / "coverage.md"
UARS = (0.3, 0.5, 0.7, 0.9, 0.97)
EFFECTS = {"weak": 0.2, "strong": 0.8}
RESAMPLES = 400
BESIDE = 4  # the methods beside the product's are tried in every fourth run
HOLDS = (0.93, 0.97)
RUNS = 500


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


def tests(job: tuple[Setting, int, int]) -> Tested:
    setting, runs, seed = job
    world, rng = World(setting, seed), np.random.default_rng((seed, 2))
    p, covered, family, detectable = [], [], [], []
    same = np.tile(world.intercept[0], (4, 1))
    for run in range(runs):
        target, guess, group = several(setting, same[: 4 if run % 4 == 0 else 2], rng)
        c = compare_uar(target, guess[0], guess[1], group)
        p.append(c.p)
        detectable.append(c.detectable)
        if not c.reason:
            covered.append(c.low <= 0 <= c.high)
        if run % 4 == 0:
            every = [
                compare_uar(target, guess[a], guess[b], group).p
                for a, b in itertools.combinations(range(4), 2)
            ]
            family.append(np.nanmin([1.0, *holm(every)]) <= 0.05)
    shift = float(np.nanmedian(detectable))
    # Where the median detectable difference is true; beyond the scale it cannot be.
    found = []
    if setting.uar + shift < 0.97:
        better = intercepts(np.clip(world.chance[0] + shift, 0.001, 0.999), setting.effect)
        for _ in range(runs // 2):
            target, guess, group = several(setting, np.stack([better, world.intercept[0]]), rng)
            found.append(compare_uar(target, guess[0], guess[1], group).p <= 0.05)
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


def settings_of(quick: bool) -> dict[str, list[Any]]:
    """Settings of each table."""
    if quick:
        return {
            "crossed": [Setting(groups=g, uar=0.7) for g in (6, 20)],
            "layouts": [Setting(groups=20, uar=0.7, layout="label")],
            "tests": [Setting(groups=10, uar=0.7)],
            "metrics": [Setting(groups=10, uar=0.7)],
            "contrasts": [(Setting(groups=10, uar=0.7), "3 and 3")],
            "choices": [(Setting(groups=10, uar=0.7), "peak")],
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
    return {
        "crossed": crossed,
        "layouts": layouts,
        "tests": tested,
        "metrics": metrics,
        "contrasts": CONTRASTS,
        "choices": CHOICES,
    }


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
    if not given:
        return f"Of {len(rows)} settings none has intervals in 30 runs or more."
    counts = {v: sum(r.verdict == v for r in given) for v in ("holds", "wide", "FAILS")}
    least, most = min(r.covered for r in given), max(r.covered for r in given)
    return (
        f"Of {len(rows)} settings {len(given)} have intervals in 30 runs or more: {counts['holds']} hold, "
        f"{counts['wide']} are wider than they need be, {counts['FAILS']} fail; least and most coverage "
        f"{percent(least)} and {percent(most)} %."
    )


def report(quick: bool, runs: int, processes: int, only: Sequence[str]) -> Iterable[str]:
    """Sections of the page, each with its title, one at a time."""
    began = time.monotonic()
    todo = settings_of(quick)
    made = (
        f"{runs} runs a setting (half of other metrics and choices, twice of contrasts). {describe('scipy')}"
    )
    with get_context("spawn").Pool(processes) as pool:

        def every(function: Callable[[Any], Any], name: str, share: float = 1.0) -> list[Any]:
            jobs = [(s, max(20, int(runs * share)), i) for i, s in enumerate(todo[name])]
            out = []
            for done, result in enumerate(pool.imap(function, jobs, chunksize=1), 1):
                out.append(result)
                print(f"{name}: {done} of {len(jobs)}, {time.monotonic() - began:.0f} s", file=sys.stderr)
            return out

        def lines_of(name: str) -> list[str]:
            if name in ("crossed", "layouts"):
                rows = every(coverage, name)
                return [summary(rows), "", *interval_table(rows)]
            if name == "metrics":
                flat = [row for rows in every(other_metrics, name, 0.5) for row in rows]
                return [summary([r for _, r in flat]), "", *metric_table(flat)]
            if name == "tests":
                return test_table(every(tests, name))
            if name == "contrasts":
                return contrast_table(every(contrasts, name, 2.0))
            return choice_table(every(choices, name, 0.5))

        for name in only:
            yield "\n".join([f"## {TITLES[name]}", "", made, "", *lines_of(name), ""])
    print(f"{(time.monotonic() - began) / 60:.1f} minutes in {processes} processes", file=sys.stderr)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by the processes that are started
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="test parts drawn for each setting")
    parser.add_argument("--quick", action="store_true", help="seven settings, 60 runs each: under 20 s")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default=",".join(TITLES), help="tables to make")
    parser.add_argument("--record", action="store_true", help=f"keep the tables in {RESULTS.name}")
    parser.add_argument("--digest", action="store_true", help="the tables of docs/statistics.md")
    arguments = parser.parse_args()
    if arguments.digest:
        print("\n".join(digest(RESULTS.read_text("utf-8"))))
        return
    only = arguments.only.split(",")
    if unknown := sorted({*only} - {*TITLES}):
        parser.error(f"--only: expected {', '.join(TITLES)}; got {', '.join(unknown)}")
    runs = 60 if arguments.quick else arguments.runs
    for section in report(arguments.quick, runs, arguments.processes, only):
        print(section, flush=True)
        if arguments.record:  # one by one: what was made is kept whatever comes next
            RESULTS.write_text(with_section(RESULTS.read_text("utf-8"), section), encoding="utf-8")


if __name__ == "__main__":
    main()
