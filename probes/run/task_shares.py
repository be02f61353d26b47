"""Tasks cut to the workers: every worker has something to do, and little is lost with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.questions.tasks import ProbeTask

# Fits of a bundle: two full stacks of fused networks. More gain nothing, and all of a bundle is repeated when
# its worker is lost.
MOST_FITS = 64


def bundles(tasks: Sequence[ProbeTask], n_workers: int) -> list[ProbeTask]:
    """The same fits in at least `n_workers` tasks, where there are that many, of at most `MOST_FITS` fits.

    Each task's fits are dealt out evenly; a task with fewer than two fits stays whole. What a fit gives does
    not depend on its bundle.
    """
    pieces = [-(-len(t.fits) // MOST_FITS) for t in tasks]
    idle = n_workers - sum(pieces)
    while idle > 0:
        # The task with the largest pieces is cut once more.
        largest = max(range(len(tasks)), key=lambda i: len(tasks[i].fits) / pieces[i], default=None)
        if largest is None or len(tasks[largest].fits) <= pieces[largest]:
            break
        pieces[largest] += 1
        idle -= 1
    return [
        replace(task, fits=task.fits[part::n])
        for task, n in zip(tasks, pieces, strict=True)
        for part in range(n)
    ]
