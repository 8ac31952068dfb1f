"""Code identity: which code a stage depends on, as a hash of every module that it can reach and of the data files beside them.

The stage `code` writes one file per stage, code/<stage>.json, and dvc.yaml names it as a dependency. The hashes are of syntax
trees without docstrings, comments, `Field(description=...)` and annotations of signatures. An edit that changes no behaviour
therefore reruns nothing.

- The imports of a stage's script are followed, including those inside functions. `if TYPE_CHECKING` is not.
- A module with `AFFECTS_RESULTS = False` is left out, with everything that only it imports: logging, preflight checks and the
  like.
- A module or package named after a task (astro/tasks/math, astro/importing/countdown.py) belongs only to that task.
- The file of a user's task counts, with the files beside it that it imports.
- Other files, such as prompts, belong to the package whose folder contains them, and count by content.

This module imports no other module of the project, so that the stage starts fast.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

AFFECTS_RESULTS = False

ROOT = Path(__file__).parents[1]
TOP = ("astro", "schemas", "stages")
"""Packages of the project."""

MARK = "AFFECTS_RESULTS"
"""Constant by which a module declares that no result depends on it."""

OUT = Path("code")
"""Folder that the stage `code` writes to, below the folder of the pipeline run."""

DYNAMIC = {"import_module", "__import__", "run_module", "run_path"}
"""Functions that import the module that their argument names."""

BY_LITERAL = "# imports what a literal names"
"""Comment on a line with such a call whose argument comes from a literal elsewhere ("module", "module:function"). The literal
is followed.
"""


class IdentityError(ValueError):
    """A module cannot be read, or has an import that cannot be followed."""


def tasks(root: Path = ROOT) -> list[str]:
    """The packages of astro/tasks, one per task."""
    return sorted(path.parent.name for path in (root / "astro/tasks").glob("*/__init__.py"))


def scripts(root: Path = ROOT) -> list[str]:
    """The scripts of all stages, except the one that writes these files."""
    return sorted(name.removeprefix("stages.") for name in Sources(root).modules if _is_script(root, name))


def _is_script(root: Path, module: str) -> bool:
    if module == f"stages.{OUT}":
        return False
    return module.startswith("stages.") and "run_stage(" in (root / f"{module.replace('.', '/')}.py").read_text("utf-8")


def package_of(task: str) -> str:
    """The package of astro/tasks for a task. All user tasks share one."""
    return "user" if task.endswith(".py") or ":" in task else task


def identity(stage: str, task: str, root: Path = ROOT) -> dict[str, str]:
    """Path of each source that `stage` depends on in `task`, relative to `root` -> its hash.

    Raises:
        IdentityError: names file and line.
    """
    return sources(root).identity(stage, task)


def path_of(stage: str) -> Path:
    """The file with the identity of a stage."""
    return OUT / f"{stage}.json"


def text_of(found: Mapping[str, str]) -> str:
    """The content of that file. The same hashes give the same bytes."""
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def stale_code(script: str, task: str) -> list[str]:
    """Sources of a stage that differ from its identity file; [] if there is no such file yet."""
    path = path_of(script)
    return differences(json.loads(path.read_bytes()), identity(script, task)) if path.is_file() else []


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Paths whose hashes differ, or that only one side has."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


class Sources:
    """The project's source files under one root, each read once."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        paths = [p for top in TOP for p in sorted((root / top).rglob("*.py"))]
        self.modules = {self._name(p): p for p in paths}
        self._tasks = set(tasks(root))
        self.tree = cache(self._tree)
        self.hash = cache(self._hash)
        self.affects = cache(self._affects)
        self.imports = cache(self._imports)

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def identity(self, stage: str, task: str) -> dict[str, str]:
        """See the function of the same name."""
        modules = self.reached(f"stages.{stage}", package_of(task))
        files = self.of_user(Path(task)) if task.endswith(".py") and "astro.tasks" in modules else {}
        files |= {str(self.modules[m].relative_to(self.root)): self.hash(m) for m in modules}
        for folder in {self.modules[m].parent for m in modules}:
            files |= {str(p.relative_to(self.root)): _digest(p.read_bytes()) for p in _data_files(folder)}
        return dict(sorted(files.items()))

    def of_user(self, path: Path) -> dict[str, str]:
        """Path -> hash of a user's file and of the neighbours that it imports, directly or indirectly; {}: it does not exist."""
        found: dict[str, str] = {}
        todo = [path]
        while todo:
            here = todo.pop()
            if str(here) in found or not here.is_file():
                continue
            try:
                tree = ast.parse(here.read_bytes())
            except (SyntaxError, ValueError) as error:
                line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
                raise IdentityError(
                    f"{here}{line}: {getattr(error, 'msg', error)}: the file cannot be parsed"
                ) from None
            found[str(here)] = _digest(_text(tree).encode())
            for node in ast.walk(tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in names:
                    beside = path.parent / name.replace(".", "/")
                    todo += [beside.with_suffix(".py"), beside / "__init__.py"]
        return found

    def reached(self, module: str, task: str) -> set[str]:
        """All modules that running `module` may import and that affect results.

        If a package runs only because one of its modules is imported, imports inside its functions do not count.
        """
        found: set[tuple[str, bool]] = set()  # (module, whether its functions may be called)
        todo = [(module, True)]
        while todo:
            here, called = todo.pop()
            if (here, called) in found or not self.affects(here) or self._of_another(here, task):
                continue
            found.add((here, called))
            todo.extend((package, False) for package in self.packages(here))
            todo.extend((other, True) for other in self.imports(here, called))
        return {m for m, _ in found}

    def packages(self, module: str) -> list[str]:
        """The packages whose __init__ runs when `module` is imported."""
        parts = module.split(".")
        return [m for i in range(1, len(parts)) if (m := ".".join(parts[:i])) in self.modules]

    def _of_another(self, module: str, task: str) -> bool:
        return bool(self._tasks.difference([task]).intersection(module.split(".")))

    def _affects(self, module: str) -> bool:
        """False if the module, or a package that contains it, is marked by MARK."""
        return not any(_says_no(self.tree(m)) for m in [*self.packages(module), module])

    def _tree(self, module: str) -> ast.Module:
        path = self.modules[module]
        where = path.relative_to(self.root)
        try:
            return ast.parse(path.read_bytes())
        except SyntaxError as error:
            raise IdentityError(f"{where}, line {error.lineno}: {error.msg}: the module cannot be parsed") from None
        except ValueError as error:
            raise IdentityError(f"{where}: {error}: the module cannot be parsed") from None

    def _hash(self, module: str) -> str:
        return _digest(_text(self.tree(module)).encode())

    def _imports(self, module: str, called: bool) -> set[str]:
        """The project's modules that `module` imports; with `called` also those imported inside its functions.

        A string literal that names a module, or "module:function", counts as well: "-m", "astro.execution.ray_reaper".

        Raises:
            IdentityError: the target of an import is not a literal, or the import is relative.
        """
        found: set[str] = set()
        for node in statements(self.tree(module), functions=called):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    self._refuse(module, node, "relative import; write the full module name")
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    found.add(inside if inside in self.modules else str(node.module))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.partition(":")[0])
            elif isinstance(node, ast.Call) and not self._can_follow(module, node):
                self._refuse(
                    module,
                    node,
                    "this import cannot be followed; name the module by a literal here, or by one elsewhere and end the "
                    f'line with "{BY_LITERAL}"',
                )
        return {name for name in found if name in self.modules and name != module}

    def _can_follow(self, module: str, node: ast.Call) -> bool:
        """Whether a call imports nothing, or imports what a literal names."""
        if _called(node) not in DYNAMIC or (node.args and isinstance(node.args[0], ast.Constant)):
            return True
        lines = self.modules[module].read_text(encoding="utf-8").splitlines()[node.lineno - 1 : node.end_lineno]
        return any(line.endswith(BY_LITERAL) for line in lines)

    def _refuse(self, module: str, node: ast.stmt | ast.expr, why: str) -> None:
        raise IdentityError(f"{self.modules[module].relative_to(self.root)}, line {node.lineno}: {why}")


