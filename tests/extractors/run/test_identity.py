"""A row is its sound: whatever comes under an id that was used before is the same audio, or is refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featurestore.store.sound_identity
from cli import main
from extractors import ExtractConfig, extract
from extractors.run.extraction import extract_all
from featurestore import open_store
from featurestore.backends.storage import Storage, open_storage
from featurestore.errors import CorruptData, OtherAudio, UserError
from featurestore.format.row_arrays import MANIFEST_ARRAY
from featurestore.manifest.table import write_manifest
from featurestore.store.key import read_key
from featurestore.store.ledger import Record, read_ledger, write_sealed
from featurestore.store.sound_identity import Sounds
from featurestore.store.stored_manifest import read_stored_manifest, store_manifest
from featurestore.upkeep.verification import verify_key

RATE = 16_000
# Tones that log-mel statistics tell apart; each a second long in `recording.wav`, one after the other.
TONES_HZ = (400, 900, 1600, 2500, 3600, 4900)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(int(hz)).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * hz * t) + 0.01 * noise).astype(np.float32)


def save(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


def recording(folder: Path) -> Path:
    return save(folder / "recording.wav", np.concatenate([tone(hz) for hz in TONES_HZ]))


def windows(folder: Path, tones: Sequence[int], name: str = "m.csv", **columns: Sequence[object]) -> Path:
    """A manifest of seconds of `recording.wav`: ids 0, 1 …, each of the tone that its label names."""
    rows = {
        "utterance_id": [f"u{i}" for i in range(len(tones))],
        "path": ["recording.wav"] * len(tones),
        "start_s": [float(t) for t in tones],
        "end_s": [t + 1.0 for t in tones],
        "tone": [str(TONES_HZ[t]) for t in tones],
        **columns,
    }
    return write_manifest(pd.DataFrame(rows), folder / name)


def config(manifest: Path, store: Path | str, **changes: object) -> ExtractConfig:
    options: dict[str, object] = {
        "manifest": manifest,
        "dataset": "tones",
        "model": "logmel",
        "store": str(store),
        "unit_rows": 2,
        "device": "cpu",
        "workers": 1,
        "selfcheck": 0,
    }
    return ExtractConfig(**(options | changes))  # type: ignore[arg-type]


def content(storage: Storage) -> dict[str, bytes | None]:
    return {name: storage.get(name) for name, _ in storage.objects("")}


@contextlib.contextmanager
def unchanged(store: Path | str) -> Iterator[None]:
    before = content(open_storage(store))
    yield
    assert content(open_storage(store)) == before


def vectors(store: Path | str, model: str = "logmel") -> dict[str, np.ndarray]:
    f = open_store(store).features(model, "tones")
    return dict(zip(f.index["utterance_id"], f.layer(0).numpy(), strict=True))


def check_against_fresh(manifest: Path, store: Path | str, fresh: Path, **changes: object) -> None:
    """Every row that the manifest names holds what a store made afresh of it holds."""
    extract(config(manifest, fresh, **changes))
    wanted, held = vectors(fresh), vectors(store)
    for name, value in wanted.items():
        np.testing.assert_allclose(held[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    index = open_store(store).features("logmel", "tones").index.set_index("utterance_id")
    expected = open_store(fresh).features("logmel", "tones").index.set_index("utterance_id")
    pd.testing.assert_frame_equal(
        index.loc[expected.index, ["path", "start_s", "end_s", "tone"]],
        expected[["path", "start_s", "end_s", "tone"]],
    )


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of audio with a manifest of four tones, and a store that holds them."""
    folder = tmp_path / "audio"
    recording(folder)
    extract(config(windows(folder, [0, 1, 2, 3]), tmp_path / "s"))
    return folder, tmp_path / "s"


Made = tuple[Path, Path]


