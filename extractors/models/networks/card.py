"""The card of a network in a file: what it takes, which of its tensors are layers, and what is known of it.

A file of ONNX or TFLite holds names and sizes. It does not say at which rate its audio is, which axis is
time, nor what was trained on what. A card does: a YAML file beside the network, or one of this package.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from extractors.models.interface import Domain, FineTuning, Normalisation
from featurestore.errors import ModelError, UserError, did_you_mean
from featurestore.names import check_name
from featurestore.untrusted.documents import DocumentError, read_yaml_document
from featurestore.untrusted.schema_mistakes import mistake_place, mistake_text, place_text

# A card is a page; the parser is asked for no more.
MOST_BYTES = 64 << 10
SUFFIX = ".yaml"
_PACKAGED = files("extractors.models.networks") / "cards"

InputAxis = Literal["batch", "channel", "samples"]
OutputAxis = Literal["batch", "time", "feature", "averaged"]
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]
# The network is run on as many samples as its card says to see what it gives: sixteen minutes at 48 kHz.
MOST_WINDOW_SAMPLES = 48_000_000
# Of rates in Hz, and of the samples under a frame and between two: bats are recorded at half of it.
MOST_RATE_HZ = MOST_FRAME_SAMPLES = 1_000_000


def _store_name(name: str) -> str:
    try:
        check_name(name, "model")
    except UserError as error:
        raise ValueError(str(error)) from error
    return name


def _input_axes(axes: list[InputAxis]) -> list[InputAxis]:
    if axes.count("samples") != 1 or len(set(axes)) != len(axes):
        raise ValueError("expected the axis samples once, and batch and channel once at most")
    return axes


def _output_axes(axes: list[OutputAxis]) -> list[OutputAxis]:
    if axes.count("feature") != 1 or axes.count("time") > 1 or axes.count("batch") > 1:
        raise ValueError("expected the axis feature once, and time and batch once at most")
    return axes


class Part(BaseModel):
    """A map of the card: only these keys, and no value taken for one of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Input(Part):
    """Where the waveform goes in."""

    name: Text | None = Field(default=None, description="Of the input; default: the only one.")
    axes: Annotated[list[InputAxis], AfterValidator(_input_axes)] = Field(
        default=["batch", "samples"], description="Its axes in order: batch, channel (of one), samples."
    )


class Window(Part):
    """How much the network takes at once; longer clips are cut into windows, end to end."""

    samples: Count = Field(le=MOST_WINDOW_SAMPLES, description="Samples of a window, at the network's rate.")
    padding: Literal["right", "both", "none"] = Field(
        default="right",
        description="Where zeros stand beside a shorter clip; none: it is given as long as it is.",
    )


class Scaling(Part):
    """What is done to a window, padding included, before the network sees it."""

    remove_mean: bool = Field(default=False, description="Take the mean off.")
    peak: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None, description="Scale to this largest magnitude; silence stays."
    )


class Layer(Part):
    """A tensor of the network that is a layer."""

    tensor: Text = Field(description="Name of an output, or of a tensor inside.")
    axes: Annotated[list[OutputAxis], AfterValidator(_output_axes)] = Field(
        description="Its axes in order: batch, time, feature; averaged: any other, such as frequency."
    )


class Grid(Part):
    """Where frames lie, of a network of any length: on one grid, wherever a clip is cut."""

    hop_samples: Count = Field(le=MOST_FRAME_SAMPLES, description="Samples from one frame to the next.")
    receptive_samples: Count = Field(le=MOST_FRAME_SAMPLES, description="Samples under one frame.")


