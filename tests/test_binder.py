"""What Binder makes of this repository, as far as that shows without an engine: see also .ci/binder."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"


@pytest.fixture(scope="module")
def build() -> subprocess.CompletedProcess[str]:
    """What repo2docker would have its engine do (stdout: the Dockerfile), and what it says about that (stderr)."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def test_the_image_has_the_python_that_the_pins_were_made_for(build: subprocess.CompletedProcess[str]) -> None:
    assert (BINDER / "runtime.txt").read_text() == "python-3.11\n"
    assert "(Python 3.11." in (BINDER / "requirements.txt").read_text().splitlines()[0]
    assert "Building conda environment for python=3.11\n" in build.stderr
    assert "unspecified" not in build.stderr
    assert re.findall(r"environment\S+py-2d([\d.e-]+?)-2dlinux", build.stdout) == ["3-2e11"]


def test_it_is_built_on_the_ubuntu_that_post_build_knows(build: subprocess.CompletedProcess[str]) -> None:
    assert re.findall(r"^FROM (.+)$", build.stdout, re.M) == ["docker.io/library/buildpack-deps:24.04"]


def test_the_learner_s_user_installs_the_pins_and_then_what_post_build_does(
    build: subprocess.CompletedProcess[str],
) -> None:
    steps, user = [], "root"
    for line in build.stdout.splitlines():
        word, _, rest = line.partition(" ")
        if word == "USER":
            user = rest
        elif word == "RUN" and user == "${NB_USER}":
            steps.append(rest)
    assert steps == [
        '${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r "binder/requirements.txt"',
        "chmod +x binder/postBuild",
        "./binder/postBuild",
    ]


def test_nothing_else_is_taken_for_a_description_of_the_image(build: subprocess.CompletedProcess[str]) -> None:
    """Neither conda, nor the root's pyproject.toml, nor Debian packages, nor a start script."""
    assert re.findall(r"^COPY .* src/(\S*) ", build.stdout, re.M) == ["binder/requirements.txt", ""]
    assert not re.search(r"pip install[^\n]* \.|env update|R2D_ENTRYPOINT", build.stdout)


def test_its_scripts_are_programs() -> None:
    for name in ("postBuild", "user-mode-linux"):
        assert os.access(BINDER / name, os.X_OK), name
        subprocess.run(["bash", "-n", str(BINDER / name)], check=True)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="User-Mode Linux is there for amd64 only")
def test_a_kernel_other_than_the_one_that_was_tested_is_left_out(tmp_path: Path) -> None:
    venv.create(tmp_path / "python", symlinks=True)
    deb = tmp_path / "kernel.deb"
    deb.write_bytes(b"!<arch>\n")
    environment = {"PATH": f"{tmp_path}/python/bin:{os.environ['PATH']}", "RSTKIT_UML_DEB": str(deb)}
    done = subprocess.run([BINDER / "user-mode-linux"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "kernel.deb: FAILED" in done.stdout
    assert not (tmp_path / "python/share").exists()


def test_the_links_open_notebooks_that_are_there() -> None:
    text = (BINDER / "README.md").read_text()
    linked = set(re.findall(r"notebooks(?:/|%2F)(\w+\.ipynb)", text))
    assert "00_start_here.ipynb" in linked
    assert linked <= {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