def test_swapped_times_are_refused_and_embedded_again_when_asked(made: Made, tmp_path: Path) -> None:
    folder, store = made
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    with (
        unchanged(store),
        pytest.raises(
            OtherAudio,
            match=r"swapped.csv: 2 utterances of logmel/tones would stand for other audio than was embedded: "
            r"'u0': \S+/audio/recording.wav 0-1 s, now \S+/audio/recording.wav 1-2 s \(other audio\); "
            r"'u1': .*nothing was changed; .*another --dataset.*--refresh",
        ),
    ):
        extract(config(swapped, store))
    summary = extract(config(swapped, store, refresh=True))
    assert any("2 utterances have other audio now" in n for n in summary.notes)
    check_against_fresh(swapped, store, tmp_path / "fresh")
    assert verify_key(open_storage(store), "logmel", "tones").findings == []


def test_a_row_inserted_on_top_is_refused(made: Made) -> None:
    folder, store = made
    with unchanged(store), pytest.raises(OtherAudio, match="4 utterances of logmel/tones"):
        extract(config(windows(folder, [4, 0, 1, 2, 3], "inserted.csv"), store))


def test_another_path_or_channel_is_refused(made: Made, tmp_path: Path) -> None:
    folder, store = made
    save(folder / "other.wav", np.concatenate([tone(hz + 70) for hz in TONES_HZ]))
    elsewhere = windows(folder, [0, 1, 2, 3], "p.csv", path=["other.wav", *["recording.wav"] * 3])
    with unchanged(store), pytest.raises(OtherAudio, match=r"1 utterance .*'u0': .*now \S+/other.wav 0-1 s"):
        extract(config(elsewhere, store))
    stereo = np.stack([np.concatenate([tone(hz + d) for hz in TONES_HZ]) for d in (0, 90)], axis=1)
    save(folder / "recording.wav", stereo)
    first = windows(folder, [0, 1, 2, 3], "c0.csv", channel=[0] * 4)
    extract(config(first, tmp_path / "s2"))
    second = windows(folder, [0, 1, 2, 3], "c1.csv", channel=[0, 0, 0, 1])
    with unchanged(tmp_path / "s2"), pytest.raises(OtherAudio, match=r"'u3': .*channel 0, now .*channel 1"):
        extract(config(second, tmp_path / "s2"))


def test_two_folders_with_the_same_file_names(tmp_path: Path) -> None:
    for site, hz in (("site1", 500), ("site2", 3000)):
        save(tmp_path / site / "20230501_060000.wav", tone(hz))
        (tmp_path / site / "m.csv").write_text("path,tone\n20230501_060000.wav,x\n")
    store = tmp_path / "s"
    extract(config(tmp_path / "site1" / "m.csv", store))
    with (
        unchanged(store),
        pytest.raises(
            OtherAudio,
            match=r"both folders have a 20230501_060000.wav, and ids were made of file names.*utterance_id",
        ),
    ):
        extract(config(tmp_path / "site2" / "m.csv", store))
    # The remedy named: one manifest of the folder above.
    (tmp_path / "m.csv").write_text("path,tone\nsite1/20230501_060000.wav,x\nsite2/20230501_060000.wav,y\n")
    extract(config(tmp_path / "m.csv", tmp_path / "both"))
    held = vectors(tmp_path / "both")
    assert set(held) == {"site1/20230501_060000", "site2/20230501_060000"}
    assert not np.allclose(*held.values())


