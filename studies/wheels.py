"""Wheels for a machine without a network: what it lacks, chosen by pip for its Python and what it has.

pip resolves, as it always does. What the machine has is put before it as empty wheels of these versions, and
is pinned; what pip takes besides is what the machine lacks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from featurestore.errors import ConfigError, UserError, did_you_mean
from featurestore.outputs import check_folder, writing
from featurestore.printable import counted

OURS = "featurestore-audio"
ROOT = Path(__file__).resolve().parents[1]
# manylinux tags name the least glibc (PEP 600); older wheels have names of their own.
_OLD_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
DEFAULT_GLIBC = 28  # Debian 10, RHEL 8 and all that is younger
_PINNED = re.compile(r"\(constraint\) ([A-Za-z0-9._-]+)==")
# Nothing runs on these: they come in whatever version is asked for.
_BUILD_TOOLS = frozenset({"pip", "setuptools", "wheel"})
_MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine: its Python (``3.12``), its processor (``x86_64``), and its packages' versions by name."""

    python: str
    machine: str
    installed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class WheelFolder:
    """What was collected.

    Attributes:
        folder: where the wheels are.
        wheels: their file names.
        replaced: packages of the machine that are too old or too new, and come anew: name and version there.
        kept: those that are used although they do not fit: name, version there, and what is asked for.
    """

    folder: Path
    wheels: tuple[str, ...]
    replaced: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[str, str, str], ...] = ()


def read_node(path: Path, python: str | None = None, machine: str | None = None) -> Node:
    """A machine from what its pip says.

    Args:
        path: output of ``pip inspect``, or of ``pip list --format=json``.
        python: its Python, such as 3.12; needed with ``pip list``.
        machine: its processor; default: as pip says, else x86_64.

    Raises:
        ConfigError: the file is neither, or what is needed is not said.
    """
    expected = "expected what `python3 -m pip inspect` prints there, or `pip list --format=json`"
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            found = [entry["metadata"] for entry in content["installed"]]
            environment = content["environment"]
            if environment["sys_platform"] != "linux":
                raise ConfigError(f"{path}: expected a Linux machine, got {environment['sys_platform']}")
            python = python or ".".join(environment["python_version"].split(".")[:2])
            machine = machine or environment["platform_machine"]
        else:
            found = content
        installed = {str(canonicalize_name(e["name"])): str(e["version"]) for e in found}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {expected}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {expected}") from error
    if python is None:
        raise ConfigError(f"{path}: a list does not say which Python it is of; add --python, such as 3.12")
    parts = python.split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--python: expected a version such as 3.12, got {python!r}")
    machine = machine or _MACHINES[0]
    if machine not in _MACHINES:
        raise ConfigError(f"--machine: expected {' or '.join(_MACHINES)}, got {machine!r}")
    return Node(python=python, machine=machine, installed=installed)


def collect_wheels(
    node: Node,
    out: Path,
    *,
    keep: Sequence[str] = (),
    replace: Sequence[str] = (),
    extras: Sequence[str] = (),
    glibc: int = DEFAULT_GLIBC,
    requirements: Sequence[str] | None = None,
) -> WheelFolder:
    """Collect the wheels that a machine lacks into a folder that does not exist yet.

    Args:
        node: the machine.
        out: the folder.
        keep: packages of the machine that are used as they are, whatever version is asked for.
        replace: packages of the machine that may come anew, in another version.
        extras: optional parts of this package, such as ``s3``.
        glibc: minor version of the machine's C library: 28 for 2.28.
        requirements: what is wanted instead of this package and what it needs.

    Raises:
        ConfigError: a name is not installed there, or the folder exists.
        UserError: pip finds no wheels that fit together, or reaches no index.
    """
    check_folder(out)
    if out.exists():
        raise ConfigError(f"--out {out}: expected a new folder, but it exists")
    for option, names in (("--keep", keep), ("--replace", replace)):
        for name in names:
            if canonicalize_name(name) not in node.installed:
                hint = did_you_mean(name, sorted(node.installed))
                raise ConfigError(f"{option} {name}: the machine has no such package{hint}")
    wanted = _wanted(node, extras) if requirements is None else [Requirement(r) for r in requirements]
    asked, replaced, kept = _against(node, wanted, {canonicalize_name(n) for n in keep})
    free = {name for name, _ in replaced} | {canonicalize_name(n) for n in replace} | {OURS, *_BUILD_TOOLS}
    with tempfile.TemporaryDirectory() as name:
        taken = _taken_by_pip(node, asked, free, platform_options(glibc, node.machine), Path(name))
        if requirements is None:
            _own_wheel(taken)
        names = sorted(path.name for path in taken.iterdir())
        with writing(out, "choose another --out"):
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(taken, out)
    return WheelFolder(folder=out, wheels=tuple(names), replaced=tuple(replaced), kept=tuple(kept))


