"""What a plan predicted, beside what the run took: seconds of embedding and of probing, bytes.

Nothing is measured for this. The ledger holds seconds, audio and bytes of every unit, and a run of probes
says how long it took; both are rates for the next plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from featurestore.backends.storage import Storage
    from featurestore.store.ledger import Record
    from studies.study_run.key_plan import KeyState

ON_RECORD = "rates on record"
FIRST_UNIT = "the first unit of each"
SHAPES = "the shapes of units"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One quantity, predicted and taken.

    Attributes:
        what: ``embedding``, ``values`` or ``probing``.
        unit: seconds or bytes.
        predicted: by the plan; None where there was nothing to tell it by.
        taken: by the run.
        by: what it was predicted by.
    """

    what: str
    unit: Literal["s", "bytes"]
    predicted: float | None
    taken: float
    by: str

    @property
    def ratio(self) -> float | None:
        """Taken over predicted; None where nothing was predicted."""
        return self.taken / self.predicted if self.predicted else None


def embedding_forecasts(storage: Storage, planned: Iterable[KeyState]) -> list[Forecast]:
    """Seconds and bytes of the units that a plan had left, as the ledger tells of them now.

    Seconds are those of units: a model's loading is not among them. Where no rate of a model was on record,
    its first unit predicts the others.

    Args:
        storage: of the store.
        planned: keys as they were before the run; those that others completed meanwhile count too.
    """
    from featurestore.store.ledger import read_sound_records

    recorded, first, n_bytes, n_written = [0.0, 0.0], [0.0, 0.0], 0, 0
    for state in planned:
        records = read_sound_records(storage, f"{state.model}/{state.corpus}")
        done = [records[unit] for unit in state.units if unit in records]
        if len(done) < len(state.units):
            continue  # broken off: what the plan meant was not done
        n_bytes += state.n_bytes
        n_written += sum(sum(o.n_bytes for o in r.objects.values()) for r in done)
        if state.estimate_s is not None:
            _add(recorded, state.estimate_s, sum(r.elapsed_s for r in done))
        else:
            _add(first, *by_first_unit(done))
    found = [
        Forecast(what="embedding", unit="s", predicted=predicted, taken=taken, by=by)
        for (predicted, taken), by in ((recorded, ON_RECORD), (first, FIRST_UNIT))
        if predicted
    ]
    if n_bytes:
        found.append(Forecast(what="values", unit="bytes", predicted=n_bytes, taken=n_written, by=SHAPES))
    return found


def by_first_unit(records: Sequence[Record]) -> tuple[float, float]:
    """Seconds that the first unit predicts of the others, and those that they took; 0, 0 of a single one."""
    timed = sorted((r for r in records if r.elapsed_s > 0 and r.audio_s > 0), key=lambda r: r.started_at)
    if len(timed) < 2:
        return 0.0, 0.0
    first, others = timed[0], timed[1:]
    return (
        sum(r.audio_s for r in others) * first.elapsed_s / first.audio_s,
        sum(r.elapsed_s for r in others),
    )


def _add(sums: list[float], predicted: float, taken: float) -> None:
    sums[0] += predicted
    sums[1] += taken


@dataclass(kw_only=True)
class ProbingTime:
    """How long probings took, over the run; seconds of a fit are wall-clock, with reading and scoring.

    Attributes:
        predicted_s: of calls whose rate was known before.
        taken_s: seconds that these took.
        unpredicted_s: seconds that the others took.
    """

    predicted_s: float = 0.0
    taken_s: float = 0.0
    unpredicted_s: float = 0.0

    def add(self, n_fits: int, seconds: float, seconds_of_a_fit: float | None) -> None:
        """Take a call of `run_probe`, and what a fit took before it; of no fits nothing is told."""
        if not n_fits:
            return
        if seconds_of_a_fit is None:
            self.unpredicted_s += seconds
        else:
            self.predicted_s += n_fits * seconds_of_a_fit
            self.taken_s += seconds

    @property
    def forecasts(self) -> list[Forecast]:
        """As forecasts; the part that no rate was known of by itself."""
        return [
            Forecast(what="probing", unit="s", predicted=predicted, taken=taken, by=ON_RECORD)
            for predicted, taken in ((self.predicted_s, self.taken_s), (None, self.unpredicted_s))
            if taken > 0
        ]
