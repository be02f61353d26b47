"""`fs demo`: a whole study on a made-up corpus, offline and the same on every run.

Nothing here is trained on anything: the corpus is synthesised, one model is log-mel statistics, the other
a tiny HuBERT with seeded *untrained* weights. It shows what the tool does, not what speech models know.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from featurestore.outputs import put_file, writing

UNTRAINED_MODEL = "hubert-tiny-untrained"
STUDY_NAME = "study.yaml"
WEIGHTS_SEED = 0


def run_demo(out: Path, *, quiet: bool = False) -> None:
    """Write a corpus, a model and the study file, and carry the study out; all below `out`.

    Raises:
        UserError: of a study file there that was changed since; it is not written over.
    """
    from featurestore.corpora.synthetic import write_corpus
    from studies.terminal.screen import console
    from studies.terminal.study import StudyOptions, run_study

    screen, study = console(), out / STUDY_NAME
    screen.print(f"a corpus of synthetic calls: {write_corpus(out / 'corpus')}")
    screen.print(f"a model with random weights: {save_untrained_hubert(out / 'models' / UNTRAINED_MODEL)}")
    if not study.exists():
        with writing(study, "choose another --out"):
            put_file(files("studies").joinpath("demo.yaml").read_bytes(), study)
    screen.print(f"the study: {study}   carried out by: fs study run {study}")
    run_study(StudyOptions(file=study, quiet=quiet), "both")
    screen.print(
        "These sounds are synthetic and one model has random weights: the numbers show what the tool does, "
        "not what models know of animals."
    )


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
