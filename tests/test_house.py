"""What must hold of the files around the library: every dependency is pinned, and nothing names where it is had."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "binder/requirements.txt").read_text(), re.M)
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_requirements_are_pins_and_nothing_else() -> None:
    lines = (ROOT / "binder/requirements.txt").read_text().splitlines()
    assert lines[0].startswith("#")
    assert len(PINS) == len(lines) - 1


def test_every_dependency_is_pinned_within_its_range() -> None:
    """Those of the project, and theirs, all the way down, as far as this machine's Python needs them."""
    todo = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in done or name in ("pip", "setuptools"):
            continue
        done.add((name, extras))
        assert name in PINS, f"{name} is not pinned"
        assert requirement.specifier.contains(PINS[name], prereleases=True), f"{requirement}: {PINS[name]} is pinned"
        for text in metadata.requires(name) or []:
            further = Requirement(text)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                todo.append(further)


def test_nothing_names_an_address_to_load_from() -> None:
    """No file that comes with the project names a package registry or a content delivery network."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    forbidden = re.compile(rb"pythonhosted|pypi\.|registry\.npmjs|deb\.debian|cdn\.|jsdelivr|unpkg|\?url=http", re.I)
    for name in listed.stdout.decode().split("\0")[:-1]:
        path = ROOT / name
        if path != Path(__file__) and path.suffix != ".png" and path.exists():
            assert not forbidden.search(path.read_bytes()), name


def test_the_readme_has_the_two_commands_and_the_check_uses_the_second() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^```sh\n(.+)\n```$", readme, re.M)
    assert [command.rpartition(" && ")[2] for command in commands] == [
        ".venv/bin/jupyter lab notebooks/00_start_here.ipynb",
        ".venv/bin/python -m pytest",
    ]
    assert commands[0].rpartition(" && ")[0] == commands[1].rpartition(" && ")[0]
    assert "grep -m1 -E 'pytest$' README.md" in (ROOT / ".ci/run").read_text()