class NetworkCard(Part):
    """All that a network's file does not say of itself."""

    name: Annotated[str, AfterValidator(_store_name)] | None = Field(
        default=None, description="In the store; default: the file's name without its suffix."
    )
    sample_rate_hz: Count = Field(le=MOST_RATE_HZ, description="Rate of the audio that the network takes.")
    input: Input = Field(default=Input(), description="Where the waveform goes in.")
    window: Window | None = Field(
        default=None, description="How much the network takes at once; default: clips of any length, whole."
    )
    scaling: Scaling = Field(default=Scaling(), description="Of each window, as the network was trained.")
    layers: Annotated[list[Layer], Field(min_length=1)] = Field(
        description="Tensors that are layers, from the first on; of one width and one number of frames."
    )
    grid: Grid | None = Field(
        default=None,
        description="Where frames lie, of a network of any length; with it, windows of long clips overlap.",
    )
    normalisation: Normalisation = Field(
        default="none", description="Of each whole clip, as the network was trained."
    )
    domain: Domain | None = Field(default=None, description="What it heard in pre-training.")
    fine_tuning: FineTuning | None = Field(default=None, description="What it was fine-tuned for.")
    training_hours: Count | None = Field(default=None, description="Hours that it heard in pre-training.")
    licence: Text | None = Field(default=None, description="Of the weights.")
    source: Text | None = Field(default=None, description="Where these facts are from.")

    @property
    def is_pooled(self) -> bool:
        """Whether a clip gives vectors, not frames."""
        return "time" not in self.layers[0].axes

    @property
    def padded_samples(self) -> int | None:
        """Samples that every clip is padded to; None where it is not."""
        return self.window.samples if self.window and self.window.padding != "none" else None

    def computation(self) -> dict[str, Any]:
        """The part of the card that decides values, for the fingerprint."""
        deciding = {"input", "window", "scaling", "layers", "grid"}
        return self.model_dump(include=deciding, exclude_none=True)


def packaged_cards() -> list[str]:
    """Names of the cards that come with this package."""
    return sorted(f.name.removesuffix(SUFFIX) for f in _PACKAGED.iterdir() if f.name.endswith(SUFFIX))


def find_card(named: str, network: Path, spec: str) -> Path:
    """The file of a card: one of the package, one of the user's, or that beside the network.

    Args:
        named: a packaged card's name or a file; empty: the file beside the network.
        network: file of the network.
        spec: what the user wrote after ``--model``, for messages.

    Raises:
        ModelError: there is no such card.
    """
    known = packaged_cards()
    if named in known:
        return Path(str(_PACKAGED / f"{named}{SUFFIX}"))
    card = Path(os.path.expanduser(named)) if named else network.with_suffix(SUFFIX)
    if card.is_file():
        return card
    kind = spec.partition(":")[0]
    if named:
        hint = did_you_mean(named, known) or f"; cards of the package: {', '.join(known)}"
        raise ModelError(f"--model {spec}: there is no card {named}: expected a YAML file{hint}")
    raise ModelError(
        f"--model {spec}: there is no {card.name} beside {network.name}, which a network needs as its card; "
        f"write one (docs/models.md), or name one: {kind}:CARD:{network}, CARD being a file or one of "
        f"{', '.join(known)}"
    )


def read_card(path: Path, spec: str) -> NetworkCard:
    """Read a card.

    Raises:
        ModelError: it cannot be read, or says something else than a card may.
    """
    try:
        value = read_yaml_document(path, most_bytes=MOST_BYTES)
    except DocumentError as error:
        raise ModelError(f"--model {spec}: card {path} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"--model {spec}: card {path}: expected keys with values (sample_rate_hz: …)")
    try:
        card = NetworkCard.model_validate(value)
    except ValidationError as error:
        first, *more = error.errors()
        place = mistake_place(first)
        at = place_text(place[:-1] if first["type"] == "missing" else place)
        text = f"{at}: {mistake_text(first, NetworkCard)}" if at else mistake_text(first, NetworkCard)
        rest = f" ({len(more)} more)" if more else ""
        raise ModelError(f"--model {spec}: card {path}: {text}{rest}") from error
    _check_together(card, f"--model {spec}: card {path}")
    return card


def _check_together(card: NetworkCard, where: str) -> None:
    """Refuse keys that contradict one another."""
    for k, layer in enumerate(card.layers):
        if ("batch" in layer.axes) != ("batch" in card.input.axes):
            raise ModelError(f"{where}: layers[{k}].axes: expected batch as in input.axes, or in neither")
        if ("time" not in layer.axes) != card.is_pooled:
            raise ModelError(
                f"{where}: layers[{k}].axes: expected time in the axes of all layers (frames) or of none "
                "(vectors); write two cards"
            )
    if card.grid is not None and (card.window is not None or card.is_pooled):
        what = "vectors" if card.is_pooled else "windows end to end"
        raise ModelError(f"{where}: grid: {what} have none; leave it out")
