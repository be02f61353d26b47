"""Networks that look at more than one vector per utterance: several layers, or frames.

Each ends in the head of the MLP probe: hidden layers with LayerNorm and ReLU, or none (linear).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose noise comes from a generator of its own, so that no other fit changes it."""

    def __init__(self, probability: float, seed: int) -> None:
        super().__init__()
        self.keep = 1.0 - probability
        # A stream of its own: the same seed already drew the initial weights.
        self.generator = torch.Generator().manual_seed(seed + (1 << 32))

    def forward(self, x: Tensor) -> Tensor:
        """Zero some of `x` and scale up the rest, in training only."""
        if not self.training or self.keep == 1.0:
            return x
        noise = torch.rand(x.shape, generator=self.generator)
        return x * (noise < self.keep).to(x.dtype).div_(self.keep)


class Head(nn.Sequential):
    """Linear → LayerNorm → ReLU → dropout for each hidden layer, then Linear.

    Args:
        sizes: Inputs, hidden widths, classes.
        dropout: After each ReLU.
        seed: Of the dropout noise.
    """

    def __init__(self, sizes: Sequence[int], dropout: float, seed: int) -> None:
        layers: list[nn.Module] = []
        for inputs, width in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU(), Dropout(dropout, seed)]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
        self.sizes = tuple(sizes)


class LayerWeights(nn.Module):
    """A learned sum of layers that stand side by side; what looks at the sum is a subclass.

    The weights are a softmax over one number per layer and begin equal (SUPERB's featurizer, Yang et al.
    2021).
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.scores = nn.Parameter(torch.zeros(n_layers))

    def weights(self) -> Tensor:
        """Weight of each layer `[L]`; they sum to 1."""
        return torch.softmax(self.scores, dim=0)

    def mixed(self, x: Tensor) -> Tensor:
        """`[n, d]`: the sum of the layers of `[n, L * d]`."""
        weights = self.weights().expand(len(x), 1, -1)
        # A batched product: a quarter of the time of `weights @ x`, with its gradient.
        return torch.bmm(weights, x.view(len(x), self.n_layers, -1))[:, 0]


class WeightedSum(LayerWeights):
    """A sum of layers with softmax weights, then a head: `[b, L * d]` to `[b, C]`."""

    def __init__(self, n_layers: int, top: Head) -> None:
        super().__init__(n_layers)
        self.head = top

    def forward(self, x: Tensor) -> Tensor:
        """Logits of standardised rows, layers side by side."""
        logits: Tensor = self.head(self.mixed(x))
        return logits


class AttentivePooling(nn.Module):
    """One learned query weighs the frames of a clip; the weighted mean goes to the head.

    The query begins at zero, which is the mean over frames.
    """

    def __init__(self, n_features: int, top: Head) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(n_features))
        self.head = top

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Logits `[b, C]` of frames `[b, T, d]`; `padding [b, T]` is True where there is none."""
        scores = (x @ self.query) / math.sqrt(x.shape[-1])
        weights = torch.softmax(scores.masked_fill(padding, -torch.inf), dim=1)
        logits: Tensor = self.head((weights[:, None] @ x)[:, 0])
        return logits


class MultiheadPooling(nn.Module):
    """Multi-head attention of one learned query over the frames (Lee et al. 2019, "PMA"), then the head.

    What `torch.nn.MultiheadAttention` computes, in another order. With one query a key's score is linear in
    its frame, and so is the mean of values: frames are weighed by one vector per head and averaged first,
    and only the average is projected. That takes H/D of the products, a hundredth for 8 heads of 768.
    """

    def __init__(self, n_features: int, n_heads: int, top: Head) -> None:
        super().__init__()
        # 0.02 as BERT and ViT draw their tokens
        self.query = nn.Parameter(torch.randn(1, 1, n_features) * 0.02)
        self.attention = nn.MultiheadAttention(n_features, n_heads, batch_first=True)
        self.head = top

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Logits `[b, C]` of frames `[b, T, d]`; `padding [b, T]` is True where there is none."""
        layer, n_heads, n_features = self.attention, self.attention.num_heads, x.shape[-1]
        width = n_features // n_heads
        to_query, to_key, to_value = layer.in_proj_weight.view(3, n_heads, width, n_features)
        of_query, _, of_value = layer.in_proj_bias.view(3, n_heads, width)
        query = to_query @ self.query[0, 0] + of_query  # [H, D/H]
        # The keys' bias adds the same to every frame's score and is left out.
        by_head = (query[:, None] @ to_key)[:, 0]  # [H, D]
        scores = (x @ by_head.T) / math.sqrt(width)  # [b, T, H]
        weights = torch.softmax(scores.masked_fill(padding[..., None], -torch.inf), dim=1)
        means = weights.transpose(1, 2) @ x  # [b, H, D]
        values = torch.einsum("bhd,hwd->bhw", means, to_value) + of_value
        pooled = layer.out_proj(values.flatten(1))
        logits: Tensor = self.head(pooled)
        return logits


class WeightedFrames(LayerWeights):
    """Attention over the frames of a learned sum of layers: frames are summed, then `pooling` looks at them.

    Args:
        n_layers: L.
        pooling: Of frames `[b, T, d]`.
    """

    def __init__(self, n_layers: int, pooling: AttentivePooling | MultiheadPooling) -> None:
        super().__init__(n_layers)
        self.pooling = pooling

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Logits `[b, C]` of frames `[b, T, L * d]`; `padding [b, T]` is True where there is none."""
        frames = self.mixed(x.flatten(0, 1)).view(*x.shape[:2], -1)
        logits: Tensor = self.pooling(frames, padding)
        return logits
