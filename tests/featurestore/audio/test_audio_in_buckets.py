"""Audio in a bucket: what files give, bit for bit; and what is no fault of a clip fails none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.archives.object_file import ObjectFile, look_at, piece_of
from featurestore.audio.blocks import SoundError, mono_blocks, read_header
from featurestore.audio.segment import hash_clip, header
from featurestore.audit import AuditConfig, run_audit
from featurestore.backends.storage import LocalStorage, open_storage
from featurestore.errors import AudioUnreachable, ManifestError, OtherAudio
from featurestore.manifest.location import UNKNOWN, stamp_of, stamps_of
from featurestore.manifest.table import read_manifest
from tests.featurestore.s3server import BUCKET, OPEN_BUCKET, S3Server, is_one_line_of_an_outage

ROOT = Path(__file__).parents[3]
NAN = float("nan")
RATE = 16_000


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32)


def write(path: Path, n_samples: int, seed: int = 0, **options: Any) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(n_samples, seed), RATE, **options)
    return path.read_bytes()


class TestWithoutAServer:
    """The same client over objects in memory: what is asked for, and what its answers come to."""

    URL = "s3://bucket"

    def put(self, memory: Any, key: str, data: bytes) -> str:
        import obstore

        obstore.put(memory, key, data)
        return f"{self.URL}/{key}"

    @pytest.mark.parametrize("n_bytes", [1, 300_000, 9_000_000])
    def test_any_bytes_are_those_of_the_object(self, bucket: Any, n_bytes: int) -> None:
        data = np.random.default_rng(n_bytes).bytes(n_bytes)
        file = ObjectFile(self.put(bucket, f"{n_bytes}.bin", data))
        rng = np.random.default_rng(0)
        for start in [0, n_bytes - 1, *rng.integers(0, n_bytes, 20).tolist()]:
            wanted = int(rng.integers(0, 5_000_000))
            file.seek(start)
            assert file.read(wanted) == data[start : start + wanted]
        file.seek(n_bytes)
        assert file.read(10) == b""

    def test_a_small_object_is_fetched_once_and_of_a_large_one_a_header_is_little(
        self, bucket: Any, tmp_path: Path, asked: list[tuple[int, int]]
    ) -> None:
        small = write(tmp_path / "a.wav", RATE)
        url = self.put(bucket, "a.wav", small)
        hash_clip(url, NAN, NAN, None)
        hash_clip(url, 0.1, 0.5, None)
        assert asked == [(0, len(small))]
        asked.clear()
        large = write(tmp_path / "b.wav", 400 * RATE)
        url = self.put(bucket, "b.wav", large)
        assert header(url) == (400 * RATE, RATE)
        assert asked == [(0, 1 << 16)]
        assert hash_clip(url, 390, 391, None) == hash_clip(str(tmp_path / "b.wav"), 390, 391, None)
        assert len(asked) == 2
        assert asked[1][1] - asked[1][0] <= 1 << 22

    @pytest.mark.parametrize(
        ("name", "options"), [("a.flac", {}), ("a.ogg", {}), ("a.mp3", {}), ("a.aiff", {})]
    )
    def test_containers_are_read_as_from_files(
        self, bucket: Any, tmp_path: Path, name: str, options: dict[str, str]
    ) -> None:
        file = tmp_path / name
        url = self.put(bucket, name, write(file, 3 * RATE, **options))
        assert read_header(url) == read_header(str(file))
        for start, end in ((NAN, NAN), (0.5, 2.25)):
            assert hash_clip(url, start, end, None) == hash_clip(str(file), start, end, None)

    @pytest.mark.parametrize("damage", ["cut short", "no audio", "nothing"])
    def test_broken_objects_fail_with_the_words_of_broken_files(
        self, bucket: Any, tmp_path: Path, damage: str
    ) -> None:
        whole = write(tmp_path / "a.wav", RATE)
        data = {"cut short": whole[: len(whole) // 2], "no audio": b"x" * 1000, "nothing": b""}[damage]
        (tmp_path / "b.wav").write_bytes(data)
        url = self.put(bucket, "b.wav", data)
        with pytest.raises(SoundError) as of_file:
            hash_clip(str(tmp_path / "b.wav"), NAN, NAN, None)
        with pytest.raises(SoundError) as of_object:
            hash_clip(url, NAN, NAN, None)
        assert str(of_object.value) == str(of_file.value)

    def test_an_object_that_is_not_there(self, bucket: Any, tmp_path: Path) -> None:
        url = f"{self.URL}/none.wav"
        with pytest.raises(SoundError, match="no such file"):
            hash_clip(url, NAN, NAN, None)
        assert stamps_of([url, str(tmp_path)])[0] == (UNKNOWN, UNKNOWN)
        pd.DataFrame({"path": [self.put(bucket, "a.wav", b"x"), url]}).to_csv(tmp_path / "m.csv", index=False)
        with pytest.raises(ManifestError, match=r"row 3: no object 's3://bucket/none.wav'"):
            read_manifest(tmp_path / "m.csv")

    def test_an_object_that_is_written_over_looks_so(self, bucket: Any, tmp_path: Path) -> None:
        """Within one second too, and with as many bytes."""
        url = self.put(bucket, "a.wav", write(tmp_path / "a.wav", RATE))
        before = stamp_of(url)
        self.put(bucket, "a.wav", write(tmp_path / "a.wav", RATE, seed=1))
        after = stamp_of(url)
        assert before[0] == after[0]
        assert before != after
        assert look_at(url, anew=False).mtime_ns == after[1]

    def test_an_object_that_is_written_over_while_it_is_read_fails(self, bucket: Any, tmp_path: Path) -> None:
        url = self.put(bucket, "a.wav", write(tmp_path / "a.wav", 600 * RATE))
        blocks = mono_blocks(url, NAN, NAN, None)
        next(blocks)
        self.put(bucket, "a.wav", write(tmp_path / "a.wav", 600 * RATE, seed=1))
        with pytest.raises(SoundError, match="was written over or removed while it was read"):
            list(blocks)

    def test_names_that_lead_nowhere_are_refused(self, bucket: Any, tmp_path: Path) -> None:
        for path, said in (
            ("s3://key:secret@bucket/a.wav", "credentials"),
            ("s3://bucket/a.wav?X-Amz-Signature=5ec", "options"),
            ("s3://bucket", "names no object"),
            ("s3://bucket/a.tar::b.wav", "archive s3://bucket/a.tar is not there"),
            ("s3://bucket/a.tar::../b.wav", "leads out of the archive|is not there"),
            ("s3://bucket/a//b.tar::b.wav", "without empty parts"),
            ("s3://key:secret@bucket/a.tar::b.wav", "credentials"),
        ):
            pd.DataFrame({"path": [path]}).to_csv(tmp_path / "m.csv", index=False)
            with pytest.raises(ManifestError, match=said) as refused:
                read_manifest(tmp_path / "m.csv")
            assert "\n" not in str(refused.value)
            assert "secret" not in str(refused.value)
            assert "5ec" not in str(refused.value)

    def test_an_audit_finds_in_a_bucket_what_it_finds_in_files(self, bucket: Any, tmp_path: Path) -> None:
        whole = write(tmp_path / "a.wav", RATE)
        files = {"a.wav": whole, "copy.wav": whole, "cut.wav": whole[: len(whole) // 2], "none.wav": b""}
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
            self.put(bucket, name, data)
        found = []
        for root in (str(tmp_path), self.URL):
            table = pd.DataFrame({"utterance_id": list(files), "path": [f"{root}/{name}" for name in files]})
            table.to_csv(tmp_path / "m.csv", index=False)
            report = run_audit(AuditConfig(manifest=tmp_path / "m.csv", workers=1))
            found.append([str(f).replace(f"{root}/", "") for f in report.findings])
        assert found[0] == found[1]
        assert len(found[0]) >= 2

    def test_ids_are_made_of_names_as_those_of_files_are(self, bucket: Any, tmp_path: Path) -> None:
        urls = [self.put(bucket, name, b"x") for name in ("a b/ñ 1.wav", "c.wav")]
        pd.DataFrame({"path": urls}).to_csv(tmp_path / "m.csv", index=False)
        table = read_manifest(tmp_path / "m.csv").table
        assert table["path"].tolist() == urls
        assert table["utterance_id"].tolist() == ["s3://bucket/a b/ñ 1", "s3://bucket/c"]


def test_pieces_cover_what_is_asked_for() -> None:
    for size in (10, 1 << 18, (1 << 18) + 1, 1 << 23, (1 << 23) + 1, 1 << 30):
        for at in (0, 1, 1 << 16, size - 1):
            if at < size:
                start, stop = piece_of(at, 1, size)
                assert start <= at < stop <= size
                assert stop - start <= 1 << 23


@pytest.mark.s3
class TestOnAServer:
    """Stores made of objects and of the same files; outages; buckets that anyone may read."""

    @pytest.fixture
    def corpus(self, tmp_path: Path, s3_url: str) -> tuple[Path, Path]:
        """Manifests of a corpus in files and in the bucket: clips, a broken one, segments of recordings."""
        folder, rows = tmp_path / "audio", []
        for i in range(16):
            suffix = ("wav", "flac")[i % 2]
            write(folder / f"clip {i:02d}.{suffix}", 6000 + 37 * i, seed=i)
            rows.append((f"clip {i:02d}.{suffix}", NAN, NAN))
        whole = (folder / "clip 00.wav").read_bytes()
        (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
        rows.append(("cut.wav", NAN, NAN))
        for name, seconds in (("long ñ%20.wav", 300), ("short.flac", 20)):  # 9.6 MB: read in blocks
            write(folder / name, seconds * RATE, seed=99)
            rows += [(name, at, at + 0.5) for at in np.linspace(0, seconds - 1, 6).round(2).tolist()]
        table = pd.DataFrame(rows, columns=["path", "start_s", "end_s"])
        table.insert(0, "utterance_id", [f"u{i}" for i in range(len(table))])
        table["kind"] = ["ab"[i % 2] for i in range(len(table))]
        storage = open_storage(s3_url)
        for file in folder.iterdir():
            storage.put(f"audio/{file.name}", file.read_bytes())
        table.to_csv(folder / "m.csv", index=False)
        table.assign(path=f"{s3_url}/audio/" + table["path"]).to_csv(tmp_path / "s3.csv", index=False)
        return folder / "m.csv", tmp_path / "s3.csv"

    def extracted(self, manifest: Path, store: Path, **more: Any) -> Any:
        return extract(
            ExtractConfig(
                manifest=manifest,
                dataset="calls",
                model="logmel",
                store=str(store),
                unit_rows=8,
                workers=2,
                **more,
            )
        )

    def stored(self, store: Path) -> dict[str, bytes]:
        """Every object but those that hold times and places."""
        storage = LocalStorage(store)
        return {
            k: storage.get(k) or b""
            for k, _ in storage.objects("")
            if not any(part in k for part in ("/ledger", "/manifest", "/history", "zarr.json"))
        }

    @pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
    def test_a_store_is_that_of_the_files_byte_for_byte(
        self, corpus: tuple[Path, Path], tmp_path: Path, decode: str
    ) -> None:
        for manifest, name in zip(corpus, ("files", "objects"), strict=True):
            self.extracted(manifest, tmp_path / name, decode=decode)
        assert self.stored(tmp_path / "objects") == self.stored(tmp_path / "files")
        of_files, of_objects = (
            open_store(tmp_path / n).features("logmel", "calls").index.set_index("utterance_id")
            for n in ("files", "objects")
        )
        assert of_files["status"].str.startswith("failed: cut short").sum() == 1
        columns = ["status", "n_frames", "duration_s", "audio_hash"]
        pd.testing.assert_frame_equal(of_objects[columns], of_files.loc[of_objects.index, columns])

    def test_audio_that_moves_into_a_bucket_is_the_same_audio_and_other_audio_is_refused(
        self, corpus: tuple[Path, Path], tmp_path: Path, s3_url: str
    ) -> None:
        store = tmp_path / "s"
        self.extracted(corpus[0], store)
        before = self.stored(store)
        notes = " ".join(self.extracted(corpus[1], store).notes)
        assert "elsewhere than when they were embedded, with the same audio" in notes
        assert self.stored(store) == before
        assert not any("same audio" in note for note in self.extracted(corpus[1], store).notes)
        write(tmp_path / "other.wav", 6000, seed=1234)
        open_storage(s3_url).put("audio/clip 00.wav", (tmp_path / "other.wav").read_bytes())
        with pytest.raises(OtherAudio, match="'u0'"):
            self.extracted(corpus[1], store)

    def test_a_bucket_that_anyone_may_read_needs_no_key(
        self, s3_server: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = write(tmp_path / "a.wav", RATE)
        for bucket in (OPEN_BUCKET, BUCKET):
            open_storage(f"s3://{bucket}/{tmp_path.name}").put("a.wav", data)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        local = hash_clip(str(tmp_path / "a.wav"), NAN, NAN, None)
        assert hash_clip(f"s3://{OPEN_BUCKET}/{tmp_path.name}/a.wav", NAN, NAN, None) == local
        with pytest.raises(AudioUnreachable, match="access denied"):
            stamp_of(f"s3://{BUCKET}/{tmp_path.name}/a.wav")

    def test_an_outage_in_the_middle_of_a_recording_is_no_fault_of_the_recording(
        self, s3_server: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "1")
        open_storage(s3_url).put("long.wav", write(tmp_path / "long.wav", 600 * RATE))
        blocks = mono_blocks(f"{s3_url}/long.wav", NAN, NAN, None)
        next(blocks)
        s3_server.kill()
        try:
            with pytest.raises(AudioUnreachable, match="did not answer within"):
                list(blocks)
        finally:
            s3_server.start()
        assert capfd.readouterr().err == ""

    def start(self, manifest: Path, store: Path, retry_s: float) -> subprocess.Popen[str]:
        options = f"--quiet --model logmel --dataset calls --unit-rows 1 --workers 1 --manifest {manifest}"
        return subprocess.Popen(
            [sys.executable, "-m", "cli", "extract", *options.split(), "--store", str(store)],
            cwd=ROOT,
            env={**os.environ, "FEATURESTORE_RETRY_S": str(retry_s)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.slow
    def test_a_run_ends_in_one_line_when_the_audio_is_gone_and_goes_on_when_it_is_back(
        self, corpus: tuple[Path, Path], s3_server: S3Server, tmp_path: Path
    ) -> None:
        table = pd.read_csv(corpus[1])
        many = pd.concat([table.assign(utterance_id=table["utterance_id"] + f"-{i}") for i in range(6)])
        many.to_csv(corpus[1], index=False)
        store = tmp_path / "s"
        run = self.start(corpus[1], store, retry_s=1)
        try:
            self.until_committed(5, run, store)
            s3_server.kill()
            _, said = run.communicate(timeout=120)
        finally:
            run.kill()
            s3_server.start()
        is_one_line_of_an_outage(run.returncode, said, f"s3://{BUCKET}")
        index = open_store(store).features("logmel", "calls").index
        assert 5 <= len(index) < len(many)
        assert not index["status"].str.contains("answer|Connect|s3://").any()
        run = self.start(corpus[1], store, retry_s=60)
        try:
            said = "".join(run.communicate(timeout=200))
        finally:
            run.kill()
        assert run.returncode == 0, said
        whole = open_store(store).features("logmel", "calls").index
        assert len(whole) == len(many)
        assert whole["status"].ne("ok").sum() == 6  # those that are cut short, and no others

    def until_committed(self, n_units: int, run: subprocess.Popen[str], store: Path) -> None:
        deadline = time.monotonic() + 120
        while len(list(store.glob("logmel/calls/ledger/c/*"))) < n_units:
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
