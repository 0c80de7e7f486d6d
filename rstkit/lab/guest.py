"""The backend where user namespaces are refused: a Linux kernel as an ordinary process (User-Mode Linux).

It boots once, in the background. In it run the same fork server and supervisors as elsewhere.
"""

import atexit
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import LabUnavailable
from .serial import SerialLine
from .supervised import SupervisedRun

_MEMORY = 128  # MiB, of which some 80 are used
_AT_ONCE = 3  # runs that it has room for
_SLOWEST = 60.0  # seconds that a boot may take
_MODULES = ("kernel/drivers/net/veth.ko", "kernel/lib/crc-ccitt.ko", "kernel/net/ipv6/ipv6.ko")  # ipv6 needs crc-ccitt
# No files in the home directory, no terminals; the console says what it has to say on standard output.
_QUIETLY = ("uml_dir=/dev/null/", "con=null", "con0=null,fd:1")
_HERE = str(Path(__file__).parents[2])

# Has the kernel kill the whole process group of the guest when the other end of a pipe is closed:
# when this process ends, however it ends. Then it becomes the guest.
_LAUNCH = """
import fcntl, os, select, signal, sys
life = int(sys.argv[1])
os.setsid()
fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpid())
fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)
if not select.select([life], [], [], 0)[0]:
    os.execv(sys.argv[2], sys.argv[2:])
"""
_INSIDE = "import sys; sys.path.insert(0, sys.argv[1]); from rstkit.lab.inside import main; main(sys.argv[2:5])"


class Guest:
    """Live runs inside a guest kernel."""

    name = "guest"
    instant = False
    remedy = (
        "On Debian (amd64), sudo apt-get install user-mode-linux; in a container, in its image. "
        f"Or set TMPDIR to a folder that may hold programs (no noexec) and has {2 * _MEMORY} MB free."
    )

    def __init__(self) -> None:
        self.lacks: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._kernel: _Kernel | None = None
        self._owner = 0
        atexit.register(self.close)

    @property
    def about(self) -> str:
        """The backend in one line, for people."""
        found = _find()
        release = found.release if isinstance(found, _Found) else "?"
        return f"Live: a Linux {release} kernel of its own, as a process on this machine (User-Mode Linux)."

    def probe(self) -> str | None:
        """Have the guest's kernel check what it needs: told to boot in no memory, it goes that far and ends."""
        found = _find()
        if isinstance(found, str):
            return found
        command = [found.program, "mem=1K", *_QUIETLY]
        try:
            told = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"TMPDIR": found.folder},
                timeout=5,
                start_new_session=True,
                check=False,
            ).stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{found.program} does not run ({error})"
        if "Too few physical memory" in told:  # it was checked last
            return None
        return f"{found.program} refuses to run here ({' '.join(told.split()[-20:])})"

    def warm_up(self) -> None:
        """Start to boot, without waiting for it."""
        self._boot()

    def begin(self, tell: Callable[[str], None]) -> SupervisedRun:
        """Take a supervisor in the guest, which boots first where it has not; LabUnavailable where it cannot."""
        kernel = self._boot()
        if not kernel.settled.wait(0.3):
            tell("Booting a Linux kernel for the lab, once: some seconds…")
            kernel.settled.wait(_SLOWEST)
        if not kernel.ready or kernel.ended:
            self.close()  # after which it has said what there was to say
            raise LabUnavailable(f"the guest's kernel did not boot. The last that it said: {kernel.said}")
        return _GuestRun(kernel, tell)

    def close(self) -> None:
        """End the guest, and with it all that runs in it."""
        with self._lock:
            if self._kernel and self._owner == os.getpid():
                self._kernel.end()
            self._kernel = None

    def _boot(self) -> "_Kernel":
        with self._lock:
            if self._kernel and self._owner == os.getpid() and not self._kernel.ended:
                return self._kernel
            found = _find()
            if isinstance(found, str):
                raise LabUnavailable(found)
            self._kernel, self._owner = _Kernel(found), os.getpid()
            return self._kernel


