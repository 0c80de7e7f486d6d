"""What makes two programs the same, and two runs: by this a recording is found again."""

import ast
import functools
import inspect
import shlex
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ..recordings import Identity
from .job import Job
from .settings import SETTINGS, Program, takes


def identity(host: str, program: Program) -> Identity:
    """A program's name, the values that it takes and its text; a function's with the text of what it uses.

    A function whose source is not to be had is like no other.
    """
    parameters = tuple(takes(host, program))
    if not callable(program):
        return Identity(program[0], parameters, shlex.join(program))
    name = getattr(program, "__name__", host)
    try:
        return Identity(name, parameters, "\n".join(_texts(program, set())))
    except (OSError, TypeError, ValueError, SyntaxError):
        return Identity(name, parameters, f"{program!r}: its source is not to be had")


def everything(job: Job) -> dict[str, Any]:
    """All that a run depends on but its programs, by the names that `rstkit.recordings.Recording` gives it."""
    found = {name: job.settings[name] for name in SETTINGS}
    for host, program in job.programs.items():
        defaults: dict[str, Any] = {}
        if callable(program):
            optional = [name for name, needed in takes(host, program).items() if not needed]
            defaults = {name: inspect.signature(program).parameters[name].default for name in optional}
        found |= {f"{host} {name}": value for name, value in (defaults | dict(job.taken[host])).items()}
    return found


@functools.cache
def meaning(text: str) -> str:
    """A program's text without what means nothing: comments, blank lines, the way in which it is set."""
    try:
        return ast.unparse(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):  # the words of a command
        return text


def _texts(function: Any, seen: set[str]) -> Iterator[str]:
    """The source of a function (or class) after that of everything of its own module that it uses.

    Executed, these texts make the function anew. Python's own exceptions where there is no source.
    """
    source = textwrap.dedent(inspect.getsource(function))
    if isinstance(function, FunctionType):
        enclosed = _enclosed(function)
        known, used = function.__globals__ | enclosed, {*_names(function.__code__), *enclosed}
    else:
        known = vars(inspect.getmodule(function))
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    seen.add(getattr(function, "__name__", ""))
    for name in sorted(used & known.keys() - seen):
        seen.add(name)
        yield from _used(name, known[name], function.__module__, seen)
    yield source


def _used(name: str, value: Any, home: str, seen: set[str]) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield f"import {value.__name__} as {name}"
    elif isinstance(value, FunctionType | type) and value.__module__ == home and value.__name__ == name:
        yield from _texts(value, seen)
    elif isinstance(getattr(value, "__module__", None), str) and hasattr(value, "__qualname__"):
        home = value.__module__.partition("._")[0]  # where it is public: pathlib, for pathlib._local of Python 3.13
        yield f"from {home} import {value.__qualname__} as {name}"
    else:
        try:
            ast.literal_eval(repr(value))
            yield f"{name} = {value!r}"
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # an object: its kind is all that stays the same
            yield f"{name} = {type(value).__qualname__!r}"


def _names(code: CodeType) -> Iterator[str]:
    """The names that code looks up in its module (those of attributes are among them)."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """The names that a function has from the functions around it."""
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
