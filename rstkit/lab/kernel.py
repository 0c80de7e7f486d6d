"""The system calls that Python 3.11 has no function for, by way of libc.

Numbers are those of the kernel's uapi headers: sched.h, prctl.h, ethtool.h.
"""

import ctypes
import fcntl
import os
import platform
import signal
import socket
import struct

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO = 0x17, 0x1F, 0x24

_FINIT_MODULE = {"x86_64": 313}  # asm/unistd_64.h; User-Mode Linux is for this machine alone

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones (unshare(2)); OSError if refused."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace that a descriptor of /proc/*/ns refers to (setns(2))."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(kind: str, where: str) -> None:
    """Mount a file system that needs no device (mount(2))."""
    _check(_libc.mount(b"rstkit", where.encode(), kind.encode(), 0, None), f"mount {kind}")


def syscall(number: int, *arguments: object) -> int:
    """A system call by its number; OSError if it fails."""
    return _check(_libc.syscall(number, *arguments), f"syscall {number}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends, however it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends, so that it can be waited for."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def exact_timers() -> None:
    """Let this process sleep to the microsecond: the default slack adds up to 50 us to each wait."""
    _check(_libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0), "prctl")


def offloads_off(device: str) -> None:
    """Have a device send finished segments: no transmit checksumming, no TSO, no GSO.

    Otherwise frames leave a veth with unfinished checksums, and a wire that is no veth hands
    them to a receiver that drops them.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO):
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def load_module(path: str) -> None:
    """Load a kernel module from its file (finit_module(2))."""
    with open(path, "rb") as file:
        syscall(_FINIT_MODULE[platform.machine()], file.fileno(), b"", 0)


def make_mounts_private() -> None:
    """Keep the mounts of this mount namespace from spreading to the one it was copied from."""
    recursive_private = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE
    _check(_libc.mount(b"none", b"/", None, recursive_private, None), "mount")
