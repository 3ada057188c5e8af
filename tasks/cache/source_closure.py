"""Digests of the source code that a kernel depends on.

A stage has to run again when the code that computes it changes, and only then. The closure of a
module is the module and everything of its package that it imports, directly or not, found by
parsing: nothing is imported or run. Comments, docstrings and formatting do not count. Data files
do not count either, so constants that decide a result belong in modules.
"""

import ast
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.store.artifacts import json_digest

IMPORTS = "imports"
MODULE_LEVEL = "module level"
PART_DIGITS = 16


def source_digest(module_name: str, package: str = "rosita_core") -> str:
    """One sha256 for the module and all of `package` that it imports. See `source_modules`."""
    return json_digest(source_modules(module_name, package))


def source_modules(module_name: str, package: str = "rosita_core") -> dict[str, str]:
    """Module name -> sha256 of its code, for a module and all of `package` that it imports.

    Imports inside functions and conditions count, and so do the `__init__` modules on the way.
    Imports by name at run time (importlib) cannot be seen.

    Raises ValueError when the module is not one of the package, or cannot be parsed.
    """
    return {name: module.digest for name, module in _closure(module_name, package).items()}


def source_parts(module_name: str, package: str = "rosita_core") -> dict[str, dict[str, str]]:
    """Module name -> top-level part -> digest of its code, for the modules of `source_modules`.

    Says which function changed where a module did. A part is a function, a method or a field of a
    class (`Class.name`), what else there is of a class (`Class`), an assigned name, `imports`, or
    `module level` for other statements. Digests are short (16 digits): they are compared, never
    looked up.
    """
    return {name: dict(module.parts) for name, module in _closure(module_name, package).items()}


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]


def _closure(module_name: str, package: str) -> dict[str, _Module]:
    """The modules of the closure, sorted by name. Raises as `source_modules` says."""
    root = _package_root(package)
    if _file_of(module_name, package, root) is None:
        raise ValueError(f"kernel must be a module of {package}, got {module_name!r}")
    modules: dict[str, _Module] = {}
    waiting = [module_name]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, package, root)
        if name in modules or path is None:
            continue
        stat = path.stat()
        modules[name] = _parse(name, path, stat.st_mtime_ns, stat.st_size)
        waiting += _with_parents(name)
        for imported in modules[name].imports:
            waiting += _with_parents(imported)
    return dict(sorted(modules.items()))


def _package_root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"package must be importable, got {package!r}")
    return Path(next(iter(spec.submodule_search_locations)))


def _file_of(module: str, package: str, root: Path) -> Path | None:
    """The file of a module of the package; None for other modules and for plain names in one."""
    parts = module.split(".")
    if parts[0] != package:
        return None
    base = root.joinpath(*parts[1:])
    if (base / "__init__.py").is_file():
        return base / "__init__.py"
    file = base.with_suffix(".py") if len(parts) > 1 else None
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
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from a import b` may mean the module a.b; a plain name has no file and drops out.
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def _canonical(node: object) -> str:
    """A text of a syntax tree that is the same under every Python version.

    `ast.dump` changes between versions, in what it leaves out and which fields a node has; here
    empty fields are left out, and with them docstrings and other statements of a bare text.
    """
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_canonical(value)}"
            for name, value in sorted(ast.iter_fields(node))
            if name not in ("kind", "type_comment", "ctx") and value is not None and value != []
        )
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node if not _is_text(item)) + "]"
    return f"{type(node).__name__}:{node!r}"


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
