"""A real JupyterLab server and a real browser; the tests say why where they have none."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from .jupyter import Notebook, Server

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS, "pytest would skip the tests of the notebooks"

Open = Callable[..., "Notebook"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """A JupyterLab server over copies of the notebooks; nothing of it is left after the tests."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    from .jupyter import Server

    server = Server(tmp_path_factory.mktemp("jupyter"))
    try:
        yield server
    finally:
        server.end()
    server.check_connections()


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, headless: the system's, or else Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = shutil.which("chromium") or shutil.which("google-chrome") or driver.chromium.executable_path
        if not Path(found).exists():
            pytest.skip("no Chromium is installed")
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield chromium
        chromium.close()


@pytest.fixture
def notebook(browser: "Browser", server: "Server") -> Iterator[Open]:
    """Opens a notebook in a fresh page, ``notebook(name, width=1300)``; the page may not complain."""
    from .jupyter import Notebook, Watch

    opened = []

    def open_notebook(name: str, width: int = 1300, height: int = 1000) -> Notebook:
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        opened.append((context, Watch(page, server)))
        return Notebook(page, server, name)

    yield open_notebook
    complaints = [complaint for _, watch in opened for complaint in watch.complaints]
    for context, _ in opened:
        context.close()
    server.end_kernels()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: the folder that RSTKIT_PICTURES names, or a temporary one."""
    folder = Path(os.environ.get("RSTKIT_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
