"""What a host's process needs to become a program: a function by cloudpickle, or a command."""

import base64
import inspect
import io
import linecache
import os
import shlex
import sys
from collections.abc import Mapping
from types import CodeType
from typing import Any

import cloudpickle

from ..errors import SettingError
from .settings import Program, fill


def make_spec(host: str, program: Program, address: tuple[str, int], values: Mapping[str, Any]) -> dict[str, Any]:
    """A program as JSON types, for `rstkit.lab.program`; SettingError where it cannot be sent to its host."""
    try:
        folder = os.getcwd()
    except FileNotFoundError as error:
        raise SettingError("this process's working directory was removed. Change to one that exists.") from error
    spec: dict[str, Any] = {"folder": folder, "environment": dict(os.environ)}
    if not callable(program):
        return spec | {"command": fill(program, {**values, "host": address[0], "port": address[1]})}
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump((program, (address,), dict(values)))
    except Exception as error:
        raise SettingError(
            f"the {host}'s function cannot be sent to its host ({type(error).__name__}: {error}). "
            "It may not hold open files, sockets or locks from the notebook; open them inside the function."
        ) from error
    return spec | {
        "function": base64.b64encode(buffer.getvalue()).decode(),
        "name": getattr(program, "__name__", host),
        "path": [entry or folder for entry in sys.path],
        "sources": {file: linecache.getlines(file) for file in pickler.files},
    }


def describe_program(host: str, program: Program, spec: dict[str, Any]) -> tuple[str, str, bool]:
    """A program's name, its text, and whether its calls are recorded."""
    if not callable(program):
        return program[0], shlex.join(spec["command"]), False
    try:
        text = inspect.getsource(program)
    except (OSError, TypeError):
        text = repr(program)
    return getattr(program, "__name__", host), text, True


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with the names of the files that code came from, which it leaves out; tracebacks need them."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self.files: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, CodeType):
            return super().reducer_override(obj)
        self.files.add(obj.co_filename)
        make, arguments = self.dispatch_table[CodeType](obj)
        return make, tuple(obj.co_filename if part == "<dynamic-code>" else part for part in arguments)
