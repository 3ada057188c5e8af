"""Digests of the source code that decides a stage's result.

A stage has to run again when the code that computes it changes, and only then. The closure of some
modules is these modules and everything that they import, directly or not, of the kernels and of the
modules that hand a stage its inputs. It is found by parsing: nothing is imported or run. Comments,
docstrings and formatting do not count. Data files do not count either, so constants that decide a
result belong in modules.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

HANDING = tuple(
    f"tasks.execution.{name}"
    for name in ("stage_inputs", "row_inputs", "model_inputs", "kept_inputs", "set_up", "outputs")
)
"""The modules that hand a stage its inputs, and write what comes of them."""
IMPORTS = "imports"
MODULE_LEVEL = "module level"
PART_DIGITS = 16
TEXT = "canonical_text"
"""Where a statement keeps its own."""
FOLLOWED = ("rosita_core", *HANDING)
"""What belongs to the closure of whoever imports it: these modules, and those of these packages."""


@dataclass(frozen=True)
class Closure:
    """The code behind a stage.

    Attributes:
        modules: module -> sha256 of its code.
        parts: module -> top-level part -> digest of its code. A part is a function, a method or a
            field of a class (`Class.name`), what else there is of a class (`Class`), an assigned
            name, `imports`, or `module level` for other statements. Digests are short (16 digits):
            they are compared, never looked up.
        packages: names of all other packages that the modules import, sorted.
    """

    modules: dict[str, str]
    parts: dict[str, dict[str, str]]
    packages: tuple[str, ...]


def source_closure(roots: Iterable[str], followed: tuple[str, ...] = FOLLOWED) -> Closure:
    """The closure of the modules `roots`.

    Imports inside functions and conditions count, and so do the `__init__` modules on the way.
    Imports by name at run time (importlib) cannot be seen.

    Args:
        roots: modules, which need not be of `followed` themselves.
        followed: packages whose modules are followed.

    Raises:
        ValueError: when a root is not a module, or one of the closure cannot be parsed.
    """
    asked = (tuple(roots), followed)
    if (known := _found.get(asked)) is not None and known.is_as_it_was(asked[0]):
        return known.closure
    found = _found[asked] = _walked(*asked)
    return found.closure


@dataclass(frozen=True)
class _Found:
    """A closure, and the files that it was read from, with when they were written and how large."""

    closure: Closure
    files: dict[Path, tuple[int, int]]

    def is_as_it_was(self, roots: tuple[str, ...]) -> bool:
        """Whether the roots lie where they lay, and none of the files has changed."""
        places = _Files()
        if not all(places.of(root) in self.files for root in roots):
            return False
        try:
            return all(_version(path) == version for path, version in self.files.items())
        except FileNotFoundError:
            return False


_found: dict[tuple[tuple[str, ...], tuple[str, ...]], _Found] = {}
"""By what was asked: a grid asks for the same few closures for every cell."""


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _walked(roots: tuple[str, ...], followed: tuple[str, ...]) -> _Found:
    modules: dict[str, _Module] = {}
    packages: set[str] = set()
    read: dict[Path, tuple[int, int]] = {}
    waiting, files = list(roots), _Files()
    for root in waiting:
        if files.of(root) is None:
            raise ValueError(f"source must be a module, got {root!r}")
    wanted = {*waiting}
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        if name not in wanted and not _is_of(name, followed):
            packages.add(name.partition(".")[0])
            continue
        path = files.of(name)
        if path is None:
            continue
        read[path] = _version(path)
        modules[name] = _parse(name, path, *read[path])
        for imported in (name, *modules[name].imports):
            waiting += _with_parents(imported)
    closure = Closure(
        {name: modules[name].digest for name in sorted(modules)},
        {name: dict(modules[name].parts) for name in sorted(modules)},
        tuple(sorted(packages)),
    )
    return _Found(closure, read)


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]


def _is_of(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


class _Files:
    """Where modules lie; each package is looked up once."""

    def __init__(self) -> None:
        self._roots: dict[str, Path | None] = {}

    def of(self, module: str) -> Path | None:
        """The file of a module; None for a plain name in one."""
        package, *parts = module.split(".")
        if package not in self._roots:
            spec = importlib.util.find_spec(package)
            places = [] if spec is None else list(spec.submodule_search_locations or ())
            self._roots[package] = Path(places[0]) if places else None
        root = self._roots[package]
        if root is None:
            return None
        base = root.joinpath(*parts)
        if (base / "__init__.py").is_file():
            return base / "__init__.py"
        file = base.with_suffix(".py") if parts else None
        return file if file is not None and file.is_file() else None


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


@lru_cache(maxsize=1024)
def _parse(module: str, path: Path, _mtime_ns: int, _size: int) -> _Module:
    """The digest of a file's code, of its parts, and what it imports. Parsed again if changed."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ValueError(f"module {module} must be valid Python, got: {error}") from error
    parts = module.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    digest = hashlib.sha256(_canonical(tree).encode()).hexdigest()
    return _Module(digest, tuple(sorted(_imports(tree, package))), tuple(_parts(tree).items()))


def _parts(tree: ast.Module) -> dict[str, str]:
    """The digests of a module's parts; statements of one name (overloads) are one part."""
    found: dict[str, list[str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            # Bases and decorators are the class's own, what lies in it has names of its own.
            shell = ast.ClassDef(**{**dict(ast.iter_fields(statement)), "body": []})
            found.setdefault(statement.name, []).append(_canonical(shell))
            for inner in statement.body:
                name = ".".join(filter(None, (statement.name, _name_of(inner))))
                if not _is_text(inner):
                    found.setdefault(name, []).append(_canonical(inner))
        elif not _is_text(statement):
            found.setdefault(_name_of(statement) or MODULE_LEVEL, []).append(_canonical(statement))
    return {
        name: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:PART_DIGITS]
        for name, texts in sorted(found.items())
    }


def _name_of(statement: ast.stmt) -> str:
    """What a statement defines, or "" where it has no name."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return statement.name
        case ast.Import() | ast.ImportFrom():
            return IMPORTS
        case ast.Assign():
            return ", ".join(ast.unparse(target) for target in statement.targets)
        case ast.AnnAssign() | ast.AugAssign():
            return ast.unparse(statement.target)
    return ""


def _imports(tree: ast.AST, package: list[str]) -> set[str]:
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from a import b` may mean the module a.b; a plain name has no file and drops out.
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """What holds statements and the statements themselves, without the expressions in them."""
    yield node
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(node, name, ()):
            yield from _statements(inner)


def _canonical(node: object) -> str:
    """A text of a syntax tree that is the same under every Python version.

    `ast.dump` changes between versions, in what it leaves out and which fields a node has; here
    empty fields are left out, and with them docstrings and other statements of a bare text.
    """
    if isinstance(node, ast.stmt):
        # Asked for twice: as a part, and in the text of the whole.
        text: str | None = getattr(node, TEXT, None)
        if text is None:
            text = _fields(node)
            setattr(node, TEXT, text)
        return text
    if isinstance(node, ast.AST):
        return _fields(node)
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node if not _is_text(item)) + "]"
    return f"{type(node).__name__}:{node!r}"


def _fields(node: ast.AST) -> str:
    fields = (
        f"{name}={_canonical(value)}"
        for name, value in sorted(ast.iter_fields(node))
        if name not in ("kind", "type_comment", "ctx") and value is not None and value != []
    )
    return f"{type(node).__name__}({','.join(fields)})"


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
