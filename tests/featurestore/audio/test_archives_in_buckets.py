"""Members of archives in a bucket: what archives that are files give, fetched by ranges."""

from __future__ import annotations

import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.archives.interface import ArchiveError, PassingError
from featurestore.archives.opened import is_there, member_problem, open_archive, open_bytes
from featurestore.audio.blocks import SoundError
from featurestore.audio.segment import hash_clip
from featurestore.audio.time_expansion import time_expanded
from featurestore.backends.storage import LocalStorage, open_storage
from featurestore.errors import AudioUnreachable, ManifestError
from featurestore.manifest.location import UNKNOWN, stamp_of, stamps_of
from featurestore.manifest.table import read_manifest
from tests.featurestore.archives.packed import KINDS, write_archive
from tests.featurestore.recorder_files import guano, write_wav
from tests.featurestore.s3server import S3Server

NAN = float("nan")
URL = "s3://bucket"


def put(memory: Any, file: Path, data: bytes | None = None) -> str:
    import obstore

    obstore.put(memory, file.name, file.read_bytes() if data is None else data)
    return f"{URL}/{file.name}"


def files_of(folder: Path, sizes: list[int], seed: int = 0) -> dict[str, Path]:
    """Files of so many bytes, of no kind."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    found = {f"m{i}.wav": folder / f"m{i}.wav" for i in range(len(sizes))}
    for path, size in zip(found.values(), sizes, strict=True):
        path.write_bytes(rng.bytes(size))
    return found


def wav_files(folder: Path, lengths: list[int], seed: int = 0) -> dict[str, Path]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    found = {f"a/c{i}.wav": folder / f"c{i}.wav" for i in range(len(lengths))}
    for path, n in zip(found.values(), lengths, strict=True):
        soundfile.write(path, 0.1 * rng.standard_normal(n), 8000)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[10, 5000, 0, 300], [70_000, 9_000_000, 100, 400_000, 3000, 1]])
def test_members_are_those_of_the_file(
    bucket: Any, tmp_path: Path, kind: str, sizes: list[int]
) -> None:  # fmt: skip
    files = files_of(tmp_path / "f", sizes)
    names = write_archive(kind, tmp_path / f"x{len(sizes)}.{kind}", files, group_rows=2)
    put(bucket, tmp_path / f"x{len(sizes)}.{kind}")
    with ThreadPoolExecutor(4) as pool:  # several threads ask at once
        read = list(pool.map(lambda name: open_bytes(f"{URL}/{name}").read(), names))
    assert read == [path.read_bytes() for path in files.values()]
    assert all(is_there(f"{URL}/{name}") for name in names)
    with open_bytes(f"{URL}/{names[0]}") as file:  # from anywhere
        file.seek(sizes[0] // 2)
        assert file.read(7) == files["m0.wav"].read_bytes()[sizes[0] // 2 :][:7]
    archive = open_archive(f"{URL}/x{len(sizes)}.{kind}")
    assert list(archive.members()) == list(open_archive(f"{tmp_path}/x{len(sizes)}.{kind}").members())


@pytest.mark.parametrize("kind", KINDS)
def test_planning_reads_no_audio_and_a_clip_its_own(
    bucket: Any, tmp_path: Path, kind: str, asked: list[tuple[int, int]]
) -> None:
    size, n = 1_200_000, 12
    names = write_archive(kind, tmp_path / f"p.{kind}", files_of(tmp_path / "f", [size] * n), group_rows=1)
    whole = (tmp_path / put(bucket, tmp_path / f"p.{kind}").rpartition("/")[2]).stat().st_size
    manifest = tmp_path / "m.csv"
    pd.DataFrame({"path": [f"{URL}/{name}" for name in names]}).to_csv(manifest, index=False)
    table = read_manifest(manifest).table
    assert table["path"].tolist() == [f"{URL}/{name}" for name in names]
    fetched = sum(stop - start for start, stop in asked)
    # Of a tar a step at each header, of the others the table of contents.
    assert fetched <= (n + 1) * (1 << 16) if kind == "tar" else fetched <= 2 * (1 << 16)
    assert fetched < whole / 10
    asked.clear()
    read_manifest(manifest)
    stamps = stamps_of(table["path"].tolist())
    assert set(stamps) == {stamp_of(f"{URL}/p.{kind}")} != {(UNKNOWN, UNKNOWN)}
    assert asked == []
    open_bytes(table["path"][5]).read()
    assert size <= sum(stop - start for start, stop in asked) < size + (1 << 17)


@pytest.mark.parametrize("kind", KINDS)
def test_of_an_archive_the_first_member_tells_whether_it_is_slowed_down(
    bucket: Any, tmp_path: Path, kind: str, asked: list[tuple[int, int]]
) -> None:
    files = {f"{i}.wav": tmp_path / f"{i}.wav" for i in range(8)}
    for path in files.values():
        write_wav(path, guano("TE: 10"), n_samples=700_000, first=True)
    names = write_archive(kind, tmp_path / f"t.{kind}", files, group_rows=1)
    put(bucket, tmp_path / f"t.{kind}")
    slow = time_expanded([f"{URL}/{name}" for name in names], workers=2)
    assert {path: header.expansion for path, header in slow.items()} == {f"{URL}/{names[0]}": 10}
    size, fetched = (tmp_path / f"t.{kind}").stat().st_size, sum(stop - start for start, stop in asked)
    assert fetched < size / 4 or size <= 1 << 23  # small ones are fetched whole


def test_headers_that_lie_close_are_read_in_ever_larger_steps(
    bucket: Any, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    files = files_of(tmp_path / "f", [20_000])
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for i in range(600):
            tar.add(files["m0.wav"], arcname=f"{i}.wav")
    put(bucket, tmp_path / "s.tar")
    assert len(list(open_archive(f"{URL}/s.tar").members())) == 600
    assert len(asked) < 12  # 12.6 MB


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_written_over_is_one_failure_and_then_the_new_one(
    bucket: Any, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"w.{kind}"
    lengths = [600_000] * 9  # 1.2 MB each: the archive is not fetched as a whole
    old, new = (wav_files(tmp_path / str(seed), lengths, seed) for seed in (0, 1))
    names = [f"{URL}/{name}" for name in write_archive(kind, path, old, group_rows=1)]
    put(bucket, path)
    local = [hash_clip(str(f), NAN, NAN, None) for f in (*old.values(), *new.values())]
    assert hash_clip(names[0], NAN, NAN, None) == local[0]
    before = stamp_of(names[0])
    write_archive(kind, path, new, group_rows=1)
    put(bucket, path)
    with pytest.raises(SoundError, match=r"^its archive was written over or removed while it was read$"):
        hash_clip(names[4], NAN, NAN, None)
    assert hash_clip(names[4], NAN, NAN, None) == local[9 + 4]
    assert hash_clip(names[0], NAN, NAN, None) == local[9]
    assert before != stamp_of(names[0]) == stamp_of(f"{URL}/{path.name}")


def flipped(path: Path, wanted: bytes) -> None:
    data = path.read_bytes()
    at = data.index(wanted) + len(wanted) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_flipped_byte_fails_with_the_words_of_a_file(bucket: Any, tmp_path: Path) -> None:
    """Of zip its member, by its checksum; of Parquet with checksums the row group."""
    files = wav_files(tmp_path / "f", [400_000] * 12)
    data = [f.read_bytes() for f in files.values()]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
        for name, path in files.items():
            zipped.write(path, name)
    pq.write_table(
        pa.table({"audio": pa.array(data, pa.binary())}), tmp_path / "b.parquet", row_group_size=3,
        compression="none", use_dictionary=False, write_page_checksum=True,
    )  # fmt: skip
    for name, members, n_bad in (
        ("b.zip", list(files), 1),
        ("b.parquet", [f"audio[{i}]" for i in range(12)], 3),
    ):
        flipped(tmp_path / name, data[4])
        put(bucket, tmp_path / name)
        said: list[list[str]] = [[], []]
        for i, root in enumerate((str(tmp_path), URL)):
            for member in members:
                try:
                    said[i].append(hash_clip(f"{root}/{name}::{member}", NAN, NAN, None))
                except SoundError as error:
                    said[i].append(f"failed: {error}")
        assert said[0] == said[1]
        assert sum(s.startswith("failed") for s in said[1]) == n_bad
        assert said[1][4].startswith("failed: ")
    assert "another checksum than it says" in "".join(said[1]) or "row group 1" in said[1][4]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_said_as_of_a_file(bucket: Any, tmp_path: Path, kind: str) -> None:
    whole = tmp_path / f"w.{kind}"
    write_archive(kind, whole, files_of(tmp_path / "f", [40_000] * 3))
    data = whole.read_bytes()
    damaged = {
        "cut": data[: len(data) // 2],
        "text": b"no archive" * 1000,
        "nothing": b"",
        "short": data[:5],
        "whole": data,
        "packed": b"\x1f\x8b" + data,
    }
    for name, content in damaged.items():
        file = tmp_path / f"{name}.{kind}"
        file.write_bytes(content)
        put(bucket, file)
        for member in ("m1.wav", "audio[1]", "absent.wav", "../m1.wav", "", "audio[99]", "other[0]"):
            local, remote = (member_problem(f"{root}/{file.name}::{member}") for root in (tmp_path, URL))
            assert remote.replace(URL, "") == local.replace(str(tmp_path), ""), (name, member)
    assert member_problem(f"{URL}/none.{kind}::a") == "its archive is not there"
    with pytest.raises(ArchiveError, match="is not there"):
        open_archive(f"{URL}/none.{kind}")
    assert not is_there(f"{URL}/none.{kind}::a")
    assert stamp_of(f"{URL}/none.{kind}::a") == (UNKNOWN, UNKNOWN)


def test_a_manifest_tells_what_is_not_there(bucket: Any, tmp_path: Path) -> None:
    write_archive("tar", tmp_path / "x.tar", files_of(tmp_path / "f", [10, 20]))
    put(bucket, tmp_path / "x.tar")
    put(bucket, tmp_path / "x.tar.gz", b"x")
    rows = ["x.tar::./m0.wav", "x.tar::M1.wav", "x.tar.gz::m0.wav", "none.zip::a.wav", "x.tar::m1.wav"]
    pd.DataFrame({"path": [f"{URL}/{row}" for row in rows]}).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ManifestError) as refused:
        read_manifest(tmp_path / "m.csv")
    said = str(refused.value)
    assert "3 problems" in said
    assert "row 3: member 'M1.wav' of s3://bucket/x.tar is not in the archive; there is 'm1.wav'" in said
    assert "row 4: archive s3://bucket/x.tar.gz is compressed as a whole" in said
    assert "row 5: archive s3://bucket/none.zip is not there (1 row needs it)" in said
    pd.DataFrame({"path": [f"{URL}/{row}" for row in (rows[0], rows[4])]}).to_csv(
        tmp_path / "m.csv", index=False
    )
    table = read_manifest(tmp_path / "m.csv").table
    assert table["path"].tolist() == [f"{URL}/x.tar::m0.wav", f"{URL}/x.tar::m1.wav"]
    assert table["utterance_id"].tolist() == [f"{URL}/x.tar::./m0", f"{URL}/x.tar::m1"]


def test_an_archive_that_changes_while_its_contents_are_read_is_no_damaged_one(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurestore.archives import object_file

    for kind in KINDS:
        path = tmp_path / f"c.{kind}"
        write_archive(kind, path, files_of(tmp_path / "f", [300_000] * 3))
        put(bucket, path)
        object_file.look_at(f"{URL}/{path.name}")
        write_archive(kind, path, files_of(tmp_path / "f", [300_000] * 3, seed=1))
        put(bucket, path)
        with pytest.raises(PassingError, match=r"^was written over or removed while it was read$"):
            open_archive(f"{URL}/{path.name}")
        assert len(list(open_archive(f"{URL}/{path.name}").members())) == 3


@pytest.mark.s3
class TestOnAServer:
    """Stores of clips in archives in a bucket and of the same clips in files."""

    def extracted(self, manifest: Path, store: Path, **more: Any) -> Any:
        options: dict[str, Any] = {"dataset": "digits", "model": "logmel", "unit_rows": 16, "workers": 2}
        return extract(ExtractConfig(manifest=manifest, store=str(store), **options | more))

    def stored(self, store: Path) -> dict[str, bytes]:
        """Every object but those that hold times and places."""
        storage = LocalStorage(store)
        places = ("/ledger", "/manifest", "/history", "zarr.json")
        return {
            k: storage.get(k) or b"" for k, _ in storage.objects("") if not any(part in k for part in places)
        }

    @pytest.fixture
    def digits(self, tmp_path: Path) -> dict[str, Path]:
        """Clips as long as spoken digits, at their rate; one of them is cut short."""
        files = wav_files(tmp_path / "digits", [2000 + 97 * i for i in range(60)])
        cut = tmp_path / "digits" / "c7.wav"
        cut.write_bytes(cut.read_bytes()[:-2000])
        return files

    def manifest(self, tmp_path: Path, name: str, files: dict[str, Path], paths: list[str]) -> Path:
        table = pd.DataFrame({"utterance_id": list(files), "path": paths})
        table["digit"] = [str(i % 10) for i in range(len(table))]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        return tmp_path / f"{name}.csv"

    @pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
    def test_a_store_is_that_of_the_files_byte_for_byte(
        self, digits: dict[str, Path], tmp_path: Path, s3_url: str, decode: str
    ) -> None:
        of_files = self.manifest(tmp_path, "files", digits, list(map(str, digits.values())))
        self.extracted(of_files, tmp_path / "files")
        expected = open_store(tmp_path / "files").features("logmel", "digits").index
        assert expected["status"].str.startswith("failed: cut short").sum() == 1
        for kind in KINDS:
            names = write_archive(kind, tmp_path / f"d.{kind}", digits)
            open_storage(s3_url).put(f"d.{kind}", (tmp_path / f"d.{kind}").read_bytes())
            manifest = self.manifest(tmp_path, kind, digits, [f"{s3_url}/{name}" for name in names])
            self.extracted(manifest, tmp_path / kind, decode=decode)
            assert self.stored(tmp_path / kind) == self.stored(tmp_path / "files")
            index = open_store(tmp_path / kind).features("logmel", "digits").index
            columns = ["utterance_id", "status", "audio_hash", "duration_s", "n_frames", "digit"]
            pd.testing.assert_frame_equal(index[columns], expected[columns])
            # What was embedded from files is the same sound there, and stays.
            again = self.extracted(manifest, tmp_path / "files")
            assert (again.n_skipped, again.n_bytes) == (60, 0)

    def test_a_flipped_byte_is_one_failed_clip(
        self, digits: dict[str, Path], tmp_path: Path, s3_url: str
    ) -> None:
        names = write_archive("zip", tmp_path / "d.zip", digits)
        archive = bytearray((tmp_path / "d.zip").read_bytes())
        archive[len(archive) // 2] ^= 1
        open_storage(s3_url).put("d.zip", bytes(archive))
        manifest = self.manifest(tmp_path, "m", digits, [f"{s3_url}/{name}" for name in names])
        failed = dict(self.extracted(manifest, tmp_path / "s").failed)
        assert len(failed) == 2
        assert failed.pop("a/c7.wav").startswith("cut short")
        said = ("is damaged in its archive", "is larger in its archive", "is cut short in its archive")
        assert next(iter(failed.values())).startswith(said)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_archive_that_changes_in_the_middle_of_a_run_fails_what_was_under_way(
        self, tmp_path: Path, s3_url: str, kind: str
    ) -> None:
        old, new = (wav_files(tmp_path / str(s), [400_000] * 16, s) for s in (0, 1))  # 12.8 MB
        names = write_archive(kind, tmp_path / f"d.{kind}", old, group_rows=1)
        storage = open_storage(s3_url)
        storage.put(f"d.{kind}", (tmp_path / f"d.{kind}").read_bytes())
        write_archive(kind, tmp_path / f"d.{kind}", new, group_rows=1)
        manifest = self.manifest(tmp_path, "m", old, [f"{s3_url}/{name}" for name in names])
        # With times nothing is opened before the run: members of zip and Parquet are kept once they are.
        pd.read_csv(manifest).assign(start_s=0, end_s=49).to_csv(manifest, index=False)
        config = ExtractConfig(
            manifest=manifest, dataset="digits", model="logmel", store=str(tmp_path / "s"), unit_rows=2,
            workers=1,
        )  # fmt: skip
        changed: list[object] = []

        def change(progress: object) -> None:
            if not changed:
                storage.put(f"d.{kind}", (tmp_path / f"d.{kind}").read_bytes())
            changed.append(progress)

        result = extract(config, change)
        index = open_store(tmp_path / "s").features("logmel", "digits").index.set_index("utterance_id")
        failed = index[index["status"] != "ok"]
        assert 1 <= len(failed) < 16
        said = "its archive was written over or removed while it was read"
        assert set(failed["status"]) == {f"failed: {said}"}
        assert set(dict(result.failed).values()) == {said}
        by_hash = {hash_clip(str(f), 0, 49, None) for f in (*old.values(), *new.values())}
        assert set(index.loc[index["status"] == "ok", "audio_hash"]) < by_hash

    def test_a_service_that_is_gone_is_no_fault_of_an_archive(
        self, s3_server: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "1")
        names = {}
        for kind in KINDS:
            names[kind] = write_archive(
                kind, tmp_path / f"o.{kind}", wav_files(tmp_path / "f", [600_000] * 9), group_rows=1
            )
            for name in ("seen", "new"):
                open_storage(s3_url).put(f"{name}.{kind}", (tmp_path / f"o.{kind}").read_bytes())
            hash_clip(f"{s3_url}/seen.{kind}::{names[kind][0].partition('::')[2]}", NAN, NAN, None)
        s3_server.kill()
        try:
            for kind in KINDS:
                for name in ("seen", "new"):
                    with pytest.raises(AudioUnreachable, match="did not answer within"):
                        hash_clip(
                            f"{s3_url}/{name}.{kind}::{names[kind][5].partition('::')[2]}", NAN, NAN, None
                        )
        finally:
            s3_server.start()
        for kind in KINDS:
            for name in ("seen", "new"):
                hash_clip(f"{s3_url}/{name}.{kind}::{names[kind][5].partition('::')[2]}", NAN, NAN, None)
