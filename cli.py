"""The `fs` command: parse, build a frozen configuration, call one function.

Nothing heavy is imported until a command runs, so that ``fs --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click


def _require_posix() -> None:
    """End where files cannot be opened as the store opens them: without following a link."""
    if os.name != "posix":
        sys.exit("error: fs runs on Linux and macOS; on Windows start it inside WSL")


def _refuse_namesakes() -> None:
    """End where another distribution's modules stand before ours: our names at the top level are short."""
    home = Path(__file__).resolve().parent
    for name in ("featurestore", "extractors", "probes", "studies"):
        found = find_spec(name)
        origin = "nothing" if found is None else found.origin or "a folder without __init__.py"
        if not Path(origin).resolve().is_relative_to(home / name):
            sys.exit(
                f"error: `import {name}` leads to {origin}, expected {home / name}; install featurestore-"
                f"audio into an environment of its own, and start fs in a folder without a {name!r}"
            )


_require_posix()
_refuse_namesakes()

from studies.terminal.command import Group, Subgroup  # noqa: E402
from studies.terminal.corpora import Corpora  # noqa: E402

if TYPE_CHECKING:
    from studies.study_run.prepared import Half

EXIT_DAMAGED = 1
PATH = click.Path(path_type=Path)


QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
ONLY_MODEL = click.option("--model", help="Only this model.")
MODELS = click.option(
    "--model", "models", multiple=True, help="Model in the store; may be repeated; default: all."
)
DATASETS = click.option(
    "--dataset", "datasets", multiple=True, help="Dataset in the store; may be repeated; default: all."
)
ONLY_DATASET = click.option("--dataset", help="Only this dataset.")
NEW_STORE = click.option(
    "--store", required=True, help="Folder or URL of the store; made if it does not exist."
)

DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
TORCH_WEIGHTS = click.option(
    "--torch-weights", is_flag=True, help="Also read pytorch_model.bin, as `fs extract` says."
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the forward pass.",
)
TIME_EXPANDED = click.option(
    "--time-expanded",
    is_flag=True,
    help="Take files as they play that their recorder says to be slower than they sounded; else refused.",
)
ORACLE = click.option(
    "--oracle", is_flag=True, help="Also show the layer that test scores prefer: no result."
)
AUDIO_STORE = click.option(
    "--store",
    help="Where the feature store is now, for the audio; default: where it was, if that is on this machine.",
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, envvar="FS_DEBUG", help="Show tracebacks of errors.")
@click.version_option(package_name="featurestore-audio", prog_name="fs")
def main(debug: bool) -> None:
    """Ask what a pretrained audio model knows, layer by layer.

    `fs extract` embeds a corpus once and keeps every layer in a Zarr store; `fs probe` trains classifiers
    on the stored layers, as often as you like; `fs report` shows what they found.
    """


