"""What a study file may say: its keys and their values, as pydantic models.

Options have the names that the command line gives them, with underscores: ``--split-seed`` is ``split_seed``.
What may be given several times is a list and stands in the plural: ``--label`` is ``labels``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from extractors.audio.decoders import Decode
from extractors.models.interface import FineTuning, Normalisation, Precision
from featurestore.format.number_types import DTypeName
from studies.study_file.value_kinds import (
    Channel,
    Grid,
    LabelsByCorpus,
    Layers,
    Names,
    OwnFacts,
    PathText,
    Shares,
    ShellLine,
    Side,
    Size,
    StoreName,
    Text,
    Word,
)

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A map of the file: only these keys, and no value taken for one of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Extraction(Part):
    """Options of `fs extract`; a model's own count before a corpus's, and these before the study's."""

    preset: Literal["sarkar2025"] | None = Field(
        default=None, description="Input convention of a published study."
    )
    layers: Layers | None = Field(
        default=None, description="Hidden states to keep, such as 0-6,12; default: all."
    )
    functionals: Names | None = Field(
        default=None, description="Statistics over frames; default: [mean, std]."
    )
    normalise: Normalisation | None = Field(
        default=None, description="Input normalisation; default: what the model was trained with."
    )
    dtype: DTypeName | None = Field(default=None, description="Stored number type; default: float32.")
    precision: Precision | None = Field(
        default=None, description="Arithmetic of the forward pass; default: fp32."
    )
    device: Text | None = Field(default=None, description="auto, cpu, cuda, cuda:N, cuda:all; default: auto.")
    short_clips: Literal["repeat", "none"] | None = Field(
        default=None, description="Repeat clips below min_samples, or leave them."
    )
    min_samples: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Clips shorter than this are repeated up to it; default: 5000."
    )
    rate_policy: Literal["resample", "expand"] | None = Field(
        default=None, description="Bring files to the model's rate, or read their samples as if at it."
    )
    resample_quality: Literal["qq", "lq", "mq", "hq", "vhq"] | None = Field(
        default=None, description="Of soxr; default: hq."
    )
    segments: Literal["nearest", "librosa"] | None = Field(
        default=None, description="How times become samples: nearest, or as librosa cuts; default: nearest."
    )
    channel: Channel | None = Field(default=None, description="mix, each or a number from 0; default: mix.")
    clip_to_file: bool | None = Field(default=None, description="Rows that end after their file end with it.")
    time_expanded: bool | None = Field(
        default=None, description="Take time-expanded files as they play; default: they are refused."
    )
    window_s: Seconds | None = Field(
        default=None, description="Longer clips are cut into such windows; 0: whole."
    )
    overlap_s: Seconds | None = Field(
        default=None, description="Context on each side of what is kept of a window."
    )
    frames: bool | None = Field(default=None, description="Keep the hidden states of every frame too.")
    frames_dtype: DTypeName | None = Field(default=None, description="Stored number type of frames.")
    unit_rows: Count | None = Field(default=None, description="Utterances committed together; default: 1024.")
    batch_seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None, description="Most seconds of audio in a batch."
    )
    workers: Count | None = Field(default=None, description="Decoders of audio: threads or processes.")
    decode: Decode | None = Field(
        default=None, description="What decoders are: auto, threads or processes; default: auto."
    )
    codec: Word | None = Field(default=None, description="How layers are stored; default: fast.")
    prune: bool | None = Field(
        default=None, description="Drop stored utterances that the manifest no longer has."
    )
    torch_weights: bool | None = Field(default=None, description="Read pytorch_model.bin too.")
    compile: bool | None = Field(default=None, description="Compile the model's blocks first.")
    selfcheck: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Clips to embed again alone and compare; 0: none."
    )


