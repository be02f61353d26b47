"""Tasks cut to the workers: every worker has something to do, and little is lost with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.questions.tasks import FitSpec, ProbeTask

# Fits of a bundle: two full stacks of fused networks. More gain nothing, and all of a bundle is repeated when
# its worker is lost.
MOST_FITS = 64


def bundles(tasks: Sequence[ProbeTask], n_workers: int) -> list[ProbeTask]:
    """The same fits in at least `n_workers` tasks, where there are that many, of at most `MOST_FITS` fits.

    Each task's fits are dealt out evenly; a task with fewer than two fits stays whole. What a fit gives does
    not depend on its bundle. Of a learning curve, fits on the same rows stay together: they share a stack.
    """
    units = [_units(t) for t in tasks]
    pieces = [min(-(-len(t.fits) // MOST_FITS), len(u)) for t, u in zip(tasks, units, strict=True)]
    idle = n_workers - sum(pieces)
    while idle > 0:
        # The task with the largest pieces is cut once more.
        able = [i for i in range(len(tasks)) if len(units[i]) > pieces[i]]
        largest = max(able, key=lambda i: len(tasks[i].fits) / pieces[i], default=None)
        if largest is None:
            break
        pieces[largest] += 1
        idle -= 1
    return [
        replace(task, fits=tuple(fit for unit in of_task[part::n] for fit in unit))
        for task, of_task, n in zip(tasks, units, pieces, strict=True)
        for part in range(n)
    ]


def _units(task: ProbeTask) -> list[tuple[FitSpec, ...]]:
    """What of a task stays together: each fit, or all fits of one share of one draw."""
    if not task.curve:
        return [(fit,) for fit in task.fits]
    units: dict[tuple[float, int], tuple[FitSpec, ...]] = {}
    for fit in task.fits:
        units[fit.share, fit.draw] = (*units.get((fit.share, fit.draw), ()), fit)
    return list(units.values())
