"""How far the hidden states of a clip move when it shares a batch with a longer one.

HuBERT of base size with seeded random weights, a clip of 0.5 s in a batch with one of 1 s. Padded as usual,
without and with an attention mask, and as `fs extract` does it; each compared with the clip alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from paper import BAD, GOOD, MUTED, WIDTH, save
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from extractors.models.registry import find_model

RATE_HZ, SHORT, LONG = 16_000, 8_000, 16_000
WAYS = {"zeros, no mask": MUTED, "zeros, attention mask": BAD, "fs extract": GOOD}


def clips() -> list[np.ndarray]:
    """A sweep in noise of either length, float32 `[n]`."""
    random = np.random.default_rng(0)
    made = []
    for n in (SHORT, LONG):
        t = np.arange(n) / RATE_HZ
        made.append(0.3 * np.sin(2 * np.pi * (400 + 900 * t) * t) + 0.05 * random.standard_normal(n))
    return [clip.astype(np.float32) for clip in made]


def deviations() -> pd.DataFrame:
    """Columns `layer`, `way`, `deviation`: largest difference, as a share of the layer's range."""
    torch.manual_seed(0)
    model = HubertModel(HubertConfig()).eval()
    short, long = clips()
    n_frames = (SHORT - 400) // 320 + 1
    padded = torch.from_numpy(np.stack([np.pad(short, (0, LONG - SHORT)), long]))
    mask = torch.zeros(2, LONG, dtype=torch.long)
    mask[0, :SHORT] = mask[1] = 1

    def states(sound: torch.Tensor, **options: Any) -> list[np.ndarray]:
        with torch.no_grad():
            found = model(sound, output_hidden_states=True, **options).hidden_states
        return [h[0, :n_frames].numpy() for h in found]

    alone = states(torch.from_numpy(short)[None])
    ours: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
        extractor = find_model(folder).load("cpu", "fp32")

    def on_layer(layer: int, frames: torch.Tensor, n_valid: Sequence[int]) -> None:
        ours.append(frames[0, : n_valid[0]].numpy().copy())

    with torch.no_grad():
        extractor.forward([short, long], range(len(alone)), on_layer)
    found = {"zeros, no mask": states(padded), "zeros, attention mask": states(padded, attention_mask=mask)}
    rows = []
    for way, layers in (found | {"fs extract": ours}).items():
        for layer, (got, expected) in enumerate(zip(layers, alone, strict=True)):
            share = np.abs(got - expected).max() / (expected.max() - expected.min())
            rows.append({"layer": layer, "way": way, "deviation": float(share)})
    return pd.DataFrame(rows)


def claims(table: pd.DataFrame) -> list[str]:
    """What the page says of it, word for word."""
    by_way = table.groupby("way")["deviation"]
    least, most = by_way.min(), by_way.max()
    masked, plain = "zeros, attention mask", "zeros, no mask"
    low, high = min(least[masked], least[plain]), max(most[masked], most[plain])
    return [
        f"{100 * low:.0f} to {100 * high:.0f} % of its range",
        f"{10 ** np.ceil(np.log10(most['fs extract'])):.0e}".replace("e-0", "e-"),
    ]


def draw(table: pd.DataFrame) -> None:
    """Draw it on a logarithmic axis."""
    scale = alt.Scale(domain=list(WAYS), range=list(WAYS.values()))
    chart = (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                "deviation:Q",
                title="Largest change, share of the range",
                scale=alt.Scale(type="log", domain=[1e-8, 1]),
                axis=alt.Axis(values=[1e-8, 1e-6, 1e-4, 1e-2, 1], format=".0e"),
            ),
            color=alt.Color("way:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
        )
        .properties(width=2 * WIDTH, height=240)
    )
    save(chart, Path(__file__).stem)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = deviations()
    draw(found)
    sys.stdout.write("\n".join(claims(found)) + "\n")
