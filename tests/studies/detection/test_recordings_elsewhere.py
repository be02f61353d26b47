"""`fs detect` over recordings in a bucket and in archives gives what it gives over files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import soundfile

from featurestore.backends.storage import open_storage
from tests.command_line import good, one_line_error
from tests.featurestore.archives.packed import KINDS, write_archive
from tests.featurestore.s3server import BUCKET, S3Server, is_one_line_of_an_outage
from tests.studies.detection.planted import HOP_S, RATE_HZ, WINDOW_S, World, random_calls, recording
from tests.studies.detection.watched import peak_bytes, write_noise

ROOT = Path(__file__).parents[3]
WHAT = ["start_s", "end_s", "channel", "call", "probability", "n_windows"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings in a folder, one of them deeper, and what is none."""
    root = tmp_path_factory.mktemp("elsewhere") / "field"
    (root / "deep").mkdir(parents=True)
    soundfile.write(root / "x.wav", recording(15.0, random_calls(15.0, 8, 60), 60), RATE_HZ)
    soundfile.write(root / "deep" / "y 1.flac", recording(15.0, random_calls(15.0, 8, 61), 61), RATE_HZ)
    (root / "notes.txt").write_text("none")
    (root / "._x.wav").write_text("of a macOS archive")
    return root


@pytest.fixture(scope="module")
def of_files(world: World, files: Path) -> Path:
    out = files.parent / "out"
    assert world.detect(files, "--out", out).exit_code == 0
    return out


def events(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "events.parquet")


def found(out: Path) -> dict[str, tuple[object, ...]]:
    """Of each recording, by its name, the hash of its samples and its events."""
    table = pd.read_csv(out / "recordings.csv").set_index("path")
    by_path = events(out).groupby("path")
    return {
        path.replace("[0]", "").rpartition("/")[2].rpartition("::")[2]: (
            row["audio_hash"],
            by_path.get_group(path)[WHAT].round({"probability": 5}).to_csv(index=False),
        )
        for path, row in table.iterrows()
    }


def upload(files: Path, url: str, folder: str = "field") -> str:
    storage = open_storage(url)
    for file in files.rglob("*"):
        if file.is_file():
            storage.put(f"{folder}/{file.relative_to(files).as_posix()}", file.read_bytes())
    return f"{url}/{folder}"


def test_members_of_archives_are_recordings_as_files_are(
    world: World, files: Path, of_files: Path, tmp_path: Path
) -> None:
    inside = {"x.wav": files / "x.wav", "deep/y 1.flac": files / "deep" / "y 1.flac"}
    expected = [value for _, value in sorted(found(of_files).items())]
    for kind in KINDS:
        names = write_archive(kind, tmp_path / f"r.{kind}", inside)
        pd.DataFrame({"path": names}).to_csv(tmp_path / "m.csv", index=False)
        ways = {"named": [f"{tmp_path}/{name}" for name in names], "table": [tmp_path / "m.csv"]}
        for way, given in ways.items():
            out = tmp_path / f"{kind}-{way}"
            result = world.detect(*given, "--out", out)
            assert result.exit_code == 0, result.output
            got = found(out)
            assert sorted(got.values()) == sorted(expected)
            assert set(events(out)["path"]) == {f"{tmp_path}/{name}" for name in names}
        tables = {p.relative_to(out / "audacity").as_posix() for p in (out / "audacity").rglob("*.txt")}
        members = [name.partition("::")[2] for name in names]
        assert tables == {f"r.{kind}/{member}.txt" for member in members}
        assert "(2 done before)" in world.detect(*ways["named"], "--out", out).output
        os.utime(tmp_path / f"r.{kind}", ns=(1, 1))  # it may hold others now
        assert "done before" not in world.detect(*ways["named"], "--out", out).output


def test_a_table_of_rows_stands_for_its_recordings(
    world: World, files: Path, of_files: Path, tmp_path: Path
) -> None:
    rows = [("x.wav", 0, 1), ("deep/y 1.flac", 2, 3), ("x.wav", 4, 5)]
    table = pd.DataFrame(rows, columns=["path", "start_s", "end_s"])
    table.to_csv(files / "m.csv", index=False)
    try:
        assert world.detect(files / "m.csv", "--out", tmp_path / "o").exit_code == 0
    finally:
        (files / "m.csv").unlink()
    assert found(tmp_path / "o") == found(of_files)


def test_what_is_no_recording_is_one_line(world: World, files: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "r"), "tar", files)
    for given, said in (
        (tmp_path / "r.tar", "is an archive; name a recording in it"),
        (f"{tmp_path}/r.tar::none.wav", "is not in the archive; correct the name"),
        (f"{tmp_path}/none.zip::a.wav", "its archive is not there"),
        (files / "notes.txt", "expected an audio file"),
        (tmp_path / "none.csv", "no such file or folder"),
        ("s3://bucket/a.wav?X-Amz-Signature=5ec", "cannot be looked through"),
        ("s3://key:secret@bucket/a", "cannot be looked through"),
    ):
        line = one_line_error(world.detect(given, "--out", tmp_path / "o"), said)
        assert "5ec" not in str(line)
        assert "secret" not in str(line)


