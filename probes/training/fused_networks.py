"""Many small networks of one shape trained in one program (forward, backward and AdamW by hand).

``K`` networks see the same batch, so their first layers are one matrix product over concatenated
weights; later layers are batched products. Nothing mixes networks: each row of the stack computes
what it would compute alone.

Activations are ``[K, h, b]``, the batch last: products give and take them as they lie, nothing is
copied from one layout to another, and LayerNorm and softmax, which go across ``h``, work on many
samples per instruction.

Autograd is left out on purpose. The gradient of one first layer goes to AdamW while it is still in
the cache and is never stored for the whole stack, which saves a third of the memory traffic of a
step; and the per-operation overhead of the graph would dominate small stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from probes.training.devices import on_device

LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's default
ADAM_BETAS = (0.9, 0.999)  # Kingma & Ba 2015; torch.optim.Adam's defaults
ADAM_EPS = 1e-8
# Rows of a first-layer gradient computed at a time: enough for an efficient product, few enough
# (256 x 1536 x 4 bytes = 1.5 MB) to stay in cache until AdamW has used them.
GRADIENT_ROWS = 256
# Floats of first-layer activations held while many rows are scored: near a core's cache, or a GiB of a GPU.
SCORE_FLOATS = {"cpu": 1 << 21, "gpu": 1 << 28}


# Position of a network, its parameters (first layer, tail), the tail's gradient, and both moments.
Member = tuple[int, list[Tensor], Tensor, list[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Shape:
    """Layer widths of every network in a stack: ``sizes[0]`` inputs … ``sizes[-1]`` classes."""

    sizes: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Linear layers, the output layer included."""
        return len(self.sizes) - 1

    def tail_slices(self) -> list[tuple[str, int, slice, tuple[int, ...]]]:
        """``(name, layer, slice of the tail, shape)`` of every parameter but the first weight."""
        out: list[tuple[str, int, slice, tuple[int, ...]]] = []
        start = 0
        for layer in range(self.n_layers):
            width, inputs = self.sizes[layer + 1], self.sizes[layer]
            parts: list[tuple[str, tuple[int, ...]]] = [("bias", (width,))]
            if layer > 0:
                parts.insert(0, ("weight", (width, inputs)))
            if layer < self.n_layers - 1:
                parts += [("gain", (width,)), ("shift", (width,))]
            for name, shape in parts:
                size = width * inputs if name == "weight" else width
                out.append((name, layer, slice(start, start + size), shape))
                start += size
        return out


def initial_weights(shape: Shape, seed: int) -> tuple[Tensor, Tensor]:
    """Weights of one network as ``torch.nn.Linear`` and ``LayerNorm`` would draw them.

    Args:
        shape: Layer widths.
        seed: Seed of the generator; equal to ``torch.manual_seed(seed)`` before building the same
            ``torch.nn.Sequential``.

    Returns:
        First weight ``[h1, d]`` and the flat tail ``[r]``, float32.
    """
    generator = torch.Generator().manual_seed(seed)
    slices = shape.tail_slices()
    tail = torch.empty(slices[-1][2].stop)
    first = torch.empty(shape.sizes[1], shape.sizes[0])
    by_name = {(name, layer): tail[where].view(dims) for name, layer, where, dims in slices}
    for layer in range(shape.n_layers):
        # kaiming_uniform_(a=sqrt(5)) of torch.nn.Linear is U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
        bound = shape.sizes[layer] ** -0.5
        weight = first if layer == 0 else by_name["weight", layer]
        weight.uniform_(-bound, bound, generator=generator)
        by_name["bias", layer].uniform_(-bound, bound, generator=generator)
        if ("gain", layer) in by_name:
            by_name["gain", layer].fill_(1.0)
            by_name["shift", layer].zero_()
    return first, tail


