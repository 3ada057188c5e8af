"""Commands that only look do without the libraries of commands that compute.

A kernel imports torch and its like at its top, which takes seconds. A command that only looks wants
the settings of a kernel and runs none of it. So while it works, a stand-in lies in the place of
each of these libraries. The body of a module may name whatever it likes of a stand-in. A function
that runs needs the library itself, and gets `LibraryNeeded`: then the command starts over with the
libraries. No stand-in ever turns into a library, and nothing is computed with one.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, ParamSpec, TypeVar

LIBRARIES = frozenset(
    (
        *("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "datasets"),
        *("pandas", "scipy", "sklearn"),
    )
)
STARTED_OVER = "ROSITA_WITH_LIBRARIES"
"""Set in the environment of a command that has started over."""
MACHINERY = "<frozen importlib"

_looking = False

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LibraryNeeded(BaseException):
    """A function needs a library that was put off. No `except Exception` shall catch it."""


def looking() -> bool:
    """Whether this process does nothing but look, with the libraries put off or after them."""
    return _looking


def looks(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A command that only looks: without the libraries as far as it gets, and else with them."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        global _looking
        # In a process that has them already there is nothing to save.
        if not LIBRARIES.isdisjoint(sys.modules):
            return command(*args, **kwargs)
        _looking = True
        if os.environ.pop(STARTED_OVER, None):
            return command(*args, **kwargs)
        try:
            with _put_off():
                return command(*args, **kwargs)
        except LibraryNeeded:
            _start_over()

    return run


def with_libraries() -> None:
    """From here on with the libraries: for a command that will need them in any case."""
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
    if finders and not LIBRARIES.isdisjoint(sys.modules):
        raise LibraryNeeded("all")
    for finder in finders:
        sys.meta_path.remove(finder)


def _start_over() -> NoReturn:
    """This command again, in this process's place."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[STARTED_OVER] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def _put_off() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder, Loader):
    """Finds stand-ins for the libraries and every module of them."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in LIBRARIES:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Module(ModuleType):
    """In the place of a module."""

    def __getattr__(self, name: str) -> _Named:
        return _named(f"{self.__name__}.{name}", name)


class _Named:
    """In the place of something of a module: a class, a function, what a decorator makes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> _Named:
        return _named(f"{self._name}.{name}", name)

    def __call__(self, *_args: Any, **_kwargs: Any) -> _Named:
        return _named(f"{self._name}()")

    def __getitem__(self, _index: Any) -> _Named:
        return _named(f"{self._name}[]")

    def __or__(self, _other: Any) -> _Named:
        return self

    __ror__ = __or__

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (_Base,)

    def __instancecheck__(self, _instance: Any) -> bool:
        raise LibraryNeeded(self._name)

    def __iter__(self) -> Iterator[Any]:
        raise LibraryNeeded(self._name)

    def __bool__(self) -> bool:
        raise LibraryNeeded(self._name)


class _Base:
    """In the place of a class that another one derives from."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Base:
        raise LibraryNeeded(cls.__name__)


def _named(what: str, attribute: str = "") -> _Named:
    """A stand-in for what the body of a module names; a function must not have one."""
    if attribute == "__version__":
        # Who asks for it decides by it, and may do so where no frame can be seen (pyarrow's C).
        raise LibraryNeeded(what)
    if attribute.startswith("__"):
        # Whoever looks for such a name asks what kind of thing it is.
        raise AttributeError(attribute)
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith(MACHINERY) and frame.f_back is not None:
        frame = frame.f_back
    # Bodies of modules and classes have no such locals, nor has an annotation that is evaluated.
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        raise LibraryNeeded(what)
    return _Named(what)
