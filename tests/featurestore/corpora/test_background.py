"""A background class from what is not annotated: where it lies, how it is named, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import assume, given
from hypothesis import strategies as st

from featurestore.corpora.background import BackgroundRequest, add_background
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError
from tests.command_line import fs

RATE_HZ = 1000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds in (("a", 20), ("b", 10)):
        soundfile.write(folder / f"{name}.wav", np.ones(seconds * RATE_HZ) / 2, RATE_HZ)
    return folder


def table_of(folder: Path, calls: list[tuple[str, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "utterance_id": [f"{f}:{a:g}-{b:g}" for f, a, b in calls],
            "path": [str(folder / f"{f}.wav") for f, _, _ in calls],
            "start_s": [a for _, a, _ in calls],
            "end_s": [b for _, _, b in calls],
            "channel": pd.array([pd.NA] * len(calls), dtype="Int64"),
            "split": ["test" if f == "b" else "train" for f, _, _ in calls],
            "group": [f for f, _, _ in calls],
            "call": [("phee", "trill")[i % 2] for i in range(len(calls))],
        }
    )


@given(
    calls=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 80), st.integers(1, 9)), min_size=1, unique=True
    ),
    margin_s=st.sampled_from([0.0, 0.05, 0.5]),
    length_s=st.sampled_from([None, 0.3, 1.0]),
    seed=st.integers(0, 3),
)
def test_background_touches_no_annotation_and_not_itself(
    recordings: Path, calls, margin_s: float, length_s: float | None, seed: int
) -> None:
    table = table_of(recordings, [(f, a / 10, (a + n) / 10) for f, a, n in calls])
    request = BackgroundRequest(length_s=length_s, margin_s=margin_s, rows=12, seed=seed)
    try:
        whole, report, _ = add_background(table, request)
    except ManifestError:
        assume(False)  # no room, which has a test of its own
    new = whole[whole["call"] == "background"]
    assert report.after["background"] == len(new) > 0
    assert whole.iloc[: len(table)].equals(table)
    assert whole["utterance_id"].is_unique
    lengths = (new["end_s"] - new["start_s"]).to_numpy()
    like = [length_s] if length_s else (table["end_s"] - table["start_s"]).unique()
    assert all(np.abs(np.asarray(like) - n).min() < 3e-4 for n in lengths)
    for path, rows in new.groupby("path"):
        others = table[table["path"] == path]
        duration_s = 20 if path.endswith("a.wav") else 10
        assert rows["start_s"].min() >= 0
        assert rows["end_s"].max() <= duration_s
        for row in rows.itertuples():
            apart = np.maximum(others["start_s"] - row.end_s, row.start_s - others["end_s"])
            assert (apart >= margin_s - 1e-9).all()
        in_order = rows.sort_values("start_s")
        assert (in_order["start_s"].to_numpy()[1:] >= in_order["end_s"].to_numpy()[:-1] - 1e-9).all()
        assert set(rows["group"]) == {others["group"].iloc[0]}
        assert set(rows["split"]) == {others["split"].iloc[0]}


def test_the_same_seed_draws_the_same_and_another_does_not(recordings: Path) -> None:
    table = table_of(recordings, [("a", 1, 2), ("a", 5, 6), ("b", 3, 4), ("b", 8, 8.5)])
    draws = [add_background(table, BackgroundRequest(seed=seed))[0] for seed in (0, 0, 1)]
    assert draws[0].equals(draws[1])
    assert not draws[0].equals(draws[2])
    assert (draws[0]["call"] == "background").sum() == 2  # as many as a class has


def raven(folder: Path, *extra: str) -> Path:
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tcall"
    rows = [f"{7 + i}\tSpectrogram 1\t1\t{2 * i}\t{2 * i + 0.5}\t{100 + i}\t400\tphee" for i in range(5)]
    (folder / "a.txt").write_text("\n".join([head, *rows, *extra]) + "\n")
    return folder


def test_from_the_command_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(12 * RATE_HZ) / 2, RATE_HZ)
    raven(tmp_path)
    out = tmp_path / "m.csv"
    result = fs("manifest", "raven", tmp_path, "--out", out, "--background", "--background-margin", 0.1)
    assert result.exit_code == 0, (result.output, result.exception)
    table = pd.read_csv(out, keep_default_na=False)
    new = table[table["call"] == "background"]
    assert len(new) == 5
    assert f"{len(table)} utterances, labels call" in " ".join(result.output.split())
    assert set(new["channel"]) == {0}
    # The annotation's own number and box are kept; background has none.
    assert table["selection"].tolist()[:5] == [str(7 + i) for i in range(5)]
    assert table["low_hz"].tolist()[:5] == [str(100 + i) for i in range(5)]
    assert set(new["selection"]) == set(new["high_hz"]) == {""}
    words = json.loads((tmp_path / "m.csv.command.json").read_text())
    assert [w for w in _texts(words) if w in ("--background", "calls")] == ["--background", "calls"]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return _texts(list(value.values()))
    return [t for v in value for t in _texts(v)] if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--background", "--background-name", "phee"), "--background-name"),
        (("--background", "--background-label", "cal"), "call"),
        (("--background", "--background-name", "a|b"), "without"),
        (("--background", "soon"), "number of seconds"),
        (("--background", 0), "at least"),
        (("--background", 50), "no room"),
        (("--background", "--background-rows", "many"), "balanced"),
        (("--background-seed", 3), "give that too"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: tuple[object, ...], said: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(12 * RATE_HZ) / 2, RATE_HZ)
    result = fs("manifest", "raven", raven(tmp_path), "--out", tmp_path / "m.csv", *options)
    assert result.exit_code == 2, (result.output, result.exception)
    assert len(result.stderr.strip().splitlines()) == 1
    assert said in result.stderr
    assert not (tmp_path / "m.csv").exists()


def test_what_lasts_to_the_end_of_its_file_leaves_nothing(recordings: Path) -> None:
    table = table_of(recordings, [("a", 1, 2)])
    with pytest.raises(ManifestError, match="a:1-2"):
        add_background(table.assign(end_s=np.nan), BackgroundRequest())
    with pytest.raises(ConfigError, match="background-label"):
        add_background(table.assign(other="x"), BackgroundRequest())


def test_boxes_of_extended_audacity_labels_are_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(3 * RATE_HZ) / 2, RATE_HZ)
    lines = ["0\t1\tphee", "\\\t100,5\t400", "1.5\t2\ttrill", "2\t2.5\ttrill", "\\\t-\t-"]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n")
    table = get_corpus("audacity").read(tmp_path).table
    assert table["low_hz"].tolist() == ["100.5", "", ""]
    assert table["high_hz"].tolist() == ["400", "", ""]
