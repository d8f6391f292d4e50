"""How a figure gets into a notebook and its page: sharp, described, with the same bytes in every run."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

from IPython.display import display
from PIL import Image

PLAY_MIME = "application/vnd.mmcl.play+json"
DPI = 200  # of the picture that is stored; it is shown at half of it
PAD = 0.1  # inches around what is drawn


def show(fig, alt: str, caption: str = "", play: Mapping[str, Any] | None = None) -> None:
    """Show a matplotlib figure with its alternative text, and close it.

    A notebook keeps it as a PNG of 200 dpi. Where the same figure is smaller as SVG, the output has that too, which a
    page takes and the committed notebook drops.

    Args:
        fig: the matplotlib figure.
        alt: one sentence with what is to be seen, for readers who do not see it; the page prints it as the caption.
        caption: Markdown for the page's caption, instead of ``alt``.
        play: what the page's script of the same name needs to make the figure one to play with, see
            ``mmcl.notebook.play``.

    Raises:
        ValueError: if ``alt`` is empty.
    """
    alt = " ".join(alt.split())
    if not alt:
        raise ValueError("show needs alt: one sentence that says what the figure shows")
    import matplotlib.pyplot as plt  # slow to import, and only notebooks show figures

    with plt.rc_context({"svg.hashsalt": "mmcl", "svg.fonttype": "path"}):  # the same ids, the same letters everywhere
        frame, boxes = _laid_out(fig)
        png, svg = _png(fig, frame), _svg(fig, frame)
    plt.close(fig)
    about: dict[str, Any] = {"alt": alt, "width": Image.open(io.BytesIO(png)).width * 100 // DPI}
    about |= {"caption": " ".join(caption.split())} if caption else {}
    about |= {"panels": boxes} if len(boxes) > 1 else {}
    data: dict[str, Any] = {"image/png": base64.b64encode(png).decode(), "text/plain": alt}
    data |= {"image/svg+xml": svg} if len(svg) < len(data["image/png"]) else {}
    data |= {PLAY_MIME: dict(play)} if play else {}
    display(data, metadata={"image/png": about}, raw=True)


def _png(fig, frame) -> bytes:
    """The figure in 256 colours, a third of the size of all colours."""
    full, small = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=DPI, bbox_inches=frame)
    picture = Image.open(full).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    return small.getvalue()


def _svg(fig, frame) -> str:
    """The figure as SVG, its letters as shapes, to a hundredth of a point and nothing that is not drawn."""
    full = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(full, format="svg", bbox_inches=frame, metadata=nothing, transparent=True)
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", full.getvalue(), flags=re.S)
    svg = re.sub(r'<g id="\w+">', "<g>", svg)
    svg = re.sub(r"(scale\([^)]*\)|\.\d\d)\d*", r"\1", svg)
    return re.sub(r"\s+", " ", svg).replace("> <", "><").strip()


def _laid_out(fig):
    """What is drawn of a figure, in inches, and its `panels`; it is laid out once, since each layout takes a while."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    frame = fig.get_tightbbox(renderer).padded(PAD)
    return frame, panels(fig, renderer, frame)


def panels(fig, renderer, frame) -> list[list[float]]:
    """The columns of a figure, which a narrow page stacks: [left, top, right, bottom], shares of the picture.

    A column is as wide as what is drawn in it; columns that overlap are one. A legend of the whole figure comes last.
    """
    inches = fig.dpi_scale_trans.inverted()
    drawn = [box.transformed(inches) for ax in fig.axes if (box := ax.get_tightbbox(renderer))]
    columns: list[tuple[float, ...]] = []
    for box in sorted((b.x0, b.y0, b.x1, b.y1) for b in drawn):
        if columns and box[0] < columns[-1][2]:
            last = columns.pop()
            box = last[0], min(last[1], box[1]), max(last[2], box[2]), max(last[3], box[3])
        columns.append(box)
    columns += [tuple(legend.get_tightbbox(renderer).transformed(inches).extents) for legend in fig.legends]
    across, down = lambda x: (x - frame.x0) / frame.width, lambda y: (frame.y1 - y) / frame.height
    edge = PAD / 2
    shares = [(across(x0 - edge), down(y1 + edge), across(x1 + edge), down(y0 - edge)) for x0, y0, x1, y1 in columns]
    return [[round(float(min(max(share, 0), 1)), 4) for share in box] for box in shares]