sources = cache(Sources)
"""The sources under a root, read once per process, so that they describe the running code."""


def statements(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Every node below, without `if TYPE_CHECKING`, annotations, and (unless `functions`) the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if _is_type_checking(child) or (
            not functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        ):
            continue
        yield child
        yield from statements(child, functions=functions)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _says_no(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Assign)
        and [ast.unparse(target) for target in node.targets] == [MARK]
        and isinstance(node.value, ast.Constant)
        and node.value.value is False
        for node in tree.body
    )


def _called(node: ast.Call) -> str:
    """The last name of a called function: "import_module" of `importlib.import_module(...)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _data_files(folder: Path) -> Iterator[Path]:
    """Files other than Python in a package's folder, and below it down to the next package."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            if not (path / "__init__.py").is_file():
                yield from _data_files(path)
        elif path.suffix not in (".py", ".pyc"):
            yield path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# --- a syntax tree as text, without parts that do not change behaviour ----------------------------------------------


def _text(tree: ast.Module) -> str:
    """Canonical text of a module. It does not depend on formatting, comments, docstrings, descriptions or Python's version.

    A module that reads `__doc__` keeps its docstrings.
    """
    reads = any(isinstance(node, ast.Name | ast.Attribute) and _named(node) == "__doc__" for node in ast.walk(tree))
    pieces: list[str] = []
    _write(tree, pieces.append, documented=reads, inside=False)
    return "".join(pieces)


