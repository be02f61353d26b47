"""What is measured of every clip: each decoded once, block by block, in several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featurestore.audio.blocks import SoundError, read_header
from featurestore.audio.levels import Levels, decibels
from featurestore.audio.segment import SampleHash, open_stretch
from featurestore.audit.measurements import in_threads
from featurestore.confounds.pitch import Pitch
from featurestore.confounds.spectrum_shape import NoiseEstimate, SpectrumShape
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import Location

NAN = float("nan")
# Samples that the meters get at once: frames of a block are held several times over.
STEP_SAMPLES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """What one clip is, whatever it is labelled as. A number that it does not have is NaN.

    Attributes:
        duration_s: Seconds, by its samples and the file's rate.
        level_dbfs: Root mean square about the mean, in decibels of full scale.
        peak_dbfs: Largest magnitude, likewise.
        snr_db: See `featurestore.confounds.spectrum_shape.NoiseEstimate`.
        peak_hz: Frequency of the strongest bin of the mean power spectrum.
        centroid_hz: Mean frequency, weighted by power.
        f0_hz: See `featurestore.confounds.pitch.Pitch`.
        recorder: What the file says of its recorder: container, sample format, rate, channels, as
            ``WAV PCM_16 48000 Hz 1 ch``.
        audio_hash: As `fs extract` stores it.
        problem: Why the clip could not be read, or "".
    """

    duration_s: float = NAN
    level_dbfs: float = NAN
    peak_dbfs: float = NAN
    snr_db: float = NAN
    peak_hz: float = NAN
    centroid_hz: float = NAN
    f0_hz: float = NAN
    recorder: str = ""
    audio_hash: str = ""
    problem: str = ""


def measure_sound(place: Location) -> Sound:
    """Decode and measure one clip, as strictly as `fs extract` decodes it; errors become `Sound.problem`."""
    try:
        with open_stretch(*place) as stretch:
            rate = stretch.sample_rate_hz
            levels, found = Levels(), SampleHash(rate)
            shape, noise, pitch = SpectrumShape(rate), NoiseEstimate(rate), Pitch(rate)
            for block in stretch.blocks():
                found.add(block)
                for start in range(0, len(block), STEP_SAMPLES):
                    part = block[start : start + STEP_SAMPLES].astype("float64")
                    for meter in (levels, shape, noise, pitch):
                        meter.add(part)
        header = read_header(place[0])
    except (SoundError, OSError) as error:
        return Sound(problem=str(error))
    peak_hz, centroid_hz = shape.result()
    return Sound(
        duration_s=levels.n_samples / rate,
        level_dbfs=decibels(levels.rms),
        peak_dbfs=decibels(levels.peak),
        snr_db=noise.result(),
        peak_hz=peak_hz,
        centroid_hz=centroid_hz,
        f0_hz=pitch.result(),
        recorder=f"{header.container} {header.subtype} {header.sample_rate_hz} Hz {header.n_channels} ch",
        audio_hash=found.text,
    )


def measure_sounds(
    places: Places,
    workers: int,
    on_done: Callable[[int, int], None] | None = None,
    kept: list[Sound] | None = None,
) -> list[Sound]:
    """Measure the clips at these places, in their order.

    Args:
        places: Where they are.
        workers: Threads that decode.
        on_done: Told how many of how many are done.
        kept: A list that gets each as soon as it is measured, for who is interrupted.
    """
    out: list[Sound] = [] if kept is None else kept
    rows: Sequence[int] = range(len(places))

    def tell(done: int) -> None:
        if on_done is not None:
            on_done(done, len(rows))

    for sound in in_threads(lambda i: measure_sound(places.location(i)), rows, workers, tell):
        out.append(sound)
    return out
