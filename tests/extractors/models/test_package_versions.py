"""Values are known to be exact under some versions of transformers and PyTorch; elsewhere a run says so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from extractors import ExtractConfig, extract, find_model
from extractors.models.package_versions import COMPARED, versions_here
from featurestore import open_store
from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError
from featurestore.store.ledger import read_ledger

ROOT = Path(__file__).parents[3]


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let these versions of packages be installed, and of the others the last ones that were compared."""
    compared = {name: last for name, (_, last) in COMPARED.items()}
    monkeypatch.setattr(
        "extractors.models.package_versions.version", lambda name: (compared | versions)[name]
    )


def bounds(name: str, text: str) -> tuple[int, ...]:
    """The first release that a list of requirements admits of a package."""
    found = re.search(rf"^\W*{name}[>=]=([\d.]+)", text, re.MULTILINE)
    assert found is not None, name
    return tuple(map(int, found[1].split(".")))


@pytest.mark.parametrize("package", sorted(COMPARED))
def test_compared_are_the_releases_from_the_lowest_admitted_to_the_one_that_is_pinned(package: str) -> None:
    first, last = (tuple(map(int, v.split("."))) for v in COMPARED[package])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bounds(package, "\n".join(project["dependencies"]))[:2] == first
    assert first <= bounds(package, (ROOT / "constraints.txt").read_text())[:2] <= last


@pytest.mark.parametrize(("package", "older"), [("transformers", "5.15.1"), ("torch", "2.12.1+cu130")])
def test_a_version_older_than_any_compared_is_refused(
    monkeypatch: pytest.MonkeyPatch, package: str, older: str
) -> None:
    install(monkeypatch, **{package: older})
    with pytest.raises(
        ConfigError, match=rf"^{package} {re.escape(older)} is installed.*; expected \S+ to .*pip"
    ):
        find_model("logmel")


@pytest.mark.parametrize("inside", [release for _, release in COMPARED.values()])
def test_versions_inside_the_range_are_nothing_to_speak_of(
    monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    package = next(p for p, (_, last) in COMPARED.items() if last == inside)
    install(monkeypatch, **{package: f"{inside}.7+cu130"})
    assert "not compared" not in versions_here()


def test_a_later_version_is_told_by_the_run_the_key_and_its_units(
    clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, store = clips([5000, 6000, 7000]), str(tmp_path / "s")
    options = {"dataset": "d", "store": store, "unit_rows": 2}
    config = ExtractConfig(manifest=manifest, model="logmel", **options)  # type: ignore[arg-type]
    install(monkeypatch)
    usual = extract(config)
    assert not any("compared" in note for note in usual.notes)
    before = open_store(store).features("logmel", "d").attrs
    # Another version goes on with the key, whose fingerprint is the same.
    more = tmp_path / "audio" / "more.csv"
    more.write_text(manifest.read_text() + "clip002.wav,x,y\n".replace("clip002", "more"))
    (tmp_path / "audio" / "more.wav").write_bytes((tmp_path / "audio" / "clip001.wav").read_bytes())
    install(monkeypatch, transformers="5.99.0")
    summary = extract(ExtractConfig(manifest=more, model="logmel", **options))  # type: ignore[arg-type]
    assert summary.n_embedded == 1
    said = f"values were not compared with transformers 5.99.0, only up to torch {COMPARED['torch'][1]}"
    assert any(note.startswith(said) for note in summary.notes)
    after = open_store(store).features("logmel", "d").attrs
    assert after["fingerprint"] == before["fingerprint"]
    assert "not compared" not in after["versions"]
    records = read_ledger(open_storage(store), "logmel/d")
    assert [records[u].versions.get("not compared") for u in sorted(records)] == [
        None,
        None,
        "transformers 5.99.0",
    ]
    shown = CliRunner().invoke(main, ["info", store]).output
    assert re.search(r"values not compared with: +transformers 5\.99\.0", shown)
    # A key that is made with it says so of itself.
    made = tmp_path / "made"
    extract(ExtractConfig(manifest=manifest, model="logmel", **options | {"store": str(made)}))  # type: ignore[arg-type]
    attrs = open_store(made).features("logmel", "d").attrs
    assert attrs["versions"]["not compared"] == "transformers 5.99.0"
