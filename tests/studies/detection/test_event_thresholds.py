"""Thresholds that are chosen by annotated events, against plain loops."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.detection.event_thresholds import (
    EventsRequest,
    ScoredRecording,
    class_threshold,
    event_threshold,
)
from studies.detection.events import EventRule
from tests.command_line import one_line_error
from tests.studies.detection.planted import CALL_S, RATE_HZ, World, random_calls, recording

ASKED = EventsRequest(folder=Path("unused"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 6), min_size=1, max_size=6),
    st.sampled_from([0.3, 0.5, 0.75, 1.0]),
)
def test_most_events_are_found_at_the_precision(rows: list[tuple[int, ...]], precision: float) -> None:
    counts = np.array(rows).reshape(len(rows), 2, 3)
    values = np.arange(len(rows)) / 10
    best = None
    for value, row in zip(values, counts, strict=True):
        right, false, _ = row.sum(axis=0)
        if right and right / (right + false) >= precision - 1e-9:
            best = max(best or (0, 0, 0.0), (right, -false, value))
    found = event_threshold(values, counts, precision)
    assert (None if np.isnan(found.value) else found.value) == (best and best[2])
    if best:
        assert found.precision == best[0] / (best[0] - best[1]) >= precision - 1e-9
        assert (found.n_events, found.n_recordings) == (best[0] - best[1], 2)
    assert np.isnan(found.elsewhere)  # of two recordings none is left out


def naive_events(p: np.ndarray, k: int, value: float, least: int) -> list[tuple[int, int]]:
    """Runs of windows that are of class `k`; windows last a second."""
    said = [row[k] >= value and row[k] == row.max() for row in p]
    runs, start = [], None
    for i, is_said in enumerate([*said, False]):
        if is_said and start is None:
            start = i
        if not is_said and start is not None:
            runs.append((start, i))
            start = None
    return [(a, b) for a, b in runs if b - a >= least]


def naive_right(found: list[tuple[int, int]], true: list[tuple[int, int]]) -> int:
    """Most pairs that overlap by half of what they span, by trying all orders."""

    def fits(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return 2 * (min(a[1], b[1]) - max(a[0], b[0])) >= max(a[1], b[1]) - min(a[0], b[0])

    few, many = sorted((found, true), key=len)
    return max(
        sum(fits(a, b) for a, b in zip(few, order, strict=True))
        for order in itertools.permutations(many, len(few))
    )


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_a_plain_loop_over_all_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, scored, plain = 14, [], []
    for _ in range(5):
        p = rng.dirichlet([1, 1, 1], n).astype(np.float32)
        p[rng.integers(n)] = np.nan  # silence
        cuts = np.sort(rng.choice(n, 4, replace=False))
        true = [(int(cuts[0]), int(cuts[1])), (int(cuts[2]), int(cuts[3]))]
        times = np.arange(n, dtype=np.float64)
        scored.append(
            ScoredRecording(
                channels={None: (times, times + 1, p)},
                true={(0, "b"): np.array(true, dtype=np.float64)},
                by_channel=False,
            )
        )
        plain.append((np.nan_to_num(p, nan=-1.0), true))
    rule = EventRule(thresholds=(float("nan"),) * 3, min_event_s=2.0)

    def count(rows: list, value: float) -> tuple[int, int]:
        each = [(naive_events(p, 1, value, 2), true) for p, true in rows]
        return sum(naive_right(*one) for one in each), sum(len(found) for found, _ in each)

    def best(rows: list, precision: float) -> tuple[int, int, float] | None:
        tried = [(*count(rows, value), value) for value in values]
        good = [(right, right - n, v) for right, n, v in tried if right and right >= precision * n - 1e-9]
        return max(good) if good else None

    # Every probability at which something changes; there are fewer than are tried.
    own = np.unique(np.concatenate([p[:, 1][p[:, 1] == p.max(axis=1)] for p, _ in plain]))
    values = [float(v) for v in own if v >= 0]
    assert 10 < len(values) < 100
    for precision in (0.3, 0.5, 0.7):
        found = class_threshold(scored, 1, "b", precision, rule, ASKED)
        expected = best(plain, precision)
        if expected is None:
            assert np.isnan(found.value)
            continue
        right, false, value = expected
        below = max((v for v in values if v < value), default=0.0)
        assert found.value == pytest.approx((value + below) / 2)
        assert (found.n_events, found.n_true) == (right - false, 10)
        assert (found.precision, found.recall) == (right / (right - false), right / 10)
        total = [0, 0]
        for i in range(5):
            chosen = best(plain[:i] + plain[i + 1 :], precision)
            if chosen is not None:
                total = [a + b for a, b in zip(total, count(plain[i : i + 1], chosen[2]), strict=True)]
        assert found.elsewhere == pytest.approx(total[0] / total[1] if total[1] else np.nan, nan_ok=True)


@pytest.fixture(scope="module")
def checked(world: World) -> Path:
    """Five recordings and their truth, in which the first low call of each is not annotated."""
    root = world.root / "checked"
    root.mkdir()
    rows = []
    for i in range(5):
        calls = random_calls(10.0, 5, 190 + i)
        soundfile.write(root / f"{i}.wav", recording(10.0, calls, 190 + i), RATE_HZ)
        rows += [(f"{i}.wav", start, start + CALL_S, kind) for start, kind in calls[1:]]
    soundfile.write(root / "quiet.wav", recording(4.0, [], 7), RATE_HZ)
    rows.append(("quiet.wav", 0.0, 4.0, "background"))
    pd.DataFrame(rows, columns=["path", "start_s", "end_s", "call"]).to_csv(root / "truth.csv", index=False)
    return root


@pytest.mark.slow
def test_thresholds_of_events_are_right_as_often_as_they_say(
    world: World, checked: Path, tmp_path: Path
) -> None:
    files = [checked / f"{i}.wav" for i in range(5)] + [checked / "quiet.wav"]
    truth = ("--truth", checked / "truth.csv")
    first = world.detect(*files, "--out", tmp_path / "v", *truth, "--scores")
    assert first.exit_code == 0, (first.output, first.exception)
    by = ("--events-of", tmp_path / "v")
    # Two of three low calls are annotated: no threshold makes nine of ten right.
    result = world.detect(*files, "--out", tmp_path / "d", "--precision", 0.9, *by, *truth)
    assert result.exit_code == 0, (result.output, result.exception)
    text = " ".join(result.output.split())
    assert "no events of: low (best 0.67)" in text
    assert "high: from 0." in text
    said = re.search(
        r"precision 1\.00; of recordings that it was not chosen by (\d\.\d\d), and recall 1\.00", text
    )
    assert said is not None
    # One that the others choose higher than it was chosen with it loses a call, one chosen lower finds more.
    assert 0.7 <= float(said[1]) <= 1
    assert "of 10 annotated events in 6 recordings" in text
    assert "of 10 events here 100.0 % are right" in text
    decides = json.loads((tmp_path / "d" / "detect.json").read_text())["decides"]
    assert decides["thresholds"]["low"] is None
    assert set(pd.read_parquet(tmp_path / "d" / "events.parquet")["call"]) == {"high"}
    result = world.detect(*files, "--out", tmp_path / "e", "--precision", 0.6, *by, *truth)
    assert result.exit_code == 0, (result.output, result.exception)
    table = pd.read_csv(tmp_path / "e" / "agreement.csv").set_index(["of", "class"])
    low = table.loc[("events", "low")]
    assert low["precision"] >= 0.6
    assert f"precision {low['precision']:.2f}" in " ".join(result.output.split())
    assert low[["tp", "fp", "fn"]].tolist() == [10, 5, 0]


def test_events_of_other_windows_or_without_scores_choose_nothing(
    world: World, checked: Path, tmp_path: Path
) -> None:
    file, truth = checked / "0.wav", ("--truth", checked / "truth.csv")
    by = ("--precision", 0.5, "--events-of", tmp_path / "v")
    out = ("--out", tmp_path / "out")
    one_line_error(world.detect(file, *out, *by), "--events-of", "there are none")
    assert world.detect(file, "--out", tmp_path / "v").exit_code == 0
    one_line_error(world.detect(file, *out, *by), "keeps no truth", "--truth and --scores")
    assert world.detect(file, "--out", tmp_path / "v", *truth).exit_code == 0
    one_line_error(world.detect(file, *out, *by), "keeps no probabilities", "again with --scores")
    assert world.detect(file, "--out", tmp_path / "v", *truth, "--scores").exit_code == 0
    one_line_error(world.detect(file, *out, *by, "--gap", 1), "--events-of", "gap_s", "stored 0", "here 1")
    one_line_error(world.detect(file, *out, "--events-of", tmp_path / "v"), "give --precision too")
    one_line_error(world.detect(file, *out, "--iou", 0.4), "--events-of")
    one_line_error(world.detect(file, *out, *by, "--segment", 1), "--truth")
    [scores] = (tmp_path / "v" / "scores").rglob("*.parquet")
    scores.write_bytes(scores.read_bytes()[:-1] + b"x")
    one_line_error(world.detect(file, *out, *by), scores.name, "was changed")
    assert not (tmp_path / "out").exists()