class Model(Extraction):
    """An audio model; any option of `extract` may stand here too. Its key is its name in the store."""

    model: Text = Field(
        description="As after fs extract --model: built-in name, folder, hub id, untrained:MODEL."
    )
    domain: Literal["speech", "animal", "animals", "audio"] | None = Field(
        default=None, description="What it heard in pre-training; default: as the catalogue says."
    )
    fine_tuning: FineTuning | None = Field(
        default=None, description="What it was fine-tuned for; default: as the catalogue says."
    )
    fine_tuned_from: Text | None = Field(
        default=None, description="The model of this file that it was made from."
    )
    facts: OwnFacts = Field(default={}, description="Further facts that contrasts can choose by.")


class Corpus(Part):
    """Utterances: a manifest, or a corpus that fs manifest makes one of. Its key is its name in the store."""

    manifest: PathText | None = Field(default=None, description="CSV or Parquet table of utterances.")
    adapter: Text | None = Field(
        default=None, description="Corpus or format, as after fs manifest: imv, folder, raven."
    )
    source: PathText | None = Field(default=None, description="Folder or file that the adapter reads.")
    options: dict[str, Any] = Field(default={}, description="The adapter's own options, with underscores.")
    group: Text | None = Field(
        default=None, description="What the group column holds, as fs manifest --group."
    )
    allow_missing: bool = Field(default=False, description="Leave out rows whose audio is missing.")
    derive: Names | None = Field(default=None, description="New label columns, NEW=COLUMN:REGEX.")
    map: PathText | None = Field(
        default=None, description="CSV (label,from,to) of classes to rename or drop."
    )
    min_class_size: Names | None = Field(
        default=None, description="COLUMN=N: drop labels of smaller classes."
    )
    explode: Names | None = Field(
        default=None, description="Columns of label sets to spread over 0/1 columns."
    )
    labels: Names | None = Field(default=None, description="Label columns that probings ask for by default.")
    extract: Extraction = Field(default=Extraction(), description="Options of fs extract for this corpus.")


class Probing(Part):
    """A call of fs probe. All probings write into the study's one results folder."""

    corpora: Names | None = Field(default=None, description="Corpora to probe; default: all.")
    models: Names | None = Field(default=None, description="Models to probe; default: all.")
    labels: LabelsByCorpus | None = Field(
        default=None,
        description="Label columns, for all corpora or by corpus; default: those of each corpus.",
    )
    layers: Layers | None = Field(default=None, description="Layers to probe, such as 0-6,12; default: all.")
    task: Text = Field(
        default="classification", description="What the labels are: classification, or regression of numbers."
    )
    classifiers: Names = Field(default=["mlp"], description="As after fs probe --classifier.")
    combine: Names = Field(default=["each"], description="Layers one by one (each), concat, weighted.")
    split: Text | None = Field(default=None, description="As after fs probe --split; default: as there.")
    groups: Names | None = Field(default=None, description="Columns whose values are held out together.")
    split_seed: Seed = Field(default=0, description="Seed that draws the split.")
    seeds: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="Fits per layer and setting."
    )
    grid: Grid = Field(default={}, description="Settings to try, by classifier.")
    controls: Names | None = Field(default=None, description="shuffled-labels, group-labels, mdl.")
    curves: Names | None = Field(default=None, description="Learning curves over groups or rows.")
    curve_draws: Count | None = Field(default=None, description="Draws of each share; default: 5.")
    curve_shares: Shares | None = Field(default=None, description="Percentages; default: 10,20,30,50,70,100.")
    refit: Text | None = Field(
        default=None,
        description="train+val: fit what validation chose again on both parts, and score it too.",
    )
    memory: Size | None = Field(default=None, description="Most a worker may hold, such as 1.5GB.")
    device: Text = Field(
        default="cpu", description="Where mlp and linear are trained: cpu, cuda, cuda:N or auto."
    )
    cluster: Text | None = Field(
        default=None, description="local[:N], tcp://host:port, or a dask-jobqueue YAML file."
    )


class Contrast(Part):
    """Two sets of models against each other: the mean score of a less that of b, on the same rows."""

    a: Side = Field(description="Models by name, or by facts: {domain: animal}.")
    b: Side = Field(description="The other side.")
    family: Text = Field(
        default="study",
        description="p-values are corrected by Holm over all contrasts of one family, all questions.",
    )