class _GuestRun(SupervisedRun):
    """A run inside a guest; it waits until there is room for it."""

    def __init__(self, kernel: "_Kernel", tell: Callable[[str], None]) -> None:
        if not kernel.room.acquire(timeout=0.3):
            tell(f"Waiting for room in the guest kernel: {_AT_ONCE} runs are under way in it…")
            kernel.room.acquire()
        self._room: threading.Semaphore | None = kernel.room
        try:
            super().__init__(Guest.name, kernel.line.connect())
        except BaseException:
            self._leave()
            raise

    def _close(self) -> None:
        super()._close()
        self._leave()

    def _leave(self) -> None:
        if self._room:
            self._room.release()
            self._room = None


class _Found(NamedTuple):
    """A guest kernel, its release, the modules it needs, and a folder for its memory."""

    program: str
    release: str
    modules: list[str]
    folder: str


def _find() -> _Found | str:
    """Look for a guest kernel and what it needs; or why there is none."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"User-Mode Linux is there for Linux on x86_64, and this is {platform.system()} on {platform.machine()}"
    program = shutil.which("linux.uml", path=f"{sys.prefix}/share/rstkit/usr/bin") or shutil.which("linux.uml")
    if not program:
        return "no linux.uml is installed"
    kernels = Path(program).resolve().parent.parent.glob("lib/uml/modules/*")
    complete = [k for k in sorted(kernels) if all((k / module).is_file() for module in _MODULES)]
    if not complete:
        return f"{program} is there, but not its modules ({', '.join(_MODULES)})"
    modules = [str(complete[-1] / module) for module in _MODULES]
    if any('"' in path or not path.isprintable() for path in (_HERE, sys.executable, *modules)):
        return "a path of this Python or of the guest's modules holds a character that a kernel's command line cannot"
    for folder in ("/dev/shm", tempfile.gettempdir()):  # noqa: S108 - memory that is no disk's, where that is allowed
        with contextlib.suppress(OSError):
            room = os.statvfs(folder)
            if not room.f_flag & os.ST_NOEXEC and room.f_bavail * room.f_frsize > 2 * _MEMORY << 20:
                return _Found(program, complete[-1].name, modules, folder)
    return f"neither /dev/shm nor {tempfile.gettempdir()} has {2 * _MEMORY} MB free and may hold programs (noexec)"


class _Kernel:
    """A guest that was started. ``settled`` is set once it is ``ready``, or has ``ended``."""

    def __init__(self, found: _Found) -> None:
        self.settled = threading.Event()
        self.room = threading.Semaphore(_AT_ONCE)
        self.ready = self.ended = False
        self.said = ""  # the last words on its console, once it has ended
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the guest
        life, self._life = os.pipe()
        inwards, writer = os.pipe()
        reader, outwards = os.pipe()
        words = [
            *(found.program, f"mem={_MEMORY}M", "quiet", *_QUIETLY),
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"ssl0=fd:{inwards},fd:{outwards}"),
            *(f'init="{sys.executable}"', "--", "-I", "-S", "-c", f'"{_INSIDE}"'),
            *(f'"{path}"' for path in (_HERE, *found.modules)),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, str(life), *words],
            pass_fds=[life, inwards, outwards],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env={"TMPDIR": found.folder},
        )
        for descriptor in (life, inwards, outwards):
            os.close(descriptor)
        path = json.dumps([_HERE, *(entry for entry in sys.path if entry)]).encode()
        watched = os.pidfd_open(self._process.pid)
        self.line = SerialLine(reader, writer, watched, path, self._is_ready, self._is_gone)

    def end(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._process.kill()
        self.line.thread.join()

    def _is_ready(self) -> None:
        self.ready = True
        self.settled.set()

    def _is_gone(self) -> None:
        os.close(self._life)  # ends the processes that help it, which do not end with it
        self._process.wait()
        with self._console as console:
            console.seek(0)
            self.said = console.read()[-4000:].decode(errors="replace").strip() or "nothing"
        self.ended = True
        self.settled.set()