class Stack:
    """``K`` networks of one shape with their AdamW state.

    Attributes:
        first: First-layer weights ``[K * h1, d]``; network ``k`` owns rows ``k*h1 : (k+1)*h1``.
        tail: All other parameters ``[K, r]``.
        targets: Loss targets ``[K, label, C]``: row ``y`` of network ``k`` is the (smoothed,
            class-weighted) target distribution of a sample labelled ``y``.
        class_weights: Weight of a sample of each label ``[K, C]``.
        batch_size: Rows of a whole training batch; 0 where nothing is trained.
        device: Where it is trained: that of `first`, and of everything that is given to it.
    """

    def __init__(
        self,
        shape: Shape,
        first: Tensor,
        tail: Tensor,
        targets: Tensor,
        class_weights: Tensor,
        dropout: Sequence[float],
        dropout_stream: Sequence[int],
        weight_decay: Sequence[float],
        precision: str = "fp32",
        batch_size: int = 0,
    ) -> None:
        self.shape = shape
        self.device = first.device
        self.precision = precision
        self.batch_size = batch_size
        self.first, self.tail = first, tail
        self.first_moments = [torch.zeros_like(first), torch.zeros_like(first)]
        self.tail_moments = [torch.zeros_like(tail), torch.zeros_like(tail)]
        self.targets, self.class_weights = targets, class_weights
        self.dropout = list(dropout)
        self.dropout_stream = list(dropout_stream)
        self.weight_decay = list(weight_decay)
        self.n_steps = torch.zeros((), device=self.device)
        self._bind()

    def __len__(self) -> int:
        return len(self.tail)

    def _bind(self) -> None:
        """Make the views used in every step once, so that a step slices nothing."""
        k, h1 = len(self), self.shape.sizes[1]
        self._grad_tail = torch.empty_like(self.tail)
        self._views = self._tail_views(self.tail)
        self._grad_views = self._tail_views(self._grad_tail)
        self._targets = self.targets.transpose(1, 2).contiguous()  # [K, C, label]
        self._target_sums = self._targets.sum(1, keepdim=True)  # [K, 1, label]
        self._plain_loss = bool((self.class_weights == 1).all())
        keep = torch.tensor([1.0 - p for p in self.dropout], device=self.device).view(k, 1, 1)
        self._keep = keep if any(self.dropout) else None
        self._streams = sorted(set(self.dropout_stream))
        streams = [self._streams.index(s) for s in self.dropout_stream]
        self._stream_of = torch.tensor(streams, device=self.device)
        # Networks whose first-layer gradients are computed by one product: all of them on a GPU, which has no
        # cache to stay in and which small products leave idle.
        width = max(1, GRADIENT_ROWS // h1) if self._by_blocks else k
        self._blocks: list[tuple[slice, list[Member]]] = []
        for start in range(0, k, width):
            stop = min(start + width, k)
            members: list[Member] = []
            for i in range(start, stop):
                rows = slice(i * h1, (i + 1) * h1)
                params, means, squares = (
                    [first[rows], tail[i]]
                    for first, tail in zip(
                        (self.first, *self.first_moments), (self.tail, *self.tail_moments), strict=True
                    )
                )
                members.append((i, params, self._grad_tail[i], means, squares))
            self._blocks.append((slice(start * h1, stop * h1), members))

    @property
    def _by_blocks(self) -> bool:
        return self.device.type == "cpu"

    def _tail_views(self, flat: Tensor) -> dict[tuple[str, int], Tensor]:
        k = len(flat)
        views = {}
        for name, layer, where, dims in self.shape.tail_slices():
            dims = dims if name == "weight" else (*dims, 1)  # vectors broadcast over the batch
            views[name, layer] = flat[:, where].view(k, *dims)
        return views

    def keep(self, alive: Sequence[int]) -> None:
        """Drop every network whose position is not in ``alive`` from the computation."""
        index = torch.tensor(alive, dtype=torch.int64, device=self.device)

        def pick(first: Tensor) -> Tensor:
            return first.view(len(self), -1)[index].view(-1, first.shape[-1])

        self.first_moments = [pick(m) for m in self.first_moments]
        self.tail_moments = [m[index] for m in self.tail_moments]
        self.first = pick(self.first)
        self.targets, self.class_weights = self.targets[index], self.class_weights[index]
        self.dropout = [self.dropout[i] for i in alive]
        self.dropout_stream = [self.dropout_stream[i] for i in alive]
        self.weight_decay = [self.weight_decay[i] for i in alive]
        self.tail = self.tail[index]
        self._bind()

    def weights(self, k: int) -> tuple[Tensor, Tensor]:
        """A copy of network ``k``'s parameters: ``[h1, d]`` and ``[r]``."""
        h1 = self.shape.sizes[1]
        return self.first[k * h1 : (k + 1) * h1].clone(), self.tail[k].clone()

    def _first_layer(self, x: Tensor, *, recurs: bool = False) -> Tensor:
        """`[b, d]` to `[K, h1, b]`, bias added; see `product`."""
        z = product(self.first, x, self.precision, recurs=recurs).view(len(self), -1, len(x))
        return z.add_(self._views["bias", 0])

    def logits(self, x: Tensor) -> Tensor:
        """Scores of all networks without dropout: `[n, d]` to `[K, n, C]`."""
        rows = max(256, SCORE_FLOATS["cpu" if self._by_blocks else "gpu"] // len(self.first))
        return torch.cat([self._logits(part).transpose(1, 2) for part in torch.split(x, rows)], dim=1)

    def _logits(self, x: Tensor) -> Tensor:
        z = self._first_layer(x)
        for layer in range(self.shape.n_layers - 1):
            normal, _ = _normalise_(z)
            z = self._linear(self._activate(normal, layer), layer + 1)
        return z

    def _activate(self, normal: Tensor, layer: int) -> Tensor:
        # In two steps: addcmul with factors that repeat along the last axis goes value by value.
        return (normal * self._views["gain", layer]).add_(self._views["shift", layer]).relu_()

    def _linear(self, a: Tensor, layer: int) -> Tensor:
        return torch.baddbmm(self._views["bias", layer], self._views["weight", layer], a)

    def losses(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Each network's own training criterion on given rows, as a weighted mean's parts.

        It is cross-entropy of classes, and squared error of numbers (`y` float32, one score a network).

        Returns:
            Weighted sum `[K]` and sum of the weights `[K]`, float64: those of several batches add up.
        """
        if y.is_floating_point():
            off = logits.squeeze(-1).double() - y
            return off.square().sum(1), torch.full((len(self),), len(y), dtype=torch.float64, device=y.device)
        log_p = torch.log_softmax(logits, dim=-1)
        total = -(self.targets[:, y] * log_p).sum(dim=(1, 2), dtype=torch.float64)
        return total, self.class_weights[:, y].sum(1, dtype=torch.float64)

    def step(
        self,
        x: Tensor,
        y: Tensor,
        learning_rates: Sequence[float],
        generators: dict[int, torch.Generator],
    ) -> None:
        """One AdamW step of every network on the batch ``x [b, d]``, ``y [b]``.

        Args:
            x: Standardised rows.
            y: Labels as integers; or numbers to be met, float32, by networks of one score.
            learning_rates: One per network.
            generators: Dropout noise by stream; networks of one stream share the noise, each with
                its own rate, so that it does not matter which others are in the stack.
        """
        n_hidden = self.shape.n_layers - 1
        z = self._first_layer(x, recurs=len(x) == self.batch_size)
        # (normalised values, 1/std, activation, dropout factor) of each hidden layer
        tape: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        for layer in range(n_hidden):
            normal, rstd = _normalise_(z)
            a = self._activate(normal, layer)
            mask = self._dropout_factor(a, generators)
            if mask is not None:
                a.mul_(mask)
            tape.append((normal, rstd, a, mask))
            z = self._linear(a, layer + 1)

        grad = self._loss_gradient(z, y)
        g = self._grad_views
        for layer in range(n_hidden, 0, -1):
            normal, rstd, a, mask = tape[layer - 1]
            torch.sum(grad, 2, keepdim=True, out=g["bias", layer])
            g["weight", layer].copy_(torch.bmm(grad, a.transpose(1, 2)))
            grad = torch.bmm(self._views["weight", layer].transpose(1, 2), grad)
            if mask is not None:
                grad.mul_(mask)
            # a > 0 exactly where ReLU passed (and dropout kept) the value
            torch.ops.aten.threshold_backward.grad_input(grad, a, 0.0, grad_input=grad)
            gain = self._views["gain", layer - 1]
            weighted = normal * grad
            torch.sum(grad, 2, keepdim=True, out=g["shift", layer - 1])
            torch.sum(weighted, 2, keepdim=True, out=g["gain", layer - 1])
            _normalise_backward_(grad, weighted, gain, normal, rstd)
        torch.sum(grad, 2, keepdim=True, out=g["bias", 0])
        self._update(grad, x, learning_rates)

    def _loss_gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient of the mean loss of a batch by the scores `z [K, C, b]`."""
        if y.is_floating_point():  # squared error
            return (z - y).mul_(2 / len(y))
        # Softmax cross-entropy with target t (mass s = sum t): d loss / d logits = p * s - t.
        grad = torch.softmax(z, dim=1)
        if self._plain_loss:
            return grad.sub_(self._targets.index_select(2, y)).div_(len(y))
        grad.mul_(self._target_sums.index_select(2, y)).sub_(self._targets.index_select(2, y))
        return grad.div_(self.class_weights[:, y].sum(1).view(-1, 1, 1))

    def _dropout_factor(self, a: Tensor, generators: dict[int, torch.Generator]) -> Tensor | None:
        if self._keep is None:
            return None
        shape = (a.shape[2], a.shape[1])
        # Drawn on the host whatever the device, so that a fit has the same noise on all of them.
        drawn = torch.stack([torch.rand(shape, generator=generators[s]).T for s in self._streams])
        noise = on_device(drawn, self.device)
        return (noise[self._stream_of] < self._keep).to(a.dtype).div_(self._keep)

    def _update(self, grad: Tensor, x: Tensor, learning_rates: Sequence[float]) -> None:
        """First-layer gradients ``[h1, b] @ [b, d]`` block by block, each used at once."""
        flat, features = grad.view(-1, len(x)), x.T  # [K * h1, b], [d, b]
        recurs = len(x) == self.batch_size
        self.n_steps += 1
        for span, members in self._blocks:
            block = product(flat[span], features, self.precision, recurs=recurs)
            first_grads = block.view(len(members), -1, x.shape[1])
            for rates, together in self._of_one_rate(members, first_grads, learning_rates):
                params, grads, means, squares = together
                torch._fused_adamw_(
                    params,
                    grads,
                    means,
                    squares,
                    [],
                    [self.n_steps] * len(params),
                    lr=rates[0],
                    beta1=ADAM_BETAS[0],
                    beta2=ADAM_BETAS[1],
                    weight_decay=rates[1],
                    eps=ADAM_EPS,
                    amsgrad=False,
                    maximize=False,
                )

    def _of_one_rate(
        self, members: list[Member], first_grads: Tensor, learning_rates: Sequence[float]
    ) -> Iterator[tuple[tuple[float, float], tuple[list[Tensor], ...]]]:
        """Rate and decay, and parameters, gradients and moments of the networks that are updated together.

        One by one on a CPU, each while its gradient is in the cache; on a GPU all that agree.
        """
        groups: dict[tuple[float, float], tuple[list[Tensor], ...]] = {}
        for first_grad, (i, params, grad_tail, means, squares) in zip(first_grads, members, strict=True):
            rates = learning_rates[i], self.weight_decay[i]
            own = params, [first_grad, grad_tail], means, squares
            if self._by_blocks:
                yield rates, own
                continue
            for together, some in zip(groups.setdefault(rates, ([], [], [], [])), own, strict=True):
                together += some
        yield from groups.items()


def product(a: Tensor, b: Tensor, precision: str, *, recurs: bool) -> Tensor:
    """``a @ b.T`` in float32, or of factors rounded to bfloat16, added up in float32 and rounded.

    Args:
        a: `[m, k]`.
        b: `[n, k]`.
        precision: One of `probes.training.mlp_config.PRECISIONS`.
        recurs: Whether these shapes come again and again. oneDNN keeps 0.6 MB of every shape it ever met, so
            what is met once (last batches, rows to be scored) must not go there.

    Processors without bfloat16 instructions multiply the rounded factors as float32, which is exact and a
    hundred times faster than having each product emulated.
    """
    on_cpu = a.device.type == "cpu"
    if precision == "fp32":
        return float32_product()(a, b) if recurs and on_cpu else torch.mm(a, b.T)
    if not on_cpu or has_bf16_instructions():
        return torch.mm(a.bfloat16(), b.bfloat16().T).float()
    return torch.mm(a.bfloat16().float(), b.bfloat16().float().T).bfloat16().float()


@lru_cache
def float32_product() -> Callable[[Tensor, Tensor], Tensor]:
    """``a, b -> a @ b.T`` in float32: oneDNN's where torch has it, else what `torch.mm` uses.

    With the shapes of a stack oneDNN is 6 to 14 % faster than MKL on an AMD EPYC. PyTorch offers it by no
    public function (`torch.compile` calls this operator): it is tried, and left alone unless as expected.
    """

    def blas(a: Tensor, b: Tensor) -> Tensor:
        return torch.mm(a, b.T)

    def onednn(a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return out

    # Whole numbers, so equal to the last bit; `b` lies in memory as the batch does in gradients.
    a, b = torch.arange(12.0).view(4, 3), torch.arange(15.0).view(3, 5).T
    try:
        return onednn if torch.equal(onednn(a, b), blas(a, b)) else blas
    except (AttributeError, RuntimeError, TypeError):
        return blas


@lru_cache
def has_bf16_instructions() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX512-BF16, AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _normalise_(z: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm without gain and shift over the middle axis of ``[K, h, b]``, in place; and 1/std."""
    z.sub_(z.mean(1, keepdim=True))
    rstd = (z * z).mean(1, keepdim=True).add_(LAYER_NORM_EPS).rsqrt_()
    return z.mul_(rstd), rstd


def _normalise_backward_(grad: Tensor, weighted: Tensor, gain: Tensor, normal: Tensor, rstd: Tensor) -> None:
    """Turn the gradient of a layer's activations into that of what was normalised, in place.

    With g the gradient times the gain: (g - mean(g) - n * mean(g * n)) / std, means over the middle axis.

    Args:
        grad: Gradient after ReLU and dropout `[K, h, b]`.
        weighted: `grad` times `normal`.
        gain: `[K, h, 1]`.
        normal: n, overwritten.
        rstd: 1/std `[K, 1, b]`.
    """
    across, share = gain.transpose(1, 2), 1 / normal.shape[1]  # [K, 1, h]: products with it are sums over h
    total, slope = torch.bmm(across, grad), torch.bmm(across, weighted)
    grad.mul_(gain).sub_(total, alpha=share).sub_(normal.mul_(slope), alpha=share).mul_(rstd)
