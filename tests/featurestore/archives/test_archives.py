"""What archives hold, read where it lies; and what is refused, by its reason."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.archives import opened, parquet_file
from featurestore.archives.interface import ArchiveError, FileStretch, PassingError, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.opened import is_there, member_problem, open_archive, open_bytes
from featurestore.untrusted.arrow_process import ARROW
from tests.featurestore.archives.packed import AUDIO, KINDS, write_aborting_parquet, write_archive

CONTENT = {f"a/{i}.bin": os.urandom(1000 + i) for i in range(10)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, data in CONTENT.items():
        path = tmp_path / "plain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found[name] = path
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_what_was_put_in(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    archive = tmp_path / f"x.{kind}"
    names = write_archive(kind, archive, files)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for name, data in zip(names, CONTENT.values(), strict=True):
        with open_bytes(str(tmp_path / name)) as file:
            assert file.read() == data
            assert file.seek(-3, os.SEEK_END) == len(data) - 3
            assert file.read() == data[-3:]
            assert file.seek(10) == file.tell() == 10
            assert file.read(5) == data[10:15]
        assert is_there(str(tmp_path / name))
    assert [f"x.{kind}::{m}" for m in open_archive(str(archive)).members()] == names
    assert sorted(p.name for p in tmp_path.rglob("*")) == before  # nothing was unpacked


FRESH = """
import sys
from featurestore.archives.opened import open_bytes
for name in sys.argv[1:]:
    with open_bytes(name) as file:
        print(len(file.read()))
