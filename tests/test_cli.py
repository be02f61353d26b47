"""The command line as a user meets it: in a process of its own, exit codes and one-line errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
from tests.command_line import fs, one_line_error
from tests.conftest import heed_ctrl_c, write_clips
from tests.models import save_ssl


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "audio", [5000 + 61 * i for i in range(36)])


@pytest.fixture
def store(audio: Path, tmp_path: Path) -> Path:
    result = extract(audio, tmp_path / "s")
    assert result.exit_code == 0, result.output
    return tmp_path / "s"


def extract(manifest: Path, store: Path, *more: object) -> Result:
    return fs(
        "extract",
        "--manifest",
        manifest,
        "--dataset",
        "d",
        "--model",
        "logmel",
        "--store",
        store,
        "-q",
        *more,
    )


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, time; t = time.perf_counter(); import cli\n"
        "from click.testing import CliRunner\n"
        "out = CliRunner().invoke(cli.main, ['--help'])\n"
        "assert out.exit_code == 0 and 'extract' in out.output, out.output\n"
        "heavy = {'torch', 'transformers', 'zarr', 'pandas', 'numpy', 'dask', 'sklearn', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_system_that_is_not_posix_is_told_in_one_line() -> None:
    script = "import os, pathlib, click; os.name = 'nt'; import cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: fs runs on Linux and macOS; on Windows start it inside WSL\n"


def test_every_command_and_option_has_a_sentence() -> None:
    import click

    def walk(command: click.Command, name: str) -> None:
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"
        if isinstance(command, click.Group):
            with click.Context(command, terminal_width=80) as context:
                for child in command.list_commands(context):
                    found = command.get_command(context, child)
                    assert found is not None
                    walk(found, f"{name} {child}")
                # Click cuts what is too long for a terminal of 80 columns.
                assert "..." not in command.get_help(context).split("Commands:")[1], name

    walk(cli.main, "fs")


def test_from_audio_to_report(store: Path, tmp_path: Path) -> None:
    results, report = tmp_path / "r", tmp_path / "report"
    probed = fs("probe", "--store", store, "--label", "kind", "--split", "random", "--out", results, "-q")
    assert probed.exit_code == 0, (probed.output, probed.exception)
    assert "kind · d · mlp · split: random" in probed.output
    table = pd.read_parquet(results)
    assert table[["model", "dataset", "label", "layer", "split", "seed"]].values.tolist() == [
        ["logmel", "d", "kind", 0, "random", 0]
    ]
    again = fs("probe", "--store", store, "--label", "kind", "--split", "random", "--out", results, "-q")
    assert "0 fits in" in again.output
    shown = fs("report", results, "--out", report)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert (report / "index.html").stat().st_size > 10_000
    assert f"report: {report / 'index.html'}" in shown.output


def test_ls_and_info_show_what_is_there(store: Path) -> None:
    assert "logmel  d        0       mean,std" in fs("ls", store).output
    info = fs("info", store).output
    assert "36 of 36 committed, 0 failed" in info
    assert "input.normalisation:             none" in info
    one_line_error(fs("info", store, "--model", "hubert"), "no key with model hubert and dataset *; it has ")


def test_a_run_of_which_nothing_came_exits_1_with_the_reasons_counted(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", [6000] * 5)
    sound = {p: p.read_bytes() for p in manifest.parent.glob("*.wav")}
    first, *others = sorted(sound)
    first.write_bytes(b"")
    for path in others:
        path.write_text("no audio")

    def lost(result: Result, when: str, *keys: str) -> None:
        assert result.exit_code == 1, (result.output, result.exception)
        errors = result.stderr.strip().splitlines()
        assert len(errors) == len(keys)
        for key, line in zip(keys, errors, strict=True):
            assert line.startswith(f"error: {key}: all 5 clips {when}: 4 × cannot be decoded"), line
            assert ", 1 × is an empty file; mend the audio" in line

    # Every model of the run is told of.
    two = ("--model", "mfcc")
    lost(extract(manifest, tmp_path / "s", *two), "of this run failed", "logmel/d", "mfcc/d")
    # A second run has nothing to do, and nothing came of it either.
    earlier = "in the store failed earlier, and there was no other to embed"
    lost(extract(manifest, tmp_path / "s", *two), earlier, "logmel/d", "mfcc/d")
    # What is mended is embedded, and one clip is enough to go on with.
    others[0].write_bytes(sound[others[0]])
    result = extract(manifest, tmp_path / "s", "--refresh")
    assert (result.exit_code, result.stderr) == (0, "")
    assert extract(manifest, tmp_path / "s").exit_code == 0
    # New clips of a key that holds others: nothing came of this run, the next has nothing to complain of.
    with manifest.open("a") as file:
        file.write(manifest.read_text().splitlines()[-1].replace("clip004", "v004") + "\n")
    (manifest.parent / "v004.wav").write_text("no audio")
    result = extract(manifest, tmp_path / "s")
    assert result.exit_code == 1
    assert "the only clip of this run failed: 1 × cannot be decoded" in result.stderr
    assert extract(manifest, tmp_path / "s").exit_code == 0


def test_failed_clips_are_in_the_summary_and_the_run_goes_on(audio: Path, tmp_path: Path) -> None:
    (audio.parent / "clip003.wav").write_text("not audio")
    result = extract(audio, tmp_path / "s")
    assert result.exit_code == 0
    assert "35 clips embedded, 1 failed" in result.output
    assert "1 × cannot be decoded" in result.output
    assert "'clip003'" in result.output


def test_manifest_errors(audio: Path, tmp_path: Path) -> None:
    table = pd.read_csv(audio)
    cases = {
        "no_path": (table.rename(columns={"path": "file"}), "expected a column 'path'"),
        "no_file": (table.assign(path="gone.wav"), "no audio file 'gone.wav'"),
        "times": (table.assign(start_s=2, end_s=1), "row 2: end_s 1 is not after start_s 2"),
        "twice": (table.assign(utterance_id="x"), "row 3: utterance_id 'x' stands already in row 2"),
    }
    for name, (broken, message) in cases.items():
        manifest = audio.parent / f"{name}.csv"
        broken.to_csv(manifest, index=False)
        one_line_error(extract(manifest, tmp_path / "s"), message, str(manifest))
    assert not (tmp_path / "s").exists()


def test_model_errors(audio: Path, tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    (folder / "model.safetensors").unlink()
    one_line_error(
        extract(audio, tmp_path / "s", "--model", folder), "no weights; expected model.safetensors"
    )
    one_line_error(extract(audio, tmp_path / "s", "--model", tmp_path / "nowhere"), "there is no such folder")


def test_store_errors(audio: Path, store: Path, tmp_path: Path) -> None:
    one_line_error(extract(audio, store, "--normalise", "peak"), "stored none, requested peak", "--overwrite")
    (tmp_path / "file").write_text("x")
    one_line_error(extract(audio, tmp_path / "file"), "cannot write", "file")
    one_line_error(fs("ls", tmp_path / "nowhere"), "no feature store here")
    for command in (("ls", ""), ("info", ""), ("cp", store, ""), ("cp", "", store)):
        one_line_error(fs(*command), "expected the folder or the URL of a store, got an empty text")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        one_line_error(extract(audio, tmp_path / "locked" / "s"), "Permission denied")


def test_a_wrong_cluster_file_is_told_before_a_key_is_touched(
    audio: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "cluster.yaml").write_text("cluster: local\ncores: four\nmemory: 1GB\n")
    table = pd.read_csv(audio)
    table.assign(utterance_id=[f"new{i}" for i in range(len(table))]).to_csv(audio, index=False)
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    one_line_error(extract(audio, store, "--cluster", tmp_path / "cluster.yaml"), "cores", "four")
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before


def test_a_read_only_place_is_one_line(audio: Path) -> None:
    # /proc refuses to hold folders, for root too.
    one_line_error(extract(audio, Path("/proc/store")), "cannot write", "/proc/store")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "Permission denied; give another place, or have its permissions changed"),
        (errno.ENAMETOOLONG, "File name too long; expected the name of a file or folder"),
    ],
)
def test_a_place_that_may_not_be_looked_at_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    """As root every place may be: so what the system says of it is put in its place."""
    out = tmp_path / "locked" / "m.csv"

    def refused(path: Path) -> bool:
        if path == out:
            raise OSError(number, os.strerror(number), str(path))
        return os.path.isdir(path)

    monkeypatch.setattr(Path, "is_dir", refused)
    one_line_error(fs("manifest", "folder", tmp_path, "--out", out), f"{out}: {said}")


def test_a_name_that_is_too_long_is_one_line(audio: Path, tmp_path: Path) -> None:
    one_line_error(fs("audit", audio, "--out", tmp_path / ("x" * 300)), "File name too long")


def test_probe_errors(store: Path, tmp_path: Path, audio: Path) -> None:
    def probe(*more: object) -> Result:
        return fs("probe", "--store", store, "--out", tmp_path / "r", "-q", *more)

    one_line_error(probe("--label", "kinds"), "'kinds'", "kind")
    table = pd.read_csv(audio).assign(one="same")
    table.to_csv(audio, index=False)
    assert extract(audio, store).exit_code == 0
    one_line_error(probe("--label", "one"), "expected at least two classes, found only 'same'")
    one_line_error(probe("--label", "kind", "--classifier", "mpl"), "'mpl'", "mlp")
    one_line_error(probe("--label", "kind", "--layers", "3-1"), "3-1")
    one_line_error(probe("--label", "kind", "--split", "group"), "group")
    one_line_error(fs("report", tmp_path / "none", "--out", tmp_path / "x"), "none")


def test_usage_errors_exit_with_two() -> None:
    assert fs("extract", "--dataset", "d").exit_code == 2
    assert fs("nonsense").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("extract", "--dataset", "d", "--store", "s", "--model", "logmel", "--manifest"),
        ("predict", "--manifest", "m.csv", "--out", "p.csv", "--probe"),
        ("manifest", "folder", "--out", "m.csv"),
        ("report", "--out", "o"),
        ("serve",),
    ],
    ids=lambda words: words[0],
)
def test_a_name_longer_than_any_is_the_users_mistake(words: tuple[str, ...]) -> None:
    """The system refuses it wherever a file is looked for."""
    result = fs(*words, "a" * 5000)
    one_line_error(result, "File name too long; expected the name of a file or folder")
    assert len(result.stderr) < 1000


def test_an_unexpected_error_is_one_line_and_names_itself_a_bug(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    monkeypatch.setattr("studies.terminal.operations.list_keys", lambda _: 1 / 0)
    result = fs("ls", store)
    assert result.exit_code == 1
    assert "internal error: ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr
    shown = CliRunner().invoke(cli.main, ["--debug", "ls", str(store)])
    assert isinstance(shown.exception, ZeroDivisionError)


def test_manifest_from_a_folder(tmp_path: Path) -> None:
    for kind in ("bark", "growl"):
        write_clips(tmp_path / "dogs" / kind, [5000, 6000], labels=False)
        (tmp_path / "dogs" / kind / "manifest.csv").unlink()
    out = tmp_path / "m.csv"
    result = fs("manifest", "folder", tmp_path / "dogs", "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert pd.read_csv(out)["label"].tolist() == ["bark", "bark", "growl", "growl"]
    one_line_error(fs("manifest", "folder", tmp_path / "cats", "--out", out), "no such file or folder")
    one_line_error(fs("manifest", "nope", tmp_path, "--out", out), "no corpus 'nope'")


@pytest.mark.slow
def test_interrupting_says_that_the_same_command_goes_on(audio: Path, tmp_path: Path) -> None:
    import signal

    command = [sys.executable, "-m", "cli", "extract", "--manifest", str(audio), "--dataset", "d"]
    command += ["--model", "logmel", "--store", str(tmp_path / "s"), "-q"]
    script = (
        "import sys, time, extractors.forward.embedder as p\n"
        "p.Embedder.embed = lambda *a: (print('working', flush=True), time.sleep(250))\n"
        "import cli; sys.argv = sys.argv[1:]; cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command[2:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)  # the clip takes 250 s
    assert process.returncode == 130
    assert stderr.startswith("interrupted: what was finished is kept; to go on: ")
    assert stderr.count("\n") == 1
    assert stderr.rstrip().endswith(
        f"extract --manifest {audio} --dataset d --model logmel --store {tmp_path}/s -q"
    )


def test_only_extract_takes_the_share_of_a_job_array(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from extractors import ExtractConfig
    from extractors import extract as run

    for name, value in {"ID": 1, "MIN": 0, "MAX": 3, "COUNT": 4, "STEP": 1}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    said = extract(audio, tmp_path / "s", "--unit-rows", 4)
    assert "share 2/4: 2 of 9 units" in said.output, said.output
    assert "  2 units, " in extract(audio, tmp_path / "t", "--unit-rows", 4, "--dry-run").output
    one_line_error(extract(audio, tmp_path / "s", "--overwrite"), "--overwrite with share 2/4", "SLURM array")
    assert "share 1/3: 3 of" in extract(audio, tmp_path / "u", "--unit-rows", 4, "--share", "1/3").output
    config = ExtractConfig(
        manifest=audio, dataset="d", model="logmel", store=str(tmp_path / "v"), unit_rows=4
    )
    assert run(config).n_embedded == 36


def test_secrets_in_a_url_are_not_repeated_by_any_command(audio: Path, tmp_path: Path) -> None:
    """Wherever it was put: a message may end up in a log."""
    secret = "s3:/KEY:ab/x-secret-x@bucket/p"
    for arguments in (
        ("ls", secret),
        ("ls", "s3://bucket/p?sig=x-secret-x"),
        ("extract", "--manifest", secret, "--dataset", "d", "--model", "logmel", "--store", tmp_path / "s"),
        (
            "extract",
            "--manifest",
            audio,
            "--dataset",
            "d",
            "--model",
            "./" + secret,
            "--store",
            tmp_path / "s",
        ),
        ("report", secret, "--out", tmp_path / "report"),
        ("report", tmp_path, "--out", secret),
        ("ls", tmp_path, secret),  # one argument too many
    ):
        result = fs(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert "x-secret-x" not in result.output + result.stderr, arguments


def test_sigterm_tidies_up_and_says_that_the_same_command_goes_on(audio: Path, tmp_path: Path) -> None:
    """A batch system sends it: temporary folders and half-written files must not stay."""
    import signal

    script = (
        "import sys, tempfile, time, cli, featurestore.store.reader as s\n"
        "def open_store(*a, **k):\n"
        "    with tempfile.TemporaryDirectory(prefix='fs-predict-'):\n"
        "        print('working', flush=True); time.sleep(250)\n"
        "s.open_store = open_store\n"
        "sys.argv = sys.argv[1:]; cli.main()\n"
    )
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, "fs", "ls", str(tmp_path / "s")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 143
    assert stderr == f"terminated: what was finished is kept; to go on: fs ls {tmp_path}/s\n"
    assert list((tmp_path / "tmp").iterdir()) == []
