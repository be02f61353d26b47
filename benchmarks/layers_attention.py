"""Does attention over the frames of several layers find more than one layer, a sum, or all side by side?

    python benchmarks/layers_attention.py NAME=MANIFEST:LABEL:GROUP [...] --model ID|DIR [--layers 0-4]
                    [--every N] [--split group-kfold:3] [--seeds S] [--epochs E] [--store DIR] [--record]

GROUP is the column that is held out. Clips are embedded once, with their frames, into ``--store`` (default:
a temporary one). Then everything is a call of `run_probe`: a linear probe on the statistics of each layer, of
all layers side by side, and of their learned sum; and attention with one query (``attention``) and with
several heads (``mha``) over the frames of each layer and of their learned sum. The layer of a single-layer
probe is chosen by validation rows, in every test fold anew. Intervals are over groups; differences are
paired, attention over the learned sum less each other way, and their p-values are corrected (Holm).
``--record`` adds what is printed of each corpus to ``benchmarks/results/layers_attention.md``, and puts all
that is recorded there into ``docs/probes.md``, between two marks.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from asked_corpus import Corpus
from machine import describe

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.manifest.table import read_manifest
from probes import ProbeConfig, run_probe
from probes.classifiers.layer_combination import CONCAT, EACH, WEIGHTED
from probes.findings.question_findings import Judged
from probes.findings.sentences import interval_text
from probes.metrics import points
from probes.report import load_report_data
from probes.statistics import holm

RESULTS = Path(__file__).parent / "results" / "layers_attention.md"
PAGE = Path(__file__).parents[1] / "docs" / "probes.md"
BEGIN = "<!-- Made by `python benchmarks/layers_attention.py … --record`; do not edit it here. -->"
END = "<!-- End of what is made. -->"
SHOWN = {
    EACH: "one layer, chosen by validation",
    CONCAT: "layers side by side",
    WEIGHTED: "learned sum of layers",
}
CALLS = (
    (("linear",), (EACH, CONCAT, WEIGHTED)),
    (("attention", "mha"), (EACH, WEIGHTED)),
)
REFERENCE = ("attention", WEIGHTED)


@dataclass(frozen=True)
class Way:
    """One way to look at the layers: its score, and what it learned."""

    classifier: str
    combine: str
    place: str
    judged: Judged
    weights: tuple[float, ...] = ()


def embed(corpus: Corpus, store: Path, options: argparse.Namespace) -> str:
    """The corpus in the store, with frames; the name of its model there."""
    table = read_manifest(corpus.manifest).table
    chosen = table.iloc[:: options.every].assign(path=lambda t: [str(Path(p).absolute()) for p in t["path"]])
    part = store.parent / f"{store.name}-{corpus.name}-every-{options.every}.csv"
    chosen.to_csv(part, index=False)
    dataset = f"{corpus.name}-{options.every}"
    extract(
        ExtractConfig(
            manifest=part,
            dataset=dataset,
            model=options.model,
            store=str(store),
            layers=options.layers,
            frames=True,
            frames_dtype="float32",
            device="cpu",
        )
    )
    return dataset


def ways(corpus: Corpus, dataset: str, store: Path, out: Path, options: argparse.Namespace) -> list[Way]:
    """Every way, fitted and judged."""
    settings = {"batch_size": options.batch_size, "max_epochs": options.epochs}
    for classifiers, combine in CALLS:
        run_probe(
            ProbeConfig(
                store=str(store),
                labels=(corpus.label,),
                datasets=(dataset,),
                layers=options.layers,
                classifiers=classifiers,
                combine=combine,
                grid=dict.fromkeys(classifiers, settings),
                split=options.split,
                groups=(corpus.group,),
                n_seeds=options.seeds,
                out=out,
            )
        )
    data, found = load_report_data(out), []
    for q in data.questions:
        findings = data.findings[q.name]
        (model,) = q.models
        for _, row in q.answers.iterrows():
            place = (model, str(row["combine"]), str(row["layers"]))
            single = row["combine"] == EACH
            fits = q.answers_fits[q.answers_fits["combine"] == row["combine"]]
            learned = [json.loads(text) for text in fits["layer_weights"] if text]
            found.append(
                Way(
                    q.classifier,
                    str(row["combine"]),
                    str(row["layers"]),
                    findings.judged_answers[model] if single else findings.judged_places[place],
                    tuple(np.mean(learned, axis=0)) if learned else (),
                )
            )
    return found


def lines(
    corpus: Corpus, dataset: str, store: Path, found: Sequence[Way], options: argparse.Namespace
) -> Iterator[str]:
    """A table of one corpus; without times, since it is no benchmark of speed."""
    keys = open_store(store).keys()
    (model,) = {m for m, d in keys if d == dataset}
    index = open_store(store).features(model, dataset).index
    reference = next(w for w in found if (w.classifier, w.combine) == REFERENCE)
    others = [(w, reference.judged.compared(w.judged)) for w in found if w is not reference]
    known = [(w, d) for w, d in others if d is not None]
    adjusted = dict(zip((id(w) for w, _ in known), holm([d.p for _, d in known]), strict=True))
    differences = {id(w): d for w, d in known}
    groups = index[corpus.group].nunique()
    yield f"## {corpus.name} × {model}"
    yield ""
    yield describe("torch", "transformers")
    yield ""
    yield (
        f"{len(index):,} clips, {index[corpus.label].nunique()} classes of `{corpus.label}`, {groups} groups "
        f"of `{corpus.group}`; split {options.split}, {options.seeds} seeds, at most {options.epochs} epochs"
        f", batches of {options.batch_size}."
    )
    yield ""
    yield (
        "| | looks at | layers | test UAR % | 95 % interval | attention over the learned sum less this | "
        "95 % interval | p (Holm) |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for way in found:
        interval, d = way.judged.interval, differences.get(id(way))
        score = "" if interval is None else f"{100 * interval.estimate:.1f}"
        cells = [way.classifier, SHOWN[way.combine], way.place, score, interval_text(interval)]
        if d is None:
            cells += ["", way.judged.reason, ""]
        else:
            cells += [
                points(d.difference),
                f"{points(d.low)} to {points(d.high)}",
                f"{adjusted[id(way)]:.2g}",
            ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    for way in found:
        if way.weights:
            shown = ", ".join(f"{100 * w:.0f}" for w in way.weights)
            yield f"Weights of layers {way.place} that {way.classifier} learned, in %: {shown}."
    yield ""


def record(part: str) -> None:
    """Put what was found of a corpus into the results, in place of what was there, and all onto the page."""
    title = re.escape(part.splitlines()[0])
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Layers and attention\n"
    kept = re.sub(rf"\n{title}\n.*?(?=\n## |\Z)", "", before, flags=re.DOTALL)
    whole = f"{kept.rstrip()}\n\n{part.rstrip()}\n"
    RESULTS.write_text(whole, encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{BEGIN}\n{on_page(whole)}\n{END}{tail}", encoding="utf-8")


def on_page(recorded: str) -> str:
    """What stands on the page of what is recorded: its parts, whose titles are no headings there."""
    _, _, text = recorded.partition("\n")
    return re.sub(r"^## (.*)$", r"**\1**", text, flags=re.MULTILINE).strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed, probe, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", nargs="+", type=Corpus.parse, metavar="NAME=MANIFEST:LABEL:GROUP")
    parser.add_argument("--model", required=True, help="as of fs extract")
    parser.add_argument("--layers", help="default: all")
    parser.add_argument("--every", type=int, default=1, help="take every N-th clip of a manifest")
    parser.add_argument("--split", default="group-kfold:3")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--store", type=Path, help="where embeddings are kept; default: nowhere")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    for corpus in options.corpora:
        with tempfile.TemporaryDirectory() as temporary:
            store = options.store or Path(temporary) / "store"
            store.parent.mkdir(parents=True, exist_ok=True)
            dataset = embed(corpus, store, options)
            started = time.perf_counter()
            found = ways(corpus, dataset, store, Path(temporary) / "results", options)
            seconds = time.perf_counter() - started
            part = "\n".join(lines(corpus, dataset, store, found, options))
        print(f"{part}\n{seconds:.0f} s for all probes on {torch.get_num_threads()} cores", flush=True)
        if options.record:
            record(part)


if __name__ == "__main__":
    main()