assert "pandas" not in sys.modules
"""


def test_they_are_read_where_nothing_else_is_imported(files: dict[str, Path], tmp_path: Path) -> None:
    """As in a decoder process: what pandas imports along with itself is not there."""
    names = [write_archive(kind, tmp_path / f"x.{kind}", files)[3] for kind in KINDS]
    command = [sys.executable, "-c", FRESH, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1003"] * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_in_it(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(kind, tmp_path / f"x.{kind}", files)
    absent = {"parquet": "audio[10]"}.get(kind, "a/10.bin")
    assert "is not in the" in member_problem(f"{tmp_path}/x.{kind}::{absent}")
    for name in ("", "/etc/passwd", "../plain/a/0.bin"):
        assert "leads out of the archive" in member_problem(f"{tmp_path}/x.{kind}::{name}")
    assert "is not there" in member_problem(f"{tmp_path}/y.{kind}::{absent}")
    with pytest.raises(ArchiveError, match="is not in the"):
        open_bytes(f"{tmp_path}/x.{kind}::{absent}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_contents_are_read_once_and_anew_when_the_file_is_another(
    kind: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / f"x.{kind}"
    names = write_archive(kind, archive, files)
    seen: list[str] = []
    read = opened._read
    monkeypatch.setattr(opened, "_read", lambda path, *more: (seen.append(path), read(path, *more))[1])
    for name in names * 2:
        open_bytes(str(tmp_path / name)).close()
    assert seen == [str(archive)]
    fewer = dict(list(files.items())[:3])
    os.utime(archive, ns=(1, 1))
    write_archive(kind, archive, fewer)
    assert member_problem(str(tmp_path / names[-1]))
    assert seen == [str(archive)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    archive = tmp_path / f"x.{kind}"
    names = write_archive(kind, archive, files)
    data = archive.read_bytes()
    if kind == "tar":
        with tarfile.open(archive) as tar:
            stop = tar.getmember("./a/5.bin").offset_data + 600
        for n_bytes, last in ((stop, 5), (stop - 1000, 4)):  # in a member, and in a header
            archive.write_bytes(data[:n_bytes])
            problem = member_problem(str(tmp_path / names[0]))
            assert re.match(
                rf"its archive is (cut short or )?damaged (at|after) its member 'a/{last}.bin'", problem
            )
    else:
        archive.write_bytes(data[: len(data) // 2])
        with pytest.raises(ArchiveError, match=r"is no (zip|Parquet) file, or is cut short"):
            open_archive(str(archive))
    archive.write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"is no .* file"):
        open_archive(str(archive))


def test_tars_that_are_damaged_or_odd(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("twice", "twice", "../out", "/abs", "good"):
            info = tarfile.TarInfo(name)
            info.size = 700
            tar.addfile(info, io.BytesIO(b"x" * 700))
    archive = open_archive(str(path))
    assert list(archive.members()) == ["good"]
    assert all("a link or a device" in archive.problem(n) for n in ("link", "hard", "pipe"))
    assert "more than once" in archive.problem("twice")
    data = bytearray(path.read_bytes())
    at = data.index(b"good\0")
    data[at] ^= 1  # its header no longer has its checksum: Python's tarfile takes that for the end
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="is damaged after its member 'twice'"):
        open_archive(str(path))


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar", "w:gz"), ("tar", "w:xz")]
)
def test_compressed_tars_are_refused_with_the_way_out(suffix: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    with tarfile.open(path, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.wav"))
    assert "gunzip -k" in member_problem(f"{path}::a.wav")


def test_zips_that_are_damaged_or_odd(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
        zipped.writestr("../out", b"x")
        zipped.writestr("folder/", b"")
        zipped.writestr("stored", b"needle" * 100, zipfile.ZIP_STORED)
        zipped.writestr("good", b"y" * 100)
        huge = zipfile.ZipInfo("huge")
        zipped.writestr(huge, b"z")
        huge.file_size = 1 << 40  # as its directory will say
        locked = zipfile.ZipInfo("locked")
        zipped.writestr(locked, b"z")
        locked.flag_bits |= 1
    archive = open_archive(str(path))
    assert sorted(archive.members()) == ["good", "stored"]
    assert "a link or a device" in archive.problem("link")
    assert "use a tar file" in archive.problem("huge")
    assert "encrypted" in archive.problem("locked")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"needle", b"noodle", 1))
    with pytest.raises(ArchiveError, match=r"is damaged in its archive .*another checksum"):
        open_bytes(f"{path}::stored")
    assert open_bytes(f"{path}::good").read() == b"y" * 100


def test_a_zip_that_holds_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        bomb = zipfile.ZipInfo("bomb")
        bomb.compress_type = zipfile.ZIP_DEFLATED
        zipped.writestr(bomb, bytes(1 << 24))
        bomb.file_size = 100
    with pytest.raises(ArchiveError, match="is larger in its archive than the 100 bytes"):
        open_bytes(f"{path}::bomb")


def test_parquet_cells(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    cells = [
        {"bytes": b"abc", "path": None},
        {"bytes": None, "path": "/x/a.wav"},
        None,
        {"bytes": b"", "path": ""},
    ]
    table = pa.table(
        {"audio": pa.array(cells, AUDIO), "alone": [b"1", b"2", b"3", None], "text": list("abcd")}
    )
    pq.write_table(table, path, row_group_size=3)
    archive = open_archive(str(path))
    assert isinstance(archive, parquet_file.ParquetArchive)
    assert archive.audio_columns() == ["audio", "alone"]
    assert open_bytes(f"{path}::audio[0]").read() == b"abc"
    assert open_bytes(f"{path}::alone[2]").read() == b"3"
    assert open_bytes(f"{path}::audio[3]").read() == b""
    for member in ("audio[1]", "audio[2]", "alone[3]"):
        with pytest.raises(ArchiveError, match="holds no bytes"):
            open_bytes(f"{path}::{member}")
    assert "columns of bytes, or of a struct with bytes, are: 'audio', 'alone'" in archive.problem("text[0]")
    assert "COLUMN[ROW]" in archive.problem("audio/0")


def test_a_row_group_is_read_once_and_what_is_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    cells = [{"bytes": os.urandom(1000), "path": None} for _ in range(40)]
    pq.write_table(pa.table({"audio": pa.array(cells, AUDIO)}), path, row_group_size=10)
    read: list[int] = []
    load = parquet_file.ParquetArchive._row_group
    monkeypatch.setattr(
        parquet_file.ParquetArchive,
        "_row_group",
        lambda self, leaf, group: (read.append(group), load(self, leaf, group))[1],
    )
    monkeypatch.setattr(parquet_file, "_KEPT", Kept(25_000))  # two of four
    for i in range(40):
        assert open_bytes(f"{path}::audio[{i}]").read() == cells[i]["bytes"]
    assert read == [0, 1, 2, 3]
    for i in (35, 25, 5, 6):
        open_bytes(f"{path}::audio[{i}]")
    assert read == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip"])
def test_a_flipped_byte_in_parquet_costs_its_row_group_or_the_file(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "x.parquet"
    rows = [{"bytes": os.urandom(5000), "path": None} for i in range(6)]
    pq.write_table(
        pa.table({"audio": pa.array(rows, AUDIO)}),
        path,
        row_group_size=3,
        compression=codec,
        write_page_checksum=True,
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    place = pq.read_metadata(path).row_group(1).column(0)
    data[place.data_page_offset + place.total_compressed_size // 2] ^= 0x10
    path.write_bytes(data)
    assert open_bytes(f"{path}::audio[0]").read() == rows[0]["bytes"]
    for row in (3, 4, 5):
        with pytest.raises(ArchiveError, match="its row group 1 cannot be read"):
            open_bytes(f"{path}::audio[{row}]")


def test_a_row_group_that_is_too_large_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    cells = [{"bytes": bytes(1000), "path": None}] * 200
    pq.write_table(pa.table({"audio": pa.array(cells, AUDIO)}), path, use_dictionary=False)
    monkeypatch.setattr(parquet_file, "MOST_GROUP_BYTES", 100_000)
    with pytest.raises(ArchiveError, match="row_group_size=10"):
        open_bytes(f"{path}::audio[0]")


def test_a_changed_bit_at_which_arrow_aborts_is_an_error(tmp_path: Path) -> None:
    path, intact = tmp_path / "x.parquet", tmp_path / "y.parquet"
    write_aborting_parquet(path)
    pq.write_table(pa.table({"audio": [b"abc"]}), intact)
    assert open_bytes(f"{intact}::audio[0]").read() == b"abc"
    for _ in range(2):
        with pytest.raises(ArchiveError, match=r"^its archive is no Parquet file.*SIGABRT") as error:
            open_bytes(f"{path}::audio[0]")
        assert "\n" not in str(error.value)
        assert not isinstance(error.value, PassingError)
    other = tmp_path / "z.parquet"
    other.write_bytes(intact.read_bytes())
    assert open_bytes(f"{other}::audio[0]").read() == b"abc"


def _ends(to: BinaryIO, *_: Any, **__: Any) -> int:
    os.kill(os.getpid(), int(os.environ["ENDS_WITH"]))
    return 0


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGKILL])
def test_a_reader_that_is_lost_costs_its_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    """Where it was killed, for want of memory, the next time may do."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"audio": [b"abc", b"def"]}), path, row_group_size=1)
    assert open_bytes(f"{path}::audio[0]").read() == b"abc"
    ARROW.close()
    monkeypatch.setenv("ENDS_WITH", str(int(by)))
    with monkeypatch.context() as patched:
        patched.setattr(parquet_file, "decode_row_group", _ends)
        with pytest.raises(ArchiveError, match=f"group 1 cannot be read: its reader ended with {by.name}"):
            open_bytes(f"{path}::audio[1]")
    if by == signal.SIGKILL:
        assert open_bytes(f"{path}::audio[1]").read() == b"def"
    else:
        with pytest.raises(ArchiveError, match="SIGSEGV"):
            open_bytes(f"{path}::audio[1]")


