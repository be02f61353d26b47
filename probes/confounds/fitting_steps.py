"""How far the fits of `probes.confounds.comparison` are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probes.confounds.catalogue import CONFOUNDS
from probes.questions.tasks import ProbeTask

# Each confound alone, and all together.
STEPS_OF_LABEL = len(CONFOUNDS) + 1


def n_steps(tasks: Sequence[ProbeTask]) -> int:
    """Fits that are told of: of each question its confounds, all of them together, and its layers."""
    questions = {(t.model, t.dataset, t.label, t.split) for t in tasks}
    layers = {(t.model, t.dataset, t.label, t.split, t.layers) for t in tasks}
    return len(questions) * STEPS_OF_LABEL + len(layers)


class Steps:
    """How much has been fitted."""

    def __init__(self, total: int, on_fitted: Callable[[int, int], None] | None) -> None:
        self.total, self.done, self._tell = total, 0, on_fitted

    def add(self, n: int = 1) -> None:
        """So many fits are done, or need not be."""
        self.done += n
        if self._tell is not None:
            self._tell(self.done, self.total)
