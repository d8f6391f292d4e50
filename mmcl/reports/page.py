"""Executed notebooks as single HTML files that need no network: formulas as MathML, figures embedded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from mmcl.notebook.claims import claims_of
from mmcl.reports.cells import blocks, boxes_of, figure, figures, played, templates
from mmcl.reports.formulas import Renderer, markdown
from mmcl.reports.offline import checked
from mmcl.reports.parameters import changed, command_for, parameters_of, spelled
from mmcl.reports.safe import policy
from mmcl.reports.statements import Statement


def rendered(template: str, scripts: Iterable[str] = (), **values: Any) -> str:
    """A page, with our own scripts by name and a policy that allows these and no other.

    Raises:
        RenderError: see ``mmcl.reports.offline.checked``.
    """
    texts = [files("mmcl.reports").joinpath("templates", f"{name}.js").read_text("utf-8") for name in scripts]
    values |= {"scripts": list(map(Markup, texts)), "policy": Markup(policy(texts))}
    return checked(templates.get_template(template).render(**values))


def summary(notebook, name: str) -> dict[str, Any]:
    """Title, first paragraph, claims, first figure and problem of a notebook."""
    text = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    title = re.search(r"^# +(.*)$", text, re.M)
    parts = [b for b in re.split(r"\n\s*\n|^#.*$", text, flags=re.M) if b and b.strip()]
    return {
        "name": name,
        "title": title[1] if title else name,
        "first": markdown(parts[0].strip()) if parts else "",
        "claims": claims_of(notebook),
        "figure": Markup().join(map(figure, figures(notebook)[:1])),
        "problem": notebook.metadata.get("mmcl", {}).get("problem", ""),
    }


def stopped(notebook) -> bool:
    """Whether a cell of an executed notebook raised; claims that do not hold, summed up at its end, are no stop."""
    outputs = (o for c in notebook.cells for o in c.get("outputs", []))
    return any(o.output_type == "error" and o.ename != "ClaimFailed" for o in outputs)


def report(
    notebook,
    name: str,
    statements: Iterable[Statement] = (),
    alone: bool = False,
    chapters: Mapping[str, str] | None = None,
) -> str:
    """An executed notebook as one HTML page.

    Args:
        notebook: as ``mmcl.reports.run`` leaves it, or its evidence of a failure (marked so at the top).
        name: used as title if the notebook has no heading of level 1.
        statements: those of the registry; each that the notebook argues has a box at the head of its section.
        alone: the page is sent without the other reports, so it does not link to them.
        chapters: name -> title of all chapters, in order, for the links to the one before and the one after.

    Raises:
        RenderError: for a formula that cannot be typeset, a figure without alternative text, or anything
            that would be loaded from elsewhere.
    """
    renderer, about = Renderer(alone=alone), notebook.metadata.get("mmcl", {})
    boxes = boxes_of(notebook, (s for s in statements if s.chapter == about.get("name", name)))
    allowed = parameters_of(notebook)
    values = notebook.metadata.get("papermill", {}).get("parameters", {})
    differ, shown = changed(values, allowed), blocks(notebook, renderer, boxes)
    before, after = _neighbours(about.get("name", name), {} if alone else chapters or {})
    return rendered(
        "report.html.j2",
        ["bar", *(["play", *played(notebook)] if played(notebook) else [])],
        **summary(notebook, name),
        blocks=shown,
        contents=[entry for entry in renderer.contents if entry[0] in (2, 3)],
        parameters=[
            (p, spelled(values.get(n, p.default)), spelled(p.default), n in differ) for n, p in allowed.items()
        ],
        changed=[(n, spelled(value), spelled(allowed[n].default)) for n, value in differ.items()],
        seed=spelled(values.get("seed", allowed["seed"].default)) if "seed" in allowed else "",
        command=about.get("command") or command_for(about.get("source", name), differ),
        stopped=stopped(notebook),
        summed=any('id="ledger"' in output for block in shown for output in block.get("outputs", [])),
        about=about,
        papermill=notebook.metadata.get("papermill", {}),
        alone=alone,
        before=before,
        after=after,
    )


def _neighbours(name: str, chapters: Mapping[str, str]) -> list[tuple[str, str] | None]:
    """(name, title) of the chapter before and of the one after; None where there is none."""
    names = list(chapters)
    at = names.index(name) if name in chapters else -9
    return [(names[i], chapters[names[i]]) if 0 <= i < len(names) else None for i in (at - 1, at + 1)]


def sweep_page(notebook, swept: dict, fixed: dict, numbers: list, answers: list, command: str) -> str:
    """The page that compares the points of a sweep.

    Args:
        notebook: the notebook, without outputs.
        swept: name -> values; fixed: name -> value of the other parameters that the grid or profile gives.
        numbers: see ``mmcl.reports.compare.numbers``.
        answers: (answer, link to its page) of each point, see ``mmcl.reports.answer.answer``.
        command: what makes the page again.
    """
    points = []
    for found, link in answers:
        values = [spelled(found["parameters"][name]) for name in swept]
        label = ", ".join(f"{name}={value}" for name, value in zip(swept, values, strict=True))
        holds = sum(c["holds"] for c in found["claims"])
        points.append(
            found | {"values": values, "label": label, "link": link, "holds": holds, "claims": len(found["claims"])}
        )
    return rendered(
        "sweep.html.j2",
        ["bar"],
        title=summary(notebook, "A notebook")["title"],
        swept={name: [spelled(v) for v in values] for name, values in swept.items()},
        fixed={name: spelled(value) for name, value in fixed.items()},
        meanings={name: p.meaning for name, p in parameters_of(notebook).items()},
        numbers=numbers,
        points=points,
        versions=next((p["versions"] for p in points if "versions" in p), {}),
        command=command,
    )