@main.command()
@click.option("--manifest", "-m", required=True, type=PATH, help="CSV or Parquet table of utterances.")
@click.option("--dataset", required=True, help="Name of the dataset in the store.")
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    help="A hub id, a model folder, an AVES .torchaudio.pt, logmel, mfcc, catch22, birdnet, "
    "untrained:MODEL, hear:MODULE, avex:NAME, onnx:FILE, or tflite:FILE; may be repeated, audio is then "
    "decoded once for all.",
)
@NEW_STORE
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Name of the model in the store; default: last part of --model; once for each --model.",
)
@click.option("--layers", help="Hidden states to keep, such as 0-6,12; default: all.")
@click.option(
    "--functionals",
    help="Statistics over frames: mean, std, min, max, median, first, last, quantiles q01 to q99; default: "
    "mean,std, or mean for models of one vector.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Stored number type.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:N; cuda:all or a list with commas: one process for each.",
)
@click.option(
    "--cluster", help="Spread units over local[:N] processes, tcp://host:port, or a dask-jobqueue YAML file."
)
@PRECISION
@click.option(
    "--normalise",
    type=click.Choice(["none", "peak", "zero-mean-unit-variance"]),
    help="Input normalisation; default: what the model was trained with.",
)
@click.option(
    "--short-clips",
    type=click.Choice(["repeat", "none"]),
    help="Repeat clips below --min-samples, or leave them; default: repeat, for mfcc and catch22 none.",
)
@click.option(
    "--min-samples",
    type=int,
    default=5000,
    show_default=True,
    help="Clips shorter than this, at the model's rate, are repeated up to it.",
)
@click.option(
    "--rate-policy",
    type=click.Choice(["resample", "expand"]),
    default="resample",
    show_default=True,
    help="Bring files to the model's rate, or read their samples as if they were at it (time expansion).",
)
@click.option(
    "--resample-quality",
    type=click.Choice(["qq", "lq", "mq", "hq", "vhq"]),
    default="hq",
    show_default=True,
    help="Of soxr, from quick to very high.",
)
@click.option(
    "--segments",
    type=click.Choice(["nearest", "librosa"]),
    help="How times become samples: the nearest (default), or truncated and padded as librosa.load does, "
    "which also keeps rows that end before they start, as failed ones.",
)
@click.option(
    "--channel",
    default="mix",
    show_default=True,
    help="Of rows that name none: mix (the mean of all), a number from 0, or each (a row per channel).",
)
@click.option(
    "--clip-to-file",
    is_flag=True,
    help="Rows that end after their file, such as last windows, end with it; else they fail.",
)
@TIME_EXPANDED
@click.option(
    "--window-s",
    type=float,
    help="Longer clips are embedded in windows of so many seconds; 0: whole; default 30, "
    "or what the model takes.",
)
@click.option(
    "--overlap-s", type=float, help="Context on each side of what is kept of a window; default 2 seconds."
)
@click.option(
    "--preset",
    type=click.Choice(["sarkar2025"]),
    help="Input convention of a published study: Sarkar & Magimai-Doss, ICASSP 2025.",
)
@click.option("--unit-rows", type=int, help="Utterances that are committed together; default 1024.")
@click.option("--frames", is_flag=True, help="Keep the hidden states of every frame too.")
@click.option(
    "--frames-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Stored number type of frames.",
)
@click.option(
    "--batch-seconds",
    type=float,
    help="Most seconds of audio in a batch; default 30 on a CPU, what fits on a GPU.",
)
@click.option(
    "--workers",
    type=int,
    help="Decoders of audio; default: threads, one per core, at most 8; processes, one less, at most 16.",
)
@click.option(
    "--decode",
    type=click.Choice(["auto", "threads", "processes"]),
    default="auto",
    show_default=True,
    help="What decoders are; auto: processes beside a GPU that has 4 cores or more, else threads.",
)
@click.option(
    "--codec",
    metavar="NAME",
    default="fast",
    show_default=True,
    help="How layers are stored: fast (plain), small or pcodec (compressed), half (float16), bitround10 "
    "(rounded to so many mantissa bits, compressed), raw (one mappable block per unit).",
)
@click.option("--share", help="Do part i of n of the units, i/n; default: the share of a SLURM array task.")
@click.option("--prune", is_flag=True, help="Drop stored utterances that the manifest no longer has.")
@click.option("--refresh", is_flag=True, help="Embed again what has other audio now than it had then.")
@click.option(
    "--torch-weights",
    is_flag=True,
    help="Read pytorch_model.bin where there is no safetensors file, without running its code.",
)
@click.option("--compile", is_flag=True, help="Compile the model's blocks first: pays on long GPU runs.")
@click.option(
    "--selfcheck",
    type=int,
    help="Embed N clips again afterwards, each alone, and compare; default: a few, 0: none. "
    "Exit 1 when one differs.",
)
@click.option("--overwrite", is_flag=True, help="Replace the key if it exists.")
@click.option(
    "--dry-run", is_flag=True, help="Print plan, size, arithmetic and time of the run; write nothing."
)
@QUIET
def extract(
    quiet: bool, dry_run: bool, models: tuple[str, ...], names: tuple[str, ...], **options: Any
) -> None:
    """Embed a manifest's utterances, layer by layer.

    Clips are batched by length, and every value equals that of the clip alone. What is committed stays:
    run the same command again after any interruption and it goes on where it was. Exit 1 when nothing
    came of it: every clip failed.
    """
    from extractors.config import configs_of
    from extractors.forward.functionals import parse_functionals
    from featurestore.store.plan import share_of_job_array

    # Here and nowhere else: what other commands embed in passing is theirs alone.
    share = options.pop("share") or share_of_job_array(os.environ)
    configs = configs_of(
        models,
        names,
        share=str(share) if share else None,
        normalisation=options.pop("normalise"),
        short_policy=options.pop("short_clips"),
        functionals=parse_functionals(asked) if (asked := options.pop("functionals")) else None,
        **{k: v for k, v in options.items() if v is not None},
    )
    if dry_run:
        from extractors.run.dry_run import dry_run as estimates
        from studies.terminal.console import print_estimates

        print_estimates(estimates(configs))
        return
    from studies.terminal.operations import run_extraction

    sys.exit(0 if run_extraction(configs, quiet=quiet) else EXIT_DAMAGED)


