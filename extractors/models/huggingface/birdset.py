"""BirdSet's networks for images (Rauch et al., arXiv:2403.10380): ConvNeXt and EfficientNet over mel bands.

Their folders hold a network that takes a picture and do not say how one is made of sound: BirdSet's code
does. What it says is kept here under the published ids; of any other folder ``spectrogram.json`` says it.

The picture is `[mel bands, time]` of 5 s at 32 kHz, silence behind what is shorter, in decibels, those over
80 dB below the loudest cut off, and scaled with AudioSet's mean and deviation.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.models.huggingface.mel_spectrogram import MelSpectrogram
from extractors.models.huggingface.spectrogram_stages import (
    Positions,
    SpectrogramExtractor,
    Stage,
    of_vector,
    zeros_behind,
)
from extractors.models.interface import ModelCard, Precision
from featurestore.errors import ModelError
from featurestore.untrusted.document_shape import exactly, number, one_of, whole
from featurestore.untrusted.documents import DocumentError, read_json_document

FILE = "spectrogram.json"


@dataclass(frozen=True, kw_only=True)
class Spectrogram:
    """How BirdSet makes a picture of a waveform.

    Attributes:
        sample_rate_hz: of the waveform; bands go from 0 Hz to half of it.
        window_samples: of every picture.
        n_fft: samples of a frame.
        hop_samples: from one frame to the next.
        n_mels: bands.
        top_db: see `MelSpectrogram`.
        mean: taken off the decibels.
        std: what they are then divided by.
    """

    sample_rate_hz: int = 32_000
    window_samples: int = 160_000
    n_fft: int = 1024
    hop_samples: int = 320
    n_mels: int = 128
    top_db: float = 80.0
    mean: float = -4.268
    std: float = 4.569


# `preprocess` of birdset/modules/models/birdset_models/convnext_bs.py and efficientnet_bs.py, and the
# experiments by which both were trained (configs/experiment/birdset_neurips24/XCL), at 86a0777.
PRESETS: Mapping[str, Spectrogram] = {
    "birdset-convnext": Spectrogram(),
    "birdset-efficientnet": Spectrogram(n_fft=2048, hop_samples=256, n_mels=256),
}
PUBLISHED: Mapping[str, str] = {
    "DBD-research-group/ConvNeXT-Base-BirdSet-XCL": "birdset-convnext",
    "DBD-research-group/ConvNeXT-Base-BirdSet-XCM": "birdset-convnext",
    "DBD-research-group/EfficientNet-B1-BirdSet-XCL": "birdset-efficientnet",
    "DBD-research-group/EfficientNet-B1-BirdSet-XCM": "birdset-efficientnet",
}
KEYS = frozenset(field.name for field in dataclasses.fields(Spectrogram))
_PRESET = exactly({"preset": one_of(*PRESETS)})
_NUMBERS = exactly(
    {
        "sample_rate_hz": whole(1000, 1_000_000),
        "window_samples": whole(1, 100_000_000),
        "n_fft": whole(2, 100_000),
        "hop_samples": whole(1, 100_000),
        "n_mels": whole(1, 10_000),
        "top_db": number(0, 1000),
        "mean": number(),
        "std": number(1e-12),
    }
)


def read_front_end(
    folder: Path, name: str, model_id: str | None, spec: str, *, model_type: str
) -> Mapping[str, Any]:
    """How a picture is made for this folder's network, the fields of a `Spectrogram`; see `Family.front_end`.

    Raises:
        ModelError: nothing says it, or it is said wrongly.
    """
    file = folder / FILE
    if file.is_file():
        return dataclasses.asdict(_read(file, spec))
    for published, preset in PUBLISHED.items():
        known_by = published == model_id if model_id else published.rsplit("/", 1)[-1] == name
        if known_by and preset == f"birdset-{model_type}":
            return dataclasses.asdict(PRESETS[preset])
    raise ModelError(
        f"--model {spec}: a {model_type} takes pictures, and nothing says how its spectrogram is made; "
        f"expected one that BirdSet published, or {FILE} beside config.json: "
        f'{{"preset": "birdset-{model_type}"}} for one trained as those were, or {", ".join(sorted(KEYS))}'
    )


def _read(file: Path, spec: str) -> Spectrogram:
    try:
        said = read_json_document(file)
        if isinstance(said, Mapping) and "preset" in said:
            _PRESET(said, "")
            return PRESETS[said["preset"]]
        _NUMBERS(said, "")
    except DocumentError as error:
        raise ModelError(f"--model {spec}: {FILE}: {error}") from error
    # One number, however it is written: 80 and 80.0.
    settings = Spectrogram(**said | {key: float(said[key]) for key in ("top_db", "mean", "std")})
    if settings.window_samples <= settings.n_fft:
        raise ModelError(
            f"--model {spec}: {FILE}: window_samples: expected more than n_fft, {settings.n_fft}, got "
            f"{settings.window_samples}"
        )
    return settings


def front_end_of(model_type: str) -> Callable[[Path, str, str | None, str], Mapping[str, Any]]:
    """`read_front_end` for one kind of network."""
    return partial(read_front_end, model_type=model_type)


def pictures(settings: Spectrogram, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes pictures `[b, 1, mels, t]`, float32, of waveforms `[b, window]`."""
    bands = MelSpectrogram(
        sample_rate_hz=settings.sample_rate_hz,
        n_fft=settings.n_fft,
        hop_samples=settings.hop_samples,
        n_mels=settings.n_mels,
        lowest_hz=0.0,
        highest_hz=settings.sample_rate_hz / 2,
        scale="htk",
        top_db=settings.top_db,
        device=torch.device(device),
    )

    def make(waveforms: torch.Tensor) -> torch.Tensor:
        scaled = (bands(waveforms) - settings.mean) / settings.std
        return scaled.float().transpose(1, 2)[:, None]

    return make


