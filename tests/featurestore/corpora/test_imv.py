from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.corpora.imv import CALLTYPES, IMV
from featurestore.errors import ManifestError

COLUMNS = ["utterance_id", "path", "start_s", "end_s", "group", "calltype", "caller", "twin", "date"]
# Not in time order, recordings mixed, silence, noise and an impossible type in between.
LABELS = """filename,start,end,duration,calltype,caller
20160907_Twin2_marmoset1,10.5,10.75,0.25,1,9
20160907_Twin1_marmoset1,3.0,3.125,0.125,10,9
20160907_Twin1_marmoset1,0.5,0.625,0.125,11,9
20160907_Twin1_marmoset2,1.0,2,1.0,0,9
20160907_Twin2_marmoset1,0.25,0.5,0.25,12,9
20160907_Twin2_marmoset1,1.25,1.5,0.25,21,9
20160923_Twin5_marmoset2,7,7.0625,0.0625,7,9
20160907_Twin2_marmoset1,0.75,0.875,0.125,8,9
20160923_Twin5_marmoset2,9,9.5,0.5,,9
"""
FILES = (
    "data/twin_1/20160907_Twin1_marmoset1.wav",
    "data/twin_1/20160907_Twin1_marmoset2.wav",
    "data/twin_2/20160907_Twin2_marmoset1.wav",
    "data/twin_5/20160923_Twin5_marmoset2.wav",
)


@pytest.fixture
def copy(tmp_path: Path, touch, write) -> Path:
    write(tmp_path / "labels.csv", LABELS)
    return touch(tmp_path, *FILES)


def test_rows_are_those_of_the_published_class(copy: Path, listing) -> None:
    found = IMV.read(copy)
    one, two, three, four = (str(copy / f) for f in FILES)
    r1, r2, r3, r4 = (Path(f).stem for f in FILES)
    assert listing(found.table, COLUMNS) == [
        (f"data/twin_2/{r3}:10.5-10.75", three, 10.5, 10.75, r3, "Phee", "2", "2", "20160907"),
        (f"data/twin_1/{r1}:3-3.125", one, 3.0, 3.125, r1, "Peep", "0", "1", "20160907"),
        (f"data/twin_1/{r2}:1-2", two, 1.0, 2.0, r2, "Peep(Pre-Phee)", "1", "1", "20160907"),
        (f"data/twin_5/{r4}:7-7.0625", four, 7.0, 7.0625, r4, "Pheecry(cry)", "9", "5", "20160923"),
        (f"data/twin_2/{r3}:0.75-0.875", three, 0.75, 0.875, r3, "TrllTwitter", "2", "2", "20160907"),
    ]
    assert list(found.table["split"]) == [""] * 5
    assert [CALLTYPES.index(c) for c in found.table["calltype"]] == [1, 10, 0, 7, 8]
    assert found.group == "recording: one audio file: one marmoset on one day"
    assert found.notes == (
        "dropped 1 row of silence (11) and 1 of noise (12)",
        "dropped 2 rows with a call type outside 0-12",
        "5 rows here, 72,920 in the published corpus",
    )


def test_calls_that_end_before_they_start_can_be_kept_where_the_study_counts_them(copy: Path, write) -> None:
    labels = LABELS.replace("10.5,10.75", "10.5,10.25").replace("7,7.0625", "7,7")
    write(copy / "labels.csv", labels)
    assert IMV.read(copy).table["start_s"].tolist() == [3.0, 1.0, 0.75]
    kept = IMV.read(copy, keep_empty=True)
    assert kept.table["start_s"].tolist() == [10.5, 3.0, 1.0, 7.0, 0.75]
    assert kept.table["end_s"].tolist() == [10.25, 3.125, 2.0, 7.0, 0.875]
    assert any(n.startswith("kept 2 rows whose end is not after its start") for n in kept.notes)


