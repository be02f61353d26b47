"""An audit looks into archives as it looks into folders."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from featurestore.audit import AuditConfig, run_audit
from tests.featurestore.archives.packed import KINDS, pack, write_archive
from tests.featurestore.audit.conftest import call
from tests.featurestore.audit.test_audit import alarms, put


@pytest.fixture
def faulty(corpus: Path) -> Path:
    """A copy of a clip, a copy at another rate, silence, and a file that is none."""
    import soundfile
    import soxr

    table = pd.read_csv(corpus, dtype=str, keep_default_na=False).head(24)
    table.to_csv(corpus, index=False)
    x = soundfile.read(corpus.parent / "clip00.wav", dtype="float32")[0]
    put(corpus, 1, x)
    put(corpus, 3, soxr.resample(call(2, 9000 + 200 * (2 * 7 % 31)), 16_000, 24_000), 24_000)
    put(corpus, 4, 0 * x)
    (corpus.parent / "clip05.wav").write_text("no audio")
    return corpus


def test_what_is_found_is_what_is_found_in_files(faulty: Path) -> None:
    expected = run_audit(AuditConfig(manifest=faulty))
    assert {"duplicate", "recoded-copy", "silent", "damaged-file"} <= set(alarms(expected))
    for kind in KINDS:
        found = run_audit(AuditConfig(manifest=pack(faulty, kind)))
        assert alarms(found) == alarms(expected), kind
        assert found.facts == expected.facts
        assert found.copies.identical == expected.copies.identical
        assert found.copies.recoded == expected.copies.recoded


def test_what_is_missing_is_a_finding(corpus: Path) -> None:
    packed = pack(corpus, "zip")
    files = {p.name: p for p in sorted(corpus.parent.glob("*.wav"))[:50]}
    write_archive("zip", corpus.parent / "packed.zip", files)
    report = run_audit(AuditConfig(manifest=packed))
    assert alarms(report)["damaged-file"] == 10
    (finding,) = (f for f in report.findings if f.kind == "damaged-file")
    assert finding.examples[0].detail == "is not in the archive"
    (corpus.parent / "packed.zip").write_bytes(b"PK")
    report = run_audit(AuditConfig(manifest=packed))
    assert alarms(report)["damaged-file"] == 60
    (corpus.parent / "packed.zip").unlink()
    (finding,) = (f for f in run_audit(AuditConfig(manifest=packed)).findings if f.kind == "damaged-file")
    assert finding.examples[0].detail == "no such file"
