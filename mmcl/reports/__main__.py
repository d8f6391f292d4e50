"""Ask a notebook (parameters, report, sweep), and the commands that the Makefile uses."""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import os
import re
import sys
from pathlib import Path

from mmcl._files import write_whole
from mmcl.notebook.claims import claims_of, table
from mmcl.reports import answer, index, page, pairs, places, run, statements
from mmcl.reports.endings import ending
from mmcl.reports.parameters import choose_parameters, find_notebook, parameters_of, spelled
from mmcl.reports.reading import DamagedError, UsageError, read_chapter, read_ipynb, read_run

_NB = "02, 02_robustness, or the path of a .py file"


def _parameters(args) -> int:
    source = find_notebook(args.notebook)
    allowed = parameters_of(read_chapter(source))
    rows = [(p.name, " | ".join(p.types), spelled(p.default), p.meaning) for p in allowed.values()]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    if not rows:
        print(f"{source.stem} has no parameters")
    for row in rows:
        print("  ".join([*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[3]]))
    return 0


def _report(args) -> int:
    source = find_notebook(args.notebook)
    pairs = [*args.p, *re.split(r"\s+(?=[A-Za-z_]\w*=)", args.pairs.strip())] if args.pairs.strip() else args.p
    values = choose_parameters(source, args.profile, pairs, args.f)
    written, found = answer.report(source, values, args.o)
    if found["problem"]:
        print(f"{source.stem} FAILED: {found['problem']}", file=sys.stderr)
    print(written)
    return int(bool(found["problem"]))


def _audit(args) -> int:
    from mmcl.reports import audit

    written, short, problem = audit.audit(args.features, args.features_y, args.p, args.o)
    if problem:
        print(f"the audit stopped: {problem}", file=sys.stderr)
    print(*filter(None, [short, *written]), sep="\n")
    return int(bool(problem))


def _sweep(args) -> int:
    from mmcl.reports import sweep  # the figures take a moment to import

    if args.grid == Path("") or args.j < 1:
        what = f"-j {args.j} is no number of processes" if args.j < 1 else "a grid is a file of 'name: [value, value]'"
        raise UsageError(f"{what}, as in: sweep 02 grid.yaml -j 2")
    written, answers = sweep.sweep(
        find_notebook(args.notebook), args.grid, args.o, args.profile, args.j, args.scheduler, args.limit
    )
    stopped = sum(a["stopped"] for a in answers)
    failing = sum(bool(a["problem"]) for a in answers) - stopped
    for number, what in ((stopped, "stopped by an error"), (failing, "with claims that do not hold")):
        if number:
            print(f"{number} of {len(answers)} points {what}", file=sys.stderr)
    print(written)
    return int(stopped + failing > 0)


def _seeds(args) -> int:
    from mmcl.reports import seeds

    if min(args.n, args.j) < 1:
        raise UsageError(f"-n {args.n} -j {args.j}: give at least one seed and one process")
    sources = [find_notebook(name) for name in args.notebooks]
    print(seeds.table([row for source in sources for row in seeds.seeds(source, args.n, args.o, args.profile, args.j)]))
    return 0


def _run(args) -> int:
    problem = run.run(args.source, args.target, choose_parameters(args.source, args.profile, args.p))
    if problem:
        print(f"{args.source} FAILED, evidence in {run.failed_path(args.target)}: {problem}", file=sys.stderr)
    return int(bool(problem))


def _render(args) -> int:
    argued = statements.read(args.statements) if args.statements else []
    chapters = places.titles(args.statements.parent) if args.statements else {}
    write_whole(args.target, page.report(read_run(args.executed), args.target.stem, argued, chapters=chapters))
    return 0


def _index(args) -> int:
    notebooks, damaged = {}, []
    for name in args.names:
        found = [p for kind in ("run", "failed") if (p := args.build / f"{name}.{kind}.ipynb").exists()]
        try:
            notebooks[name] = read_run(found[0]) if found else None
        except DamagedError as error:
            found[0].unlink()
            damaged.append(str(error))
    if damaged:
        raise DamagedError(f"{'; '.join(damaged)}: make does")
    argued = statements.read(args.statements) if args.statements else []
    write_whole(args.target, index.index(notebooks, args.build.name, argued, os.environ.get("GITHUB_REPOSITORY", "")))
    write_whole(args.target.with_name("ledger.html"), index.ledger(notebooks, args.build.name))
    problems = {n: nb.metadata.mmcl.problem if nb else "was not run" for n, nb in notebooks.items()}
    claims = [c for nb in notebooks.values() if nb for c in claims_of(nb)]
    print("\n" + table(claims) + "\n\n" + index.times(notebooks))
    print(f"\n{sum(c.holds for c in claims)} of {len(claims)} claims hold. Reports: {args.target}")
    for name, problem in problems.items():
        if problem:
            print(f"FAILED {name}: {problem}")
    return int(any(problems.values()))


def _pairs(args) -> int:
    pairs.pairs(args.sources, args.check)
    return 0


def _outputs(args) -> int:
    run.take_outputs(args.committed, args.executed)
    return 0


