"""Audio in archives: planning of many members, and reading them in the order of their files and in any other.

    python benchmarks/archives.py [--members N] [--clips N] [--record]

Planning is `fs manifest hf` of one Parquet file of N members of 3 kB, and reading the manifests that name
members of it, of a tar and of a zip; target: 20 s each at 100,000, and no audio read (bytes that this
process and those that it starts read, each from the other too, are printed beside the size of the archive).
Reading is the hash of every clip, as `fs verify --audio`
and a resumed run take it, against the same files in a folder, in the same run: sorted as they lie, and drawn
at random, as the units of a plan draw them. ``--record`` keeps what is printed in
``benchmarks/results/archives.md``.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from machine import describe

from featurestore.archives.names import reading_order
from featurestore.audio.segment import hash_clip
from featurestore.corpora.conversion import ManifestRequest, make_manifest
from featurestore.manifest.table import read_manifest

RESULTS = Path(__file__).parent / "results" / "archives.md"
KINDS = ("tar", "zip", "parquet")
GROUP_ROWS = 100  # 9 MB of these clips
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAN = float("nan")


def write(folder: Path, name: str, members: dict[str, bytes]) -> dict[str, list[str]]:
    """The members in an archive of each kind; their paths by kind."""
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as zipped:
        for member, data in members.items():
            zipped.writestr(member, data)
    (folder / name).mkdir()
    cells = pa.array([{"bytes": data, "path": member} for member, data in members.items()], AUDIO)
    table = pa.table({"audio": cells, "label": pa.array(np.arange(len(members)) % 7)})
    pq.write_table(table, folder / name / "train-00000-of-00001.parquet", row_group_size=GROUP_ROWS)
    found = {kind: [f"{folder}/{name}.{kind}::{member}" for member in members] for kind in ("tar", "zip")}
    parquet = f"{folder}/{name}/train-00000-of-00001.parquet"
    return found | {"parquet": [f"{parquet}::audio[{i}]" for i in range(len(members))]}


def bytes_read() -> int:
    """Bytes that this process and those that it has started have read so far, cached ones too."""
    here = psutil.Process()
    return sum(process.io_counters().read_chars for process in (here, *here.children()))


def busy_s() -> float:
    """Seconds of processors that they took."""
    here = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children()))


def timed(work: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds by the clock and of processors, and MB read."""
    read, clock, busy = bytes_read(), time.perf_counter(), busy_s()
    work()
    return time.perf_counter() - clock, busy_s() - busy, (bytes_read() - read) / 1e6


def planning(folder: Path, n: int) -> list[str]:
    paths = write(folder, "many", {f"{i:07d}.wav": bytes(3000) for i in range(n)})
    lines = [f"Planning {n:,} members, archives of {3000 * n / 1e6:,.0f} MB of audio:", ""]
    lines += ["| | s | s of processors | MB read |", "|---|---:|---:|---:|"]
    request = ManifestRequest(corpus="hf", source=folder / "many", out=folder / "hf.csv")
    lines.append(
        "| `fs manifest hf` | {:.1f} | {:.1f} | {:.0f} |".format(*timed(lambda: make_manifest(request)))
    )
    for kind in KINDS:
        table = folder / f"{kind}.csv"
        table.write_text("\n".join(["path", *paths[kind], ""]))
        found = timed(partial(read_manifest, table))
        lines.append(f"| manifest of {kind} | {found[0]:.1f} | {found[1]:.1f} | {found[2]:.0f} |")
    return lines


def hash_all(paths: Iterable[str]) -> None:
    for path in paths:
        hash_clip(path, NAN, NAN, None)


def reading(folder: Path, n: int) -> list[str]:
    rng, clips = np.random.default_rng(0), {}
    for i in range(n):
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.1 * rng.standard_normal(rng.integers(8_000, 80_000)), 16_000, format="WAV")
        clips[f"{i:05d}.wav"] = buffer.getvalue()
    paths = write(folder, "clips", clips)
    (folder / "plain").mkdir()
    for name, data in clips.items():
        (folder / "plain" / name).write_bytes(data)
    paths = {"files": [str(folder / "plain" / name) for name in clips], **paths}
    size = sum(map(len, clips.values())) / 1e6
    lines = [f"Hashing {n:,} clips, {size:,.0f} MB, against files in a folder:", ""]
    lines += [
        "| | as they lie, s | ratio | MB read | at random, s | ratio | MB read |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    base: list[float] = []
    for kind, of_kind in paths.items():
        cells = []
        orders = (sorted(of_kind, key=reading_order), list(np.array(of_kind)[rng.permutation(n)]))
        for k, order in enumerate(orders):
            seconds, _, read = timed(partial(hash_all, order))
            if kind == "files":
                base.append(seconds)
            cells.append(f"{seconds:.2f} | {seconds / base[k]:.2f} | {read:,.0f}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--clips", type=int, default=5_000)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = [describe("pyarrow", "soundfile"), "", *planning(Path(name), options.members), ""]
        lines += reading(Path(name), options.clips)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        RESULTS.write_text("# Audio in archives\n\n" + text)


if __name__ == "__main__":
    main()
