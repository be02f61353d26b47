"""Tiny networks in PyTorch, exported to ONNX, with their cards."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

HOP, RECEPTIVE, WIDTH, N_BLOCKS = 160, 400, 12, 3
RATE_HZ = 16_000


class FrameNet(nn.Module):
    """Frames of a waveform `[b, n]` and what three blocks make of them; one of them attends to all frames.

    Gives a state `[b, t, d]` for the input of the first block and the output of each.
    """

    def __init__(self, *, attends: bool = True) -> None:
        super().__init__()
        self.frames = nn.Conv1d(1, WIDTH, RECEPTIVE, stride=HOP)
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(N_BLOCKS))
        self.attends = attends

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = torch.tanh(self.frames(waveform[:, None])).transpose(1, 2)
        states = [state]
        for k, block in enumerate(self.blocks):
            mixed = block(state)
            if self.attends and k == 1:
                weights = torch.softmax(mixed @ mixed.transpose(1, 2), dim=-1)
                mixed = weights @ mixed
            state = state + torch.tanh(mixed)
            states.append(state)
        return tuple(states)


class MapNet(nn.Module):
    """Maps `[b, channel, frequency, time]` of a waveform `[b, 1, 16000]`, and a vector of each."""

    N_SAMPLES, N_POSITIONS = 16_000, 100

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Conv1d(1, 2 * WIDTH, HOP, stride=HOP)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = torch.tanh(self.frames(waveform)).unflatten(1, (WIDTH, 2))
        second = first + torch.tanh(self.mix(first))
        return first, second, second.mean((2, 3))


class BatchNet(FrameNet):
    """`FrameNet` whose frames know of the other clips of a batch."""

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().forward(waveform - waveform.mean(0))


def export(
    network: nn.Module, file: Path, outputs: Sequence[str], example: torch.Tensor, **axes: Any
) -> Path:
    """Write a network as ONNX; `axes` are those of ``waveform`` and of the outputs that may vary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        torch.onnx.export(
            network.eval(),
            (example,),
            str(file),
            input_names=["waveform"],
            output_names=list(outputs),
            dynamic_axes=axes or None,
            dynamo=False,
        )
    return file


def write_card(network: Path, **keys: Any) -> Path:
    """A card beside a network."""
    card = network.with_suffix(".yaml")
    card.write_text(json.dumps(keys))  # which is YAML
    return card


def save_frame_net(folder: Path, network: nn.Module | None = None, **keys: Any) -> tuple[Path, nn.Module]:
    """A `FrameNet` for any number of clips of any length; the keys go into its card."""
    if network is None:
        torch.manual_seed(0)
        network = FrameNet()
    outputs = [f"state_{k}" for k in range(N_BLOCKS + 1)]
    any_length = {name: {0: "batch", 1: "frames"} for name in outputs}
    file = export(
        network,
        folder / "frames.onnx",
        outputs,
        torch.zeros(2, 4000),
        waveform={0: "batch", 1: "samples"},
        **any_length,
    )
    layers = [{"tensor": name, "axes": ["batch", "time", "feature"]} for name in outputs]
    write_card(file, **{"sample_rate_hz": RATE_HZ, "layers": layers, **keys})
    return file, network


def save_map_net(folder: Path, batch: int, *, vectors: bool = False, **keys: Any) -> tuple[Path, nn.Module]:
    """A `MapNet` for so many clips of 16,000 samples and nothing else."""
    torch.manual_seed(1)
    network = MapNet()
    file = export(
        network, folder / "maps.onnx", ["first", "second", "vector"], torch.zeros(batch, 1, MapNet.N_SAMPLES)
    )
    maps = ["batch", "feature", "averaged", "time"]
    layers = [{"tensor": name, "axes": maps} for name in ("first", "second")]
    if vectors:
        layers = [{"tensor": "vector", "axes": ["batch", "feature"]}]
    card = {
        "sample_rate_hz": RATE_HZ,
        "input": {"axes": ["batch", "channel", "samples"]},
        "window": {"samples": MapNet.N_SAMPLES},
        "layers": layers,
    }
    write_card(file, **{**card, **keys})
    return file, network
