"""The house: imports run downwards only, files are short, names mean one thing."""

import ast
import subprocess
import sys
from pathlib import Path

import mmcl

FILES = {path.relative_to(Path(mmcl.__file__).parent): path for path in Path(mmcl.__file__).parent.rglob("*.py")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
ROOMS = {"": {""}, "beyond": {"", "beyond"}, "experiments": {"", "experiments"}}
ROOMS |= {"practice": {"", "beyond", "practice"}}
ROOMS |= {"notebook": {"notebook"}, "reports": {"notebook", "reports"}}
FACE = {Path("__init__.py"), Path("__main__.py")}  # they lead into every wing, but import none until it is asked for
TOOLS = {"mmcl.__version__", "mmcl._checks", "mmcl._files"}  # no mathematics, so open to every wing


def imported(tree):
    """The modules of the package that a file imports, as mmcl.name or mmcl.wing.name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "mmcl":
            yield from (f"mmcl.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mmcl."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("mmcl."))


def test_imports_run_downwards_only():
    for name, tree in TREES.items():
        if name in FACE:
            continue
        here = name.parts[0] if len(name.parts) > 1 else ""
        for module in set(imported(tree)) - TOOLS:
            there = module.split(".")[1]
            assert (there if there in ROOMS else "") in ROOMS[here], f"{name} imports {module}"


def test_no_file_is_longer_than_250_lines():
    lengths = {str(name): len(path.read_text("utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_no_two_classes_have_one_name():
    names = [node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_the_mathematics_loads_no_wing_no_data_sets_no_downloads_and_no_figures():
    modules = [f"mmcl.{name.stem}" for name in FILES if len(name.parts) == 1 and not name.stem.startswith("__")]
    heavy = (
        "sklearn.datasets",
        "pooch",
        "matplotlib",
        "jupyter_client",
        "mmcl.beyond",
        "mmcl.experiments",
        "mmcl.practice",
    )
    code = f"import sys, {', '.join(modules)}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_every_benchmark_can_be_loaded():
    folder = Path(__file__).parent / "bench"
    load = f"import sys; sys.path.insert(0, {str(folder)!r}); import " + ", ".join(p.stem for p in folder.glob("*.py"))
    subprocess.run([sys.executable, "-c", load], check=True)
