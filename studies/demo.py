"""`fs demo`: the whole path on a made-up corpus, offline and the same on every run.

Nothing here is trained on anything: the corpus is synthesised, one model is log-mel statistics, the other
a tiny HuBERT with seeded *untrained* weights. It shows what the tool does, not what speech models know.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extractors.results import ExtractSummary
    from probes.report import ReportPaths

UNTRAINED_MODEL = "hubert-tiny-untrained"
DATASET = "demo-calls"
LABELS = ("call_type", "caller")
N_SEEDS = 3
WEIGHTS_SEED = 0


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Where the demo left things."""

    manifest: Path
    store: Path
    results: Path
    report: ReportPaths


@dataclass(frozen=True, kw_only=True)
class DemoView:
    """How a caller follows the demo: a line per step, and progress of the two long ones."""

    say: Callable[[str], None]
    extracting: Callable[[], AbstractContextManager[Any]]
    extracted: Callable[[ExtractSummary], None]
    probing: Callable[[], AbstractContextManager[Any]]


def run_demo(out: Path, view: DemoView) -> DemoResult:
    """Write a corpus, embed it, probe both labels, write the report; all below `out`."""
    from extractors import ExtractConfig, extract
    from featurestore.corpora.synthetic import write_corpus
    from probes import ProbeConfig, run_probe
    from probes.report import write_report

    view.say(f"1/4  a corpus of synthetic calls → {out / 'corpus'}")
    manifest = write_corpus(out / "corpus")
    model = save_untrained_hubert(out / "models" / UNTRAINED_MODEL)
    store, results = out / "features.zarr", out / "results"
    for spec in ("logmel", str(model)):
        view.say(f"2/4  embedding with {Path(spec).name} → {store}")
        with view.extracting() as progress:
            config = ExtractConfig(
                manifest=manifest, dataset=DATASET, model=spec, store=str(store), unit_rows=256
            )
            summary = extract(config, progress)
        view.extracted(summary)
    view.say(f"3/4  probing {' and '.join(LABELS)}, every layer, {N_SEEDS} seeds → {results}")
    with view.probing() as progress:
        run_probe(ProbeConfig(store=str(store), labels=LABELS, out=results, n_seeds=N_SEEDS), progress)
    view.say(f"4/4  report → {out / 'report'}")
    report = write_report(results, out / "report")
    return DemoResult(manifest=manifest, store=store, results=results, report=report)


def save_untrained_hubert(folder: Path) -> Path:
    """Save a small HuBERT with random weights from a fixed seed, as a Hugging Face folder.

    Four blocks of width 128 over the usual convolutions at a quarter of their width: small enough to embed
    the demo's corpus in seconds. Weights are drawn wider than HuBERT's 0.02, at which untrained blocks add
    so little that all layers are alike.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    config = transformers.HubertConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        initializer_range=0.1,
        conv_dim=[128] * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(WEIGHTS_SEED)
        model = transformers.HubertModel(config)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
