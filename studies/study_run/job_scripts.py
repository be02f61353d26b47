"""SLURM jobs of a study: an array for the GPU half, a job that depends on it for the CPU half.

A task of the array does one model on one corpus. The job of the CPU half has its workers on its own cores;
where the file has ``cluster: dask``, in jobs of their own by dask-jobqueue.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.compute.batch_system import read_cluster_file
from featurestore.errors import ConfigError
from featurestore.outputs import check_folder, make_folder, put_file, require_replaceable, writing
from featurestore.printable import json_text, shell_word
from studies.study_file.reading import StudyFile
from studies.study_file.schema import Cluster, Job
from studies.study_run.scope import Scope

MARK = "# Written by `fs study script`"
EXTRACT, PROBE, SUBMIT, DASK = "extract.sbatch", "probe.sbatch", "submit.sh", "dask.yaml"
# Key of the file → option of sbatch.
_OPTIONS = {
    "partition": "partition",
    "account": "account",
    "time": "time",
    "memory": "mem",
    "cpus": "cpus-per-task",
    "gres": "gres",
}


@dataclass(frozen=True, kw_only=True)
class JobScripts:
    """Scripts as they were written.

    Attributes:
        folder: where.
        names: of the files.
        n_tasks: of the array.
    """

    folder: Path
    names: tuple[str, ...]
    n_tasks: int


def write_job_scripts(file: StudyFile, scope: Scope, out: Path, overrides: Sequence[str]) -> JobScripts:
    """Write the jobs of a study.

    Args:
        file: the study.
        scope: the part of it that is meant.
        out: folder of the scripts and of what the jobs print.
        overrides: ``KEY=VALUE``, which the jobs get too.

    Raises:
        ConfigError: the folder holds other files of these names, or the keys of dask-jobqueue are wrong.
        StoreError: it cannot be written.
    """
    check_folder(out)
    folder = out.absolute()
    cluster = file.study.cluster or Cluster()
    names = [EXTRACT, PROBE, SUBMIT, *([DASK] if cluster.dask is not None else [])]
    for name in names:
        require_replaceable(folder / name, MARK.encode(), "job script")
    make_folder(folder, "job scripts")
    if cluster.dask is not None:
        with writing(folder / DASK, "choose another --out"):
            # JSON is YAML.
            put_file(
                f"{MARK} for dask-jobqueue.\n{json_text(cluster.dask, indent=2)}\n".encode(), folder / DASK
            )
        read_cluster_file(folder / DASK)
    texts = {
        EXTRACT: _extract_job(file, scope, folder, cluster, overrides),
        PROBE: _probe_job(file, scope, folder, cluster, overrides),
        SUBMIT: _submit(folder),
    }
    for name, text in texts.items():
        with writing(folder / name, "choose another --out"):
            put_file(text.encode(), folder / name)
    os.chmod(folder / SUBMIT, 0o755)
    return JobScripts(folder=folder, names=tuple(names), n_tasks=len(scope.pairs))


def _directives(kind: str, file: StudyFile, folder: Path, log: str, cluster: Cluster, own: Job) -> list[str]:
    """Lines for sbatch: what stands for both halves, and what this one asks for instead."""
    lines = [
        f"#SBATCH --job-name={_job_name(file)}-{kind}",
        f"#SBATCH --output={_in_directive(folder / log)}",
    ]
    for key, option in _OPTIONS.items():
        own_value = getattr(own, key)
        value = own_value if own_value is not None else getattr(cluster, key)
        if value is not None:
            lines.append(f"#SBATCH --{option}={value}")
    options = own.options if own.options is not None else cluster.options
    return [*lines, *(f"#SBATCH {option}" for option in options or ())]


def _in_directive(path: Path) -> str:
    """A path as sbatch reads it: quoted where it has spaces.

    Raises:
        ConfigError: it holds what cannot be quoted there.
    """
    text = str(path)
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ConfigError(f"--out {path}: expected a path without quotes and backslashes; choose another")
    return f'"{text}"' if any(c.isspace() for c in text) else text


def _job_name(file: StudyFile) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in file.document.path.stem)


def _body(cluster: Cluster, own: Job) -> list[str]:
    setup = own.setup if own.setup is not None else cluster.setup
    return ["", "set -eo pipefail", *(setup or ()), "set -u"]


def _call(file: StudyFile, command: str, overrides: Sequence[str]) -> str:
    words = ["fs", "study", command, str(file.document.path.absolute())]
    for override in overrides:
        words += ["--set", override]
    return " ".join(map(shell_word, words))


def _extract_job(
    file: StudyFile, scope: Scope, folder: Path, cluster: Cluster, overrides: Sequence[str]
) -> str:
    at_once = f"%{cluster.most_at_once}" if cluster.most_at_once is not None else ""
    array = f"#SBATCH --array=0-{len(scope.pairs) - 1}{at_once}"
    models, corpora = zip(*scope.pairs, strict=True)
    only = '--only "model=${models[$task]}" --only "corpus=${corpora[$task]}"'
    lines = [
        "#!/bin/bash",
        f"{MARK}: the GPU half, one model on one corpus in each task.",
        array,
        *_directives("extract", file, folder, "extract-%A_%a.log", cluster, cluster.extract),
        *_body(cluster, cluster.extract),
        f"models=({' '.join(map(shell_word, models))})",
        f"corpora=({' '.join(map(shell_word, corpora))})",
        "task=$SLURM_ARRAY_TASK_ID",
        f"{_call(file, 'extract', overrides)} {only} --quiet",
    ]
    return "\n".join(lines) + "\n"


def _probe_job(
    file: StudyFile, scope: Scope, folder: Path, cluster: Cluster, overrides: Sequence[str]
) -> str:
    only = "" if scope.is_whole else " " + " ".join(shell_word(w) for w in _only(scope))
    if cluster.dask is not None:
        workers = f" --cluster {shell_word(str(folder / DASK))}"
    else:
        # One process for each core of the job; one core needs none.
        workers = " ${SLURM_CPUS_PER_TASK:+--cluster local:$SLURM_CPUS_PER_TASK}"
    lines = [
        "#!/bin/bash",
        f"{MARK}: the CPU half, which needs the store alone.",
        *_directives("probe", file, folder, "probe-%j.log", cluster, cluster.probe),
        *_body(cluster, cluster.probe),
        f"{_call(file, 'probe', overrides)}{only} --no-wait --quiet{workers}",
        f"{_call(file, 'report', overrides)}{only}",
    ]
    return "\n".join(lines) + "\n"


def _only(scope: Scope) -> list[str]:
    kinds = {"corpus": scope.corpora, "model": scope.models, "probing": scope.probings}
    return [
        word for kind, names in kinds.items() if names for word in ("--only", f"{kind}={','.join(names)}")
    ]


def _submit(folder: Path) -> str:
    lines = [
        "#!/bin/bash",
        f"{MARK}: submits both; the CPU half starts when every task of the GPU half ended well.",
        "set -euo pipefail",
        f"extract=$(sbatch --parsable {shell_word(str(folder / EXTRACT))})",
        "probe=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency=afterok:${extract%%;*} "
        f"{shell_word(str(folder / PROBE))})",
        'echo "extract: job $extract, probe: job $probe"',
    ]
    return "\n".join(lines) + "\n"