def test_a_parquet_file_that_is_written_over_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"audio": [b"abc"]}), path)
    archive = open_archive(str(path))
    ARROW.close()  # so that it has no footer any more
    pq.write_table(pa.table({"audio": [b"abcdef"]}), path)
    with pytest.raises(PassingError, match="was written over while it was read"):
        archive.open("audio[0]")


def test_one_thread_loads_for_all_and_a_failure_is_kept() -> None:
    loaded: list[int] = []
    gate = threading.Barrier(4)
    kept: Kept[str] = Kept(10)

    def load() -> tuple[str, int]:
        loaded.append(1)
        return "x", 20  # larger than all that is kept: it stays until another comes

    def ask() -> None:
        gate.wait()
        assert kept.get("k", load) == "x"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [1]

    def fail() -> tuple[str, int]:
        loaded.append(2)
        raise ArchiveError("broken")

    for _ in range(2):
        with pytest.raises(ArchiveError, match="broken"):
            kept.get("f", fail)
    assert loaded == [1, 2]
    assert kept.get("k", load) == "x"
    assert loaded == [1, 2, 1]  # it made room

    def pass_by() -> tuple[str, int]:
        loaded.append(3)
        raise failed("cannot be read ({})", OSError(5, "Input/output error"))

    for _ in range(2):
        with pytest.raises(PassingError, match=r"cannot be read \(Input/output error\)"):
            kept.get("p", pass_by)
    assert loaded[3:] == [3, 3]  # the next time it may be gone


def test_a_tar_that_is_written_over_while_it_is_read(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive("tar", tmp_path / "x.tar", files)
    archive = open_archive(f"{tmp_path}/x.tar")
    os.utime(tmp_path / "x.tar", ns=(1, 1))
    with pytest.raises(PassingError, match="was written over while it was read"):
        archive.open("a/0.bin")
    (tmp_path / "x.tar").unlink()
    with pytest.raises(PassingError, match="its archive cannot be opened"):
        archive.open("a/0.bin")


@pytest.mark.parametrize("kind", KINDS)
def test_archives_that_wait_take_no_descriptors(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else pytest.skip("no /proc")
    for i in range(20):
        names = write_archive(kind, tmp_path / f"{i}.{kind}", dict(list(files.items())[:2]))
        for name in names:
            open_bytes(str(tmp_path / name)).close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_stretch_has_a_place_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    descriptors = [os.open(path, os.O_RDONLY) for _ in range(2)]
    with FileStretch(descriptors[0], 2, 8) as a, FileStretch(descriptors[1], 0, 10) as b:
        assert (a.read(3), b.read(4), a.read(), a.read()) == (b"234", b"0123", b"567", b"")
        assert (a.seek(-2, os.SEEK_END), a.read()) == (4, b"67")
        assert (a.seek(100), a.read()) == (100, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])