@pytest.mark.s3
class TestInABucket:
    """On a real S3 server."""

    def test_a_folder_objects_and_a_table_give_what_files_give(
        self, world: World, files: Path, of_files: Path, tmp_path: Path, s3_url: str
    ) -> None:
        folder = upload(files, s3_url)
        objects = [f"{folder}/x.wav", f"{folder}/deep/y 1.flac"]
        pd.DataFrame({"path": objects}).to_csv(tmp_path / "m.csv", index=False)
        ways = {"folder": [folder], "slash": [f"{folder}/"], "objects": objects, "m": [tmp_path / "m.csv"]}
        for way, given in ways.items():
            result = world.detect(*given, "--out", tmp_path / way)
            assert result.exit_code == 0, result.output
            assert found(tmp_path / way) == found(of_files)
            assert set(events(tmp_path / way)["path"]) == set(objects)
        for name in ("audacity/field/x.wav.txt", "audacity/field/deep/y 1.flac.txt"):
            assert (tmp_path / "folder" / name).read_bytes() == (of_files / name).read_bytes()
        assert "(2 done before)" in world.detect(folder, "--out", tmp_path / "folder").output
        open_storage(s3_url).put("field/x.wav", (files / "deep" / "y 1.flac").read_bytes())
        assert "(1 done before)" in world.detect(folder, "--out", tmp_path / "folder").output
        assert found(tmp_path / "folder")["x.wav"] == found(of_files)["y 1.flac"]
        truth = tmp_path / "truth.csv"
        events(of_files).assign(
            path=lambda t: t["path"].map(lambda p: f"{folder}/{Path(p).relative_to(files).as_posix()}")
        )[["path", "start_s", "end_s", "call"]].to_csv(truth, index=False)
        good("detect", *objects, "--probe", world.probe, "--window", WINDOW_S, "--hop", HOP_S, "-q",
             "--out", tmp_path / "t", "--truth", truth)  # fmt: skip
        assert (tmp_path / "t" / "agreement.csv").is_file()

    def test_what_is_not_there_is_one_line(self, world: World, s3_url: str, tmp_path: Path) -> None:
        open_storage(s3_url).put("papers/a.txt", b"x")
        open_storage(s3_url).put("others/a.m4a", b"x")
        open_storage(s3_url).put("odd/a#1.wav", b"x")
        for given, said in (
            (f"{s3_url}/odd", "a#1.wav: a name of audio in a bucket may hold no"),
            (f"{s3_url}/none", "no audio of this name, and no folder of recordings"),
            (f"{s3_url}/none.wav", "no audio of this name, and no folder of recordings"),
            (f"{s3_url}/papers", "found no audio in this folder"),
            (f"{s3_url}/others", "a.m4a cannot be read: convert such files"),
            (f"{s3_url}/x.tar", "is an archive; name a recording in it"),
            ("s3://no-such-bucket-there/a", "no-such-bucket-there"),
        ):
            one_line_error(world.detect(given, "--out", tmp_path / "o"), said)

    @pytest.mark.slow
    def test_an_outage_ends_it_in_one_line_and_the_same_command_goes_on(
        self, world: World, files: Path, s3_server: S3Server, s3_url: str, tmp_path: Path
    ) -> None:
        """Killed servers fail no recording; what comes of it is, byte for byte, a run that never stopped."""
        n = 12
        for i in range(n):
            soundfile.write(tmp_path / "r.wav", recording(60.0, random_calls(60.0, 8, i), i), RATE_HZ)
            open_storage(s3_url).put(f"many/{i:02d}.wav", (tmp_path / "r.wav").read_bytes())
        words = [sys.executable, "-m", "cli", "detect", f"{s3_url}/many", "--probe", str(world.probe), "-q"]
        words += ["--window", str(WINDOW_S), "--hop", str(HOP_S), "--workers", "1"]

        def start(out: Path, retry_s: int) -> subprocess.Popen[str]:
            environment = {**os.environ, "FEATURESTORE_RETRY_S": str(retry_s)}
            return subprocess.Popen(
                [*words, "--out", str(out)], cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        run = start(tmp_path / "o", 1)
        try:
            until = time.monotonic() + 120
            while not list((tmp_path / "o").rglob("records/**/*.json")):
                assert run.poll() is None, run.communicate()
                assert time.monotonic() < until
                time.sleep(0.01)
            s3_server.kill()
            _, said = run.communicate(timeout=120)
        finally:
            run.kill()
            s3_server.start()
        is_one_line_of_an_outage(run.returncode, said, f"s3://{BUCKET}")
        assert 1 <= len(list((tmp_path / "o").rglob("records/**/*.json"))) < n
        for out in ("o", "whole"):
            again = start(tmp_path / out, 60)
            said = "".join(again.communicate(timeout=200))
            assert again.returncode == 0, said
        one, other = (
            {p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*.*")}
            for out in ("o", "whole")
        )
        assert one == other

    @pytest.mark.slow
    def test_an_hour_takes_no_more_memory_than_two_minutes(
        self, world: World, s3_url: str, tmp_path: Path
    ) -> None:
        peaks = []
        for name, minutes in (("short", 2), ("long", 60)):
            write_noise(tmp_path / f"{name}.wav", minutes)
            open_storage(s3_url).put(f"{name}.wav", (tmp_path / f"{name}.wav").read_bytes())
            peaks.append(peak_bytes(world, f"{s3_url}/{name}.wav", tmp_path / name))
        print(f"peaks: {peaks[0] / 1e6:.0f} and {peaks[1] / 1e6:.0f} MB")
        # The file has 346 MB, its samples as the model's numbers 691; 64 MiB of what was fetched are kept.
        assert peaks[1] - peaks[0] < 180e6