@main.command()
@click.option("--store", required=True, help="Folder or URL of the store.")
@click.option(
    "--label", "labels", required=True, multiple=True, help="Label column to predict; may be repeated."
)
@MODELS
@DATASETS
@click.option("--layers", help="Layers to probe, such as 0-6,12; default: all.")
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    default=("mlp",),
    show_default=True,
    help="mlp, linear, logreg, svm, knn, lda, centroid, retrieval, rf, gb, on frames attention and mha, or "
    "module:Class; of numbers ridge, mlp, linear, attention, mha; may be repeated.",
)
@click.option(
    "--task",
    default="classification",
    show_default=True,
    help="What the labels are: classification, or regression of numbers (an age, a size, a count), by ridge, "
    "mlp, linear, attention or mha.",
)
@click.option(
    "--combine",
    multiple=True,
    default=("each",),
    show_default=True,
    help="Layers one by one (each), side by side (concat), as a learned sum (weighted); may be repeated.",
)
@click.option(
    "--split",
    help="column, random, group, kfold:5, group-kfold:5, logo, nested:5x3, fold:COLUMN, sarkar2025, …; "
    "default: the manifest's split column, else by group, else random.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    help="Column whose values are held out together: group, path (the audio file) or a label column; may be "
    "repeated, each is a split of its own. Goes with the splits by group; default: the manifest's group.",
)
@click.option("--split-seed", type=int, default=0, show_default=True, help="Seed that draws the split.")
@click.option(
    "--seeds",
    type=int,
    default=1,
    show_default=True,
    help="Fits per layer, each with its own initial weights.",
)
@click.option("--grid", type=PATH, help="YAML or JSON file of settings to try, per classifier.")
@click.option(
    "--cluster", help="local[:N], tcp://host:port, or a dask-jobqueue YAML file; default: this process."
)
@click.option(
    "--memory",
    help="Most a worker may hold, such as 1.5GB; larger layers are streamed; default: a share of the free.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where mlp and linear are trained: cpu, cuda, cuda:N, or auto; all else is trained on the CPU.",
)
@click.option(
    "--out", required=True, type=PATH, help="Folder of results; finished fits found there are kept."
)
@click.option(
    "--control",
    "controls",
    multiple=True,
    help="Also fit what there is nothing to learn from: shuffled-labels, group-labels, or mdl "
    "(description length of every layer); may be repeated.",
)
@click.option(
    "--curve",
    "curves",
    multiple=True,
    help="Also fit on shares of the training data, drawn again and again: of its groups (how many more "
    "animals?) or of its rows; may be repeated.",
)
@click.option("--curve-draws", type=int, help="Draws of each share below 100 %; default: 5.")
@click.option("--curve-shares", help="Shares of a curve in percent; default: 10,20,30,50,70,100.")
@click.option(
    "--refit",
    help="train+val: fit what validation chose again on training and validation rows, for its best number of "
    "epochs, and score that too; kept apart from all else.",
)
@click.option("--oracle", is_flag=True, help="Also show the layer that test scores prefer: no result.")
@QUIET
def probe(quiet: bool, oracle: bool, grid: Path | None, seeds: int, **options: Any) -> None:
    """Train classifiers on stored layers and score them.

    The score is unweighted average recall (UAR), of numbers R².

    Epoch and layer are chosen on validation rows; test rows are scored once. What was fitted before, with
    the same data, split and settings, is not fitted again.
    """
    from featurestore.outputs import check_folder
    from probes.questions.grid_file import read_grid
    from probes.questions.tasks import ProbeConfig
    from studies.terminal.operations import run_probing

    check_folder(options["out"])
    config = ProbeConfig(grid=read_grid(grid) if grid else {}, n_seeds=seeds, **options)
    run_probing(config, quiet=quiet, oracle=oracle)


@main.command()
@click.option("--store", required=True, help="Folder or URL of the store.")
@click.option(
    "--label", "labels", required=True, multiple=True, help="Label column to explain; may be repeated."
)
@MODELS
@DATASETS
@click.option("--layers", help="Layers to ask for confounds, such as 0-6,12; default: all.")
@click.option("--split", help="As of fs probe, which draws the same; default: as there.")
@click.option(
    "--group", "groups", multiple=True, help="Column whose values are held out together, as of fs probe."
)
@click.option("--split-seed", type=int, default=0, show_default=True, help="Seed that draws the split.")
@click.option("--results", type=PATH, help="Folder of fs probe, whose best probe is compared with.")
@click.option("--workers", type=int, help="Threads that decode and fit; default: one per core, at most 8.")
@click.option("--out", required=True, type=PATH, help="Folder of the tables; clips measured there are kept.")
@QUIET
def confounds(quiet: bool, **options: Any) -> None:
    """Score what else explains a label.

    Duration, level, noise, pitch, recorder, hour, group.

    Predicts the label from each of these alone, on the rows of fs probe's split, and these from every
    stored layer. Audio is read from where the manifest says it is.
    """
    from probes.confounds import ConfoundsConfig, check_confounds_folder
    from studies.terminal.operations import compare_confounds

    check_confounds_folder(options["out"])
    compare_confounds(ConfoundsConfig(**options), quiet=quiet)


