"""A store given away: what goes along, what does not, and that a damaged copy is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from featurestore.backends.storage import open_storage
from studies.publishing.checksums import NAME, sums_text
from tests.command_line import fs, good, one_line_error
from tests.conftest import write_clips
from tests.web_server import WebServer, plain_server

KEY = ("logmel", "calls")
TIMED = ["fit_s", "finished_at"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store ``S`` of one key, one of whose clips fails, and a publication ``P`` with labels."""
    folder = tmp_path_factory.mktemp("home-of-alice")
    manifest = write_clips(folder / "audio", [6000 + 37 * i for i in range(24)])
    (folder / "audio" / "clip003.wav").write_bytes(b"no sound")
    options = ["--manifest", manifest, "--dataset", "calls", "--unit-rows", 8, "--selfcheck", 0, "--quiet"]
    good("extract", *options, "--model", "logmel", "--store", folder / "S")
    publication = ["--out", folder / "P", "--labels", "--corpus-licence", "calls=CC-BY-4.0", "--quiet"]
    good("publish", folder / "S", *publication)
    return folder


def everything(url: Path | str) -> bytes:
    """All bytes below a place, those of text that is stored compressed as readers have them."""
    storage = open_storage(str(url))
    found = b"".join(storage.get(name) or b"" for name, _ in storage.objects(""))
    features = open_store(f"{url}/features.zarr").features(*KEY)
    texts = [features.manifest.table.to_csv(), *(r.to_json() for r in features.ledger.values())]
    return found + "".join(texts).encode()


def probed(store: Path | str, out: Path) -> pd.DataFrame:
    options = ["--label", "kind", "--split", "random", "--classifier", "logreg", "--quiet"]
    good("probe", "--store", store, *options, "--out", out)
    return pd.read_parquet(out / "results.parquet").drop(columns=TIMED)


