"""What each difference of the study's published protocol from a sound one does to test UAR.

    python benchmarks/as_published.py NAME=MANIFEST:LABEL:GROUP [...] [--every N] [--splits K] [--seeds S]
                                      [--silent SHARE] [--batch-size B] [--record]

GROUP is the column that is held out. The model is a small HuBERT with seeded, *untrained* weights
(`studies.demo.save_untrained_hubert`), embedded by `studies.as_published.batch_repeats`: alone, and in
batches of 32 clips in the order of the manifest. Waveforms are those of `fs extract --preset sarkar2025`.
The corpora at hand have no silent clips, so a share of them is silenced, drawn with a seed. ``--record``
adds what is printed of each corpus to ``benchmarks/results/as_published.md``.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from asked_corpus import Corpus
from machine import describe
from transformers import AutoModel

from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import load_clip
from featurestore.audio.librosa_times import as_librosa_cuts
from featurestore.manifest.table import Manifest, read_manifest
from studies.as_published.batch_repeats import BATCH_CLIPS, embed_in_batches
from studies.as_published.differences import DIFFERENCES, Clips, Outcome, differences
from studies.demo import save_untrained_hubert

RESULTS = Path(__file__).parent / "results" / "as_published.md"
# What `fs extract --preset sarkar2025` does with a waveform, but for the repeats.
POLICY = AudioPolicy(sample_rate_hz=16_000, normalisation="peak", short_policy="none", segments="librosa")
# Input of the first block, and what leaves the second and the fourth.
LAYERS = [0, 2, 4]


def read(corpus: Corpus) -> Manifest:
    """Its rows, cut as the preset cuts them."""
    manifest = as_librosa_cuts(read_manifest(corpus.manifest, allow_empty=True), 1)
    for column in (corpus.label, corpus.group):
        if column not in manifest.table or (manifest.table[column] == "").any():
            raise SystemExit(f"{corpus.manifest}: expected a column {column!r} without empty cells")
    return manifest


def clips_of(corpus: Corpus, every: int, silent_share: float) -> Clips:
    table = read(corpus).table.iloc[::every]
    waves = [
        load_clip(p, s, e, None, POLICY).samples
        for p, s, e in zip(table["path"], table["start_s"], table["end_s"], strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModel.from_pretrained(save_untrained_hubert(Path(folder) / "model")).eval()
    alone, batched = (embed_in_batches(model, waves, batch_clips=n)[:, LAYERS] for n in (1, BATCH_CLIPS))
    silent = np.random.default_rng(0).random(len(table)) < silent_share
    silent[0] = False
    return Clips(
        alone=alone,
        batched=batched,
        target=np.unique(table[corpus.label], return_inverse=True)[1].astype(np.int64),
        group=table[corpus.group].to_numpy(dtype=object),
        silent=silent,
    )


def lines(
    corpus: Corpus, clips: Clips, found: dict[str, Outcome], options: argparse.Namespace
) -> Iterator[str]:
    classes, groups = len(set(clips.target)), len(set(clips.group))
    first = next(iter(found.values())).sound
    every = "" if options.every == 1 else f" (every {options.every}th of the manifest)"
    yield f"## {corpus.name}"
    yield ""
    yield describe("torch", "transformers")
    yield ""
    yield (
        f"{len(clips):,} clips{every}, {classes} classes of `{corpus.label}`, {groups} groups of "
        f"`{corpus.group}`, {int(clips.silent.sum())} silenced; {options.splits} splits with "
        f"{options.seeds} seeds each, batches of {options.batch_size}, layers {', '.join(map(str, LAYERS))}. "
        f"Chance is {100 / classes:.1f}."
    )
    yield ""
    yield "| | test UAR % | difference | 95 % interval | test clips trained on |"
    yield "|---|---|---|---|---|"
    yield f"| sound | {100 * first.mean():.1f} | | | 0 % |"
    for name, outcome in found.items():
        low, high = outcome.interval()
        yield (
            f"| {name} | {100 * outcome.uar.mean():.1f} | {100 * outcome.difference:+.1f} | "
            f"{100 * low:+.1f} to {100 * high:+.1f} | {100 * outcome.trained_on:.0f} % |"
        )
    yield ""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", nargs="+", type=Corpus.parse, metavar="NAME=MANIFEST:LABEL:GROUP")
    parser.add_argument(
        "--every", type=int, default=1, help="take every N-th clip of a manifest, to be quick"
    )
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--silent", type=float, default=0.02, help="share of the clips that are silenced")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for corpus in options.corpora:
        started = time.perf_counter()
        clips = clips_of(corpus, options.every, options.silent)
        found = differences(
            clips,
            DIFFERENCES,
            n_splits=options.splits,
            n_seeds=options.seeds,
            settings={"batch_size": options.batch_size},
        )
        part = "\n".join(lines(corpus, clips, found, options))
        print(part, f"({time.perf_counter() - started:.0f} s)", flush=True)
        if options.record:
            before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# As published\n"
            kept = re.sub(rf"\n## {re.escape(corpus.name)}\n.*?(?=\n## |\Z)", "", before, flags=re.DOTALL)
            RESULTS.write_text(f"{kept.rstrip()}\n\n{part.rstrip()}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
