"""Agreement of events with the truth, against other people's matching and against counting by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import ConfigError
from studies.detection.agreement import EVENTS, MEAN, agreement, event_counts, segment_counts
from studies.detection.recordings import Recording
from studies.detection.truth import Truth, TruthRequest, read_truth

TENTHS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=5)


def times(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array([(a / 10, (a + n) / 10) for a, n in pairs], dtype=np.float64).reshape(-1, 2)


@pytest.mark.slow  # mir_eval takes long to import
@given(found=TENTHS, true=TENTHS)
def test_onsets_are_matched_as_by_mir_eval(found: list, true: list) -> None:
    transcription = pytest.importorskip("mir_eval.transcription", reason="pip install mir_eval")
    a, b = times(found), times(true)
    # A collar between tenths: at its very edge rounding decides.
    matched = transcription.match_note_onsets(b, a, onset_tolerance=0.25) if len(a) and len(b) else []
    n = len(matched)
    assert event_counts(a, b, iou=0.5, collar_s=0.25) == (n, len(a) - n, len(b) - n)


@given(found=TENTHS, true=TENTHS, iou=st.sampled_from([0.21, 0.51, 0.77]))
def test_overlaps_are_matched_as_by_trying_everything(found: list, true: list, iou: float) -> None:
    a, b = times(found), times(true)

    def fits(x: np.ndarray, y: np.ndarray) -> bool:
        shared = min(x[1], y[1]) - max(x[0], y[0])
        return bool(shared >= iou * (max(x[1], y[1]) - min(x[0], y[0])))

    few, many = (a, b) if len(a) <= len(b) else (b, a)
    ways = itertools.permutations(range(len(many)), len(few))
    best = max((sum(fits(few[i], many[j]) for i, j in enumerate(way)) for way in ways), default=0)
    assert event_counts(a, b, iou=iou) == (best, len(a) - best, len(b) - best)


@given(found=TENTHS, true=TENTHS)
def test_segments_are_counted_as_on_a_grid(found: list, true: list) -> None:
    """Segments of half a second, against a grid of tenths of which five make one."""
    grid = np.zeros((2, 60), dtype=bool)
    for side, pairs in enumerate((found, true)):
        for a, n in pairs:
            grid[side, a : a + n] = True
    active = grid.reshape(2, -1, 5).any(axis=2)
    both, only, missed = (active[0] & active[1]), (active[0] & ~active[1]), (~active[0] & active[1])
    expected = (int(both.sum()), int(only.sum()), int(missed.sum()))
    assert segment_counts(times(found), times(true), 0.5) == expected


def test_scores_by_class_with_intervals_over_recordings() -> None:
    rng = np.random.default_rng(0)
    true, found = [], []
    for i in range(8):
        for k in range(20):
            row = (f"/r{i}.wav", float(k), k + 0.4, pd.NA, ("a", "b")[k % 2])
            true.append(row)
            if rng.uniform() < 0.8:
                found.append(row)
        found.append((f"/r{i}.wav", 30.0, 30.4, pd.NA, "a"))
    columns = ["path", "start_s", "end_s", "channel", "label"]
    scores = agreement(
        pd.DataFrame(found, columns=columns),
        Truth(events=pd.DataFrame(true, columns=columns), unnamed=["/empty.wav"]),
        TruthRequest(table=Path("t")),
        durations_s={f"/r{i}.wav": 40.0 for i in range(8)} | {"/empty.wav": 40.0},
        window_s=0.4,
        classes=["a", "b", "c"],
    )
    by = {(s.of, s.label): s for s in scores}
    n_a = sum(row[4] == "a" for row in found) - 8
    a = by[EVENTS, "a"]
    assert (a.tp, a.fp, a.fn) == (n_a, 8, 80 - n_a)
    assert a.intervals["precision"].estimate == pytest.approx(n_a / (n_a + 8))
    f1 = a.intervals["f1"]
    assert f1.low < f1.estimate < f1.high
    assert f1.estimate == pytest.approx(2 * n_a / (80 + n_a + 8))
    assert f1.n_groups == 8
    assert by[EVENTS, "c"].intervals == {}
    b = by[EVENTS, "b"].intervals["f1"].estimate
    assert by[EVENTS, MEAN].intervals["f1"].estimate == pytest.approx((f1.estimate + b) / 2)


def test_truth_of_other_recordings_or_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,start_s,end_s,call,other\nx.wav,0,1,phee,u\ny.wav,0,1,,u\n")
    here = [
        Recording(path=str(tmp_path / "x.wav"), name="x"),
        Recording(path=str(tmp_path / "z.wav"), name="z"),
    ]
    request = TruthRequest(table=tmp_path / "m.csv")
    truth = read_truth(request, here, "call", None)
    assert truth.events["label"].tolist() == ["phee"]
    assert truth.unnamed == [str(tmp_path / "z.wav")]
    with pytest.raises(ConfigError, match="none of the recordings"):
        read_truth(request, here[1:], "call", None)
    with pytest.raises(ConfigError, match="--truth-label: call, other"):
        read_truth(request, here, "species", None)
    with pytest.raises(ConfigError, match="did you mean 'call'"):
        read_truth(TruthRequest(table=tmp_path / "m.csv", label="cal"), here, "species", None)
    with pytest.raises(ConfigError, match="--truth-format"):
        read_truth(TruthRequest(table=tmp_path), here, "call", None)