def _named(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _write(node: object, emit: Callable[[str], None], *, documented: bool, inside: bool) -> None:
    """Emit a node: its type, then its non-empty fields. inside: within a function."""
    if isinstance(node, ast.AnnAssign) and inside and node.value is not None:
        node = ast.Assign(targets=[node.target], value=node.value)  # a local variable's annotation has no effect
    if isinstance(node, ast.AST):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        emit(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            kept = _kept(node, name, value, documented=documented, inside=inside or function)
            if kept is not None and kept != []:
                emit(f" {name}=")
                _write(kept, emit, documented=documented, inside=inside or function)
        emit(")")
    elif isinstance(node, list):
        emit("[")
        for item in node:
            _write(item, emit, documented=documented, inside=inside)
            emit(",")
        emit("]")
    else:
        emit(repr(node))


def _kept(node: ast.AST, name: str, value: object, *, documented: bool, inside: bool) -> object:
    """The value of a field without the parts that do not count; None: nothing is left."""
    if name in ("type_comment", "type_ignores", "kind", "type_params", "ctx"):
        return value if name == "type_params" else None
    if name == "annotation" and isinstance(node, ast.arg):
        return None
    if name == "returns":
        return None
    if name == "keywords" and isinstance(node, ast.Call) and _called(node) == "Field":
        return [keyword for keyword in node.keywords if keyword.arg != "description"]
    if name in ("body", "orelse", "finalbody") and isinstance(value, list):
        return [child for child in value if _counts(child, documented=documented, inside=inside)]
    return value


def _counts(node: ast.AST, *, documented: bool, inside: bool) -> bool:
    """Whether a statement has an effect."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return documented and isinstance(node.value.value, str)
    if isinstance(node, ast.AnnAssign) and node.value is None and inside:
        return False
    return not isinstance(node, ast.Pass) and not _is_type_checking(node)


def write_all(task: str, root: Path = ROOT, out: Path = OUT) -> Iterable[Path]:
    """Write the identity of every stage for `task` below `out`. Yields the files."""
    found = Sources(root)
    out.mkdir(parents=True, exist_ok=True)
    for stage in scripts(root):
        target = out / f"{stage}.json"
        target.write_text(text_of(found.identity(stage, task)), encoding="utf-8")
        yield target
