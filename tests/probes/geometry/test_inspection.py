"""A whole look into a store: the same utterances in every model, the files, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics.pairwise import cosine_similarity

from featurestore import open_store
from featurestore.errors import ConfigError, CorruptData, KeyNotFound, LabelError, UserError
from probes import ProbeConfig, run_probe
from probes.geometry import InspectConfig, debiased_cka, inspect_store, inspection, write_inspection
from probes.geometry.aligned_rows import aligned_rows
from probes.geometry.nearest import standardised
from probes.geometry.plane import neighbour_plane
from probes.geometry.shape import Held
from tests.probes.conftest import CALLS, N_ROWS

MakeStore = Callable[..., None]


def values_by_id(store: str, model: str, layer: int, functionals: slice = slice(None)) -> pd.DataFrame:
    """Rows of a layer, functionals side by side, by utterance id; those that failed left out."""
    f = open_store(store).features(model, "calls")
    x = f.layer(layer).numpy()[:, functionals].reshape(len(f.index), -1)
    return pd.DataFrame(x, index=f.index["utterance_id"]).dropna()


def test_cka_is_of_the_same_utterances_whatever_their_order(
    tmp_path: Path, table: pd.DataFrame, make_store: MakeStore
) -> None:
    # Two models of names of one length hold the same values; one lies in another order, and lacks rows.
    path = tmp_path / "s"
    order = np.random.default_rng(0).permutation(N_ROWS)
    make_store(path, table, model="one")
    make_store(path, table, model="two", order=order)
    make_store(path, table, model="few", failed=(3, 50, 51))
    rows = aligned_rows(InspectConfig(store=str(path)))
    assert len(rows) == N_ROWS - 5
    assert rows.notes == ("left out: 5 utterances that not every model embedded",)
    found = inspect_store(InspectConfig(store=str(path))).cka
    assert (found["n_rows"] == N_ROWS - 5).all()
    assert len(found) == 81
    at = found.set_index(["model_a", "layer_a", "model_b", "layer_b"])["cka"]
    for layer in (0, 1, 2):
        assert at["one", layer, "two", layer] == pytest.approx(1.0, abs=1e-9)
    a, b = values_by_id(str(path), "one", 1), values_by_id(str(path), "few", 2)
    ids = a.index.intersection(b.index)
    direct = debiased_cka([Held(a.loc[ids].to_numpy()), Held(b.loc[ids].to_numpy())])[0, 1]
    assert at["one", 1, "few", 2] == pytest.approx(direct, abs=1e-9)
    assert at["few", 2, "one", 1] == at["one", 1, "few", 2]


def test_layers_that_do_not_fit_into_memory_are_read_again_and_give_the_same(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = InspectConfig(store=store, label="call")
    held = inspect_store(config)
    monkeypatch.setattr(inspection, "HELD_SHARE", 0.0)
    streamed = inspect_store(config)
    pd.testing.assert_frame_equal(held.cka, streamed.cka)
    pd.testing.assert_frame_equal(held.geometry, streamed.geometry)


def test_utterances_are_drawn_by_id_whatever_their_order(
    tmp_path: Path, table: pd.DataFrame, make_store: MakeStore
) -> None:
    path, other = tmp_path / "s", tmp_path / "other"
    make_store(path, table)
    make_store(other, table, order=np.random.default_rng(1).permutation(N_ROWS))
    configs = [InspectConfig(store=str(s), rows=50, layers="0-1", label="call") for s in (path, other)]
    drawn = [set(aligned_rows(c).drawn(50, 0).utterance_id) for c in configs]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 50
    one, two = (inspect_store(c) for c in configs)
    names = ["cka", "n_rows"]
    pd.testing.assert_frame_equal(one.cka[names], two.cka[names])
    measures = ["participation_ratio", "effective_rank", "mean_cosine", "fisher_ratio", "purity"]
    pd.testing.assert_frame_equal(one.geometry[measures], two.geometry[measures])
    assert one.scope.startswith("calls: 50 of 228 utterances with a label 'call', drawn with seed 0;")
    assert aligned_rows(configs[0]).drawn(50, 1).utterance_id.tolist() != sorted(drawn[0])


def test_classes_come_apart_where_the_layers_hold_them(store: str) -> None:
    # The store's values hold `call` more clearly from layer to layer.
    found = inspect_store(InspectConfig(store=store, models=("model-a",), label="call")).geometry
    for name in ("silhouette", "fisher_ratio", "purity"):
        assert found[name].is_monotonic_increasing, name
    assert found["purity"].iloc[0] < 0.4 < 0.9 < found["purity"].iloc[2]
    assert (found["grouped_by"] == "group").all()


def test_functionals_are_those_asked_for(store: str) -> None:
    config = InspectConfig(store=store, models=("model-a",), layers="0-1", functionals=("std",))
    found = inspect_store(config)
    x = [values_by_id(store, "model-a", k, slice(1, 2)).to_numpy() for k in (0, 1)]
    assert found.cka["cka"].iloc[1] == pytest.approx(debiased_cka([Held(v) for v in x])[0, 1], abs=1e-9)
    assert "; std side by side" in found.scope


def test_neighbours_and_the_map_of_one_layer(store: str) -> None:
    config = InspectConfig(
        store=store, models=("model-a",), layers="2", list_neighbours=True, n_neighbours=3, label="call"
    )
    found = inspect_store(config)
    assert found.cka.empty
    assert found.neighbours is not None
    assert found.plane is not None
    assert found.variance_shares is not None
    f = open_store(store).features("model-a", "calls")
    index = f.index.set_index("utterance_id")
    values = values_by_id(store, "model-a", 2)
    values = values[index.loc[values.index, "call"] != ""]
    z = standardised(values.to_numpy())
    cosine = pd.DataFrame(cosine_similarity(z), index=values.index, columns=values.index)
    assert len(found.neighbours) == 3 * len(values)
    for name in values.index[:20]:
        others = index.index[index["group"] != index.loc[name, "group"]].intersection(values.index)
        expected = cosine.loc[name, others].nlargest(3)
        rows = found.neighbours[found.neighbours["utterance_id"] == name]
        assert rows["neighbour_id"].tolist() == expected.index.tolist()
        assert rows["cosine"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)
        assert rows["neighbour_label"].tolist() == index.loc[expected.index, "call"].tolist()
    whole = PCA(svd_solver="full").fit(z.astype(np.float64))
    plane = found.plane.set_index("utterance_id").loc[values.index]
    direct = whole.transform(z.astype(np.float64))[:, :2]
    assert np.abs(plane[["x", "y"]].to_numpy()) == pytest.approx(np.abs(direct), abs=1e-3)
    assert found.variance_shares == pytest.approx(whole.explained_variance_ratio_[:2], rel=1e-4)


def test_a_map_of_neighbours_keeps_them_and_is_the_same_again(store: str) -> None:
    asked = InspectConfig(store=store, models=("model-a",), layers="2", label="call", map="tsne", rows=60)
    first, again = (inspect_store(asked).plane for _ in range(2))
    assert first is not None
    pd.testing.assert_frame_equal(first, again)
    assert (len(first), set(first["map"])) == (60, {"tsne"})
    values = values_by_id(store, "model-a", 2).loc[first["utterance_id"]]
    plane = first[["x", "y"]].to_numpy()
    assert trustworthiness(standardised(values.to_numpy()), plane, n_neighbors=5) > 0.8
    shuffled = np.random.default_rng(0).permutation(plane)
    assert trustworthiness(standardised(values.to_numpy()), shuffled, n_neighbors=5) < 0.6
    assert not neighbour_plane(np.zeros((12, 3), dtype=np.float32), 0).any()
    for shape in ((4, 1), (2, 3), (11, 60)):
        z = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        assert np.isfinite(neighbour_plane(z, 0)).all()


def test_suspects_by_neighbours_and_by_probes(
    tmp_path: Path, table: pd.DataFrame, make_store: MakeStore
) -> None:
    # The embeddings know the true calls; the labels that the store is given afterwards have ten others.
    from featurestore.manifest.table import from_table
    from featurestore.store.sound_identity import Sounds
    from featurestore.upkeep.new_labels import attach_manifest

    path = tmp_path / "s"
    make_store(path, table)
    wrong = table.copy()
    swapped = table.index[(table["call"] != "") & ~table.index.isin([11, 40])][::24][:8]
    wrong.loc[swapped, "call"] = wrong.loc[swapped, "call"].map(
        {"peep": "tsik", "phee": "peep", "trill": "phee", "tsik": "trill"}
    )
    storage = open_store(path).storage
    info = open_store(path).features("model-a", "calls").info
    manifest = from_table(wrong, source="made", base=path, check_files=False)
    list(attach_manifest(storage, [info], manifest, sounds=Sounds(), without_audio=True))
    names = set(table.loc[swapped, "utterance_id"])

    results = tmp_path / "r"
    run_probe(
        ProbeConfig(
            store=str(path),
            labels=("call",),
            out=results,
            layers="1-2",
            classifiers=("centroid",),
            split="group-kfold:3",
        )
    )
    near = inspect_store(InspectConfig(store=str(path), layers="2", label="call")).suspects
    both = inspect_store(InspectConfig(store=str(path), layers="2", label="call", results=results))
    alone = inspect_store(InspectConfig(store=str(path), label="call", results=results))
    assert near is not None
    assert both.suspects is not None
    assert alone.suspects is not None
    assert alone.suspects["n_neighbours"].eq(0).all()
    assert both.n_judged == alone.n_judged == 228
    for found in (near, both.suspects, alone.suspects):
        first = found.head(len(names))
        assert len(names & set(first["utterance_id"])) >= 0.7 * len(names)
    truth = table.set_index("utterance_id")["call"]
    hits = both.suspects[both.suspects["utterance_id"].isin(names)]
    assert (hits["suggested"] == truth[hits["utterance_id"]].to_numpy()).mean() >= 0.8
    assert (both.suspects["n_answers"] == 1).all()
    # Answers about labels that have changed since say nothing of those of now.
    attach = from_table(table, source="made", base=path, check_files=False)
    list(attach_manifest(storage, [info], attach, sounds=Sounds(), without_audio=True))
    later = inspect_store(InspectConfig(store=str(path), label="call", results=results))
    assert any("8 of 228 answers" in note for note in later.notes)
    assert any("8 utterances of 228 were in no test part" in note for note in later.notes)


def test_a_layer_that_does_not_know_the_label_names_no_suspects(store: str) -> None:
    # Nothing in the values is about the caller.
    config = InspectConfig(store=store, models=("model-a",), layers="1", label="caller", group="path")
    found = inspect_store(config)
    assert found.n_judged == 238
    assert found.agreement < 0.4
    assert found.suspects is None
    assert any("No suspects: votes name the given caller of" in note for note in found.notes)


def test_where_the_label_is_the_group_it_is_said_that_nobody_is_judged(store: str) -> None:
    found = inspect_store(InspectConfig(store=store, models=("model-a",), layers="1", label="caller"))
    assert found.suspects is None
    assert found.geometry["purity"].isna().all()
    assert any("6 of 6 classes lie in one group each" in note for note in found.notes)


def test_files_are_tables_that_can_be_read_back(store: str, tmp_path: Path) -> None:
    config = InspectConfig(store=store, models=("model-a",), layers="2", label="call", list_neighbours=True)
    found = inspect_store(config)
    paths = write_inspection(found, tmp_path / "out")
    assert [p.name for p in paths] == ["geometry.csv", "neighbours.csv", "suspects.csv", "map.csv"]
    read = pd.read_csv(tmp_path / "out" / "geometry.csv")
    assert read["purity"].to_numpy() == pytest.approx(
        found.geometry["purity"].to_numpy(dtype=float), rel=1e-5
    )
    assert len(write_inspection(inspect_store(InspectConfig(store=store)), tmp_path / "out")) == 2
    assert len(pd.read_csv(tmp_path / "out" / "cka.csv")) == 25
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "map.csv").write_text("lat,lon\n")
    with pytest.raises(ConfigError, match="no table of an inspection"):
        write_inspection(found, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"models": ("model-b",)}, KeyNotFound, "no model 'model-b'.*did you mean 'model-bb'"),
        ({"dataset": "cals"}, KeyNotFound, "no key with model .* dataset cals"),
        ({"layers": "7"}, KeyNotFound, "no model has layer 7 .model-a has 0-2; model-bb has 0-1."),
        ({"layers": "2"}, KeyNotFound, "model-bb has none of them"),
        ({"label": "cal"}, LabelError, "did you mean 'call'"),
        ({"label": "species"}, LabelError, "expected from 2 classes .* got 1 class of 238 utterances"),
        ({"group": "grup"}, LabelError, "no such column of groups"),
        ({"functionals": ("max",)}, ConfigError, "has no 'max', it has mean, std"),
        ({"list_neighbours": True}, ConfigError, "of one layer of one model, these are 5 layers"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    store: str, changes: dict[str, object], error: type[UserError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        inspect_store(InspectConfig(store=store, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 3},
        {"n_neighbours": 0},
        {"seed": -1},
        {"layers": "x"},
        {"models": "a"},
        {"results": Path("r")},
    ],
)
def test_a_request_is_checked_where_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        InspectConfig(store="s", **wrong)  # type: ignore[arg-type]


def test_other_audio_or_labels_under_one_id_are_refused(
    tmp_path: Path, table: pd.DataFrame, make_store: MakeStore
) -> None:
    path = tmp_path / "s"
    make_store(path, table, model="one")
    other = table.copy()
    other.loc[20, "call"] = next(c for c in CALLS if c != table["call"][20])
    make_store(path, other, model="two")
    assert len(inspect_store(InspectConfig(store=str(path), layers="0")).geometry) == 2
    with pytest.raises(LabelError, match=r"utterance 'u00020' is .* in one and .* in two"):
        inspect_store(InspectConfig(store=str(path), label="call"))
    # The store that the fixture writes names hashes by row of the table: turned round, ids have others.
    make_store(tmp_path / "t", table, model="one")
    make_store(tmp_path / "t", table.iloc[::-1].reset_index(drop=True), model="two", failed=())
    with pytest.raises(CorruptData, match=r"utterances? .* is other audio in two than in one"):
        inspect_store(InspectConfig(store=str(tmp_path / "t")))


def test_several_data_sets_are_not_mixed(tmp_path: Path, table: pd.DataFrame, make_store: MakeStore) -> None:
    make_store(tmp_path / "s", table)
    make_store(tmp_path / "s", table, dataset="more")
    with pytest.raises(ConfigError, match=r"expected one data set.* calls, more; choose one with --dataset"):
        inspect_store(InspectConfig(store=str(tmp_path / "s")))
    assert inspect_store(InspectConfig(store=str(tmp_path / "s"), dataset="more")).scope.startswith("more:")


def test_sets_of_labels_are_refused(tmp_path: Path, table: pd.DataFrame, make_store: MakeStore) -> None:
    table.loc[30, "caller"] = "caller-1|caller-2"
    make_store(tmp_path / "s", table)
    with pytest.raises(LabelError, match="sets of labels"):
        inspect_store(InspectConfig(store=str(tmp_path / "s"), label="caller"))
