"""The forms of an audit: text, JSON and a page that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner
from PIL import Image

import cli
from featurestore.audit import AuditConfig, run_audit, write_audit
from featurestore.audit.audit_files import breakable
from featurestore.audit.thumbnails import HEIGHT, WIDTH, thumbnail
from featurestore.errors import StoreError
from featurestore.manifest.table import read_manifest
from tests.featurestore.audit.conftest import RATE_HZ, call


def test_all_forms_are_written_and_names_are_never_markup(corpus: Path, tmp_path: Path) -> None:
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False)
    table.loc[9, "utterance_id"] = "<script>alert(1)</script> [bold]"
    table.loc[3, "call"] = "<b>phee</b>"
    table.to_csv(corpus, index=False)
    soundfile.write(corpus.parent / "clip09.wav", np.clip(20 * call(9), -1, 1), RATE_HZ)
    report = run_audit(AuditConfig(manifest=corpus))
    paths = write_audit(report, tmp_path / "out")
    page = paths.html.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert "img" in tags
    loaded = json.loads(paths.json.read_text(encoding="utf-8"))
    assert [f["kind"] for f in loaded["findings"]] == [f.kind for f in report.findings]
    text = paths.text.read_text(encoding="utf-8")
    assert "<script>alert(1)</script> [bold]" in text
    for finding in report.findings:
        assert finding.text.split(";")[0][:40] in text.replace("\n", " ")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another --out"):
        write_audit(report, tmp_path / "file" / "out")


@pytest.mark.slow
def test_every_example_is_in_the_files_and_copies_become_groups(corpus: Path, tmp_path: Path) -> None:
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False)
    for i in range(0, 24, 2):  # the next clip is this one in Vorbis, in another group
        x, _ = soundfile.read(corpus.parent / f"clip{i:02d}.wav", dtype="float32")
        soundfile.write(corpus.parent / f"copy{i:02d}.ogg", x, RATE_HZ)
        table.loc[i + 1, "path"] = f"copy{i:02d}.ogg"
    table["group"] = [f"g{i // 30}" if i >= 30 else "" for i in range(len(table))]
    table.loc[31, ["path", "group"]] = ["clip00.wav", "=g"]
    table.to_csv(corpus, index=False)
    new = tmp_path / "new.csv"
    arguments = ["audit", str(corpus), "--out", str(tmp_path / "out"), "--group-copies", str(new), "-q"]
    for _ in range(2):  # our own files are replaced
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == 1, (result.output, result.exception)
    assert "and 9 more" in result.output
    found = {f["kind"]: f for f in json.loads((tmp_path / "out/audit.json").read_text())["findings"]}
    pairs = {(e["name"], e["other_name"]) for e in found["recoded-copy"]["examples"]}
    wanted = {(f"u{i:02d}", f"u{i + 1:02d}") for i in range(0, 24, 2)} | {("u01", "u31")}
    assert pairs == wanted
    assert found["recoded-copy"]["count"] == 13
    rows = pd.read_csv(tmp_path / "out/findings.csv", dtype=str, keep_default_na=False)
    listed = rows[rows["audit_finding"] == "recoded-copy"]
    assert set(zip(listed["name"], listed["other"], strict=True)) == wanted
    assert (rows["audit_finding"] == "duplicate").sum() == 1
    page = (tmp_path / "out/index.html").read_text()
    assert "And 5 more, in findings.csv" in page
    grouped = read_manifest(new).table.set_index("utterance_id")
    assert grouped.loc["u00", "group"] == grouped.loc["u01", "group"] == grouped.loc["u31", "group"]
    assert grouped.loc["u02", "group"] == grouped.loc["u03", "group"] == "clip02.wav"
    assert grouped["group"].nunique() == 60 - 30 - 12 + 1
    assert list(grouped["call"]) == list(table["call"])
    refused = CliRunner().invoke(cli.main, [*arguments[:-2], str(corpus), "-q"])
    assert refused.exit_code == 2
    assert "this is the manifest that is audited" in refused.output
    table.assign(call="mine").to_csv(new.with_name("mine.csv"), index=False)
    refused = CliRunner().invoke(cli.main, [*arguments[:-2], str(new.with_name("mine.csv")), "-q"])
    assert refused.exit_code == 2
    assert "with other groups, and would be lost; choose another name" in refused.output
    assert set(pd.read_csv(new.with_name("mine.csv"))["call"]) == {"mine"}


def test_a_page_shows_both_clips_of_a_pair_and_leads_to_each_finding(corpus: Path, tmp_path: Path) -> None:
    x, _ = soundfile.read(corpus.parent / "clip09.wav", dtype="float32")
    soundfile.write(corpus.parent / "clip05.wav", 0.5 * x[700:], RATE_HZ)
    report = run_audit(AuditConfig(manifest=corpus))
    (pair,) = (f for f in report.findings if f.kind == "shifted-copy")
    assert (pair.examples[0].name, pair.examples[0].row, pair.examples[0].other) == ("u05", 5, 9)
    page = write_audit(report, tmp_path / "out").html.read_text(encoding="utf-8")
    (item,) = re.findall(r"<li>.*?u05.*?</li>", page, flags=re.S)
    assert item.count('src="data:image/png') == 2
    targets = re.findall(r'href="#([^"]+)"', page)
    assert [t.rpartition("-")[0] for t in targets] == [f.kind for f in report.findings]
    assert all(f'id="{t}"' in page for t in targets)
    assert breakable("a/b_<i>") == "a/<wbr>b_<wbr>&lt;i&gt;"


def test_a_thumbnail_shows_the_frequency_and_the_time(tmp_path: Path) -> None:
    t = np.arange(16_000) / 16_000
    x = np.where(t < 0.5, 0.3 * np.sin(2 * np.pi * 2000 * t), 0)
    soundfile.write(tmp_path / "a.wav", x, 16_000)
    url = thumbnail(str(tmp_path / "a.wav"), float("nan"), float("nan"), None)
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    levels = np.asarray(image)  # palette positions
    assert levels.shape == (HEIGHT, WIDTH)
    # 2 of 8 kHz: a quarter from the bottom, in the first half only
    assert levels[:, : WIDTH // 3].mean(axis=1).argmax() == pytest.approx(0.75 * HEIGHT, abs=1.5)
    assert levels[:, -WIDTH // 3 :].max() == 0


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    nan = float("nan")
    assert thumbnail(str(tmp_path / "none.wav"), nan, nan, None) == ""
    soundfile.write(tmp_path / "short.wav", np.ones(50), 16_000)
    assert thumbnail(str(tmp_path / "short.wav"), nan, nan, None) == ""