def test_a_moved_folder_is_heard_once_and_accepted(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = made
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    summary = extract(config(moved / "m.csv", store))
    assert any(
        "4 utterances are elsewhere than when they were embedded, with the same" in n for n in summary.notes
    )
    assert summary.n_embedded == 0
    # The ledger still says what was embedded; the manifest vouches for where it is now.
    storage = open_storage(store)
    record = read_ledger(storage, "logmel/tones")[0]
    assert record.places_of_rows.path[0].endswith("audio/recording.wav")
    f = open_store(store).features("logmel", "tones")
    assert set(f.index["path"]) == {str(moved / "recording.wav")}
    assert len(f.found_audio) == 4
    # From now on nothing is decoded for it.
    monkeypatch.setattr(featurestore.store.sound_identity, "hash_clip", lambda *_: pytest.fail("decoded"))
    summary = extract(config(moved / "m.csv", store))
    assert (summary.n_embedded, summary.notes) == (0, [n for n in summary.notes if "elsewhere" not in n])
    monkeypatch.undo()
    check_against_fresh(moved / "m.csv", store, tmp_path / "fresh")
    # And the old place again: the record vouches for it.
    shutil.copytree(moved, folder)
    extract(config(folder / "m.csv", store))
    assert set(open_store(store).features("logmel", "tones").index["path"]) == {str(folder / "recording.wav")}


def test_equal_places_cost_no_decoding(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = made
    monkeypatch.setattr(featurestore.store.sound_identity, "hash_clip", lambda *_: pytest.fail("decoded"))
    assert extract(config(folder / "m.csv", store)).n_embedded == 0
    grown = windows(folder, [0, 1, 2, 3, 4], "grown.csv")
    summary = extract(config(grown, store))
    assert summary.n_embedded == 1
    assert any("1 new utterances appended to logmel/tones; the other 4 unchanged" in n for n in summary.notes)


def test_a_file_written_over_in_place_is_noticed_without_refresh(made: Made, tmp_path: Path) -> None:
    folder, store = made
    audio = (folder / "recording.wav").read_bytes()
    # Same name, same length, same size: only what is in it differs.
    save(folder / "recording.wav", np.concatenate([tone(hz + 35) for hz in TONES_HZ]))
    assert len(audio) == (folder / "recording.wav").stat().st_size
    with (
        unchanged(store),
        pytest.raises(OtherAudio, match=r"4 utterances .*recording.wav 0-1 s \(other audio\)"),
    ):
        extract(config(folder / "m.csv", store))
    with unchanged(store):  # nor do labels go over it
        done = CliRunner().invoke(main, ["manifest", "attach", str(store), str(folder / "m.csv")])
    assert done.exit_code == 2
    extract(config(folder / "m.csv", store, refresh=True))
    check_against_fresh(folder / "m.csv", store, tmp_path / "fresh")
    # Written again with the same samples it is the same sound; and that is remembered.
    os.utime(folder / "recording.wav", ns=(1, 1))
    summary = extract(config(folder / "m.csv", store))
    assert any("in files that were written again since, with the same audio" in n for n in summary.notes)
    assert not [n for n in extract(config(folder / "m.csv", store)).notes if "written again" in n]


def test_labels_alone_may_change_and_are_said(made: Made, tmp_path: Path) -> None:
    folder, store = made
    other = windows(
        folder, [0, 1, 2, 3], "l.csv", tone=["a", "b", "1600", "2500"], group=["g", "g", "h", "h"]
    )
    done = CliRunner().invoke(main, ["manifest", "attach", str(store), str(other)])
    assert done.exit_code == 0, done.output
    assert "tone: '2500' → " not in done.output
    assert "group: none → of its own in 4 rows" in done.output
    assert "in 2 rows" in done.output
    check_against_fresh(other, store, tmp_path / "fresh")
    regrouped = windows(
        folder, [0, 1, 2, 3], "g.csv", tone=["a", "b", "1600", "2500"], group=["a", "b", "1600", "2500"]
    )
    done = CliRunner().invoke(main, ["manifest", "attach", str(store), str(regrouped)])
    assert "group: of its own → tone in 4 rows; labels unchanged" in done.output


@pytest.mark.parametrize("change", ["times", "path", "channel"])
def test_attach_compares_as_extract_does(made: Made, change: str) -> None:
    folder, store = made
    save(folder / "other.wav", np.concatenate([tone(hz + 70) for hz in TONES_HZ]))
    changed: dict[str, Sequence[object]] = {
        "times": {"start_s": [1.0, 0.0, 2.0, 3.0], "end_s": [2.0, 1.0, 3.0, 4.0]},
        "path": {"path": ["other.wav", *["recording.wav"] * 3]},
        "channel": {"channel": [1, "", "", ""]},
    }[change]
    with unchanged(store):
        done = CliRunner().invoke(
            main, ["manifest", "attach", str(store), str(windows(folder, [0, 1, 2, 3], "a.csv", **changed))]
        )
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "would stand for other audio than was embedded" in done.output


def test_attach_where_the_audio_is_not_at_hand(made: Made, tmp_path: Path) -> None:
    folder, store = made
    windows(folder, [0, 1, 2, 3], "relabelled.csv", tone=list("abcd"))
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    for name in ("relabelled.csv", "swapped.csv"):
        shutil.copy(folder / name, laptop)
    run = CliRunner().invoke
    shutil.rmtree(folder)
    with unchanged(store):
        done = run(main, ["manifest", "attach", str(store), str(laptop / "relabelled.csv")])
    assert done.exit_code == 2
    assert "no such file" in done.output
    assert "--without-audio" in done.output
    done = run(main, ["manifest", "attach", str(store), str(laptop / "relabelled.csv"), "--without-audio"])
    assert done.exit_code == 0, done.output
    index = open_store(store).features("logmel", "tones").index.set_index("utterance_id")
    assert index["tone"].loc[["u0", "u1", "u2", "u3"]].tolist() == list("abcd")
    assert set(index["path"]) == {str(folder / "recording.wav")}  # as it was embedded
    with unchanged(store):  # other times are another sound, heard or not
        done = run(main, ["manifest", "attach", str(store), str(laptop / swapped.name), "--without-audio"])
    assert done.exit_code == 2


@pytest.mark.parametrize("channel", ["1", "each"])
def test_labels_of_the_manifest_that_was_extracted_go_with_any_channel(tmp_path: Path, channel: str) -> None:
    """A manifest without channels is that of a key of `--channel`, whose rows have some."""
    folder, store = tmp_path / "audio", tmp_path / "s"
    stereo = np.stack([np.concatenate([tone(hz + d) for hz in TONES_HZ]) for d in (0, 90)], axis=1)
    save(folder / "recording.wav", stereo)
    extract(config(windows(folder, [0, 1, 2, 3]), store, channel=channel))
    relabelled = windows(folder, [0, 1, 2, 3], "l.csv", tone=list("abcd"))
    for _ in range(2):
        done = CliRunner().invoke(main, ["manifest", "attach", str(store), str(relabelled)])
        assert done.exit_code == 0, done.output
    index = open_store(store).features("logmel", "tones").index.set_index("utterance_id")
    wanted = {f"u{i}": label for i, label in enumerate("abcd")}
    if channel == "each":
        wanted = {f"{i}#{k}": label for i, label in wanted.items() for k in range(2)}
    assert index["tone"].to_dict() == wanted
    assert set(index["channel"]) == ({0, 1} if channel == "each" else {1})
    with unchanged(store):
        done = CliRunner().invoke(
            main, ["manifest", "attach", str(store), str(windows(folder, [1, 0, 2, 3], "swapped.csv"))]
        )
    assert done.exit_code == 2


def test_labels_change_for_all_keys_or_for_none(made: Made, tmp_path: Path) -> None:
    folder, store = made
    extract(config(windows(folder, [0, 1, 2, 4], "b.csv"), store, model="mfcc", min_samples=1))
    with unchanged(store):
        done = CliRunner().invoke(main, ["manifest", "attach", str(store), str(folder / "m.csv")])
    assert done.exit_code == 2
    assert "mfcc/tones" in done.output


def test_several_models_in_one_run(made: Made) -> None:
    folder, store = made
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    models = [config(swapped, store, model="mfcc", min_samples=1), config(swapped, store)]
    with unchanged(store), pytest.raises(OtherAudio):
        extract_all(models)


def test_a_share_of_a_run_compares_too(made: Made) -> None:
    folder, store = made
    with unchanged(store), pytest.raises(OtherAudio):
        extract(config(windows(folder, [1, 0, 2, 3], "swapped.csv"), store, share="1/2"))


def test_a_dry_run_refuses_as_the_run_would(made: Made) -> None:
    from extractors.run.dry_run import dry_run

    folder, store = made
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    with unchanged(store), pytest.raises(OtherAudio):
        dry_run([config(swapped, store)])
    assert dry_run([config(swapped, store, refresh=True)])[0].n_to_do == 2


def test_pending_rows_follow_the_manifest(tmp_path: Path) -> None:
    """What is not embedded yet may still move: a boundary is mended while a run is interrupted."""
    folder, store = tmp_path / "audio", tmp_path / "s"
    recording(folder)
    extract(config(windows(folder, [0, 1, 2, 3]), store, share="1/2"))
    storage = open_storage(store)
    [committed] = [
        u
        for u in read_key(storage, "logmel", "tones").units
        if u.index in read_ledger(storage, "logmel/tones")
    ]
    pending = [i for i in range(4) if i // 2 != committed.index]
    tones = [4 if i == pending[0] else i for i in range(4)]
    mended = windows(folder, tones, "mended.csv")
    extract(config(mended, store))
    check_against_fresh(mended, store, tmp_path / "fresh")


def test_a_clip_that_failed_may_move_if_it_fails_there_too(tmp_path: Path) -> None:
    folder, store = tmp_path / "audio", tmp_path / "s"
    recording(folder)
    (folder / "broken.wav").write_bytes(b"RIFF")
    broken = {"path": ["recording.wav", "broken.wav"], "start_s": [0.0, ""], "end_s": [1.0, ""]}
    extract(config(windows(folder, [0, 1], **broken), store))
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    summary = extract(config(moved / "m.csv", store))
    assert any("2 utterances are elsewhere" in n for n in summary.notes)
    assert not extract(config(moved / "m.csv", store)).failed
    save(moved / "mended.wav", tone(3600))
    mended = windows(moved, [0, 1], "mended.csv", **{**broken, "path": ["recording.wav", "mended.wav"]})
    with unchanged(store), pytest.raises(OtherAudio, match=r"it failed then and can be used now.*--refresh"):
        extract(config(mended, store))
    extract(config(mended, store, refresh=True))
    check_against_fresh(mended, store, tmp_path / "fresh")


def test_refresh_does_not_list_a_row_where_its_audio_cannot_be_read(made: Made) -> None:
    folder, store = made
    (folder / "broken.wav").write_bytes(b"RIFF")
    gone = windows(folder, [0, 1, 2, 3], "g.csv", path=["broken.wav", *["recording.wav"] * 3])
    with unchanged(store), pytest.raises(OtherAudio, match=r"'u0': .*cannot be compared.*--prune"):
        extract(config(gone, store, refresh=True))


def as_made_before(storage: Storage) -> None:
    """Take what earlier versions did not record out of the ledger."""
    from dataclasses import asdict

    records = read_ledger(storage, "logmel/tones")
    old = {u: Record.from_json(r.to_json()) for u, r in records.items()}
    old = {u: Record(**{**vars_of(r), "places": None}) for u, r in old.items()}
    assert all("places" not in r.to_json() for r in old.values())
    assert all("places" in asdict(r) for r in old.values())
    write_sealed(storage, "logmel/tones", old)


def vars_of(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}


def test_stores_of_earlier_versions_are_read_and_compared_once(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = made
    before = vectors(store)
    storage = open_storage(store)
    as_made_before(storage)
    f = open_store(store).features("logmel", "tones")
    assert not f.bound_places.is_known.any()
    assert {k: v.tolist() for k, v in vectors(store).items()} == {k: v.tolist() for k, v in before.items()}
    assert verify_key(storage, "logmel", "tones").findings == []
    # Labels over other clips, as earlier versions could leave them: unknown is not equal.
    info = read_key(storage, "logmel", "tones")
    right = read_stored_manifest(storage, info)
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    from featurestore.manifest.table import read_manifest

    store_manifest(storage, info, read_manifest(swapped))
    with unchanged(store), pytest.raises(OtherAudio, match=r"a place that is not recorded|other audio"):
        extract(config(swapped, store))
    store_manifest(storage, info, right)
    summary = extract(config(folder / "m.csv", store))
    assert any(
        "4 utterances are of which it was not recorded" in n or "not recorded what" in n
        for n in summary.notes
    )
    monkeypatch.setattr(featurestore.store.sound_identity, "hash_clip", lambda *_: pytest.fail("decoded"))
    assert extract(config(folder / "m.csv", store)).n_embedded == 0


def test_a_manifest_that_lists_rows_elsewhere_is_never_read_in_silence(made: Made) -> None:
    from featurestore.manifest.table import read_manifest

    folder, store = made
    storage = open_storage(store)
    info = read_key(storage, "logmel", "tones")
    store_manifest(storage, info, read_manifest(windows(folder, [1, 0, 2, 3], "swapped.csv")))
    with pytest.raises(
        CorruptData, match=r"'u0' of logmel/tones was embedded from .* 0-1 s and is listed at .* 1-2 s"
    ):
        open_store(store).features("logmel", "tones").index  # noqa: B018
    report = verify_key(storage, "logmel", "tones")
    assert {(f.kind, f.object) for f in report.findings} == {("wrong", f"logmel/tones/{MANIFEST_ARRAY}/c/0")}
    extract(config(folder / "m.csv", store))
    assert verify_key(storage, "logmel", "tones").findings == []


@pytest.mark.slow
def test_two_writers_with_other_audio_under_the_same_ids(tmp_path: Path) -> None:
    """Neither sees the other's rows when it starts; both end with every row its sound, or with an error."""
    folder, store = tmp_path / "audio", tmp_path / "s"
    recording(folder)
    manifests = [windows(folder, [0, 1, 2, 3], "a.csv"), windows(folder, [1, 0, 3, 2], "b.csv")]
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.extractors.run.test_identity import config\n"
        "from extractors import extract\n"
        "from featurestore.errors import UserError\n"
        "try:\n    extract(config(Path(sys.argv[1]), sys.argv[2], unit_rows=1))\n"
        "except UserError as error:\n    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(m), str(store)], stderr=subprocess.PIPE, text=True
        )
        for m in manifests
    ]
    said = [run.communicate()[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert any(code == 0 for code in codes) or any("OtherAudio" in s for s in said), said
    assert all(
        code == 0 or "OtherAudio" in s or "CorruptData" in s for code, s in zip(codes, said, strict=True)
    ), said
    try:
        held = open_store(store).features("logmel", "tones")
        listed = held.index
    except CorruptData:
        return
    for m in manifests:
        extract(config(m, tmp_path / m.stem))
    fresh = {m.stem: vectors(tmp_path / m.stem) for m in manifests}
    values = held.layer(0).numpy()
    for row, (name, start) in enumerate(zip(listed["utterance_id"], listed["start_s"], strict=True)):
        of = "a" if int(start) == int(name[1:]) else "b"
        np.testing.assert_allclose(values[row], fresh[of][name], rtol=1e-5, atol=1e-6)


def test_verify_hears_the_audio(made: Made) -> None:
    folder, store = made
    run = CliRunner().invoke
    done = run(main, ["verify", str(store), "--audio", "-q"])
    assert (done.exit_code, "4 rows hold what their ids stand for, 0 do not" in done.output) == (0, True)
    audio = (folder / "recording.wav").read_bytes()
    written = os.stat(folder / "recording.wav")
    save(folder / "recording.wav", np.concatenate([tone(hz + 35 * (hz == 400)) for hz in TONES_HZ]))
    os.utime(folder / "recording.wav", ns=(written.st_atime_ns, written.st_mtime_ns))  # behind size and time
    done = run(main, ["verify", str(store), "--audio", "-q"])
    assert done.exit_code == 1
    assert "3 rows hold what their ids stand for, 1 do not" in done.output
    assert "'u0': " in done.output
    (folder / "recording.wav").unlink()
    done = run(main, ["verify", str(store), "--audio", "-q"])
    assert (done.exit_code, "4 could not be compared" in done.output) == (1, True)
    assert run(main, ["verify", str(store), "-q"]).exit_code == 0
    (folder / "recording.wav").write_bytes(audio)
    assert run(main, ["verify", str(store), "--audio", "-q", "--workers", "0"]).exit_code == 2


Step = tuple[str, object, object]

# What a random sequence of commands may name: files of one tone, and stretches of a recording.
PLACES = [("recording.wav", t, t + 1) for t in range(3)] + [
    ("a.wav", 0, 1),
    ("b.wav", 0, 1),
    ("a.wav", 0, 0.75),
]
row = st.tuples(st.sampled_from(["x", "y", "z", "w"]), st.sampled_from(PLACES), st.sampled_from("pq"))
table = st.lists(row, min_size=1, max_size=4, unique_by=lambda r: r[0])
step = st.one_of(
    st.tuples(
        st.just("extract"), table, st.sampled_from([(), ("refresh",), ("prune",), ("refresh", "prune")])
    ),
    st.tuples(st.just("attach"), table, st.just(())),
    st.tuples(st.just("write"), st.sampled_from(["a.wav", "b.wav"]), st.sampled_from([500, 2000, 5000])),
)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=2, max_size=4))
def test_no_short_sequence_of_commands_leaves_a_row_that_is_not_its_sound(steps: list[Step]) -> None:
    run_steps(steps)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=2, max_size=7))