def _taken_by_pip(
    node: Node, asked: Sequence[Requirement], free: set[str], platforms: Sequence[str], scratch: Path
) -> Path:
    """A folder of the wheels that pip takes besides what the machine has, of which `free` may come anew."""
    stubs, taken = scratch / "stubs", scratch / "taken"
    stubs.mkdir()
    taken.mkdir()
    pins = []
    # Of wheels of one version pip takes the most particular, and of these the one of the highest build.
    python = f"cp{node.python.replace('.', '')}"
    tag = f"9999-{python}-{python}-{platforms[1]}"
    for package, installed in node.installed.items():
        if package not in free and (stub := empty_wheel(stubs, package, installed, tag=tag)):
            pins.append(f"{package}=={stub}")
    (scratch / "pins.txt").write_text("\n".join(pins) + "\n")
    _pip(
        "download", "--dest", str(taken), "--only-binary=:all:", "--find-links", str(stubs),
        "--constraint", str(scratch / "pins.txt"), "--implementation", "cp",
        "--python-version", node.python, *platforms, *(str(r) for r in asked),
    )  # fmt: skip
    for stub_file in stubs.iterdir():
        (taken / stub_file.name).unlink(missing_ok=True)
    return taken


def _wanted(node: Node, extras: Sequence[str]) -> list[Requirement]:
    """What this package needs there, with optional parts."""
    lines = [Requirement(line) for line in requires(OURS) or ()]
    known = {str(r.marker).rpartition('extra == "')[2].rstrip('"') for r in lines if "extra" in str(r.marker)}
    for extra in extras:
        if extra not in known:
            raise ConfigError(f"--extra {extra}: expected one of {', '.join(sorted(known))}")
    there = {
        "python_version": node.python,
        "python_full_version": f"{node.python}.0",
        "platform_machine": node.machine,
        "sys_platform": "linux",
    }
    found = []
    for requirement in lines:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**there, "extra": e}) for e in (*extras, "")):
            if canonicalize_name(requirement.name) != OURS:
                requirement.marker = None
                found.append(requirement)
            elif requirement.extras:  # an optional part that is a list of others
                found += _wanted(node, sorted(requirement.extras))
    return found


def _against(
    node: Node, wanted: Sequence[Requirement], keep: set[str]
) -> tuple[list[Requirement], list[tuple[str, str]], list[tuple[str, str, str]]]:
    """What to ask pip for, what the machine has that does not fit, and what of that is kept."""
    asked, replaced, kept = [], [], []
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        there = node.installed.get(name)
        fits = there is not None and requirement.specifier.contains(there, prereleases=True)
        if there is None or fits:
            asked.append(requirement)
        elif name in keep:
            kept.append((name, there, str(requirement.specifier)))
        else:
            asked.append(requirement)
            replaced.append((name, there))
    return asked, sorted(set(replaced)), sorted(set(kept))


def empty_wheel(
    folder: Path, name: str, its_version: str, needs: Sequence[str] = (), tag: str = "py3-none-any"
) -> str | None:
    """Write a wheel without content, for pip to choose from; its version, None where it is no version."""
    try:
        normal = str(Version(its_version))
    except InvalidVersion:
        return None
    stem = f"{name.replace('-', '_')}-{normal}"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {normal}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
        info = f"{stem}.dist-info"
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")
    return normal


def platform_options(glibc: int, machine: str) -> list[str]:
    """Pip's options for the wheels that run with a C library."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 4, -1)]
    tags += [f"{old}_{machine}" for minor, old in _OLD_TAGS.items() if minor <= glibc]
    return [word for tag in tags for word in ("--platform", tag)]


def _own_wheel(folder: Path) -> None:
    """This package itself: from its source where that is at hand, else as published."""
    if (ROOT / "pyproject.toml").exists():
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    else:
        _pip(
            "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{OURS}=={version(OURS)}"
        )


def _pip(*arguments: str) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--no-color"]
    command = [sys.executable, "-m", "pip", *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in told if line.startswith("ERROR:")] or told[-1:]
        why = " ".join(" ".join(errors).split()) or f"exit code {done.returncode}"
        # pip says among what it tells which pins stood in the way.
        pinned = sorted(set(_PINNED.findall(done.stdout + done.stderr)))
        mend = "; the machine's " + ", ".join(pinned) + " stands in the way: --replace it" if pinned else ""
        raise UserError(f"pip {arguments[0]}: {why}{mend}")


def sentences(found: WheelFolder) -> list[str]:
    """What was collected, and what to do with it."""
    lines = [f"{counted(len(found.wheels), 'wheel')} in {found.folder}"]
    lines += [f"  {name} {there} is replaced there" for name, there in found.replaced]
    lines += [f"  {name} {there} is kept, although {asked} is asked for" for name, there, asked in found.kept]
    name = found.folder.name
    lines += [
        "there, in an environment of its own or as this user:",
        f"  python3 -m pip install --no-index --no-deps {name}/*.whl",
        "or, where nothing may be installed:",
        f"  python3 -m pip install --no-index --no-deps --target site {name}/*.whl",
        "  export PYTHONPATH=$PWD/site",
    ]
    return lines
