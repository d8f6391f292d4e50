"""The commands of the Makefile: python -m mmcl run | render | index | outputs | readme."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

import nbformat

from mmcl import render, run
from mmcl.report import claims_of, table


def _run(args) -> int:
    problem = run.run(args.source, args.target, run.choose_parameters(args.source, args.profile, args.p))
    if problem:
        print(f"{args.source} FAILED, evidence in {run.failed_path(args.target)}: {problem}", file=sys.stderr)
    return int(bool(problem))


def _render(args) -> int:
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(render.report(nbformat.read(args.executed, 4), args.target.stem), "utf-8")
    return 0


def _index(args) -> int:
    notebooks = {}
    for name in args.names:
        found = [p for kind in ("run", "failed") if (p := args.build / f"{name}.{kind}.ipynb").exists()]
        notebooks[name] = nbformat.read(found[0], 4) if found else None
    args.target.parent.mkdir(parents=True, exist_ok=True)
    args.target.write_text(render.index(notebooks, args.build.name), "utf-8")
    problems = {n: nb.metadata.mmcl.problem if nb else "was not run" for n, nb in notebooks.items()}
    claims = [c for nb in notebooks.values() if nb for c in claims_of(nb)]
    print("\n" + table(claims))
    print(f"\n{sum(c.holds for c in claims)} of {len(claims)} claims hold. Reports: {args.target}")
    for name, problem in problems.items():
        if problem:
            print(f"FAILED {name}: {problem}")
    return int(any(problems.values()))


def _outputs(args) -> int:
    run.take_outputs(args.committed, args.executed)
    return 0


def _readme(args) -> int:
    first = render.figures(nbformat.read(args.notebooks[0], 4))[0]
    args.notebooks[0].with_name("argument.png").write_bytes(base64.b64decode(first.data["image/png"]))
    claims = {c.id: c for path in args.notebooks for c in claims_of(nbformat.read(path, 4))}
    text = args.readme.read_text("utf-8")
    if (new := run.measured_column(text, claims)) != text:
        args.readme.write_text(new, "utf-8")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a claim or a cell that failed, 2 a mistake in the call."""
    parser = argparse.ArgumentParser(prog="mmcl", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(function, help: str):
        sub = commands.add_parser(function.__name__.removeprefix("_"), help=help)
        sub.set_defaults(function=function)
        return sub

    sub = command(_run, "execute notebooks/NN_name.py into x.run.ipynb, or x.failed.ipynb if it fails")
    sub.add_argument("source", type=Path)
    sub.add_argument("target", type=Path)
    sub.add_argument("--profile", default="default", help="profile of notebooks/profiles.yaml")
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="parameter value")
    sub = command(_render, "make one offline HTML file of an executed notebook")
    sub.add_argument("executed", type=Path)
    sub.add_argument("target", type=Path)
    sub = command(_index, "make the page of all reports and print the claims ledger")
    sub.add_argument("target", type=Path)
    sub.add_argument("build", type=Path, help="folder of the executed notebooks")
    sub.add_argument("names", nargs="+")
    sub = command(_outputs, "copy the outputs of an executed notebook into the committed one")
    sub.add_argument("committed", type=Path)
    sub.add_argument("executed", type=Path)
    sub = command(_readme, "refresh README.md's figure and measured column from the committed notebooks")
    sub.add_argument("readme", type=Path)
    sub.add_argument("notebooks", type=Path, nargs="+")

    args = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")
    try:
        return args.function(args)
    except run.UsageError as error:
        print(f"mmcl: {error}", file=sys.stderr)
        return 2
    except render.RenderError as error:
        print(f"mmcl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
