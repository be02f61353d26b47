"""Networks exported from PyTorch to ONNX against themselves in PyTorch, by their cards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from extractors import ExtractConfig, extract, find_model
from extractors.models.interface import Extractor
from extractors.models.networks.onnx_file import OnnxNetwork
from extractors.models.registry import lasting_spec
from featurestore import open_store
from featurestore.errors import DependencyMissing, ModelError
from tests.extractors.models.test_conformance import embed, make_clips, worst
from tests.onnx_networks import (
    HOP,
    N_BLOCKS,
    RATE_HZ,
    RECEPTIVE,
    WIDTH,
    BatchNet,
    FrameNet,
    MapNet,
    save_frame_net,
    save_map_net,
    write_card,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LENGTHS = (12_001, 5000, 9001, 5000, 1200, 400, 719)


def loaded(spec: object) -> Extractor:
    return find_model(str(spec)).load("cpu", "fp32")


def in_pytorch(network: torch.nn.Module, clip: np.ndarray) -> list[np.ndarray]:
    """Every output for one clip, `[t, d]` each."""
    with torch.no_grad():
        return [state[0].numpy() for state in network(torch.from_numpy(clip)[None])]


def agrees(extractor: Extractor, network: torch.nn.Module, clips: Sequence[np.ndarray]) -> None:
    expected = [in_pytorch(network, clip) for clip in clips]
    for layer, found in embed(extractor, clips).items():
        assert worst(found, [states[layer] for states in expected]) < 1e-5, layer


def test_any_lengths_in_one_batch_are_what_pytorch_gives_each_alone(tmp_path: Path) -> None:
    file, network = save_frame_net(tmp_path)
    extractor = loaded(f"onnx:{file}")
    card = extractor.card
    assert (card.name, card.family, card.n_layers, card.n_features) == ("frames", "onnx", N_BLOCKS + 1, WIDTH)
    assert (card.sample_rate_hz, card.normalisation_source, card.max_samples) == (RATE_HZ, "its card", None)
    assert extractor.runs_together  # type: ignore[attr-defined]
    agrees(extractor, network, make_clips(LENGTHS))


def test_a_network_that_mixes_its_batch_runs_clip_by_clip(tmp_path: Path) -> None:
    file, network = save_frame_net(tmp_path, BatchNet())
    extractor = loaded(file)
    assert not extractor.runs_together  # type: ignore[attr-defined]
    agrees(extractor, network, make_clips((5000, 5000, 1200)))


def padded(clip: np.ndarray, before: int) -> torch.Tensor:
    window = np.zeros((1, MapNet.N_SAMPLES), dtype=np.float32)
    window[0, before : before + len(clip)] = clip
    return torch.from_numpy(window)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("padding", ["right", "both"])
def test_a_window_of_one_length_and_a_fixed_batch(tmp_path: Path, batch: int, padding: str) -> None:
    window = {"samples": MapNet.N_SAMPLES, "padding": padding}
    file, network = save_map_net(tmp_path, batch, window=window)
    extractor = loaded(file)
    clips = make_clips((16_000, 1000, 1, 15_999, 8001))
    found = embed(extractor, clips)
    for i, clip in enumerate(clips):
        n = int(np.ceil(len(clip) / HOP))
        before = (MapNet.N_SAMPLES - len(clip)) // 2 if padding == "both" else 0
        first = (MapNet.N_POSITIONS - n) // 2 if padding == "both" else 0
        with torch.no_grad():
            maps = network(padded(clip, before)[:, None])[:2]
        for layer in range(2):
            # [channel, frequency, time] → [time, channel]
            expected = maps[layer][0].mean(1).numpy().T[first : first + n]
            assert worst([found[layer][i]], [expected]) < 1e-5
    with pytest.raises(ValueError, match="longer than 16000 samples"):
        embed(extractor, make_clips((16_001,)))


def test_vectors_of_a_long_clip_weigh_by_how_much_of_their_window_they_hear(tmp_path: Path) -> None:
    file, network = save_map_net(tmp_path / "net", 1, vectors=True)
    [clip] = make_clips((16_000 + 4000,))
    soundfile.write(tmp_path / "a.wav", clip, RATE_HZ, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    config = ExtractConfig(manifest=tmp_path / "m.csv", dataset="d", model=str(file), store=tmp_path / "s")
    extract(config)
    features = open_store(tmp_path / "s").features("maps", "d")
    with torch.no_grad():
        whole, quarter = (
            network(padded(c, 0)[:, None])[2][0].numpy() for c in (clip[:16_000], clip[16_000:])
        )
    assert features.functionals == ["mean"]
    stored = features.layer(0).numpy()[0, 0]
    np.testing.assert_allclose(stored, (64 * whole + 16 * quarter) / 80, rtol=0, atol=1e-5)


def test_a_whole_vector_or_one_of_each_window_of_any_length(tmp_path: Path) -> None:
    file, network = save_frame_net(tmp_path)
    model = onnx.load(str(file))
    node = onnx.helper.make_node("ReduceMean", ["state_3"], ["vector"], axes=[1], keepdims=0)
    model.graph.node.append(node)
    model.opset_import[0].version = 13
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("vector", 1, ["batch", WIDTH]))
    onnx.save(model, str(file))
    layers = [{"tensor": "vector", "axes": ["batch", "feature"]}]
    clips = make_clips((9000, 1200, 5000))
    expected = [in_pytorch(network, clip)[-1].mean(0) for clip in clips]
    for more, counts in (({}, [1, 1, 1]), ({"window": {"samples": 9000, "padding": "none"}}, [65, 9, 36])):
        write_card(file, sample_rate_hz=RATE_HZ, layers=layers, **more)
        extractor = loaded(file)
        assert extractor.card.pooled
        [vectors] = embed(extractor, clips).values()
        assert [len(v) for v in vectors] == [extractor.n_frames(len(c)) for c in clips]
        if not more:
            assert [len(v) for v in vectors] == counts
        for got, wanted in zip(vectors, expected, strict=True):
            assert worst([got], [np.tile(wanted, (len(got), 1))]) < 1e-5


def test_windows_on_the_grid_of_a_card_are_the_whole_clip(tmp_path: Path) -> None:
    torch.manual_seed(2)
    grid = {"hop_samples": HOP, "receptive_samples": RECEPTIVE}
    file, network = save_frame_net(tmp_path / "net", FrameNet(attends=False), grid=grid)
    assert find_model(str(file)).card.receptive_samples == RECEPTIVE
    [clip] = make_clips((40_007,))
    soundfile.write(tmp_path / "a.wav", clip, RATE_HZ, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    extract(
        ExtractConfig(
            manifest=tmp_path / "m.csv", dataset="d", model=str(file), store=tmp_path / "s", window_s=0.5
        )
    )
    features = open_store(tmp_path / "s").features("frames", "d")
    for layer, states in enumerate(in_pytorch(network, clip)):
        mean, std = features.layer(layer).numpy()[0]
        np.testing.assert_allclose(mean, states.mean(0), rtol=0, atol=1e-5)
        np.testing.assert_allclose(std, states.std(0, ddof=1), rtol=0, atol=1e-5)


def test_tensors_inside_are_layers_and_nothing_past_the_last_is_computed(tmp_path: Path) -> None:
    file, network = save_frame_net(tmp_path)
    model = onnx.load(str(file))
    del model.graph.output[:-1]  # only the last state is handed out
    onnx.save(model, str(file))
    agrees(loaded(file), network, make_clips((5000, 1200)))
    read = OnnxNetwork(file)
    counts = []
    for k in range(N_BLOCKS + 1):
        cut = onnx.ModelProto.FromString(read._up_to([f"state_{k}"]))
        onnx.checker.check_model(cut, full_check=False) if cut.graph.output[0].HasField("type") else None
        counts.append((len(cut.graph.node), len(cut.graph.initializer)))
    assert counts == sorted(set(counts))
    assert counts[0][0] < len(model.graph.node)


def test_graphs_inside_nodes_keep_what_they_take_from_around_them(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    inner = [helper.make_tensor_value_info("inner", kind, None)]
    doubled = helper.make_node("Mul", ["framed", "two"], ["inner"])
    kept = helper.make_node("Identity", ["framed"], ["inner"])
    branches = {
        "then_branch": helper.make_graph([doubled], "a", [], inner),
        "else_branch": helper.make_graph([kept], "b", [], inner),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["framed"]),
        helper.make_node("If", ["yes"], ["chosen"], **branches),
        helper.make_node("Neg", ["chosen"], ["unused"]),
    ]
    values = {
        "shape": np.array([1, -1, 4]), "yes": np.array(True), "two": np.array(2, dtype=np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, "n"])],
        [helper.make_tensor_value_info("unused", kind, None)],
        [onnx.numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    file = tmp_path / "branches.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    write_card(
        file,
        sample_rate_hz=8000,
        layers=[{"tensor": "chosen", "axes": ["batch", "time", "feature"]}],
        window={"samples": 4000, "padding": "right"},
    )
    [clip] = make_clips((4000,))
    [[frames]] = embed(loaded(file), [clip]).values()
    np.testing.assert_array_equal(frames, 2 * clip.reshape(-1, 4))


def test_weights_in_files_beside_are_hashed_and_loaded(tmp_path: Path) -> None:
    file, network = save_frame_net(tmp_path)
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin", size_threshold=0)
    agrees(loaded(file), network, make_clips((5000, 1200)))
    before = find_model(str(file)).fingerprint()
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[-4:] = np.float32(3.0).tobytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    assert find_model(str(file)).fingerprint()["weights_sha256"] != before["weights_sha256"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere/weights.bin")
    with pytest.raises(ModelError, match=r"weights lie in 'weights\.bin'; expected a file beside it"):
        find_model(str(file))
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "elsewhere/weights.bin"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"weights lie in 'elsewhere/weights\.bin'"):
        find_model(str(file))


def test_what_decides_values_is_in_the_fingerprint_and_facts_are_not(tmp_path: Path) -> None:
    file, _ = save_map_net(tmp_path, 1)
    first = find_model(str(file)).fingerprint()
    save_map_net(tmp_path, 1, licence="mit", training_hours=12, name="mine", domain="animal")
    source = find_model(str(file))
    assert source.fingerprint() == first
    assert (source.card.name, source.card.licence, source.card.training_hours) == ("mine", "mit", 12)
    save_map_net(tmp_path, 1, scaling={"peak": 0.25})
    assert find_model(str(file)).fingerprint() != first


def test_cards_and_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = save_frame_net(tmp_path)
    other = write_card(tmp_path / "other.onnx", sample_rate_hz=8000, layers=[
        {"tensor": "state_1", "axes": ["batch", "time", "feature"]}
    ])  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for spec in ("frames.onnx", "./frames.onnx", "onnx:frames.onnx", "onnx:other.yaml:frames.onnx"):
        source = find_model(spec)
        rate = 8000 if "other" in spec else RATE_HZ
        assert (source.card.sample_rate_hz, source.card.name) == (rate, "frames")
        lasting = lasting_spec(spec)
        assert str(file.resolve()) in lasting
        assert (str(other.resolve()) in lasting) == ("other" in spec)
        assert find_model(lasting).fingerprint() == source.fingerprint()
    (tmp_path / "perch-2").mkdir()  # a card of the package is one, whatever lies in this folder
    assert lasting_spec("onnx:perch-2:frames.onnx") == f"onnx:perch-2:{file.resolve()}"
    with pytest.raises(ModelError, match="has no initialiser"):
        find_model("untrained:frames.onnx")


def perch(file: Path) -> Path:
    """A network of Perch 2.0's names and sizes whose outputs are stretches of its input."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    bounds = {"from_e": [79_232], "to_e": [79_232 + 1536], "from_s": [30_000], "to_s": [30_000 + 98_304]}
    values = {k: np.array(v) for k, v in bounds.items()} | {
        "axis": np.array([1]),
        "grid": np.array([-1, 16, 4, 1536]),
    }
    nodes = [
        helper.make_node("Slice", ["inputs", "from_e", "to_e", "axis"], ["embedding"]),
        helper.make_node("Slice", ["inputs", "from_s", "to_s", "axis"], ["stretch"]),
        helper.make_node("Reshape", ["stretch", "grid"], ["spatial_embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "perch",
        [helper.make_tensor_value_info("inputs", kind, ["batch", 160_000])],
        [
            helper.make_tensor_value_info("embedding", kind, ["batch", 1536]),
            helper.make_tensor_value_info("spatial_embedding", kind, ["batch", 16, 4, 1536]),
        ],
        [onnx.numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    return file


def test_the_cards_of_perch_frame_and_scale_as_hoplite_does(tmp_path: Path) -> None:
    file = perch(tmp_path / "perch_v2.onnx")
    rng = np.random.default_rng(0)
    for n in (160_000, 100_001):
        clip = (0.1 + 0.02 * rng.standard_normal(n)).astype(np.float32)
        # As frame_audio and normalize_audio of perch-hoplite: zeros on both sides, minus mean, to peak 0.25.
        left = (160_000 - n) // 2
        window = np.pad(clip, (left, 160_000 - n - left)).astype(np.float64)
        window -= window.mean()
        window *= 0.25 / np.abs(window).max()
        [vectors] = embed(loaded(f"onnx:perch-2:{file}"), [clip]).values()
        np.testing.assert_allclose(vectors[0][0], window[79_232 : 79_232 + 1536], rtol=0, atol=1e-6)
        [[frames]] = embed(loaded(f"onnx:perch-2-frames:{file}"), [clip]).values()
        spatial = window[30_000 : 30_000 + 98_304].reshape(16, 4, 1536).mean(1)
        count = int(np.ceil(n / 10_000))
        first = (16 - count) // 2
        np.testing.assert_allclose(frames, spatial[first : first + count], rtol=0, atol=1e-6)
    card = find_model(f"onnx:perch-2:{file}").card
    assert (card.name, card.sample_rate_hz, card.n_features, card.licence) == (
        "perch-2",
        32_000,
        1536,
        "apache-2.0",
    )


STATE = {"tensor": "state_1", "axes": ["batch", "time", "feature"]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no rate": ({"sample_rate_hz": None}, "sample_rate_hz: expected a whole number, got nothing"),
    "unknown key": (
        {"sample_rat_hz": 3},
        r"sample_rat_hz: unknown key 'sample_rat_hz'; did you mean 'sample_rate_hz'",
    ),
    "no tensor": (
        {"layers": [STATE, {**STATE, "tensor": "state_9"}]},
        r"layers\[1\].tensor: 'state_9' is no tensor of it.*state_",
    ),
    "axes": ({"layers": [{**STATE, "axes": ["time", "feature"]}]}, r"layers\[0\].axes: expected batch as in"),
    "no feature": (
        {"layers": [{**STATE, "axes": ["batch", "time"]}]},
        r"layers\[0\].axes: expected the axis feature once.*got a list",
    ),
    "no such axis": (
        {"layers": [{**STATE, "axes": ["batch", "tim", "feature"]}]},
        r"layers\[0\].axes\[1\]: expected one of batch, time, feature, averaged, got 'tim'",
    ),
    "rank": (
        {"layers": [{**STATE, "axes": ["batch", "time", "averaged", "feature"]}]},
        r"layers: 'state_1' has 3 axes \[1, 98, 12\]; the card says 4: batch, time, averaged, feature",
    ),
    "vectors and frames": (
        {"layers": [STATE, {"tensor": "state_2", "axes": ["batch", "averaged", "feature"]}]},
        r"layers\[1\].axes: expected time in the axes of all layers \(frames\) or of none",
    ),
    "width": (
        {"layers": [STATE, {**STATE, "axes": ["batch", "feature", "time"]}]},
        r"layers\[1\]: expected \[98, 12\] as of layers\[0\], got \[12, 98\]; write a card for each shape",
    ),
    "input name": ({"input": {"name": "audio"}}, r"input.name: 'audio' is none of its inputs \(waveform\)"),
    "input rank": (
        {"input": {"axes": ["batch", "channel", "samples"]}},
        r"input.axes: input 'waveform' \[any, any\] has 2 axes, not 3: batch, channel, samples",
    ),
    "grid": (
        {"grid": {"hop_samples": 320, "receptive_samples": 400}},
        "grid: 719 samples give 2 frames; hop_samples 320 and receptive_samples 400 would give 1",
    ),
    "grid and windows": (
        {"grid": {"hop_samples": 160, "receptive_samples": 400}, "window": {"samples": 16_000}},
        "grid: windows end to end have none; leave it out",
    ),
    "name": ({"name": "a/b"}, "name: model name 'a/b' may hold"),
    "too short a window": ({"window": {"samples": 100}}, "layers: .*100 samples of noise"),
    "no layers": ({"layers": []}, "layers: expected at least one entry, got an empty list"),
}


@pytest.fixture(scope="module")
def frame_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_frame_net(tmp_path_factory.mktemp("net"))[0]


@pytest.mark.parametrize("mistake", sorted(WRONG))
def test_a_card_that_does_not_fit_is_one_line_with_its_place(
    frame_net: Path, tmp_path: Path, mistake: str
) -> None:
    keys, expected = WRONG[mistake]
    card = write_card(tmp_path / "card.onnx", **{"sample_rate_hz": RATE_HZ, "layers": [STATE], **keys})
    with pytest.raises(
        ModelError, match=f"^--model onnx:{card}:{frame_net}: card {card}: {expected}"
    ) as error:
        find_model(f"onnx:{card}:{frame_net}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("window", [None, {"samples": 3000}, {"samples": 16_000, "padding": "none"}])
def test_a_window_is_that_of_the_network(tmp_path: Path, window: dict[str, Any] | None) -> None:
    file, _ = save_map_net(tmp_path, 1, window=window)
    takes = (
        r"input 'waveform' \[1, 1, 16000\] takes 16000 samples and no others; expected window.samples: 16000"
    )
    with pytest.raises(ModelError, match=f"window: {takes}"):
        find_model(str(file))


def test_files_that_are_no_network_and_cards_that_are_not_there(
    frame_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = frame_net.read_bytes()
    monkeypatch.chdir(tmp_path)
    files = {"text": b"a picture of a bird", "empty": b"", "half": content[: len(content) // 2]}
    for name, data in files.items():
        Path(f"{name}.onnx").write_bytes(data)
        write_card(Path(f"{name}.onnx"), sample_rate_hz=8000, layers=[STATE])
        with pytest.raises(ModelError, match=f"--model {name}.onnx: .*{name}.onnx") as error:
            find_model(f"{name}.onnx")
        assert "\n" not in str(error.value)
    Path("lone.onnx").write_bytes(content)
    wrong = {
        "lone.onnx": r"there is no lone.yaml beside lone.onnx.*onnx:CARD:lone.onnx.*perch-2",
        "onnx:perch2:lone.onnx": "there is no card perch2: .*did you mean 'perch-2'",
        "onnx:perch-2:lone.onnx": r"input.name: 'inputs' is none of its inputs \(waveform\)",
        "onnx:perch-2:gone.onnx": "there is no file gone.onnx; expected a .onnx file",
        "onnx": "expected onnx:FILE or onnx:CARD:FILE",
        "onnx:": "expected onnx:FILE or onnx:CARD:FILE",
    }
    for spec, expected in wrong.items():
        with pytest.raises(ModelError, match=f"--model {spec}: .*{expected}") as error:
            find_model(spec)
        assert "\n" not in str(error.value)
    Path("bad.yaml").write_text("layers: [\n")
    with pytest.raises(ModelError, match=r"card bad\.yaml cannot be read"):
        find_model("onnx:bad.yaml:lone.onnx")


def test_a_network_of_two_inputs_or_other_numbers_is_refused(tmp_path: Path) -> None:
    helper = onnx.helper

    def save(inputs: list[tuple[str, int]]) -> Path:
        nodes = [helper.make_node("Cast", [inputs[0][0]], ["state_1"], to=1)]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, [1, "n"]) for name, kind in inputs],
            [helper.make_tensor_value_info("state_1", 1, None)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(tmp_path / "a.onnx"))
        write_card(tmp_path / "a.onnx", sample_rate_hz=8000, layers=[STATE])
        return tmp_path / "a.onnx"

    with pytest.raises(ModelError, match="expected a network of one input, it has x, rate"):
        find_model(str(save([("x", 1), ("rate", 1)])))
    with pytest.raises(ModelError, match="expected float32, 'x' takes other numbers"):
        find_model(str(save([("x", onnx.TensorProto.DOUBLE)])))


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_without_the_runtime_its_extra_is_named(
    frame_net: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    expected = rf"needs {module} \(.*\); pip install 'featurestore-audio\[onnx\]'"
    with pytest.raises(DependencyMissing, match=expected):
        find_model(str(frame_net))
