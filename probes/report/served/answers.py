"""All test predictions of a report, held small, and counted for whichever fits are chosen.

A fit's answers are one code for each clip. Fits of one split test the same clips in the same order: these
stand once. So a hundred fits of 100,000 clips are some tens of megabytes, and are counted in milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import IntArray
from featurestore.manifest.labels import split_labels
from probes.classifiers.layer_combination import EACH
from probes.codes import TextCodes
from probes.report.served.query import BY_ID, CHOSEN, RIGHT, WRONG, Choice, Filter
from probes.results.results_folder import StoredPredictions
from probes.results.selection import MAP, R2

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from probes.report.data import ReportData, ReportedQuestion

# What is beyond is read again whenever it is asked for.
MOST_BYTES = 2 << 30
_KEPT_TALLIES, _KEPT_ORDERS = 8, 16
_FIT = ("fingerprint", "model", "combine", "layers", "layer", "seed", "split_seed", "fold")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fit whose answers can be looked at.

    Attributes:
        fingerprint: Names it.
        question: Number of its question.
        asked: Number of its label, see `Asked`.
        model: Number of its model.
        layer: What it looked at; None for a combination of layers.
        layers: The same in words.
        seed, split_seed, fold: Of the fit.
        is_chosen: Whether it is behind the answer of its model.
    """

    fingerprint: str
    question: int
    asked: int
    model: int
    layer: int | None
    layers: str
    seed: int
    split_seed: int
    fold: int
    is_chosen: bool


class Asked:
    """A label of a data set, and the clips that were tested for it; a clip's number never changes.

    Attributes:
        dataset, label: Names.
        is_sets: Whether labels are sets.
        ids: Codes of utterance ids, which are the numbers of clips.
    """

    def __init__(self, dataset: str, label: str, *, is_sets: bool) -> None:
        self.dataset, self.label, self.is_sets = dataset, label, is_sets
        self.ids, self._groups, self._cells = TextCodes(), TextCodes(), TextCodes()
        self._target = np.empty(0, dtype=np.int64)
        self._group = np.empty(0, dtype=np.int64)
        self._rows: list[IntArray] = []
        self._sorted: tuple[int, pa.Array, IntArray] | None = None

    def add(self, table: pd.DataFrame) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
        """Take predictions in: number, answer, and whether it is wrong, of each row `[n]`."""
        number = self.ids.codes(table["utterance_id"])
        target, group = self._cells.codes(table["target"]), self._groups.codes(table["group"])
        said = self._cells.codes(table["prediction"])
        for name, codes in (("_target", target), ("_group", group)):
            old = getattr(self, name)
            new = np.full(len(self.ids), -1, dtype=np.int64)
            new[number[::-1]] = codes[::-1]  # the first of several stands
            new[: len(old)] = old
            setattr(self, name, new)
        return number, said, said != target

    def shared(self, rows: IntArray) -> IntArray:
        """Numbers of clips `[n]`; those seen before are the very same array."""
        for known in self._rows:
            if np.array_equal(known, rows):
                return known
        self._rows.append(rows.astype(np.int32))
        return self._rows[-1]

    def texts(self, numbers: IntArray) -> list[tuple[str, str, str]]:
        """Id, group and label of clips."""
        ids, groups, cells = self.ids.texts(), self._groups.texts(), self._cells.texts()
        of = zip(ids[numbers], groups[self._group[numbers]], cells[self._target[numbers]], strict=True)
        return [(str(i), str(g), str(t)) for i, g, t in of]

    @property
    def n_cells(self) -> int:
        """How many classes, or sets of them, there are."""
        return len(self._cells)

    def cell(self, code: int) -> str:
        """A class, or a set of them, by its code."""
        return str(self._cells.texts()[code])

    def has_class(self, name: str, n: int) -> npt.NDArray[np.bool_]:
        """Which of the first `n` clips are of a class."""
        return self.cells_with(name)[self._target[:n]]

    def cells_with(self, name: str) -> npt.NDArray[np.bool_]:
        """Which codes are that of the class, or of sets that hold it `[C]`."""
        cells = self._cells.texts()
        if not self.is_sets:
            return np.asarray(cells == name, dtype=bool)
        return np.array([name in (split_labels(cell) or ()) for cell in cells], dtype=bool)

    def classes(self) -> set[str]:
        """All classes of labels and answers."""
        cells = map(str, self._cells.texts())
        if not self.is_sets:
            return set(cells)
        return {name for cell in cells for name in split_labels(cell) or ()}

    def matching(self, text: str, n: int) -> npt.NDArray[np.bool_]:
        """Which of the first `n` clips have a text in their id, in any case."""
        import pyarrow.compute as pc

        found = pc.match_substring(self._ids_sorted()[0], text, ignore_case=True)
        return np.asarray(found.to_numpy(zero_copy_only=False)[:n], dtype=bool)

    def rank(self) -> IntArray:
        """Place of each clip among all, by its id."""
        return self._ids_sorted()[1]

    def _ids_sorted(self) -> tuple[pa.Array, IntArray]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._sorted is None or self._sorted[0] < len(self.ids):
            ids = pa.array(self.ids.texts(), pa.string())
            rank = np.empty(len(ids), dtype=np.int64)
            rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
            self._sorted = len(ids), ids, rank
        return self._sorted[1:]


