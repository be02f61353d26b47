"""What the recipes of the documentation start from, made small, and what runs their blocks as a reader would.

A page's `fs` lines run in this process, its other lines of shell in bash, its blocks of Python one after the
other in one namespace. Names on the pages are real ones: the model of the hub lies beside the recordings as a
tiny one with random weights, where `--model` looks first.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from click.testing import CliRunner
from transformers import HubertModel, Wav2Vec2FeatureExtractor

import cli
from tests.models import scramble, ssl_config

RATE_HZ = 16_000
HUB_ID = "facebook/hubert-base-ls960"
BLOCK = re.compile(r"^```(sh|bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
# What `fs` in a process of its own is, for the lines that bash runs.
_FS = f'#!/bin/sh\nexec nice -n 19 {shlex.quote(sys.executable)} -m cli "$@"\n'


def call(kind: str, pitch: float, random: np.random.Generator) -> np.ndarray:
    """A chirp or a trill of about 0.3 s, shape (samples,)."""
    t = np.arange(round(random.uniform(0.25, 0.35) * RATE_HZ)) / RATE_HZ
    if kind == "chirp":
        wave = np.sin(2 * np.pi * (1500 + 2500 * t / t[-1]) * pitch * t)
    else:
        wave = np.sin(2 * np.pi * 2500 * pitch * t) * (np.sin(2 * np.pi * 25 * t) > 0)
    return random.uniform(0.2, 0.4) * np.hanning(len(t)) * wave


def recording(file: Path, pitch: float, seed: int, n_calls: int = 6) -> list[tuple[float, float, str]]:
    """Write calls in noise; give their starts, ends and kinds."""
    random = np.random.default_rng(seed)
    sound = 0.01 * random.standard_normal(round((0.5 + 0.6 * n_calls) * RATE_HZ))
    rows = []
    for i in range(n_calls):
        kind = ("chirp", "trill")[i % 2]
        wave, at = call(kind, pitch, random), round((0.3 + 0.6 * i) * RATE_HZ)
        sound[at : at + len(wave)] += wave
        rows.append((at / RATE_HZ, (at + len(wave)) / RATE_HZ, kind))
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, sound, RATE_HZ, subtype="PCM_16")
    return rows


def make_ground(folder: Path) -> Path:
    """Recordings, manifests, Raven tables and a model, as the page of recipes says they are there."""
    torch.manual_seed(0)
    # Scrambled: blocks with weights as they are drawn for training hardly change what goes into them.
    scramble(HubertModel(ssl_config("hubert", "base", n_blocks=2))).save_pretrained(folder / HUB_ID)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder / HUB_ID)
    header = "path,start_s,end_s,call_type,bird,group\n"
    manifests = {"calls.csv": header, "more.csv": header}
    for b, bird in enumerate("ABCDEF"):
        for day in (1, 2, 3, 4):
            path = f"recordings/2024-05-0{day}_{bird}.wav"
            rows = recording(folder / path, 0.85 + 0.06 * b, 10 * b + day)
            lines = "".join(f"{path},{s},{e},{kind},{bird},{bird}\n" for s, e, kind in rows)
            manifests["more.csv"] += lines
            if day < 4:
                manifests["calls.csv"] += lines
    for name, text in manifests.items():
        (folder / name).write_text(text, encoding="utf-8")
    head = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tcall_type\n"
    )
    for place, first in (("annotated", 0), ("checked", 50), ("season", 50)):
        for i in range(6 if place == "annotated" else 4):
            rows = recording(folder / place / f"site{i}.wav", 0.9 + 0.05 * i, 1000 + first + i)
            lines = [
                f"{n}\tSpectrogram 1\t1\t{s}\t{e}\t500\t7000\t{kind}\n"
                for n, (s, e, kind) in enumerate(rows, 1)
            ]
            if place != "season":
                table = folder / place / f"site{i}.Table.1.selections.txt"
                table.write_text(head + "".join(lines), encoding="utf-8")
    return folder


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of every block that a reader would run."""
    yield from BLOCK.findall(text)


def pieces(block: str) -> Iterator[tuple[bool, str]]:
    """A block of shell in pieces that run together: whether it is one `fs` command, and its text."""
    shell: list[str] = []
    end = None  # of a here-document
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
        if end is None and re.match(r"fs\s", line):
            if shell:
                yield False, "\n".join(shell)
                shell = []
            yield True, line
            continue
        shell.append(line)
        if end is not None:
            end = None if line == end else end
        elif found := _HEREDOC.search(line):
            end = found[1]
    if shell:
        yield False, "\n".join(shell)


class Reader:
    """Types what a page says, in a folder.

    Attributes:
        printed: what the commands printed, in order.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.printed: list[str] = []
        self._names: dict[str, Any] = {"__name__": "recipe"}
        programs.mkdir(exist_ok=True)
        fs = programs / "fs"
        fs.write_text(_FS, encoding="utf-8")
        fs.chmod(fs.stat().st_mode | stat.S_IXUSR)
        root = str(Path(cli.__file__).parent)
        self._environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": root}

    def read(self, text: str) -> None:
        """Do what a page says; every command has to succeed unless a comment behind it says `exit N`."""
        for language, block in blocks(text):
            if language == "python":
                exec(compile(block, "page", "exec"), self._names)
                continue
            for is_fs, piece in pieces(block):
                (self._fs if is_fs else self._bash)(piece)

    def _fs(self, line: str) -> None:
        command, _, remark = line.partition(" #")
        expected = int(found[1]) if (found := re.search(r"exit (\d)", remark)) else 0
        result = CliRunner().invoke(cli.main, shlex.split(command)[1:])
        self.printed.append(result.output)
        assert result.exit_code == expected, (line, result.output, result.exception)

    def _bash(self, script: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        self.printed.append(done.stdout)
        assert done.returncode == 0, (script, done.stdout)
