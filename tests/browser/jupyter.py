"""A JupyterLab server and a notebook open in a browser, for the tests.

The server has its own port, token and folders: nothing of the user's is read or written. An
audit hook in each of its Python processes notes every connection that leaves the machine.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from playwright.sync_api import ConsoleMessage, Locator, Page, Route, expect
from playwright.sync_api import Request as PageRequest

ROOT = Path(__file__).parents[2]
PATIENCE = 60_000  # milliseconds: for a slow machine; nothing waits as long as this when all is well

_GUARD = """
import os, sys

def note(name, *told):
    with open(os.path.join(os.environ["RSTKIT_TEST_HOME"], name), "a") as file:
        print(sys.orig_argv, *told, file=file)

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost", "", None):
            note("foreign.txt", event, address)

sys.addaudithook(watch)
note("watched.txt")
"""


_FOLDERS = (
    *("HOME", "TMPDIR", "IPYTHONDIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"),
    *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"),
    *("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
)


class Server:
    """A running JupyterLab server; ``url`` with ``token`` opens it, ``folder`` holds its notebooks."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "notebooks"
        self._home = home
        self.token = secrets.token_hex(16)
        self._log = home / "server.log"
        shutil.copytree(ROOT / "notebooks", self.folder, ignore=shutil.ignore_patterns(".*"))
        (home / "guard").mkdir()
        (home / "guard" / "sitecustomize.py").write_text(_GUARD)
        folders = {name: str(home / name.lower()) for name in _FOLDERS}
        for folder in folders.values():
            Path(folder).mkdir()
        self._mark = f"RSTKIT_TEST_HOME={home}".encode()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTHON"))} | folders
        environment["RSTKIT_TEST_HOME"] = str(home)
        environment["PYTHONPATH"] = os.pathsep.join([str(home / "guard"), str(ROOT)])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                    *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={self.folder}"),
                    f"--IdentityProvider.token={self.token}",
                    "--LabApp.expose_app_in_browser=True",  # lets the helpers ask the page what it knows
                ],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_for(Path(folders["JUPYTER_RUNTIME_DIR"]))

    def _wait_for(self, runtime: Path) -> None:
        """Wait until the server answers, and learn its address."""
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                for file in runtime.glob("jpserver-*.json"):
                    self.url = str(json.loads(file.read_text())["url"])
                    self._ask("GET", "api/status")
                    return
            time.sleep(0.05)
        self.end()
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read_text()}")

    def end_kernels(self) -> None:
        """End the kernels of all notebooks that are open."""
        for session in self._ask("GET", "api/sessions"):
            self._ask("DELETE", f"api/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> Any:
        request = Request(self.url + path, method=method, headers={"Authorization": f"token {self.token}"})
        with urlopen(request, timeout=PATIENCE / 1000) as answer:
            return json.loads(answer.read() or "null")

    def check_connections(self) -> None:
        """AssertionError where the server or a kernel asked for another machine."""
        watched = (self._home / "watched.txt").read_text()
        assert "jupyterlab" in watched
        assert "ipykernel_launcher" in watched
        foreign = self._home / "foreign.txt"
        assert not foreign.exists(), foreign.read_text()

    def end(self) -> None:
        """End the server and everything that it started."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _left(self) -> Iterator[int]:
        """Processes of this server that still run: they carry its mark in their environment."""
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self._mark in entry.read_bytes().split(b"\0"):
                    yield int(entry.parent.name)


class Watch:
    """Notes what a page says on its console, and every request to another machine; those are refused."""

    def __init__(self, page: Page, server: Server) -> None:
        self.complaints: list[str] = []
        self._origin = server.url
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("requestfailed", self._failed)
        page.route(lambda url: not self._here(url), self._refuse)
        page.on("websocket", lambda socket: None if self._here(socket.url) else self.complaints.append(socket.url))

    def _here(self, url: str) -> bool:
        return url.startswith((self._origin, self._origin.replace("http:", "ws:", 1), "data:", "blob:", "about:"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text} ({message.location.get('url')})")

    def _refuse(self, route: Route, request: PageRequest) -> None:
        self.complaints.append(f"foreign request: {request.method} {request.url}")
        route.abort()

    def _failed(self, request: PageRequest) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself dropped it, for example by leaving
            self.complaints.append(f"failed request: {request.url} ({request.failure})")


class Notebook:
    """A notebook in JupyterLab, used as a person would: by its menus, buttons and keys."""

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page = page
        page.goto(f"{server.url}lab/tree/{name}?token={server.token}&reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=PATIENCE)
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=PATIENCE,
        )

    def run_all(self) -> None:
        """Run all cells, and wait until all have run."""
        self.start_all()
        self.wait_idle()

    def start_all(self) -> None:
        """Choose Run > Run All Cells."""
        self.page.locator(".lm-MenuBar-item", has_text="Run").click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

    def wait_idle(self) -> None:
        """Wait until every cell has run; AssertionError where one ended in an error."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const code = panel.content.widgets.filter((cell) => cell.model.type === 'code');
                return panel.sessionContext.session.kernel.status === 'idle' && (
                    document.querySelector('[data-mime-type="application/vnd.jupyter.error"]') ||
                    code.every((cell) => cell.model.executionState !== 'running' && cell.model.executionCount));
            }""",
            timeout=PATIENCE,
        )
        errors = self.page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_text_contents()
        assert not errors, errors

    def cell(self, number: int) -> Locator:
        """A cell of the notebook, from 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def run_cell(self, number: int) -> None:
        """Put the cursor into a cell and press Shift+Enter; does not wait."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def execute(self, command: str, **arguments: Any) -> None:
        """A command of JupyterLab, where the test is not about how a person reaches it."""
        self.page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [command, arguments])

    def resize(self, width: int, height: int = 1000) -> None:
        """Give the window another size."""
        self.page.set_viewport_size({"width": width, "height": height})

    def theme(self, name: str) -> None:
        """Change to the theme ``JupyterLab Light`` or ``JupyterLab Dark``."""
        self.execute("apputils:change-theme", theme=name)
        light = "true" if name.endswith("Light") else "false"
        self.page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def panel(self, number: int = 0) -> "Shown":
        """The panel in the page by its place, from 0."""
        return Shown(self.page, self.page.locator(".jp-OutputArea:has(.rstkit-card)").nth(number))


class Shown:
    """A panel as it is shown: its controls, its figure and its card."""

    def __init__(self, page: Page, outputs: Locator) -> None:
        self.page = page
        self.outputs = outputs
        self.run = outputs.get_by_role("button", name=re.compile("Run"))  # not "Pin this run"
        self.stop = outputs.get_by_role("button", name="Stop")
        self.status = outputs.get_by_role("status")
        self.progress = outputs.locator(".widget-hprogress")
        self.card = outputs.locator(".rstkit-card")
        self.figure = outputs.locator(".js-plotly-plot:visible")

    def slider(self, name: str = "") -> Locator:
        """The handle of a slider, by the name before it; without a name the first."""
        named = self.page.locator(".widget-label", has_text=name)
        return self.outputs.locator(".widget-hslider", has=named).get_by_role("slider").first

    def switch(self, name: str) -> Locator:
        """A checkbox, by the name behind it."""
        return self.outputs.get_by_label(name)

    def words(self) -> str:
        """All that stands in the figure."""
        return self.figure.text_content(timeout=PATIENCE) or ""

    def wait_done(self) -> None:
        """Wait until no run is under way, and the figure of the last one is there."""
        self.outputs.locator(".rstkit-ready").wait_for(timeout=PATIENCE)
        expect(self.figure).to_have_count(1, timeout=PATIENCE)

    def wait_for_change(self, words: str) -> None:
        """Wait until other words stand in the figure."""
        expect(self.figure).not_to_have_text(words, timeout=PATIENCE)

    def picture(self, path: Path) -> None:
        """Take a screenshot of the whole panel with its outcome; makes the window as high as that takes."""
        size, height = self.page.viewport_size, self.outputs.evaluate("(node) => node.offsetHeight")
        assert size
        self.page.set_viewport_size({"width": size["width"], "height": height + 200})
        self.outputs.evaluate("(node) => node.scrollIntoView()")
        self.outputs.screenshot(path=path)
        self.page.set_viewport_size(size)
