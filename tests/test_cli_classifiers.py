"""`fs probe`: ways to look at layers and frames, from audio, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from tests.command_line import fs
from tests.conftest import write_clips


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys ``logmel`` without frames and ``framed`` with them, one layer each."""
    folder = tmp_path_factory.mktemp("cli")
    audio = write_clips(folder / "audio", [4000 + 160 * i for i in range(36)])
    for more in ((), ("--frames", "--name", "framed")):
        result = fs(
            *("extract", "--manifest", audio, "--dataset", "d", "--model", "logmel"),
            *("--store", folder / "s", "-q", *more),
        )
        assert result.exit_code == 0, (result.output, result.exception)
    return folder / "s"


def probe(store: Path, out: Path, *more: object) -> Result:
    return fs("probe", "--store", store, "--label", "kind", "--split", "random", "--out", out, "-q", *more)


def test_frames_from_audio_to_results(store: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.json"
    grid.write_text('{"attention": {"max_epochs": 3, "batch_size": 8}}')
    result = probe(
        store, tmp_path / "r", "--model", "framed", "--classifier", "attention", "--grid", grid, "--seeds", 2
    )
    assert result.exit_code == 0, (result.output, result.exception)
    table = pd.read_parquet(tmp_path / "r")
    assert table[["model", "classifier", "layer", "seed"]].values.tolist() == [
        ["framed", "attention", 0, 0],
        ["framed", "attention", 0, 1],
    ]
    assert "attention" in result.output


@pytest.mark.parametrize(
    ("options", "grid", "said"),
    [
        (
            ("--classifier", "knn"),
            '{"knn": {"neighbours": 3}}',
            ("'neighbours'", "did you mean 'n_neighbors'"),
        ),
        (("--classifier", "knn"), '{"knn": {"n_neighbors": 0}}', ("classifier knn", "'n_neighbors'")),
        (("--layers", "3-1"), None, ("layers '3-1'", "the range 3-1 is empty", "write 1-3")),
        (("--layers", ""), None, ("layers ''", "expected numbers and ranges such as 0-6,12")),
        (("--layers", "5"), None, ("layers 5", "framed/d has none of them, it has 0")),
        (("--classifier", "attention"), None, ("attention", "no frames of logmel/d", "fs extract --frames")),
        (("--classifier", "mha"), '{"mha": {"heads": 7}}', ("7 heads cannot share", "framed/d", "--grid")),
        (("--combine", "concat"), None, ("combine concat", "at least two layers", "has only layer 0")),
        (("--combine", "sum"), None, ("combine: expected each, concat, weighted, got 'sum'",)),
        (
            ("--classifier", "knn", "--combine", "weighted"),
            None,
            ("combine weighted: classifier knn cannot learn weights", "mlp, linear, attention and mha can"),
        ),
        (
            ("--classifier", "attention", "--combine", "concat", "--model", "framed"),
            None,
            ("combine concat: classifier attention looks at the frames of one layer",),
        ),
        (("--classifier", "retrieval"), '{"retrieval": {"k": 1}}', ("retrieval: it has no settings",)),
    ],
)
def test_wrong_input_is_one_line(
    store: Path, tmp_path: Path, options: tuple[str, ...], grid: str | None, said: tuple[str, ...]
) -> None:
    more = list(options)
    if grid is not None:
        (tmp_path / "grid.json").write_text(grid)
        more += ["--grid", str(tmp_path / "grid.json")]
    if "--model" not in options:
        more += ["--model", "framed"] if "mha" in options else []
    result = probe(store, tmp_path / "r", *more)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    for part in said:
        assert part in result.stderr
    assert not (tmp_path / "r").exists()