def test_caller_index_counts_through_the_twins(tmp_path: Path, touch, write) -> None:
    names = [f"20160907_Twin{t}_marmoset{m}" for t in range(1, 6) for m in (1, 2)]
    write(
        tmp_path / "labels.csv",
        "filename,start,end,duration,calltype,caller\n" + "".join(f"{n},0,1,1,2,0\n" for n in names),
    )
    touch(tmp_path, *[f"data/twin_{n[13]}/{n}.wav" for n in names])
    table = IMV.read(tmp_path).table
    assert list(table["caller"]) == [str(i) for i in range(10)]


def test_file_names_may_carry_their_suffix(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "labels.csv", LABELS.replace("marmoset1,", "marmoset1.wav,"))
    touch(tmp_path, *FILES)
    assert len(IMV.read(tmp_path).table) == 5


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("date", ["20160907"] * 3 + ["20160923", "20160907"]),
        ("caller", ["2", "0", "1", "9", "2"]),
    ],
)
def test_other_groups(copy: Path, group: str, expected: list[str]) -> None:
    assert list(IMV.read(copy, group=group).table["group"]) == expected


def test_a_missing_recording_costs_its_calls_only(copy: Path) -> None:
    (copy / FILES[2]).unlink()
    with pytest.raises(ManifestError, match=r"1 of 4 audio files .* costs 2 of 5 rows: data/twin_2/"):
        IMV.read(copy)
    found = IMV.read(copy, allow_missing=True)
    assert list(found.table["caller"]) == ["0", "1", "9"]
    assert (found.missing, found.n_rows_lost) == ((FILES[2],), 2)


def test_a_bad_time_is_named_by_its_row(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "labels.csv", LABELS.replace("7,7.0625", "seven,7.0625"))
    with pytest.raises(ManifestError, match=r"labels.csv: row 8: .* in 'start', got 'seven'"):
        IMV.read(touch(tmp_path, *FILES))


def test_a_bad_file_name_is_named(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "labels.csv", LABELS.replace("20160907_Twin1_marmoset2", "recording7"))
    with pytest.raises(ManifestError, match="got 'recording7'"):
        IMV.read(touch(tmp_path, *FILES))


@pytest.mark.slow
def test_order_and_labels_at_full_size(tmp_path: Path, touch) -> None:
    """72,920 calls and 40,000 others against a row-by-row reading of the published rules."""
    rng = np.random.default_rng(5)
    names = np.array(
        [f"201609{d:02}_Twin{t}_marmoset{m}" for d in (7, 9) for t in range(1, 6) for m in (1, 2)]
    )
    n = 112_920
    kind = rng.permutation(np.r_[rng.integers(0, 11, 72_920), rng.integers(11, 15, 40_000)])
    start = np.round(rng.uniform(0, 3_000, n), 3)
    table = pd.DataFrame(
        {
            "filename": rng.choice(names, n),
            "start": start,
            "end": np.round(start + 0.25, 3),
            "duration": 0.25,
            "calltype": kind,
            "caller": 0,
        }
    )
    table.to_csv(tmp_path / "labels.csv", index=False)
    touch(tmp_path, *[f"data/twin_{n[13]}/{n}.wav" for n in names])
    found = IMV.read(tmp_path)
    calls = table[table["calltype"] <= 10]
    assert len(found.table) == 72_920
    assert found.table["utterance_id"].is_unique
    assert [CALLTYPES.index(c) for c in found.table["calltype"]] == list(calls["calltype"])
    assert list(found.table["start_s"]) == list(calls["start"])
    assert list(found.table["end_s"]) == list(calls["end"])
    assert [int(c) for c in found.table["caller"]] == [
        (int(f[13]) - 1) * 2 + int(f[-1]) - 1 for f in calls["filename"]
    ]
    assert found.notes[:2] == (
        f"dropped {(kind == 11).sum():,} rows of silence (11) and {(kind == 12).sum():,} of noise (12)",
        f"dropped {(kind > 12).sum():,} rows with a call type outside 0-12",
    )