def test_no_sequence_of_commands_leaves_a_row_that_is_not_its_sound(steps: list[Step]) -> None:
    run_steps(steps)


def run_steps(steps: list[Step]) -> None:
    """After every command that succeeds each row holds its sound; one that is refused changes nothing."""
    from featurestore.manifest.table import read_manifest
    from featurestore.upkeep.new_labels import attach_manifest

    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name) / "audio", Path(name) / "s"
        recording(folder)
        for file in ("a.wav", "b.wav"):
            save(folder / file, tone(500))
        known: dict[bytes, np.ndarray] = {}
        for number, (what, first, second) in enumerate(steps):
            if what == "write":
                save(folder / str(first), tone(int(str(second))))
                continue
            rows = [(i, *place, label) for i, place, label in first]  # type: ignore[attr-defined]
            columns = ["utterance_id", "path", "start_s", "end_s", "tone"]
            manifest = write_manifest(pd.DataFrame(rows, columns=columns), folder / f"m{number}.csv")
            before = content(open_storage(store)) if store.exists() else {}
            try:
                if what == "extract":
                    options = dict.fromkeys(second, True)  # type: ignore[call-overload]
                    extract(config(manifest, store, **options))
                else:
                    storage = open_store(store).storage
                    attach_manifest(
                        storage,
                        [read_key(storage, "logmel", "tones")],
                        read_manifest(manifest),
                        sounds=Sounds(),
                    )
            except UserError:
                assert (content(open_storage(store)) if store.exists() else {}) == before
                continue
            index = open_store(store).features("logmel", "tones").index.set_index("utterance_id")
            held = vectors(store)
            for i, path, start, end, label in rows:
                if what == "attach" and i not in index.index:
                    continue
                assert index.loc[i, ["start_s", "end_s", "tone"]].tolist() == [start, end, label]
                assert index.loc[i, "path"] == str(folder / path)
                np.testing.assert_allclose(
                    held[i], alone(folder / path, start, end, known), rtol=1e-5, atol=1e-6
                )
            assert verify_key(open_storage(store), "logmel", "tones").is_intact


def alone(path: Path, start: float, end: float, known: dict[bytes, np.ndarray]) -> np.ndarray:
    """The embedding of a stretch as it is now, in a store of its own; by its samples."""
    samples, _ = soundfile.read(path, start=round(start * RATE), stop=round(end * RATE), dtype="float32")
    if samples.tobytes() not in known:
        with tempfile.TemporaryDirectory() as name:
            file = save(Path(name) / "x.wav", samples)
            extract(
                config(
                    write_manifest(pd.DataFrame({"path": [file.name]}), Path(name) / "m.csv"),
                    Path(name) / "s",
                )
            )
            known[samples.tobytes()] = vectors(Path(name) / "s")["x"]
    return known[samples.tobytes()]