@pytest.mark.slow
def test_what_is_pulled_is_probed_to_the_same_results_without_audio(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(home / "P", moved)
    said = good("pull", moved, "--store", tmp_path / "T", "--quiet").output
    assert "3 units copied" in said
    good("verify", tmp_path / "T", "--quiet")
    ours, theirs = (open_store(s).features(*KEY) for s in (home / "S", tmp_path / "T"))
    assert not Path(theirs.index["path"].iloc[0]).exists()
    np.testing.assert_array_equal(ours.layer(0).numpy(), theirs.layer(0).numpy())
    same = ["row", "utterance_id", "n_frames", "duration_s", "audio_hash", "kind", "caller"]
    pd.testing.assert_frame_equal(ours.index[same], theirs.index[same])
    table, expected = probed(tmp_path / "T", tmp_path / "R"), probed(home / "S", tmp_path / "Q")
    pd.testing.assert_frame_equal(table, expected)
    assert table["uar_test"].notna().all()
    # A second time there is nothing to do.
    assert "0 units copied, 3 were there" in good("pull", moved, "--store", tmp_path / "T", "--quiet").output


@pytest.mark.s3
def test_a_bucket_is_published_to_and_pulled_from(home: Path, tmp_path: Path, s3_url: str) -> None:
    good("publish", home / "S", "--out", s3_url, "--labels", "--corpus-licence", "calls=CC0", "--quiet")
    good("pull", s3_url, "--store", tmp_path / "T", "--quiet")
    pd.testing.assert_frame_equal(probed(tmp_path / "T", tmp_path / "R"), probed(home / "S", tmp_path / "Q"))
    storage = open_storage(s3_url)
    shard = "features.zarr/logmel/calls/layer_00/c/1/0/0"
    data = bytearray(storage.get(shard) or b"")
    data[len(data) // 2] ^= 1
    storage.put(shard, bytes(data))
    one_line_error(fs("pull", s3_url, "--store", tmp_path / "U", "--quiet"), shard, "expected SHA-256")


def test_a_web_server_is_pulled_from(
    home: Path, tmp_path: Path, web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / "P", web_server.folder / "P")
    url, out = f"{web_server.url}/P", tmp_path / "T"
    monkeypatch.setenv("FEATURESTORE_RETRY_S", "1")
    # Whoever signed it is not known to this machine.
    one_line_error(fs("pull", url, "--store", out, "--quiet"), url, "certificate", "SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(web_server.authority))
    assert "3 units copied" in good("pull", f"{url}/", "--store", out, "--quiet").output
    assert everything_of_arrays(out) == everything_of_arrays(home / "P" / "features.zarr")
    good("verify", out, "--quiet")
    assert "0 units copied, 3 were there" in good("pull", url, "--store", out, "--quiet").output
    shard = web_server.folder / "P/features.zarr/logmel/calls/layer_00/c/1/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    name = "logmel/calls/layer_00/c/1/0/0"
    refused = fs("pull", url, "--store", tmp_path / "U", "--quiet")
    one_line_error(refused, name, "expected SHA-256")
    shard.unlink()
    one_line_error(fs("pull", url, "--store", tmp_path / "U", "--quiet"), name, "missing")
    assert not (tmp_path / "U/logmel/calls/zarr.json").exists()


def everything_of_arrays(store: Path) -> dict[str, bytes]:
    below = store / "logmel" / "calls"
    return {
        str(f.relative_to(below)): f.read_bytes()
        for f in sorted(below.rglob("layer_*/c/**/*"))
        if f.is_file()
    }


def test_what_a_web_server_cannot_give_is_one_line(
    home: Path, tmp_path: Path, web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(web_server.authority))
    monkeypatch.setenv("FEATURESTORE_RETRY_S", "1")
    secret = web_server.url.replace("https://", "https://ann:secret@")
    for url, *parts in (
        (web_server.url, f"no {NAME} here", "fs publish"),
        (f"{web_server.url}/P?sig=secret", "credentials or options"),
        (secret, "credentials or options"),
        ("https://", "expected https://host/path"),
        ("https://[1/P", "expected https://host/path"),
        ("https://127.0.0.1:1/P", "did not answer within 1 s", "connection"),
        ("http://127.0.0.1:1/P", "is not encrypted", "--sha256"),
    ):
        refused = fs("pull", url, "--store", tmp_path / "T", "--quiet")
        one_line_error(refused, *parts)
        assert "secret" not in refused.output
    # What comes unencrypted is held to the sum that was told by another way.
    shutil.copytree(home / "P", web_server.folder / "P")
    told = hashlib.sha256((home / "P" / NAME).read_bytes()).hexdigest()
    with plain_server(web_server.folder) as plain:
        given = ("pull", f"{plain}/P", "--store", tmp_path / "T", "--quiet", "--sha256")
        one_line_error(fs(*given, "0" * 64), "expected SHA-256 000", told)
        assert "3 units copied" in good(*given, told).output
        # Nothing that is asked for over TLS is taken from where there is none.
        web_server.elsewhere["/away"] = plain
        away = fs("pull", f"{web_server.url}/away/P", "--store", tmp_path / "U", "--quiet")
        one_line_error(away, "cannot read SHA256SUMS")
    web_server.elsewhere["/moved"] = web_server.url
    good("pull", f"{web_server.url}/moved/P", "--store", tmp_path / "U", "--quiet")
    one_line_error(fs("ls", web_server.url), "fs pull")


def test_nothing_of_the_machine_goes_along(home: Path, tmp_path: Path) -> None:
    good("publish", home / "S", "--out", tmp_path / "P", "--quiet")
    given = everything(tmp_path / "P")
    assert b"home-of-alice" in everything_of_store(home / "S")
    assert b"home-of-alice" not in given
    features = open_store(tmp_path / "P" / "features.zarr").features(*KEY)
    assert {r.host for r in features.ledger.values()} == {""}
    assert not (tmp_path / "P" / "features.zarr" / "logmel" / "calls" / "history").exists()
    assert sorted(features.index["path"]) == [f"/audio/clip{i:03d}.wav" for i in range(24)]
    failed = features.index.loc[features.index["status"] != "ok", "utterance_id"]
    assert list(failed) == ["clip003"]


def everything_of_store(root: Path) -> bytes:
    features = open_store(root).features(*KEY)
    return "".join(r.to_json() for r in features.ledger.values()).encode()


def test_labels_and_groups_stay_unless_their_licence_is_said(home: Path, tmp_path: Path) -> None:
    store = tmp_path / "S"
    shutil.copytree(home / "S", store)
    table = open_store(store).features(*KEY).manifest.table.assign(group="bird-7", kind="quark")
    table.to_csv(tmp_path / "m.csv", index=False)
    good("manifest", "attach", store, tmp_path / "m.csv")
    refused = fs("publish", store, "--out", tmp_path / "P", "--labels", "--quiet")
    one_line_error(refused, "--labels", "'calls'", "--corpus-licence calls=LICENCE")
    assert not (tmp_path / "P").exists()
    said = good("publish", store, "--out", tmp_path / "P", "--quiet").output
    assert "2 label columns (kind, caller)" in said
    given = everything(tmp_path / "P")
    assert b"quark" not in given
    assert b"bird-7" not in given
    # Whoever has the corpus gives the copy its labels back.
    good("pull", tmp_path / "P", "--store", tmp_path / "T", "--quiet")
    good("manifest", "attach", tmp_path / "T", tmp_path / "m.csv", "--without-audio")
    assert set(open_store(tmp_path / "T").features(*KEY).index["kind"]) == {"quark"}
    # Published again with labels, into the same place.
    again = ["--labels", "--corpus-licence", "calls=CC-BY-4.0", "--quiet"]
    good("publish", store, "--out", tmp_path / "P", *again)
    assert b"quark" in everything(tmp_path / "P")


def test_one_flipped_byte_anywhere_is_refused(home: Path, tmp_path: Path) -> None:
    names = [line[66:] for line in (home / "P" / NAME).read_text().splitlines()]
    shard = "features.zarr/logmel/calls/layer_00/c/2/0/0"
    assert shard in names
    kinds = {Path(n).parts[3] if n.startswith("features.zarr/logmel/calls/") else n: n for n in names}
    for name in [shard, *kinds.values()]:
        broken = tmp_path / "broken"
        shutil.copytree(home / "P", broken)
        data = bytearray((broken / name).read_bytes())
        data[len(data) // 2] ^= 4
        (broken / name).write_bytes(data)
        refused = fs("pull", broken, "--store", tmp_path / "T", "--quiet")
        one_line_error(refused, name.removeprefix("features.zarr/"), "expected SHA-256")
        assert not (tmp_path / "T" / "logmel" / "calls" / "zarr.json").exists()
        shutil.rmtree(broken)


@pytest.mark.parametrize("spoil", ["link", "pipe", "folder"])
def test_a_pull_follows_no_link_and_waits_for_no_pipe(home: Path, tmp_path: Path, spoil: str) -> None:
    shutil.copytree(home / "P", tmp_path / "P")
    shard = tmp_path / "P/features.zarr/logmel/calls/layer_00/c/2/0/0"
    shard.rename(tmp_path / "kept")
    if spoil == "link":
        shard.symlink_to(tmp_path / "kept")  # of the very bytes
    elif spoil == "pipe":
        os.mkfifo(shard)
    else:
        shard.mkdir()
    one_line_error(fs("pull", tmp_path / "P", "--store", tmp_path / "T", "--quiet"), "layer_00/c/2/0/0")
    assert not (tmp_path / "T/logmel/calls/zarr.json").exists()


@pytest.mark.parametrize(
    "name", ["logmel/calls/layer_" + "9" * 5000 + "/c/0", "logmel/calls/../../../x", "m/d/x"]
)
def test_names_of_a_list_lead_nowhere(home: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(home / "P", tmp_path / "P")
    with (tmp_path / "P" / NAME).open("a") as file:
        file.write(f"{'0' * 64}  features.zarr/{name}\n")
    one_line_error(fs("pull", tmp_path / "P", "--store", tmp_path / "T", "--quiet"))
    assert not (tmp_path / "T/logmel/calls/zarr.json").exists()
    assert not (tmp_path / "x").exists()


def test_a_key_that_is_listed_and_gone_altogether_is_missed(home: Path, tmp_path: Path) -> None:
    torn = tmp_path / "P"
    shutil.copytree(home / "P", torn)
    listed = "".join(
        f"{'0' * 64}  features.zarr/mfcc/calls/{name}\n" for name in ("zarr.json", "layer_00/c/0/0/0")
    )
    (torn / NAME).write_text((torn / NAME).read_text() + listed)
    one_line_error(
        fs("pull", torn, "--store", tmp_path / "T", "--quiet"), "mfcc/calls", "is listed", "missing"
    )
    assert not (tmp_path / "T").exists()
    good("pull", torn, "--store", tmp_path / "T", "--model", "logmel", "--quiet")


def test_a_sound_forgery_is_refused_by_the_sum_that_was_told(home: Path, tmp_path: Path) -> None:
    forged = tmp_path / "P"
    shutil.copytree(home / "P", forged)
    told = hashlib.sha256((forged / NAME).read_bytes()).hexdigest()
    (forged / "README.md").write_text("Bring money.")
    names = [line[66:] for line in (forged / NAME).read_text().splitlines()]
    sums = {n: hashlib.sha256((forged / n).read_bytes()).hexdigest() for n in names}
    (forged / NAME).write_bytes(sums_text(sums))
    good("pull", forged, "--store", tmp_path / "T", "--quiet")
    refused = fs("pull", forged, "--store", tmp_path / "U", "--sha256", told, "--quiet")
    one_line_error(refused, NAME, told)
    assert not (tmp_path / "U").exists()


def test_the_list_of_checksums_is_what_sha256sum_reads(home: Path) -> None:
    done = subprocess.run(["sha256sum", "--strict", "--quiet", "-c", NAME], cwd=home / "P", check=False)
    assert done.returncode == 0
    listed = {line[66:] for line in (home / "P" / NAME).read_text().splitlines()}
    files = {p.relative_to(home / "P").as_posix() for p in (home / "P").rglob("*") if p.is_file()}
    assert files - listed == {NAME}


def test_the_card_says_licences_or_that_they_are_unknown(home: Path, tmp_path: Path) -> None:
    card = (home / "P" / "README.md").read_text()
    assert "| embeddings | unknown | nobody said |" in card
    assert "| corpus calls | CC-BY-4.0 | said by who published this |" in card
    assert "| model logmel | none needed | nothing in it was trained |" in card
    assert "| logmel | calls | 24 | 1 |" in card
    good(
        "publish",
        home / "S",
        "--out",
        tmp_path / "P",
        "--licence",
        "CC0 | <b>",
        "--title",
        "[x](y)",
        "--quiet",
    )
    card = (tmp_path / "P" / "README.md").read_text()
    assert "| embeddings | CC0 \\| \\<b\\> |" in card
    assert "# \\[x\\](y)" in card


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--corpus-licence", "calls"], ["expected DATASET=LICENCE"]),
        (["--corpus-licence", "call=CC0"], ["no data set 'call'", "did you mean 'calls'?"]),
        (["--certificate", "nowhere.json"], ["--certificate nowhere.json"]),
        (["--model", "hubert"], ["no key with these models"]),
    ],
)
def test_what_cannot_be_published_is_one_line(
    home: Path, tmp_path: Path, more: list[str], parts: list[str]
) -> None:
    one_line_error(fs("publish", home / "S", "--out", tmp_path / "P", "--quiet", *more), *parts)
    assert not (tmp_path / "P").exists()


def test_nothing_of_others_is_written_over(home: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    one_line_error(fs("publish", home / "S", "--out", tmp_path, "--quiet"), "'thesis.tex'")
    one_line_error(fs("publish", home / "S", "--out", home / "S" / "pub", "--quiet"), "feature store")
    one_line_error(fs("pull", home / "S", "--store", tmp_path / "T", "--quiet"), "no published store")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("about my folder")
    one_line_error(fs("publish", home / "S", "--out", mine, "--quiet"), "'README.md'")
    assert (mine / "README.md").read_text() == "about my folder"


def test_a_publication_is_not_changed_under_its_checksums(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "P", tmp_path / "P")
    before = (tmp_path / "P" / NAME).read_bytes()
    manifest = home / "audio" / "manifest.csv"
    options = ["--manifest", manifest, "--dataset", "calls", "--unit-rows", 16, "--selfcheck", 0, "--quiet"]
    good("extract", *options, "--model", "logmel", "--store", tmp_path / "S")
    refused = fs("publish", tmp_path / "S", "--out", tmp_path / "P", "--quiet")
    one_line_error(refused, "another state of logmel/calls")
    assert (tmp_path / "P" / NAME).read_bytes() == before
    good("pull", tmp_path / "P", "--store", tmp_path / "T", "--quiet")


def test_a_certificate_goes_along_with_its_model_only(home: Path, tmp_path: Path) -> None:
    model = dict(open_store(home / "S").features(*KEY).info.fingerprint["model"])
    certificate = tmp_path / "c.json"
    said = {"made_by": "featurestore model check", "model": "/home/alice/logmel", "name": "logmel"}
    certificate.write_text(json.dumps({**said, "fingerprint": model}))
    good("publish", home / "S", "--out", tmp_path / "P", "--certificate", certificate, "--quiet")
    passed_on = json.loads((tmp_path / "P" / "certificates" / "logmel.json").read_text())
    assert passed_on["model"] == "logmel"
    certificate.write_text(json.dumps({**said, "fingerprint": {**model, "family": "other"}}))
    refused = fs("publish", home / "S", "--out", tmp_path / "Q", "--certificate", certificate, "--quiet")
    one_line_error(refused, "other weights or settings")


def test_croissant_is_valid_and_gives_the_rows(home: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    data = mlcroissant.Dataset(jsonld=str(home / "P" / "croissant.json"))
    assert data.metadata.issues.report() == ""
    rows = [*data.records("logmel/calls")]
    index = open_store(home / "S").features(*KEY).index
    assert [r["logmel/calls/utterance_id"].decode() for r in rows] == list(index["utterance_id"])
    assert [r["logmel/calls/kind"].decode() for r in rows] == list(index["kind"])
    assert [r["logmel/calls/duration_s"] for r in rows] == pytest.approx(index["duration_s"], nan_ok=True)