@dataclass(frozen=True, eq=False)
class _Said:
    """What a fit said: clips `[n]`, codes of answers `[n]`, which are wrong `[n]`, p of the label `[n]`."""

    rows: IntArray
    said: npt.NDArray[Any]
    is_wrong: npt.NDArray[np.bool_]
    p_target: npt.NDArray[Any] | None

    @property
    def n_bytes(self) -> int:
        p = 0 if self.p_target is None else self.p_target.nbytes
        return self.said.nbytes + self.is_wrong.nbytes + p


@dataclass(frozen=True, eq=False)
class Tally:
    """Answers of the chosen fits, counted for each clip of a label.

    Attributes:
        asked: Number of the label.
        fits: Which were counted.
        n_answers, n_wrong: `[n]`.
        p_target: Mean probability of the label; NaN where there is none `[n]`.
    """

    asked: int
    fits: tuple[Fit, ...]
    n_answers: IntArray
    n_wrong: IntArray
    p_target: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Found:
    """Clips that a filter lets through, in its order: number of the label and of the clip `[n]`.

    Attributes:
        asked, utterance: Numbers.
        n_tested: Clips that the chosen fits were tested on.
    """

    asked: IntArray
    utterance: IntArray
    n_tested: int


@dataclass(eq=False)
class _Counts:
    """Counts of fits that were tested on the same clips, in the order of these."""

    rows: IntArray
    n: int = 0
    wrong: Any = 0
    p: Any = 0.0
    n_p: Any = 0