def picture_by_transformers(settings: Spectrogram, clip: np.ndarray) -> torch.Tensor:
    """The picture `[1, 1, mels, t]` of one clip, by `transformers.audio_utils`; for references."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter")  # see `MelSpectrogram`
        filters = mel_filter_bank(
            num_frequency_bins=settings.n_fft // 2 + 1,
            num_mel_filters=settings.n_mels,
            min_frequency=0.0,
            max_frequency=settings.sample_rate_hz / 2,
            sampling_rate=settings.sample_rate_hz,
            norm=None,
            mel_scale="htk",
        )
    bands = spectrogram(
        zeros_behind(settings.window_samples)(clip),
        window_function(settings.n_fft, "hann"),
        frame_length=settings.n_fft,
        hop_length=settings.hop_samples,
        power=2.0,
        mel_filters=filters,
        log_mel="dB",
        db_range=settings.top_db,
        dtype=np.float64,
    )
    return torch.tensor((bands - settings.mean) / settings.std, dtype=torch.float32)[None, None]


def vector_by_transformers(model: Any, settings: Spectrogram, clip: np.ndarray) -> list[torch.Tensor]:
    """See `Family.reference`: the pooled output of the network as it is, at every position of the clip."""
    n_frames = of_vector(settings.window_samples).begun(len(clip))
    vector = model(picture_by_transformers(settings, clip)).pooler_output
    return [vector.expand(n_frames, -1)]


def check_channels(config: Any) -> None:
    """Refuse a network of pictures in colours.

    Raises:
        TypeError: it takes more than the spectrogram.
    """
    if config.num_channels != 1:
        raise TypeError(
            f"expected a network of one channel, a spectrogram; this one has {config.num_channels}"
        )


def extractor(
    model: Any,
    settings: Spectrogram,
    card: ModelCard,
    device: str,
    precision: Precision,
    *,
    stage: tuple[Stage, Positions] | None,
) -> SpectrogramExtractor:
    """A network over BirdSet's pictures, or a stage of it: its blocks, and where their frames stand."""
    model = model.to(device)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = model(inputs).pooler_output
        return vectors

    part, positions = stage or (None, of_vector(settings.window_samples))
    return SpectrogramExtractor(
        card,
        model,
        device,
        precision,
        positions=positions,
        window=zeros_behind(settings.window_samples),
        inputs=pictures(settings, device),
        forward=forward,
        stage=part,
    )
