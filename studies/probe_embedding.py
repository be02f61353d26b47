"""How new audio is embedded for a saved probe: as its training clips were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from probes.saved.probe_files import ProbeCard


def probe_extraction(
    folder: Path,
    card: ProbeCard,
    *,
    manifest: Path,
    store: str,
    dataset: str,
    model: str | None,
    **machine: Any,
) -> ExtractConfig:
    """The configuration that embeds up to the probe's layer, exactly as its training data was.

    Args:
        folder: of the probe, for messages.
        card: of the probe.
        manifest: what to embed.
        store: where to.
        dataset: name of the data set there.
        model: where the audio model is; None: where it was.
        machine: see `same_extraction`.

    Raises:
        FingerprintMismatch: the audio model is another one, or would be used in another way.
        UserError: see `same_extraction`.
    """
    from extractors.run.reproduction import same_extraction
    from featurestore.layer_list import format_layers

    if not (model or card.given.get("model")):
        raise ConfigError(f"{folder}: does not say where {card.model} is; give --model ID or folder")
    was = Path(card.given.get("model", ""))
    if model is None and was.is_absolute() and not os.path.exists(was):
        raise ConfigError(
            f"{folder}: {card.model} was at {was}, which is gone; give --model, where it is now"
        )
    return same_extraction(
        card.extraction,
        card.given,
        manifest=manifest,
        model=model,
        store=store,
        dataset=dataset,
        name=card.model,
        layers=format_layers(card.layers),
        **machine,
    )
