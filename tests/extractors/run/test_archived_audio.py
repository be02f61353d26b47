"""Audio in archives gives the store that files give: in one run, in two, and when it changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cli
from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.errors import ManifestError
from featurestore.format.row_arrays import STATUS_OK
from tests.conftest import write_clips
from tests.extractors.run.test_extraction import SCRIPT, embeddings
from tests.featurestore.archives.packed import KINDS, pack, with_ids, write_archive

LENGTHS = [6000 + 61 * (i * 5 % 13) for i in range(13)]


def run(manifest: Path, store: Path, **changes: object) -> dict[str, str]:
    options = {"dataset": "noise", "model": "logmel", "unit_rows": 4, **changes}
    return dict(extract(ExtractConfig(manifest=manifest, store=str(store), **options)).failed)  # type: ignore[arg-type]


def same(one: Path, other: Path) -> None:
    """Ids, hashes, statuses, lengths and values of two stores, bit for bit."""
    a, b = (open_store(str(s)).features("logmel", "noise") for s in (one, other))
    columns = ["utterance_id", "status", "audio_hash", "duration_s", "n_frames", "kind", "caller"]
    pd.testing.assert_frame_equal(a.index[columns], b.index[columns])
    np.testing.assert_array_equal(a.layer(0).numpy(), b.layer(0).numpy())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return with_ids(write_clips(tmp_path / "audio", LENGTHS))


@pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_that_of_files(files: Path, tmp_path: Path, kind: str, decode: str) -> None:
    assert run(files, tmp_path / "files") == {}
    assert run(pack(files, kind), tmp_path / kind, decode=decode, workers=2) == {}
    same(tmp_path / "files", tmp_path / kind)
    # What was embedded from files is the same sound in the archive, and stays.
    again = extract(
        ExtractConfig(
            manifest=files.parent / f"{kind}.csv",
            dataset="noise",
            model="logmel",
            store=str(tmp_path / "files"),
        )
    )
    assert (again.n_skipped, again.n_bytes) == (13, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_killed_run_goes_on(files: Path, tmp_path: Path, kind: str) -> None:
    packed = pack(files, kind)
    run(files, tmp_path / "files")
    words = [sys.executable, "-c", SCRIPT, str(packed), "logmel", str(tmp_path / "killed")]
    process = subprocess.Popen(words, cwd=Path(cli.__file__).parent)
    ledger = tmp_path / "killed/logmel/noise/ledger"
    until = time.monotonic() + 60
    while not (ledger.is_dir() and list(ledger.iterdir())) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(packed, tmp_path / "killed")
    same(tmp_path / "files", tmp_path / "killed")
    arrays = [
        {k: v for k, v in embeddings(tmp_path / s).items() if "/layer_" in k} for s in ("files", "killed")
    ]
    assert arrays[0] == arrays[1]


@pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_what_is_broken_fails_alone_with_its_reason(files: Path, tmp_path: Path, decode: str) -> None:
    audio = {p.name: p for p in sorted(files.parent.glob("*.wav"))}
    (files.parent / "text.wav").write_text("no audio")
    (files.parent / "cut.wav").write_bytes(audio["clip000.wav"].read_bytes()[:-4000])
    audio |= {name: files.parent / name for name in ("text.wav", "cut.wav")}
    for kind in KINDS:
        names = write_archive(kind, files.parent / f"odd.{kind}", audio)
        table = pd.DataFrame({"utterance_id": list(audio), "path": names, "kind": "a", "caller": "b"})
        table.to_csv(files.parent / f"odd_{kind}.csv", index=False)
        failed = run(files.parent / f"odd_{kind}.csv", tmp_path / kind, decode=decode, workers=2)
        assert set(failed) == {"text.wav", "cut.wav"}
        assert failed["text.wav"].startswith("cannot be decoded")
        assert failed["cut.wav"].startswith("cut short: its header promises")
    same(tmp_path / "tar", tmp_path / "zip")
    same(tmp_path / "tar", tmp_path / "parquet")


def test_a_flipped_byte_of_a_zip_is_one_failed_clip(files: Path, tmp_path: Path) -> None:
    packed, archive = pack(files, "zip"), files.parent / "packed.zip"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    failed = run(packed, tmp_path / "s")
    assert len(failed) == 1
    # What a damaged stream unpacks to is a matter of where it is hit.
    said = ("is damaged in its archive", "is larger in its archive", "is cut short in its archive")
    assert next(iter(failed.values())).startswith(said)
    index = open_store(str(tmp_path / "s")).features("logmel", "noise").index
    assert (index["status"] == STATUS_OK).sum() == 12


def test_other_audio_in_the_archive_is_refused_and_refreshed(files: Path, tmp_path: Path) -> None:
    packed, archive = pack(files, "tar"), files.parent / "packed.tar"
    run(packed, tmp_path / "s")
    os.utime(archive, ns=(1, 1))  # touched, and the same: looked at again, and taken
    assert run(packed, tmp_path / "s") == {}
    shutil.copy(files.parent / "clip001.wav", files.parent / "clip000.wav")
    pack(files, "tar")
    words = [
        "extract",
        "--manifest",
        packed,
        "--dataset",
        "noise",
        "--model",
        "logmel",
        "--store",
        tmp_path / "s",
    ]
    refused = CliRunner().invoke(cli.main, [*map(str, words), "--unit-rows", "4"])
    assert refused.exit_code == 2
    assert "would stand for other audio than was embedded: 'clip000'" in refused.stderr
    assert "packed.tar::clip000.wav" in refused.stderr
    run(packed, tmp_path / "s", refresh=True)
    run(with_ids(files.parent / "manifest.csv"), tmp_path / "fresh")
    index = [open_store(str(tmp_path / s)).features("logmel", "noise").index for s in ("s", "fresh")]
    hashes = [i.set_index("utterance_id")["audio_hash"].sort_index() for i in index]
    pd.testing.assert_series_equal(*hashes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_is_one_line_before_anything_starts(
    files: Path, tmp_path: Path, kind: str, clips: Callable[..., Path]
) -> None:
    packed, archive = pack(files, kind), files.parent / f"packed.{kind}"
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ManifestError, match=r"1 problem: row 2: archive .* cut short.*\(13 rows need it\)"):
        run(packed, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "datasets"])
def test_spoken_digits(shared: Path, tmp_path: Path, kind: str) -> None:
    """300 real recordings; ``datasets``: as its `to_parquet` writes them, by `fs manifest hf`."""
    root = shared / "data/fsdd"
    table = pd.read_csv(root / "manifest.csv", dtype=str, keep_default_na=False)[::10].reset_index(drop=True)
    table = table.rename(columns={"digit": "kind", "speaker": "caller"})
    files = {Path(p).name: root / p for p in table["path"]}
    table.assign(path=list(files.values())).to_csv(tmp_path / "files.csv", index=False)
    run(tmp_path / "files.csv", tmp_path / "files")
    if kind == "datasets":
        _write_with_datasets(tmp_path / "hub/train-00000-of-00001.parquet", table, files)
        words = ["manifest", "hf", tmp_path / "hub", "--out", tmp_path / "packed.csv"]
        made = CliRunner().invoke(cli.main, [str(w) for w in words])
        assert made.exit_code == 0, made.output
    else:
        paths = write_archive(kind, tmp_path / f"fsdd.{kind}", files, group_rows=100)
        table.assign(path=paths).to_csv(tmp_path / "packed.csv", index=False)
    run(tmp_path / "packed.csv", tmp_path / "packed")
    same(tmp_path / "files", tmp_path / "packed")


def _write_with_datasets(target: Path, table: pd.DataFrame, files: dict[str, Path]) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    import pyarrow as pa

    digits = sorted(set(table["kind"]))
    features = datasets.Features(
        {
            "audio": datasets.Audio(sampling_rate=8_000),
            "kind": datasets.ClassLabel(names=digits),
            "caller": datasets.Value("string"),
        }
    )
    columns = {
        "audio": [{"bytes": path.read_bytes(), "path": name} for name, path in files.items()],
        "kind": [digits.index(d) for d in table["kind"]],
        "caller": table["caller"].tolist(),
    }
    rows = datasets.table.InMemoryTable(pa.table(columns).cast(features.arrow_schema))
    datasets.disable_progress_bars()
    datasets.Dataset(rows, info=datasets.DatasetInfo(features=features)).to_parquet(target)
