"""Files for people: whole or not at all, with the permissions that the user's umask leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from featurestore.outputs import put_file

WRITE = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[1], 8))
from featurestore.outputs import put_file
put_file(b"x", Path("made"))
"""


@pytest.mark.parametrize(("umask", "mode"), [("022", 0o644), ("077", 0o600), ("002", 0o664)])
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: str, mode: int) -> None:
    subprocess.run([sys.executable, "-c", WRITE, umask], cwd=tmp_path, check=True)
    assert (tmp_path / "made").stat().st_mode & 0o777 == mode
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_the_umask_is_never_changed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one for all threads: files that others make at that moment would be open to everybody."""
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", lambda mask: asked.append(mask) or 0o022)
    threads = [
        threading.Thread(target=put_file, args=(b"x" * 1000, tmp_path / f"f{i % 3}")) for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f0", "f1", "f2"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("x")
    with pytest.raises(OSError, match="folder"):
        put_file(b"x", tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