@main.command(name="save-probe")
@click.argument("results", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder of the probe.")
@click.option("--label", help="Label it predicts; needed if the results hold several.")
@click.option("--dataset", help="Data set it was trained on; needed if the results hold several.")
@click.option(
    "--classifier",
    help="Classifier; needed if the results hold several, or one of an import path, whose code is run.",
)
@click.option("--split", help="Split; needed if the results hold several.")
@click.option("--model", help="Take this model's best layer; default: the model that validation chose.")
@click.option("--store", help="Where the store is now; default: where it was.")
@click.option(
    "--refit",
    help="Save it fitted again on more rows: train+val, or all (test rows too: then nothing can score it).",
)
def save_probe(results: Path, out: Path, **options: Any) -> None:
    """Save the probe that validation chose, for `fs predict`.

    It is fitted once more and its predictions for the test rows are compared with those on record. A
    folder with JSON and safetensors, nothing pickled; from mlp, linear, attention, mha, ridge, logreg, svm,
    lda, centroid, and knn with algorithm: brute.
    """
    from probes.saved.chosen_probe import save_probe as run
    from studies.terminal.console import print_saved_probe

    print_saved_probe(run(results, out, **options))


@main.command()
@click.option("--probe", "folder", required=True, type=PATH, help="Folder of `fs save-probe`.")
@click.option("--manifest", type=PATH, help="New audio to label (CSV or Parquet).")
@click.option("--store", help="Label what this store holds already, instead of a manifest.")
@click.option(
    "--model",
    help="With --manifest: id or folder of the audio model, default: where it was; needed if it is code, "
    "such as hear:MODULE. With --store: its name there, default: the probe's.",
)
@click.option("--dataset", help="With --store: the data set to label; may be left out if there is one.")
@click.option(
    "--out",
    default="predictions.csv",
    show_default=True,
    type=PATH,
    help="CSV or Parquet file: prediction and a probability for each class, or the number.",
)
@click.option(
    "--sets",
    type=float,
    help="Also give the set of classes that holds the clip's class with this chance, such as 0.9, or of "
    "numbers the interval that holds the clip's; by the validation clips, every group of which counts as 1.",
)
@DEVICE
@click.option("--workers", type=int, help="Threads that decode audio.")
@TIME_EXPANDED
@TORCH_WEIGHTS
@QUIET
def predict(quiet: bool, out: Path, **options: Any) -> None:
    """Label new audio with a saved probe.

    Audio is embedded exactly as the probe's training data was, up to the probe's layer; an audio model
    with other weights is refused. Exit 1 when no clip could be labelled.
    """
    from studies.prediction import run_predict
    from studies.terminal.console import print_predictions
    from studies.terminal.progress import extract_progress

    with extract_progress(quiet=quiet or options["manifest"] is None) as on_progress:
        found = run_predict(out=out, on_progress=on_progress, **options)
    sys.exit(0 if print_predictions(found, out) else EXIT_DAMAGED)


@main.command()
@click.argument("recordings", nargs=-1, required=True)
@click.option("--probe", required=True, type=PATH, help="Folder of `fs save-probe`.")
@click.option("--out", required=True, type=PATH, help="Folder of the tables; run again, it goes on there.")
@click.option(
    "--window",
    "window_s",
    type=float,
    help="Seconds of a window; default: the median training clip.",
)
@click.option("--hop", "hop_s", type=float, help="Seconds from window to window; default: half a window.")
@click.option(
    "--precision",
    type=float,
    help="Choose each class's threshold so that this share of the validation clips at or above it is right, "
    "which is not the share of right events; with --events-of, of its events.",
)
@click.option(
    "--events-of",
    type=PATH,
    help="With --precision: results of fs detect --scores --truth on recordings that the probe was not "
    "trained on; thresholds are chosen by the events of these.",
)
@click.option("--threshold", type=float, help="Lowest probability of an event; default: 0.5.")
@click.option("--background", help="Class that makes no events; default: background, where the probe has it.")
@click.option(
    "--gap",
    "gap_s",
    type=float,
    default=0.0,
    show_default=True,
    help="Join windows of a class that are so many seconds apart.",
)
@click.option(
    "--min-event",
    "min_event_s",
    type=float,
    default=0.0,
    show_default=True,
    help="Leave out events of fewer seconds.",
)
@click.option(
    "--channel", help="mix (the mean of all), a number from 0, or each; default: as the probe was trained."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    help="Table of each recording: raven, audacity or birdnet; may be repeated; default: all.",
)
@click.option("--scores", is_flag=True, help="Keep the probabilities of every window too, as Parquet.")
@click.option("--overwrite", is_flag=True, help="Replace what another probe or other options left there.")
@click.option("--truth", type=PATH, help="Annotations to compare with: a manifest, or --truth-format.")
@click.option("--truth-format", help="Format of --truth, as `fs manifest` has it: raven, audacity, …")
@click.option("--truth-label", help="Label column of --truth; default: that of the probe, or the only one.")
@click.option("--truth-audio", type=PATH, help="Folder of the audio that --truth is about, if elsewhere.")
@click.option("--iou", type=float, help="Overlap over union from which two events are one; default: 0.5.")
@click.option("--collar", "collar_s", type=float, help="Instead of --iou: seconds between their starts.")
@click.option("--segment", "segment_s", type=float, help="Seconds of a segment; default: a window.")
@click.option(
    "--model",
    help="Id or folder of the audio model; default: where it was; needed if it is code, such as hear:MODULE.",
)
@DEVICE
@click.option(
    "--batch-seconds", type=float, help="Most seconds of audio per forward pass; default by device."
)
@click.option("--workers", type=int, help="Recordings that are decoded at once.")
@TIME_EXPANDED
@TORCH_WEIGHTS
@QUIET
def detect(quiet: bool, formats: tuple[str, ...], **options: Any) -> None:
    """Find a saved probe's classes in long recordings.

    RECORDINGS are files, folders of them, or manifests (CSV, Parquet); files and folders may be URLs in a
    bucket.

    Overlapping windows are embedded as the probe's training clips were; neighbours of one class become
    events. Each recording gets its tables when it is done; after any interruption the same command goes on.
    Exit 1 when no recording could be read.
    """
    from studies.detection.detection import detect as run
    from studies.detection.request import FORMATS, DetectRequest
    from studies.terminal.detections import annotations_of, print_detections
    from studies.terminal.progress import detect_progress

    annotated = annotations_of(options)
    request = DetectRequest(formats=formats or FORMATS, **annotated, **options)
    with detect_progress(quiet=quiet) as on_progress:
        found = run(request, on_progress)
    sys.exit(0 if print_detections(found) else EXIT_DAMAGED)


@main.command(name="inspect")
@click.option("--store", required=True, help="Folder or URL of the store.")
@click.option("--dataset", help="Dataset in the store; may be left out where there is one.")
@MODELS
@click.option("--layers", help="Layers to look into, such as 0-6,12; default: all.")
@click.option("--functionals", help="Statistics that stand side by side, such as mean; default: all stored.")
@click.option("--label", help="Label column: how far its classes are apart, and whose label may be wrong.")
@click.option(
    "--group",
    help="Column whose values are no neighbours of their own: group, path (the audio file) or a label "
    "column; default: the manifest's group, else path.",
)
@click.option(
    "--rows",
    default="5000",
    show_default=True,
    help="Utterances that CKA and geometry are measured on, drawn with --seed, or all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed that draws the utterances.")
@click.option("--neighbours", type=int, help="List so many nearest utterances of other groups; of one layer.")
@click.option(
    "--map",
    type=click.Choice(["pca", "tsne"]),
    default="pca",
    show_default=True,
    help="How the map of one layer is made: principal components of all utterances, or t-SNE of those drawn.",
)
@click.option(
    "--results", type=PATH, help="Results of `fs probe`, whose answers also say whose label may be wrong."
)
@click.option("--out", required=True, type=PATH, help="Folder of the tables (CSV).")
@QUIET
def inspect_(quiet: bool, out: Path, **options: Any) -> None:
    """Look inside layers: likeness, shape, neighbours, suspects.

    How alike layers are (CKA), the shape of their spaces, neighbours of clips, and suspect labels.

    Nothing is trained. All models are compared on the same utterances. With one model and one layer
    (--model, --layers) also a map of the utterances and, with --label, those whose neighbours in other groups
    have another label.
    """
    from studies.terminal.inspection import inspect_layers

    inspect_layers(options, out, quiet=quiet)


@main.command()
@click.argument("results", type=PATH, required=False)
@click.option(
    "--compare",
    nargs=2,
    type=PATH,
    metavar="A B",
    help="Instead of RESULTS: two results folders, whose answers are compared on the same test clips.",
)
@click.option("--out", required=True, type=PATH, help="Folder of the report.")
@ORACLE
@click.option(
    "--sounds-mb",
    type=float,
    default=4.0,
    show_default=True,
    help="Room in the page for clips to hear and their spectrograms; 0: none.",
)
@AUDIO_STORE
@QUIET
def report(
    results: Path | None,
    compare: tuple[Path, Path] | None,
    out: Path,
    oracle: bool,
    sounds_mb: float,
    store: str | None,
    quiet: bool,
) -> None:
    """Write a results folder's report: tables, figures, HTML page.

    The page has the mistakes, with their sounds.

    With --compare A B: of each question that both folders answer, the difference A less B on the same test
    clips, and what differs between the two runs.
    """
    from featurestore.outputs import check_folder

    if (results is None) == (compare is None):
        got = "neither" if results is None else "both"
        raise click.UsageError(f"report: expected a results folder, or --compare A B; got {got}")
    check_folder(out)
    if compare is not None:
        if oracle:
            raise click.UsageError("--oracle is of one results folder; leave it out with --compare")
        from studies.terminal.compared import compare_results

        compare_results(*compare, out, quiet=quiet)
        return
    from studies.terminal.operations import report_results

    assert results is not None  # one of the two
    report_results(results, out, oracle=oracle, quiet=quiet, sounds_mb=sounds_mb, store=store)


@main.command()
@click.argument("results", type=PATH)
@click.option("--port", type=int, help="Port of 127.0.0.1 to listen on; default: any that is free.")
@ORACLE
@AUDIO_STORE
def serve(results: Path, port: int | None, oracle: bool, store: str | None) -> None:
    """Show the report of a results folder in a browser.

    All of it, however large.

    Prints one address, which works on this machine only, until Ctrl-C. Every tested clip can be looked for,
    by model, layer, class, answer and id, heard and seen. Nothing is written.
    """
    from studies.terminal.serving import serve_report

    serve_report(results, port=port, oracle=oracle, store=store)


@main.command()
@click.option(
    "--out", default="demo_out", show_default=True, type=PATH, help="Folder for everything the demo writes."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bars.")
def demo(out: Path, quiet: bool) -> None:
    """Show the whole path, offline, on synthetic calls.

    Manifest, embeddings, probes, report.
    """
    from featurestore.outputs import check_folder
    from studies.demo import run_demo

    check_folder(out)
    run_demo(out, quiet=quiet)


STUDY_FILE = click.argument("file", type=PATH)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Put a value over what the file says, such as probings.main.seeds=3; may be repeated.",
)
ONLY = click.option(
    "--only",
    multiple=True,
    metavar="KIND=NAME",
    help="Only these: corpus=NAME, model=NAME or probing=NAME; several with commas; may be repeated.",
)
STUDY_DRY_RUN = click.option(
    "--dry-run", "is_dry", is_flag=True, help="Print what is done and what is left; do nothing."
)
MEASURE = click.option(
    "--measure", is_flag=True, help="With --dry-run: run a few batches of models that no rate is known of."
)
STUDY_CLUSTER = click.option("--cluster", help="Where to run, in place of what the file says.")
STUDY_DEVICE = click.option("--device", help="Device to embed on, in place of what the file says.")
NO_WAIT = click.option(
    "--no-wait",
    "wait",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Take only keys that are complete.",
)


@main.group(cls=Subgroup)
def study() -> None:
    """Carry out a whole study from one file.

    Corpora, models, probings, contrasts, report.
    """


def _study(half: Half, options: dict[str, Any]) -> None:
    from studies.terminal.study import StudyOptions, run_study

    sys.exit(0 if run_study(StudyOptions(**options), half) else EXIT_DAMAGED)


@study.command()
@STUDY_FILE
@SET
@ONLY
@STUDY_DRY_RUN
@MEASURE
@STUDY_DEVICE
@QUIET
def run(**options: Any) -> None:
    """Do all that is left: embed, probe, confounds, report.

    Every stage goes on where it was; a second run does nothing. Exit 1 when an extraction went wrong.
    """
    _study("both", options)


@study.command(name="extract")
@STUDY_FILE
@SET
@ONLY
@STUDY_DRY_RUN
@MEASURE
@STUDY_DEVICE
@STUDY_CLUSTER
@QUIET
def study_extract(**options: Any) -> None:
    """Embed what is left: the half for a GPU.

    It needs the audio and the models.
    """
    _study("extract", options)


@study.command(name="probe")
@STUDY_FILE
@SET
@ONLY
@STUDY_DRY_RUN
@NO_WAIT
@STUDY_CLUSTER
@QUIET
def study_probe(**options: Any) -> None:
    """Probe keys as they are complete: the half for CPUs.

    It needs the store alone, at the same time or later.
    """
    _study("probe", options)


@study.command(name="report")
@STUDY_FILE
@SET
@ONLY
def study_report(**options: Any) -> None:
    """Write the report of what was found so far."""
    from studies.terminal.study import StudyOptions, report_study

    report_study(StudyOptions(**options))


@study.command()
@STUDY_FILE
@SET
@ONLY
def status(**options: Any) -> None:
    """Say how far a study is; needs no audio and no models."""
    from studies.terminal.study import StudyOptions, show_status

    show_status(StudyOptions(**options))


@study.command()
@STUDY_FILE
@SET
@ONLY
@click.option("--out", required=True, type=PATH, help="Folder of the scripts and of what the jobs print.")
def script(out: Path, **options: Any) -> None:
    """Write two SLURM jobs, one of each half.

    An array over models and corpora, and the CPU half that depends on it.

    What they ask for stands under `cluster` in the file.
    """
    from studies.terminal.study import StudyOptions, write_scripts

    write_scripts(StudyOptions(**options), out)


@study.command()
@click.option("--table", is_flag=True, help="Print the keys as tables for people (Markdown) instead.")
def schema(table: bool) -> None:
    """Print the JSON Schema of a study file, for editors."""
    import json

    from studies.study_file.schema import json_schema
    from studies.study_file.schema_table import schema_tables

    if table:
        click.echo(schema_tables(), nl=False)
        return
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@main.group(cls=Subgroup)
def model() -> None:
    """Look at a model before anything is embedded with it."""


@model.command(name="check")
@click.argument("model")
@DEVICE
@PRECISION
@TORCH_WEIGHTS
@click.option("--out", type=PATH, help="JSON file to write what was found to.")
@click.option(
    "--store", help="Also keep it inside all keys of this model in a store, for `fs info` and reports."
)
def check_model(model: str, **options: Any) -> None:
    """Compare a model's layers in a batch, alone and by reference.

    The reference is transformers, where it has the architecture.

    MODEL is what stands after --model of `fs extract`. Exit 1 when a layer deviates further than allowed.
    """
    from studies.terminal.model_check import run_model_check

    sys.exit(0 if run_model_check(model, **options) else EXIT_DAMAGED)


@main.group(cls=Corpora)
def manifest() -> None:
    """Make a manifest from a corpus or from annotation files."""


@manifest.command()
@click.argument("store")
@click.argument("table", type=PATH)
@ONLY_MODEL
@ONLY_DATASET
@click.option(
    "--without-audio",
    is_flag=True,
    help="Where files are not at hand, take the same name, times and channel for the same sound.",
)
def attach(store: str, table: Path, model: str | None, dataset: str | None, without_audio: bool) -> None:
    """Replace stored labels by a manifest's.

    Nothing is embedded again.

    An id stands for one stretch of sound: where the manifest names another file, other times or another
    channel than was embedded, the audio is compared, and other audio is refused.
    """
    from studies.terminal.operations import attach_labels

    attach_labels(store, table, model, dataset, without_audio=without_audio)


@main.command()
@click.argument("manifest", type=PATH)
@click.option("--store", help="Store whose embeddings of this manifest are looked at too.")
@click.option("--model", help="Model in the store; may be left out where there is one.")
@click.option("--dataset", help="Dataset in the store; may be left out where there is one.")
@click.option("--layers", help="Layers to look at; default: the first and the last.")
@click.option(
    "--model-rate",
    "model_rate_hz",
    type=int,
    help="Sample rate of the model in Hz; default: the stored model's, else 16000.",
)
@click.option(
    "--rate-policy",
    type=click.Choice(["resample", "expand"]),
    help="How the model gets other rates, as of fs extract; default: the stored key's, else resample.",
)
@click.option("--workers", type=int, help="Threads that decode; default: one per core, at most 8.")
@click.option("--out", type=PATH, help="Folder for the page, JSON, CSV and text.")
@click.option(
    "--group-copies",
    type=PATH,
    metavar="MANIFEST",
    help="Write the manifest anew with copies of one sound in one group.",
)
@QUIET
def audit(
    layers: str | None, out: Path | None, group_copies: Path | None, quiet: bool, **options: Any
) -> None:
    """Look for what is wrong with a corpus.

    Exits 1 when something is at fault.
    """
    from featurestore.audit import AuditConfig, check_audit_folder
    from featurestore.errors import ConfigError
    from featurestore.layer_list import parse_layers
    from featurestore.manifest.table import check_target
    from featurestore.outputs import check_file, check_folder
    from studies.terminal.operations import audit_corpus

    if group_copies is not None:
        check_target(group_copies)
        check_file(group_copies)
        if group_copies.exists() and group_copies.samefile(options["manifest"]):
            raise ConfigError(
                f"--group-copies {group_copies}: this is the manifest that is audited; choose another name"
            )
    if out is not None:
        check_folder(out)
        check_audit_folder(out)
    config = AuditConfig(layers=tuple(parse_layers(layers)) if layers else None, **options)
    sys.exit(0 if audit_corpus(config, out, group_copies, quiet=quiet) else EXIT_DAMAGED)


@main.command()
@click.option("--store", help="Also look at the speed of this store's disk or bucket.")
def doctor(store: str | None) -> None:
    """Say what this machine has of what fs needs.

    Exits 1 when something is at fault.
    """
    from studies.terminal.doctor import print_findings

    sys.exit(0 if print_findings(store) else EXIT_DAMAGED)


@main.command(name="ls")
@click.argument("store")
def list_store(store: str) -> None:
    """List what a store holds: models, datasets, layers, utterances."""
    from studies.terminal.operations import list_keys

    list_keys(store)


@main.command()
@click.argument("store")
@ONLY_MODEL
@ONLY_DATASET
def info(store: str, model: str | None, dataset: str | None) -> None:
    """Show size, layers, settings and failures of a store's keys."""
    from studies.terminal.operations import show_keys

    show_keys(store, model, dataset)


@main.command()
@click.argument("store")
@ONLY_MODEL
@ONLY_DATASET
@click.option("--repair", is_flag=True, help="Withdraw damaged units, restore documents, delete leftovers.")
@click.option("--audio", is_flag=True, help="Also decode the audio: each row holds what its id stands for.")
@click.option(
    "--workers", type=int, help="Threads that decode for --audio; default: one per core, at most 8."
)
@QUIET
def verify(store: str, workers: int | None, **options: Any) -> None:
    """Prove every committed unit of a store.

    Exits 0 when intact, 1 when something is damaged.

    It finds damage, and is no signature: who makes a store on purpose can make one that passes.

    After --repair the same `fs extract` as before does again exactly what was damaged. With --audio it also
    exits with 1 when audio is other than was embedded, or is not there to be compared.
    """
    from studies.terminal.operations import verify_keys

    if workers is not None and workers < 1:
        raise click.BadParameter(f"expected at least 1, got {workers}", param_hint="--workers")
    intact = verify_keys(store, workers=workers, **options)
    sys.exit(0 if intact else EXIT_DAMAGED)


@main.command()
@click.argument("source")
@click.argument("target")
@ONLY_MODEL
@ONLY_DATASET
@QUIET
def cp(source: str, target: str, model: str | None, dataset: str | None, quiet: bool) -> None:
    """Copy keys from one store to another, local or remote.

    Checks them, and resumes.
    """
    from studies.terminal.operations import copy_keys

    copy_keys(source, target, model, dataset, quiet=quiet)


@main.command()
@click.argument("store")
@click.option("--out", required=True, help="Folder or URL of the publication.")
@MODELS
@DATASETS
@click.option("--title", help="Of the data card; default: what was embedded.")
@click.option("--licence", help="Of the embeddings; default: unknown, which the card says.")
@click.option("--creator", "creators", multiple=True, help="Who made them; may be repeated.")
@click.option("--url", help="Where it will be found, for the card.")
@click.option(
    "--labels", is_flag=True, help="Pass on labels and groups; the licence of their corpus has to be known."
)
@click.option(
    "--corpus-licence",
    "corpus_licences",
    multiple=True,
    metavar="DATASET=LICENCE",
    help="Licence of a data set's annotations; may be repeated; default: as its corpus's entry says.",
)
@click.option(
    "--certificate",
    "certificates",
    type=PATH,
    multiple=True,
    help="JSON file of fs model check for a model of these; may be repeated.",
)
@QUIET
def publish(store: str, out: str, models: tuple[str, ...], datasets: tuple[str, ...], **options: Any) -> None:
    """Copy keys to give away, without audio.

    With a data card, Croissant metadata and checksums.

    Labels, folders of this machine and the calls that made a key are left out, and the card says so.
    """
    from studies.terminal.publishing import publish_keys

    publish_keys(store, out, models, datasets, **options)


@main.command()
@click.argument("url")
@NEW_STORE
@MODELS
@DATASETS
@click.option("--sha256", help="Of the publication's SHA256SUMS, as who published it told you.")
@QUIET
def pull(url: str, store: str, models: tuple[str, ...], datasets: tuple[str, ...], **options: Any) -> None:
    """Fetch a published store and verify it.

    Every object is held to its checksum.

    URL is what `fs publish` wrote: a folder, a bucket, or https://. It can be probed at once, without audio.
    """
    from studies.terminal.publishing import pull_keys

    pull_keys(url, store, models, datasets, **options)


@main.command()
@click.argument("store")
@click.option("--model", required=True, help="Model in the store.")
@click.option("--dataset", required=True, help="Dataset in the store.")
@click.confirmation_option(prompt="Remove these embeddings for good?", help="Do not ask.")
def rm(store: str, model: str, dataset: str) -> None:
    """Remove one key from a store."""
    from studies.terminal.operations import remove_key

    remove_key(store, model, dataset)


@main.command()
@click.argument("store")
@click.option("--out", required=True, type=PATH, help="File (hdf5) or folder to write.")
@click.option("--format", "format_", required=True, help="hdf5, parquet, npz (as in the study) or hear.")
@click.option("--model", "models", multiple=True, help="Model to export; may be repeated; default: all.")
@click.option(
    "--dataset", "datasets", multiple=True, help="Dataset to export; may be repeated; default: all."
)
@click.option("--layers", help="Layers to export, such as 0-6,12; default: all.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@QUIET
def export(
    store: str, format_: str, models: tuple[str, ...], datasets: tuple[str, ...], quiet: bool, **options: Any
) -> None:
    """Write keys to files that other tools read.

    HDF5, Parquet, npz, or arrays for HEAR's kit.
    """
    from featurestore.layer_list import parse_layers
    from studies.terminal.operations import export_keys

    layers = options.pop("layers")
    request = {
        "store_url": store,
        "format": format_,
        "models": models or None,
        "datasets": datasets or None,
        "layers": parse_layers(layers) if layers else None,
        **options,
    }
    export_keys(request, quiet=quiet)


@main.command()
@click.argument("node", type=PATH)
@click.option("--out", required=True, type=PATH, help="New folder for the wheels.")
@click.option("--python", help="Python of the machine, such as 3.12; default: as pip inspect says.")
@click.option("--machine", help="Its processor, x86_64 or aarch64; default: as pip inspect says, or x86_64.")
@click.option(
    "--glibc",
    type=click.IntRange(17, 99),
    default=28,
    show_default=True,
    help="Minor version of its C library, by `ldd --version`: 28 for 2.28.",
)
@click.option("--keep", multiple=True, help="Package there to use whatever its version; may be repeated.")
@click.option("--replace", multiple=True, help="Package there that may be replaced; may be repeated.")
@click.option("--extra", "extras", multiple=True, help="Optional part, such as s3; may be repeated.")
def wheels(node: Path, out: Path, python: str | None, machine: str | None, **options: Any) -> None:
    """Collect wheels for a machine without a network.

    NODE is a file that `python3 -m pip inspect > node.json` has written on that machine. What it has is used,
    above all its PyTorch; what it lacks is chosen by pip for its Python.
    """
    from studies.wheels import collect_wheels, read_node, sentences

    for line in sentences(collect_wheels(read_node(node, python, machine), out, **options)):
        click.echo(line)


@main.command(name="import")
@click.argument("source", type=PATH)
@NEW_STORE
@click.option("--format", "format_", required=True, help="hdf5, or npz as in the study.")
@click.option("--model", help="Name of the model in the store; default: as in the file.")
@click.option("--dataset", help="Name of the dataset in the store; default: as in the file.")
@click.option("--manifest", type=PATH, help="Utterances and labels, where the file has none.")
@click.option("--id-map", type=PATH, help="CSV from position or old id to utterance_id (npz).")
@click.option("--key", help="Which MODEL/DATASET of the file to read; default: all.")
@click.option("--layers", help="Numbers of the layers in the file, such as 0-12 (npz).")
@click.option("--functionals", help="Statistics in the file, such as mean,std (npz).")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), help="Stored number type; default: as in the file."
)
@click.option(
    "--codec",
    metavar="NAME",
    help="How layers are stored: fast, small, raw, pcodec, bitround10; default: as in the file, else fast.",
)
@click.option("--unit-rows", type=int, help="Utterances that are committed together.")
@click.option("--overwrite", is_flag=True, help="Replace the key if it exists.")
@QUIET
def import_(source: Path, store: str, format_: str, quiet: bool, **options: Any) -> None:
    """Read embeddings from HDF5 or the study's npz into a store.

    Nothing is ever unpickled.
    """
    from featurestore.layer_list import parse_layers
    from studies.terminal.operations import import_keys

    layers, functionals = options.pop("layers"), options.pop("functionals")
    request = {
        "source": source,
        "store_url": store,
        "format": format_,
        "layers": parse_layers(layers) if layers else None,
        "functionals": tuple(functionals.split(",")) if functionals else None,
        **options,
    }
    import_keys(request, quiet=quiet)


if __name__ == "__main__":
    main()