class Answers:
    """Test predictions of every question of a report.

    Args:
        data: The report.
        most_bytes: To hold; what is beyond is read again whenever it is asked for.
    """

    def __init__(self, data: ReportData, *, most_bytes: int = MOST_BYTES) -> None:
        self._stored = StoredPredictions(data.path)
        self._most_bytes, self._n_bytes = most_bytes, 0
        self._lock = threading.RLock()
        self._held: dict[str, _Said] = {}
        self._batch_of: dict[str, tuple[Fit, ...]] = {}
        self.asked: list[Asked] = []
        self.questions_of_asked: list[list[int]] = []
        self.fits = list(self._fits(data))
        self.batches = self._batches()
        self._tallies = lru_cache(_KEPT_TALLIES)(self._tally)
        self._orders = lru_cache(_KEPT_ORDERS)(self._found)

    def _fits(self, data: ReportData) -> Iterator[Fit]:
        import pandas as pd

        numbers: dict[tuple[str, str], int] = {}
        for i, q in enumerate(data.questions):
            if q.metric == R2:
                continue  # a number is not right or wrong
            at = numbers.setdefault((q.dataset, q.label), len(numbers))
            if at == len(self.asked):
                self.asked.append(Asked(q.dataset, q.label, is_sets=q.metric == MAP))
                self.questions_of_asked.append([])
            self.questions_of_asked[at].append(i)
            chosen = pd.concat(q.answer_fits_by_model.values())
            self._stored.require_files(pd.concat([chosen, q.fits]))
            yield from _fits_of(q, i, at, chosen, data.models)

    def _batches(self) -> list[tuple[Fit, ...]]:
        """Fits that are read together, those behind answers first."""
        found: dict[tuple[int, int, str], list[Fit]] = {}
        for fit in self.fits:
            found.setdefault((fit.question, fit.model, fit.layers), []).append(fit)
        batches = sorted(map(tuple, found.values()), key=lambda fits: not any(f.is_chosen for f in fits))
        self._batch_of = {fit.fingerprint: batch for batch in batches for fit in batch}
        return batches

    def hold(self, on_batch: Callable[[], None]) -> None:
        """Read all that there is room for, so that nothing has to be read when it is asked for.

        Raises:
            CorruptData: a file cannot be read.
        """
        for batch in self.batches:
            with self._lock:
                is_held = all(fit.fingerprint in self._held for fit in batch)
                if not is_held and self._n_bytes < self._most_bytes:
                    self._read(batch)
            on_batch()

    def _read(self, batch: Sequence[Fit]) -> dict[str, _Said]:
        """Answers of a batch; they are held where there is room."""
        import pandas as pd

        table = self._stored.with_probabilities(
            pd.DataFrame({"fingerprint": [f.fingerprint for f in batch]}), as_codes=True
        )
        asked = self.asked[batch[0].asked]
        number, said, is_wrong = asked.add(table)
        short = said.astype(np.min_scalar_type(int(said.max(initial=0))))
        p = table["p_target"].to_numpy(dtype=np.float64)
        code = {str(name): i for i, name in enumerate(table["fingerprint"].cat.categories)}
        of_fit = table["fingerprint"].cat.codes.to_numpy()
        found = {}
        for fit in batch:
            at = np.flatnonzero(of_fit == code.get(fit.fingerprint, -2))
            known = None if np.isnan(p[at]).all() else p[at]
            found[fit.fingerprint] = _Said(asked.shared(number[at]), short[at], is_wrong[at], known)
        if self._n_bytes < self._most_bytes:
            new = {name: one for name, one in found.items() if name not in self._held}
            self._held |= new
            self._n_bytes += sum(one.n_bytes for one in new.values())
        return found

    def _said(self, fits: Iterable[Fit]) -> Iterator[tuple[Fit, _Said]]:
        """What fits said, read where it is not held."""
        read: dict[str, _Said] = {}
        for fit in fits:
            one = self._held.get(fit.fingerprint) or read.get(fit.fingerprint)
            if one is None:
                with self._lock:
                    one = self._held.get(fit.fingerprint)  # by another thread meanwhile
                    if one is None:
                        # Of what is not held no more than one batch is in memory.
                        read = self._read(self._batch_of[fit.fingerprint])
                        one = read[fit.fingerprint]
            yield fit, one

    def chosen(self, choice: Choice) -> list[Fit]:
        """The fits of a choice."""

        def is_in(fit: Fit) -> bool:
            low = choice.lowest is None or fit.layer is None or fit.layer >= choice.lowest
            high = choice.highest is None or fit.layer is None or fit.layer <= choice.highest
            asked = choice.questions is None or fit.question in choice.questions
            of_model = choice.models is None or fit.model in choice.models
            return low and high and asked and of_model and (choice.layers != CHOSEN or fit.is_chosen)

        return [fit for fit in self.fits if is_in(fit)]

    def tallies(self, choice: Choice) -> tuple[Tally, ...]:
        """Counts of the chosen fits, for each label that any of them is about."""
        return self._tallies(choice)

    def _tally(self, choice: Choice) -> tuple[Tally, ...]:
        by_asked: dict[int, list[Fit]] = {}
        for fit in self.chosen(choice):
            by_asked.setdefault(fit.asked, []).append(fit)
        return tuple(self._tally_of(asked, fits) for asked, fits in by_asked.items())

    def _tally_of(self, asked: int, fits: Sequence[Fit]) -> Tally:
        counts: dict[int, _Counts] = {}
        for _, one in self._said(fits):
            of = counts.setdefault(id(one.rows), _Counts(one.rows))
            of.n += 1
            of.wrong = of.wrong + one.is_wrong.astype(np.int32)
            if one.p_target is not None:
                is_known = ~np.isnan(one.p_target)
                of.p = of.p + np.where(is_known, one.p_target, 0.0)
                of.n_p = of.n_p + is_known
        n = len(self.asked[asked].ids)
        total = np.zeros((4, n))
        for of in counts.values():
            for i, values in enumerate((of.n, of.wrong, of.p, of.n_p)):
                total[i] += np.bincount(
                    of.rows, np.broadcast_to(np.asarray(values, dtype=float), len(of.rows)), n
                )
        n_answers, n_wrong, p, n_p = total
        with np.errstate(invalid="ignore"):
            mean = p / n_p
        return Tally(asked, tuple(fits), n_answers.astype(np.int64), n_wrong.astype(np.int64), mean)

    def found(self, choice: Choice, rows: Filter) -> Found:
        """Clips that a filter lets through."""
        return self._orders(choice, rows)

    def _found(self, choice: Choice, rows: Filter) -> Found:
        parts = []
        n_tested = 0
        for tally in self.tallies(choice):
            n_tested += int((tally.n_answers > 0).sum())
            at = np.flatnonzero(self._passes(tally, rows))
            share = tally.n_wrong[at] / tally.n_answers[at]
            parts.append(
                (
                    np.full(len(at), tally.asked),
                    at,
                    self.asked[tally.asked].rank()[at],
                    tally.p_target[at],
                    -share,
                )
            )
        if not parts:
            nothing = np.empty(0, dtype=np.int64)
            return Found(nothing, nothing, 0)
        asked, number, rank, p, share = (np.concatenate(column) for column in zip(*parts, strict=True))
        keys = (asked, rank) if rows.order == BY_ID else (asked, rank, p, share)  # NaN last, as in pandas
        order = np.lexsort(keys)
        return Found(asked[order], number[order], n_tested)

    def _passes(self, tally: Tally, rows: Filter) -> npt.NDArray[np.bool_]:
        asked, n = self.asked[tally.asked], len(tally.n_answers)
        passes = tally.n_answers > 0
        if rows.answer == WRONG:
            passes &= tally.n_wrong > 0
        elif rows.answer == RIGHT:
            passes &= tally.n_wrong == 0
        if rows.of_class is not None:
            passes &= asked.has_class(rows.of_class, n)
        if rows.text:
            passes &= asked.matching(rows.text, n)
        if rows.taken is not None:
            passes &= self._taken(tally, rows.taken)
        return passes

    def _taken(self, tally: Tally, name: str) -> npt.NDArray[np.bool_]:
        """Clips that at least one of the fits took for a class, and wrongly."""
        asked = self.asked[tally.asked]
        taken = np.zeros(len(tally.n_answers), dtype=bool)
        is_of = np.zeros(0, dtype=bool)
        for _, one in self._said(tally.fits):
            if len(is_of) < asked.n_cells:  # what was read just now may have new ones
                is_of = asked.cells_with(name)
            taken[one.rows[one.is_wrong & is_of[one.said]]] = True
        return taken

    def of_clips(self, tally: Tally, numbers: IntArray) -> pd.DataFrame:
        """All answers of the chosen fits about some clips.

        Returns:
            Columns utterance_id, group, target, prediction, p_target; fit, its place in `tally.fits`.
        """
        import pandas as pd

        asked = self.asked[tally.asked]
        is_wanted = np.zeros(len(asked.ids), dtype=bool)
        is_wanted[numbers] = True
        place: dict[int, IntArray] = {}
        lines: list[tuple[int, int, int, float]] = []
        for i, (_, one) in enumerate(self._said(tally.fits)):
            at = place.get(id(one.rows))
            if at is None:
                at = place[id(one.rows)] = np.flatnonzero(is_wanted[one.rows])
            p = np.full(len(at), np.nan) if one.p_target is None else one.p_target[at]
            lines += zip([i] * len(at), one.rows[at].tolist(), one.said[at].tolist(), p.tolist(), strict=True)
        known = dict(zip(numbers.tolist(), asked.texts(numbers), strict=True))
        rows = [(*known[number], asked.cell(code), p, i) for i, number, code, p in lines]
        names = ["utterance_id", "group", "target", "prediction", "p_target", "fit"]
        return pd.DataFrame(rows, columns=names)


def _fits_of(
    question: ReportedQuestion, number: int, asked: int, chosen: pd.DataFrame, models: Sequence[str]
) -> Iterator[Fit]:
    """Fits of a question: of each layer with the settings that validation prefers, and behind answers."""
    import pandas as pd

    behind = set(chosen["fingerprint"])
    table = pd.concat([chosen, question.fits]).drop_duplicates("fingerprint")[list(_FIT)]
    for row in table.to_dict("records"):
        single = row["combine"] == EACH
        yield Fit(
            fingerprint=str(row["fingerprint"]),
            question=number,
            asked=asked,
            model=models.index(row["model"]),
            layer=int(row["layer"]) if single else None,
            layers=str(row["layers"]) if single else f"{row['combine']} {row['layers']}",
            seed=int(row["seed"]),
            split_seed=int(row["split_seed"]),
            fold=int(row["fold"]),
            is_chosen=row["fingerprint"] in behind,
        )
