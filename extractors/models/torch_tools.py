"""What every PyTorch extractor shares: padding, hidden states taken as blocks finish, lack of memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from extractors.models.interface import Extractor


def count_frames(extractor: Extractor, clips: Sequence[np.ndarray]) -> list[int]:
    """Valid frames of each clip.

    Raises:
        ValueError: a clip is too short to give one; it would take its neighbours' padding for sound.
    """
    counts = [extractor.n_frames(len(c)) for c in clips]
    for clip, count in zip(clips, counts, strict=True):
        if count < 1:
            raise ValueError(f"{extractor.card.name}: a clip of {len(clip)} samples gives no frame")
    return counts


class StackedClips(Sequence[np.ndarray]):
    """Clips as rows of one float32 tensor of the host, zeros past their ends.

    Args:
        clips: to be copied, `[n_samples]` each.
        pinned: whether a GPU is to fetch them, without the host waiting for it.

    Attributes:
        batch: `[b, longest]`; every clip is a view of its row.
    """

    def __init__(self, clips: Sequence[np.ndarray], *, pinned: bool) -> None:
        shape = len(clips), max(len(c) for c in clips)
        self.batch = torch.empty(shape, pin_memory=pinned)
        self._clips: list[np.ndarray] = []
        for row, clip in zip(self.batch.numpy(), clips, strict=True):
            own, rest = row[: len(clip)], row[len(clip) :]
            own[:], rest[:] = clip, 0.0
            self._clips.append(own)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        return self._clips[index]


class PaddedInput:
    """An extractor whose `forward` gives its clips to `padded_batch`; see `StacksClips`."""

    device: torch.device

    @property
    def sends_batches(self) -> bool:
        """See `StacksClips`."""
        return self.device.type != "cpu"

    def stack(self, clips: Sequence[np.ndarray]) -> StackedClips | None:
        """See `StacksClips`."""
        try:
            return StackedClips(clips, pinned=self.device.type == "cuda")
        except (RuntimeError, MemoryError):
            return None  # `padded_batch` meets it again, where smaller batches are tried


def padded_batch(clips: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """Clips in one float32 tensor `[b, longest]` on a device, zeros past their ends.

    The host does not wait until a GPU has them: they leave from pinned memory, after what is queued there.
    `StackedClips` lie there already.
    """
    stacked = clips if isinstance(clips, StackedClips) else StackedClips(clips, pinned=device.type == "cuda")
    return stacked.batch.to(device, non_blocking=True)


def sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on a device, which the host does not wait for."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def queued_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the host, which a GPU fills once it has done what was queued before; see `queue_end`."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


def queue_end(device: torch.device) -> torch.cuda.Event | None:
    """What to wait for, to have everything that is queued on a GPU by now; None where nothing is queued."""
    if device.type != "cuda":
        return None
    end = torch.cuda.Event()  # type: ignore[no-untyped-call]
    end.record(torch.cuda.current_stream(device))
    return end


def frame_mask(counts: Sequence[int], n_frames: int, device: torch.device) -> torch.Tensor | None:
    """Boolean `[b, n_frames]`, True where a frame is valid; None if all are."""
    if min(counts) >= n_frames:
        return None
    valid = sent(np.array(counts), device)
    return torch.arange(n_frames, device=device) < valid[:, None]


class BlockMask:
    """Hands the blocks of an encoder the mask of a batch, ready for their attention.

    The encoders of transformers look into the mask they are given, whether anything is masked at all, and for
    that the host waits until the GPU has done everything that is queued. What is handed to the blocks instead
    is the same mask; encoders whose attention takes other masks than booleans are given theirs.

    Args:
        encoder: as transformers has it.
        blocks: its blocks, in order.
        config: of its model.
        also: argument of the blocks that takes the mask as it is, if there is one.
    """

    def __init__(
        self, encoder: Any, blocks: Sequence[nn.Module], config: Any, also: str | None = None
    ) -> None:
        self._encoder, self._also = encoder, also
        self._by_blocks = getattr(config, "_attn_implementation", None) == "sdpa"
        self._mask: torch.Tensor | None = None
        if self._by_blocks:
            for block in blocks:
                block.register_forward_pre_hook(self._give, with_kwargs=True)

    def run(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> object:
        """The encoder's forward of `[b, t, d]`, with frames masked where `mask` `[b, t]` is False."""
        self._mask = mask
        return self._encoder(hidden, attention_mask=None if self._by_blocks else mask)

    def _give(self, block: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self._mask is None:
            return None
        masks = {"attention_mask": self._mask[:, None, None, :]}  # [b, heads, t, t], broadcast
        if self._also is not None:
            masks[self._also] = self._mask
        return given, named | masks


def probe_clip(n_samples: int, *, seed: int = 0) -> np.ndarray:
    """Quiet noise `[n_samples]`, the same at every call: silence would send some models into 0/0."""
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    return (0.1 * noise).astype(np.float32)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what PyTorch, NumPy or Python raise when memory runs out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The second is what a GPU's driver says of memory of the host that was to be pinned.
    signs = ("not enough memory", "CUDA error: out of memory", "DefaultCPUAllocator")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def free_caches() -> None:
    """Give back what the failed pass left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Enough(Exception):
    """Raised by a hook to leave the model after the last layer wanted."""


class LayerTap:
    """Hands out hidden states while a model's own forward runs, and stops it after the last one wanted.

    Index 0 is what enters the first block, index k what leaves block k.

    Args:
        blocks: the model's blocks, in order.
        last: module whose output stands for the last block's, for models whose published last hidden
            state is taken after a final norm.
        entered: whether index 0 is what enters the first block; else it is what leaves it, for a first block
            that changes the width, and index k what leaves block k + 1.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], last: nn.Module | None = None, *, entered: bool = True
    ) -> None:
        self.blocks = list(blocks)
        self._layers: tuple[int, ...] = ()
        self._receive: Callable[[int, torch.Tensor], None] | None = None
        if entered:
            blocks[0].register_forward_pre_hook(
                lambda module, args, kwargs: self._hand_out(
                    0, args[0] if args else next(iter(kwargs.values()))
                ),
                with_kwargs=True,
            )
        for k, block in enumerate(blocks, start=1 if entered else 0):
            target = last if last is not None and block is blocks[-1] else block
            target.register_forward_hook(
                lambda module, args, out, k=k: self._hand_out(k, out[0] if isinstance(out, tuple) else out)
            )

    def run(
        self,
        layers: Sequence[int],
        receive: Callable[[int, torch.Tensor], None],
        forward: Callable[[], object],
    ) -> None:
        """Call `forward`; every hidden state of `layers` goes to `receive` as it is ready."""
        self._layers, self._receive = tuple(layers), receive
        try:
            # Encoders of transformers before 5.23 draw a number for every block, which decides nothing here:
            # the process's random state is left as it was.
            with torch.random.fork_rng(devices=[]):
                forward()
        except _Enough:
            pass
        finally:
            self._receive = None

    def _hand_out(self, layer: int, frames: torch.Tensor) -> None:
        if self._receive is None:
            return
        if layer in self._layers:
            self._receive(layer, frames)
        if not self._layers or layer >= self._layers[-1]:
            raise _Enough
