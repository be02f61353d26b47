"""Which channel of a file an utterance is, where the manifest does not say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from featurestore.audio.segment import AudioError
from featurestore.audio.segment import channels as channels_of
from featurestore.errors import ConfigError
from featurestore.manifest.channels import with_channels
from featurestore.manifest.table import MOST_CHANNELS, Manifest


def check_channel(choice: str) -> None:
    """Refuse what is no channel policy.

    Raises:
        ConfigError: neither ``mix`` nor ``each`` nor a whole number from 0.
    """
    is_number = choice.isascii() and choice.isdigit() and len(choice) < 5 and int(choice) < MOST_CHANNELS
    if choice not in ("mix", "each") and not is_number:
        raise ConfigError(
            f"--channel: expected mix, each or a number from 0 to {MOST_CHANNELS - 1}, got {choice!r}"
        )


def choose_channels(manifest: Manifest, choice: str, workers: int) -> Manifest:
    """The manifest with a channel for every row that has none, see `with_channels`.

    Args:
        manifest: as read.
        choice: ``mix`` (nothing changes), ``each``, or a channel counted from 0.
        workers: threads that read headers.

    Raises:
        ManifestError: an id that this makes is another row's already.
    """
    counts: dict[str, int] = {}
    if choice == "each":
        paths = sorted(set(manifest.table["path"][manifest.table["channel"].isna()]))
        with ThreadPoolExecutor(workers) as pool:
            counts = dict(zip(paths, pool.map(_count, paths), strict=True))
    return with_channels(manifest, choice, counts)


def _count(path: str) -> int:
    try:
        return channels_of(path)
    except AudioError:
        return 0