def _readme(args) -> int:
    notebooks = {path.stem: read_ipynb(path) for path in args.notebooks}
    folder, root = args.notebooks[0].parent, args.readme.resolve().parent
    claims = {c.id: c for notebook in notebooks.values() for c in claims_of(notebook)}
    made = statements.table(statements.read(folder / "statements.yaml"), root, notebooks, claims)
    write_whole(args.readme, statements.with_table(args.readme.read_text("utf-8"), made))
    first = args.notebooks[0]
    if not (drawn := page.figures(notebooks[first.stem])):
        raise UsageError(f"{first} shows no figure for the README: run `make outputs` first")
    write_whole(folder / "argument.png", base64.b64decode(drawn[0].data["image/png"]))
    return 0


def _joined(argv: list[str]) -> list[str]:
    """The arguments with ``-p NAME VALUE`` written as ``-p NAME=VALUE``, so that VALUE may begin with a minus."""
    joined, rest = [], iter(argv)
    for word in rest:
        joined.append(word)
        if word == "-p":
            name = next(rest, "")
            joined.append(name if "=" in name else "=".join([name, *itertools.islice(rest, 1)]))
    return joined


def _questions(command) -> None:
    """The commands for readers: parameters, report, sweep, audit."""
    sub = command(_parameters, "list a notebook's parameters: name, type, default, meaning")
    sub.add_argument("notebook", metavar="NB", help=_NB)
    sub = command(_report, "run a notebook with other parameters and write one HTML page to send on")
    sub.add_argument("notebook", metavar="NB", help=_NB)
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a value; -p NAME VALUE works too")
    sub.add_argument("-f", type=Path, metavar="FILE", help="YAML file of lines 'name: value'")
    sub.add_argument("--pairs", default="", help="several NAME=VALUE in one argument")
    _common(sub)
    sub = command(_sweep, "run a notebook at each point of a grid and compare the numbers on one page")
    sub.add_argument("notebook", metavar="NB", help=_NB)
    sub.add_argument("grid", type=Path, metavar="GRID", help="YAML file of lines 'name: [value, value]'")
    sub.add_argument("-j", type=int, default=1, metavar="N", help="processes, one thread each (default 1)")
    sub.add_argument("--limit", type=int, default=10_000, metavar="N", help="points at most (default 10000)")
    sub.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="run on the workers of this dask cluster instead")
    _common(sub)
    sub = command(_seeds, "run notebooks with fresh seeds and say how often each claim holds")
    sub.add_argument("notebooks", metavar="NB", nargs="+", help=_NB)
    sub.add_argument("-n", type=int, default=30, metavar="N", help="seeds (default 30)")
    sub.add_argument("-j", type=int, default=1, metavar="N", help="processes, one thread each (default 1)")
    _common(sub, profile="smoke")
    from mmcl.reports.audit import parameters

    parameters(command(_audit, "your own pairs: which are wrong, how many, which unpaired rows belong together"))


def _common(sub, profile: str = "default") -> None:
    sub.add_argument("--profile", default=profile, help="profile of notebooks/profiles.yaml to begin with")
    sub.add_argument("-o", type=Path, default=Path("reports"), metavar="FOLDER", help="default: reports")


def _steps(command) -> None:
    """The commands that the Makefile uses."""
    sub = command(_run, "execute notebooks/NN_name.py into x.run.ipynb, or x.failed.ipynb if it fails")
    sub.add_argument("source", type=Path)
    sub.add_argument("target", type=Path)
    sub.add_argument("--profile", default="default", help="profile of notebooks/profiles.yaml")
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="parameter value")
    sub = command(_render, "make one offline HTML file of an executed notebook")
    sub.add_argument("--statements", type=Path, metavar="FILE", help="statements.yaml, for the boxes in the text")
    sub.add_argument("executed", type=Path)
    sub.add_argument("target", type=Path)
    sub = command(_index, "make the page of all reports and print the claims ledger")
    sub.add_argument("--statements", type=Path, metavar="FILE", help="statements.yaml, which the page shows")
    sub.add_argument("target", type=Path)
    sub.add_argument("build", type=Path, help="folder of the executed notebooks")
    sub.add_argument("names", nargs="+")
    sub = command(_pairs, "bring the inputs of notebooks/*.ipynb up to notebooks/*.py; their outputs stay")
    sub.add_argument("sources", type=Path, nargs="+")
    sub.add_argument("--check", action="store_true", help="write nothing; say which is not up to date")
    sub = command(_outputs, "copy the outputs of an executed notebook into the committed one")
    sub.add_argument("committed", type=Path)
    sub.add_argument("executed", type=Path)
    sub = command(_readme, "refresh README.md's figure and table from statements.yaml and the committed notebooks")
    sub.add_argument("readme", type=Path)
    sub.add_argument("notebooks", type=Path, nargs="+")


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence."""

    def error(self, message: str):
        self.exit(2, f"mmcl: {message}; {self.prog} --help says more\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a claim or a cell that failed, the rest as for `mmcl.reports.endings.ending`."""
    parser = _Parser(prog="python -m mmcl", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def command(function, help: str):
        sub = commands.add_parser(function.__name__.removeprefix("_"), help=help, description=help)
        sub.set_defaults(function=function)
        return sub

    _questions(command)
    _steps(command)
    words = _joined(sys.argv[1:] if argv is None else argv)
    if wrong := [word for word in words if word != word.encode(errors="replace").decode()]:
        parser.error(f"{os.fsencode(wrong[0])!r} is not text in UTF-8")
    args = parser.parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return ending(lambda: args.function(args))


if __name__ == "__main__":
    sys.exit(main())
