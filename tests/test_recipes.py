"""Every recipe of the documentation does what it says: its commands run, and leave what it promises."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from featurestore import open_store
from tests.recipe_ground import Reader, make_ground, pieces

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
MODEL = "hubert-base-ls960"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that recipes start from, with the store that the first page makes."""
    folder = make_ground(tmp_path_factory.mktemp("ground"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Reader(folder, folder.parent / "bin").read((RECIPES / "start.md").read_text(encoding="utf-8"))
    return folder


@pytest.fixture
def read(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Reader]:
    """Run a recipe in a folder of its own; the folder is left as the current one."""
    # Not a copy of the audio: its time of writing, and with it what the store knows, stays.
    folder = tmp_path / "ground"
    shutil.copytree(ground, folder, copy_function=shutil.copy2)
    monkeypatch.chdir(folder)

    def run(page: str) -> Reader:
        reader = Reader(folder, tmp_path / "bin")
        reader.read((RECIPES / f"{page}.md").read_text(encoding="utf-8"))
        return reader

    return run


def index(store: str = "features.zarr", dataset: str = "calls") -> pd.DataFrame:
    return open_store(store).features(MODEL, dataset).index


def test_a_block_is_cut_at_its_fs_commands_and_nowhere_in_a_file_that_it_writes() -> None:
    block = "cd x\nfs ls S \\\n  --json\ncat > job <<'E'\nfs extract\nE\nsbatch job\n"
    assert list(pieces(block)) == [
        (False, "cd x"),
        (True, "fs ls S --json"),
        (False, "cat > job <<'E'\nfs extract\nE\nsbatch job"),
    ]


@pytest.mark.slow
def test_recordings_are_added(read: Callable[[str], Reader]) -> None:
    before = index().set_index("utterance_id")
    read("add_recordings")
    after = index().set_index("utterance_id")
    assert (len(before), len(after)) == (108, 144)
    assert set(before.index) < set(after.index)


@pytest.mark.slow
def test_labels_are_mended_and_no_value_changes(read: Callable[[str], Reader]) -> None:
    values = open_store("features.zarr").features(MODEL, "calls").layer(2).numpy()
    read("mend_labels")
    features = open_store("features.zarr").features(MODEL, "calls")
    assert set(features.index["call_type"]) == {"upsweep", "trill"}
    assert set(features.index["day"]) == {"2024-05-01", "2024-05-02", "2024-05-03"}
    assert (features.layer(2).numpy() == values).all()


@pytest.mark.slow
def test_a_boundary_is_moved(read: Callable[[str], Reader]) -> None:
    reader = read("move_a_boundary")
    assert len(index()) == len(index(dataset="named")) == 108
    moved = index(dataset="named").set_index("utterance_id").loc["call_2"]
    assert float(moved["start_s"]) == 0.25
    [refusal] = [text for text in reader.printed if text.startswith("error")]
    assert "call_2" in refusal


@pytest.mark.slow
def test_a_store_is_shared(read: Callable[[str], Reader]) -> None:
    read("share_a_store")
    assert len(index("elsewhere/shared.zarr")) == 108
    assert not list(Path("elsewhere").rglob("*.wav"))


@pytest.mark.slow
def test_two_questions_have_their_own_groups(read: Callable[[str], Reader]) -> None:
    read("two_questions")
    results = pd.read_parquet("results")
    asked = {
        "call_type": {"group-kfold:3", "group-kfold:3[bird]"},
        "bird": {"stratified-group-kfold:3[path]"},
    }
    assert results.groupby("label")["split"].agg(set).to_dict() == asked


@pytest.mark.slow
def test_archives_hold_the_same_clips(read: Callable[[str], Reader]) -> None:
    read("archives")
    store = open_store("features.zarr")
    tar, *others = (
        dict(zip(f.index["audio_hash"], f.layer(0).numpy(), strict=True))
        for f in (store.features("logmel", name) for name in ("tar", "zip", "parquet"))
    )
    assert set(tar) == set(index()["audio_hash"])
    for other in others:
        assert set(other) == set(tar)
        assert all((other[sound] == values).all() for sound, values in tar.items())


@pytest.mark.slow
def test_a_layer_is_chosen_by_validation(read: Callable[[str], Reader]) -> None:
    read("choose_a_layer")
    layers = pd.read_csv("report/layers.csv")
    assert list(layers["layer"]) == [0, 1, 2]
    assert layers["best"].sum() == 1
    assert layers["chosen_share"].sum() == pytest.approx(1)
    assert len(pd.read_parquet("tuned")) == 4 * len(pd.read_parquet("results"))


@pytest.mark.slow
def test_a_season_is_searched(read: Callable[[str], Reader]) -> None:
    read("a_season")
    assert set(pd.read_csv("found/events.csv")["call_type"]) <= {"chirp", "trill"}
    assert {"precision", "recall"} <= set(pd.read_csv("checked_found/agreement.csv").columns)


# Runs the tasks of a job one after the other, with the variables that SLURM gives them, and writes down how
# many units are stored after each. tests/probes/run/test_slurm.py has the real one.
SBATCH = """#!/bin/bash
set -euo pipefail
script=${@: -1}
export SLURM_CPUS_PER_TASK=1
range=$(sed -n 's/^#SBATCH --array=//p' "$script")
if [ -n "$range" ]; then
  export SLURM_ARRAY_TASK_MIN=${range%-*} SLURM_ARRAY_TASK_MAX=${range#*-}
  export SLURM_ARRAY_TASK_COUNT=$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1))
fi
for task in $(seq "${SLURM_ARRAY_TASK_MIN:-0}" "${SLURM_ARRAY_TASK_MAX:-0}"); do
  SLURM_ARRAY_TASK_ID=$task bash "$script" > "$script.$task.log" 2>&1 || { cat "$script.$task.log"; exit 1; }
  find cluster.zarr -path '*/layer_00/c/*' -type f | wc -l >> stored
done
echo 7
"""


@pytest.mark.slow
def test_the_slurm_files_share_a_store(read: Callable[[str], Reader], tmp_path: Path) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH, encoding="utf-8")
    sbatch.chmod(0o755)
    read("slurm")
    first, second, probed = map(int, Path("stored").read_text().split())
    assert 0 < first < second == probed == 3
    assert len(index("cluster.zarr")) == 108
    assert set(pd.read_parquet("cluster_results")["layer"]) == {0, 1, 2}