class Confounding(Part):
    """A call of fs confounds, for each set of corpora with the same labels."""

    corpora: Names | None = Field(default=None, description="Default: all.")
    models: Names | None = Field(default=None, description="Default: all.")
    labels: LabelsByCorpus | None = Field(default=None, description="Default: those of each corpus.")
    layers: Layers | None = Field(default=None, description="Layers to ask for confounds; default: all.")
    split: Text | None = Field(default=None, description="As of fs probe, which draws the same.")
    groups: Names | None = Field(default=None, description="Columns whose values are held out together.")
    split_seed: Seed = Field(default=0, description="Seed that draws the split.")
    workers: Count | None = Field(default=None, description="Threads that decode and fit.")


class Reporting(Part):
    """The report."""

    out: PathText = Field(default="report", description="Folder of the report.")
    published: Literal["icassp2025"] | None = Field(
        default=None, description="Paper whose published scores are shown beside the study's."
    )
    oracle: bool = Field(default=False, description="Also show the layer that test scores prefer: no result.")


class Job(Part):
    """What one kind of batch job asks for."""

    partition: Word | None = Field(default=None, description="sbatch --partition.")
    account: Word | None = Field(default=None, description="sbatch --account.")
    time: Word | None = Field(default=None, description="sbatch --time, such as 12:00:00.")
    memory: Word | None = Field(default=None, description="sbatch --mem, such as 32G.")
    cpus: Count | None = Field(default=None, description="sbatch --cpus-per-task.")
    gres: Word | None = Field(default=None, description="sbatch --gres, such as gpu:1.")
    options: list[Word] | None = Field(
        default=None, description="Further options of sbatch, each as --name=value."
    )
    setup: list[ShellLine] | None = Field(
        default=None, description="Lines of shell that run first: modules, environments."
    )


class Cluster(Job):
    """Batch jobs of fs study script; extract and probe may differ from what stands for both."""

    extract: Job = Field(default=Job(), description="What the jobs of the GPU half ask for instead.")
    probe: Job = Field(default=Job(), description="What the job of the CPU half asks for instead.")
    most_at_once: Count | None = Field(default=None, description="Array tasks that may run at once.")
    dask: dict[str, Any] | None = Field(
        default=None,
        description="Keys of a dask-jobqueue file (cluster, jobs, cores, memory): workers for the CPU half.",
    )


class Study(Part):
    """A whole study. Paths are relative to the file's folder; environment variables are not expanded."""

    store: PathText = Field(description="Folder or URL of the store; made if it does not exist.")
    results: PathText = Field(default="results", description="Folder of the results.")
    manifests: PathText = Field(default="manifests", description="Folder of manifests that adapters make.")
    corpora: dict[StoreName, Corpus] = Field(min_length=1, description="Corpora by their names in the store.")
    models: dict[StoreName, Model] = Field(min_length=1, description="Models by their names in the store.")
    extract: Extraction = Field(default=Extraction(), description="Options of fs extract for all models.")
    probings: dict[Text, Probing] = Field(min_length=1, description="What is asked, by name.")
    contrasts: dict[Text, Contrast] = Field(default={}, description="Sets of models to compare, by name.")
    confounds: Confounding | None = Field(default=None, description="What else explains the labels.")
    report: Reporting = Field(default=Reporting(), description="The report.")
    cluster: Cluster | None = Field(default=None, description="For fs study script.")


def json_schema() -> dict[str, Any]:
    """The schema of a study file, for editors and other programs."""
    made = _plain(Study.model_json_schema())
    del made["title"]
    return {"$schema": SCHEMA_ID, "title": "A study of featurestore-audio", **made}


def _plain(schema: Any) -> Any:
    """A schema without what says nothing, and is written by some versions of pydantic only."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    nothing = {"default": {}, "additionalProperties": True}
    return {k: _plain(v) for k, v in schema.items() if k not in nothing or v != nothing[k]}
