"""Both images take the same sources, all that the package is made of, and do the same with them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = "docs/containers/install.sh"


def copied_by_docker() -> dict[str, str]:
    found = {}
    for line in re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        *names, place = line.split()
        found |= {n: place + Path(n).name if place.endswith("/") else place for n in names}
    return found


def copied_by_apptainer() -> dict[str, str]:
    text = (ROOT / "docs" / "containers" / "apptainer.def").read_text()
    files = text.split("%files\n")[1].split("\n\n")[0]
    return dict(line.split() for line in files.splitlines())


def test_both_images_take_all_sources() -> None:
    copied = copied_by_docker()
    assert copied == copied_by_apptainer()
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {n.removesuffix("*") for n in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    modules = {f"{n}.py" for n in project["tool"]["setuptools"]["py-modules"]}
    read = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    assert packages | modules | read <= set(copied)
    assert copied[SCRIPT] == "/src/install.sh"


def test_what_they_run_is_a_script_of_any_shell() -> None:
    subprocess.run(["sh", "-n", ROOT / SCRIPT], check=True)
    for image in ("Dockerfile", "docs/containers/apptainer.def"):
        assert "sh /src/install.sh" in (ROOT / image).read_text()
