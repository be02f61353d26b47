"""`fs demo`: the whole path on a made-up corpus, offline and the same on every run.

Nothing here is trained on anything: the corpus is synthesised, one model is log-mel statistics, the other
a tiny HuBERT with seeded *untrained* weights. It shows what the tool does, not what speech models know.
"""

from __future__ import annotations

from pathlib import Path

UNTRAINED_MODEL = "hubert-tiny-untrained"
DATASET = "demo-calls"
LABELS = ("call_type", "caller")
N_SEEDS = 3
WEIGHTS_SEED = 0


def run_demo(out: Path, *, quiet: bool = False) -> None:
    """Write a corpus, embed it, probe both labels, write the report; all below `out`."""
    from extractors import ExtractConfig, extract
    from featurestore.corpora.synthetic import write_corpus
    from probes import ProbeConfig, run_probe
    from probes.report import load_report_data, write_report
    from studies.terminal.console import print_extract_summary, print_report_paths, print_tables
    from studies.terminal.progress import extract_progress, probe_progress
    from studies.terminal.screen import console

    def say(line: str) -> None:
        console().print(line)

    say(f"1/4  a corpus of synthetic calls → {out / 'corpus'}")
    manifest = write_corpus(out / "corpus")
    model = save_untrained_hubert(out / "models" / UNTRAINED_MODEL)
    store, results = out / "features.zarr", out / "results"
    for spec in ("logmel", str(model)):
        say(f"2/4  embedding with {Path(spec).name} → {store}")
        config = ExtractConfig(
            manifest=manifest, dataset=DATASET, model=spec, store=str(store), unit_rows=256
        )
        with extract_progress(quiet=quiet) as progress:
            summary = extract(config, progress)
        print_extract_summary(summary, str(out))
    say(f"3/4  probing {' and '.join(LABELS)}, every layer, {N_SEEDS} seeds → {results}")
    with probe_progress(quiet=quiet) as on_fit:
        run_probe(ProbeConfig(store=str(store), labels=LABELS, out=results, n_seeds=N_SEEDS), on_fit)
    say(f"4/4  report → {out / 'report'}")
    data = load_report_data(results)
    report = write_report(data, out / "report")
    print_tables(data)
    print_report_paths(report)


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
