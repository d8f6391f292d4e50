"""What a chapter depends on, by its imports: what a change makes run again, and nothing else.

``python3 -S mmcl/reports/dependencies.py build/depends.mk notebooks/*.py`` writes it down for make. It runs before
there is an environment, so only the standard library is imported here, and nothing of the package.
"""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from pathlib import Path

NOT_READ = "reports"  # what turns chapters into pages computes nothing


def root_of(notebook: Path) -> Path:
    """The folder of the repository: the one whose ``mmcl`` stands beside the notebook's, or else this module's."""
    beside = notebook.parent.parent
    return beside if (beside / "mmcl" / "__init__.py").is_file() else Path(__file__).parents[2]


def sources_of(notebook: Path, text: str | None = None) -> list[Path]:
    """The files whose change makes a chapter run again, sorted.

    They are the chapter, ``profiles.yaml`` beside it, the files of ``stored/`` that it names, and ``code_of`` it.

    Args:
        notebook: notebooks/NN_name.py.
        text: what is in that file, where it is known already.
    """
    text, folder = text if text is not None else notebook.read_text("utf-8"), notebook.parent
    stored = [path for path in folder.glob("stored/*.json") if path.name in text]
    profiles = [path for path in [folder / "profiles.yaml"] if path.exists()]
    return sorted([notebook, *profiles, *stored, *code_of(text, root_of(notebook))])


def code_of(text: str, root: Path) -> list[Path]:
    """The files of ``root/mmcl`` that a chapter's text imports, directly or through others, and the data they read.

    Imports within functions count, and names that a module lists in ``_HOME`` and imports when they are first used;
    those for a type checker do not. The data of a file are the ``.json`` files beside it that it names. A text that is
    not Python is taken to import everything.
    """
    modules = _modules(root / "mmcl")
    lazy = {f"{name}.{n}": f"mmcl.{home}" for name, path in modules.items() for n, home in _lazy(path).items()}
    names, left = {path: name for name, path in modules.items()}, [(text, "")]
    found: set[Path] = set()
    while left:
        try:
            meant = _imports(*left.pop())
        except SyntaxError:
            meant = frozenset(modules)
        meant |= {home for name, home in lazy.items() if not meant.isdisjoint((name, name.rpartition(".")[0] + ".*"))}
        parts = [name.split(".") for name in meant]
        wanted = {".".join(p[:i]) for p in parts for i in range(1, len(p) + 1)}
        paths = {modules[name] for name in wanted if name in modules} - found
        left += [(p.read_text("utf-8"), names[p] + (".__init__" if p.stem == "__init__" else "")) for p in paths]
        found |= paths
    return sorted(found | {data for path in found for data in path.parent.glob("*.json") if _names(path, data)})


def _modules(folder: Path) -> dict[str, Path]:
    """The modules of a package that a chapter may read, by dotted name."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        if parts[1] != NOT_READ:
            found[".".join(parts[:-1] if path.stem == "__init__" else parts)] = path
    return found


def _lazy(path: Path) -> dict[str, str]:
    """The dictionary ``_HOME`` of a module: the names that it imports when they are first used, and from where."""
    text = path.read_text("utf-8")
    for node in ast.parse(text).body if "\n_HOME = " in text else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            return ast.literal_eval(node.value)
    return {}


def _names(path: Path, data: Path) -> bool:
    return data.name in path.read_text("utf-8")


@lru_cache(1024)
def _imports(text: str, module: str) -> frozenset[str]:
    """The dotted names that the text of a module may import, ``import a as b`` with a later ``b.c`` among them.

    Raises:
        SyntaxError: if it is not Python.
    """
    nodes, meant = list(_reached(ast.parse(text))), set()
    known: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            meant |= {a.name for a in node.names}
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            here = module.split(".")[: -node.level] if node.level else []
            froms = {a.asname or a.name: ".".join([*here, *filter(None, [node.module]), a.name]) for a in node.names}
            meant, known = meant | set(froms.values()), known | froms
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            meant.add(f"{known[node.value.id]}.{node.attr}")
    return frozenset(meant)


def _reached(tree: ast.AST):
    """The nodes of a tree, without what stands under ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield child
            yield from _reached(child)


def rules(notebooks: list[Path]) -> str:
    """Lines for make: the run of each chapter depends on its sources, and a source that is gone stops nothing."""
    sources = {notebook: [path.as_posix() for path in sources_of(notebook)] for notebook in notebooks}
    lines = [f"$(BUILD)/{notebook.stem}.run.ipynb: {' '.join(paths)}" for notebook, paths in sources.items()]
    every = sorted({path for paths in sources.values() for path in paths})
    return "\n".join([*lines, *(f"{path}:" for path in every)]) + "\n"


def write(target: Path, notebooks: list[Path]) -> None:
    """Write the `rules` of chapters, whole or not at all: nothing of the package is here, nor `write_whole`."""
    part = target.with_name(f".{target.name}.part")
    part.write_text(rules(notebooks), "utf-8")
    part.replace(target)


if __name__ == "__main__":
    write(Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]])
