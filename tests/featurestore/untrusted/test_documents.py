"""Files of anybody as plain values: bounded, regular, of few levels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.compute.task_runners import decoding_threads
from featurestore.errors import UserError
from featurestore.layer_list import format_layers
from featurestore.manifest.table import read_manifest
from featurestore.untrusted.documents import (
    MOST_DEPTH,
    DocumentError,
    parse_json,
    read_bytes,
    read_json_document,
    read_yaml_document,
)
from featurestore.untrusted.parquet_tables import (
    read_parquet_cells,
    read_parquet_columns,
    read_parquet_document,
)
from featurestore.untrusted.text_table import TextTableError, read_table
from tests.featurestore.archives.packed import write_aborting_parquet


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path, said in ((tmp_path / "pipe.csv", "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(DocumentError, match=f"expected a file, this is {said}"):
            read_json_document(path)
    with pytest.raises(TextTableError, match="a pipe"):
        read_table(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="this is no file"):
        read_manifest(tmp_path / "pipe.csv")
    with pytest.raises(DocumentError, match="no such file"):
        read_json_document(tmp_path / "none")


def test_a_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(DocumentError, match="expected at most 67,108,864 bytes, it has 1,099,511,627,776"):
        read_bytes(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "levels"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "levels"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        (str(2**63), "beyond 64 bits"),
        ("9" * 5000, "beyond 64 bits"),
        ("[" + "{}," * 4_000_000 + "{}]", "too many values"),
        ("{", "no JSON"),
    ],
    ids=range(7),
)
def test_json_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        parse_json(text)
    deepest = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert str(parse_json(deepest)) == deepest


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    """PyYAML takes 12:30:00 for 45000, 010 for 8, 1e-3 for a text and 2026-01-02 for a date."""
    (tmp_path / "x.yaml").write_text(
        "a: 12:30:00\nb: 010\nc: [1e-3, 1_000, 0x10, .5, -.inf]\nd: 2026-01-02\ne: on"
    )
    assert read_yaml_document(tmp_path / "x.yaml") == {
        "a": "12:30:00", "b": "010", "c": [1e-3, 1000, 16, 0.5, -float("inf")], "d": "2026-01-02", "e": True,
    }  # fmt: skip
    for text, said in (
        ("a: &a [x]\nb: [*a]", "line 2, column 5: expected no alias"),
        ("a: !!binary aGk=", "expected plain values, got a bytes"),
        ("a: 1\na: 2", "'a' stands twice"),
    ):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(DocumentError, match=said):
            read_yaml_document(tmp_path / "x.yaml")


def test_a_table_at_which_arrow_aborts_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_aborting_parquet(path)
    pq.write_table(pa.table({"a": ["x", None]}), tmp_path / "y.parquet")
    for read in (read_parquet_document, read_parquet_cells, partial(read_parquet_columns, columns=["audio"])):
        with pytest.raises(DocumentError) as error:
            read(path)
        assert "\n" not in str(error.value)
        assert len(read_parquet_cells(tmp_path / "y.parquet")) == 2
    with pytest.raises(DocumentError, match=r"no table that can be read \(its reader ended with SIGABRT"):
        read_parquet_cells(path)


def test_a_table_is_not_to_blame_where_files_may_not_grow(tmp_path: Path) -> None:
    pd.DataFrame({"x": np.arange(300_000.0)}).to_parquet(tmp_path / "x.parquet")
    script = (
        "import resource, sys\n"
        "from featurestore.errors import ProcessLost\n"
        "from featurestore.untrusted.parquet_tables import read_parquet_cells\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try:\n    read_parquet_cells(sys.argv[1])\n"
        "except ProcessLost as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.parquet")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "an answer that could not be written ([Errno 27] File too large)" in said
    assert "no fault of the file" in said
    assert "delete" not in said


@pytest.mark.parametrize("n_rows", [0, 3])
def test_tables_come_back_as_pandas_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int
) -> None:
    """Texts of dictionaries, classes, times and gaps; and their order of columns."""
    table = pd.DataFrame(
        {
            "text": ["a", None, "ä" * 9],
            "same": ["x", "x", "x"],
            "class": pd.Categorical(["b", "a", None]),
            "whole": np.arange(3, dtype=np.int16),
            "number": [0.5, np.nan, 2],
            "small": np.array([0.1, 0.2, 0.3], dtype=np.float32),
            "yes": [True, False, True],
            "when": pd.to_datetime(["2024-05-01", "2024-05-02", None]),
        }
    )[:n_rows]
    table.attrs["made"] = "here"
    table.to_parquet(tmp_path / "x.parquet", row_group_size=2)
    monkeypatch.chdir(tmp_path)  # the reader was started elsewhere
    found = read_parquet_document("x.parquet")
    pd.testing.assert_frame_equal(found, pd.read_parquet("x.parquet"))
    assert found.attrs == {"made": "here"}
    own = read_parquet_cells("x.parquet")
    assert own.attrs == {}
    pd.testing.assert_frame_equal(own, found)
    columns = read_parquet_columns("x.parquet", ["number", "text"])
    assert columns.equals(pq.read_table("x.parquet", columns=["number", "text"]))
    assert read_parquet_columns("x.parquet", []).num_rows == n_rows


def test_a_table_is_measured_before_its_texts_are_written_out(tmp_path: Path) -> None:
    """20 kB that would be 200 GB: two million times one text."""
    codes = pa.array(np.zeros(2_000_000, dtype=np.int32))
    table = pa.table({"a": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 100_000]))})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 50_000
    with pytest.raises(DocumentError, match="at most 536,870,912 bytes of text, it has 200,000,000,000"):
        read_parquet_document(tmp_path / "x.parquet")
    with pytest.raises(DocumentError, match="at most 1,000 cells, it says it has 2,000,000"):
        read_parquet_document(tmp_path / "x.parquet", most_cells=1000)


def test_every_extra_that_an_advice_names_is_there() -> None:
    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = [
        p for f in ("featurestore", "extractors", "probes", "studies", "docs") for p in (root / f).rglob("*")
    ]
    texts = [
        p.read_text(encoding="utf-8") for p in [*files, root / "README.md"] if p.suffix in (".py", ".md")
    ]
    named = {
        extra
        for text in texts
        for found in re.findall(re.escape(project["name"]) + r"\[([a-z0-9, ]+)\]", text)
        for extra in found.replace(" ", "").split(",")
    }
    assert {"cluster", "s3"} <= named <= set(project["optional-dependencies"])


def test_decoding_threads_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    from extractors.config import ExtractConfig

    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    assert decoding_threads() == 1
    assert ExtractConfig(manifest=Path("m.csv"), dataset="d", model="mfcc", store="s").n_threads == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr("featurestore.compute.task_runners._CGROUP_CPU", os.devnull)
    assert decoding_threads() == 8


def test_a_quota_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr("featurestore.compute.task_runners._CGROUP_CPU", str(tmp_path / "cpu.max"))
    for text, n in (("150000 100000\n", 2), ("max 100000\n", 8), ("1000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert decoding_threads() == n


def test_layers_apart_are_no_range(capsys: pytest.CaptureFixture[str]) -> None:
    from extractors.results import ExtractSummary
    from studies.terminal.console import print_extract_summary

    fields = dict.fromkeys(ExtractSummary.__dataclass_fields__, 0)
    summary = ExtractSummary(
        **{
            **fields,
            "key": "m/d",
            "layers": (0, 6),
            "failed": {},
            "notes": [],
            "selfcheck": None,
            "device": "",
        }  # type: ignore[arg-type]
    )
    print_extract_summary(summary, "s")
    assert "layers 0,6" in capsys.readouterr().out
    assert format_layers((0, 1, 2, 6)) == "0-2,6"


@pytest.mark.parametrize("cell", ["1e20", "1024", "-1", "0.5", "inf"])
def test_channels_that_no_file_has(tmp_path: Path, cell: str) -> None:
    (tmp_path / "m.csv").write_text(f"path,channel\na.wav,{cell}\n")
    with pytest.raises(UserError, match=f"channel '{cell}'; expected a whole number from 0 to 1023"):
        read_manifest(tmp_path / "m.csv", check_files=False)


def test_a_column_without_any_text_has_no_row_that_is_wanted(tmp_path: Path) -> None:
    """An empty table of texts, as pandas 2 writes it."""
    for rows in ([], [None, None]):
        pq.write_table(pa.table({"fingerprint": pa.array(rows, pa.null())}), tmp_path / "t.parquet")
        table = read_parquet_document(tmp_path / "t.parquet", only=("fingerprint", {"a"}))
        assert len(table) == 0
