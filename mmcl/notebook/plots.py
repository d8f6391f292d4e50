"""Figures: arrays in, axes out. Nothing is computed here, and every curve differs by colour, dash and marker.

A method has one look in all chapters (`METHODS`), a title says what was found, and a line carries its own name at its
end (`label_ends`) where there is room for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette (Color Universal Design, 2008) without yellow, which print loses.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
_DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
STYLE: dict = {
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=_DASHES) + cycler(marker=_MARKERS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "font.size": 10,
    "figure.constrained_layout.use": True,
}
GREY = "#666666"
METHODS: dict[str, dict[str, Any]] = {  # how a name begins -> its look
    "multimodal": {"color": COLOURS[0], "linestyle": "-", "marker": "o"},
    "masked": {"color": COLOURS[1], "linestyle": "--", "marker": "s"},
    "PCA": {"color": COLOURS[2], "linestyle": "-.", "marker": "^"},
    "CLIP": {"color": COLOURS[3], "linestyle": "-", "marker": "D"},
    "Algorithm": {"color": COLOURS[5], "linestyle": "-", "marker": "P"},
    "oracle": {"color": COLOURS[6], "linestyle": ":", "marker": "X"},
    "paper": {"color": GREY, "linestyle": (0, (5, 1)), "marker": "v"},
    "predicted": {"color": GREY, "linestyle": (0, (4, 3)), "marker": ""},
}


def look(name: str, number: int = 0) -> dict[str, Any]:
    """Colour, dash and marker of a curve: those of the method its name begins with, else the next of the cycle."""
    found = [style for method, style in METHODS.items() if name.lower().startswith(method.lower())]
    return dict(found[0] if found else list(STYLE["axes.prop_cycle"])[number % len(COLOURS)])


def panels(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """A figure of rows x columns panels in the companion's style, and its axes in reading order."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return figure, list(axes.flat)


def curves(
    ax: Axes,
    x: Any,
    lines: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    legend: str | None = "best",
    every: int | None = None,
) -> Axes:
    """Curves over one x axis.

    Args:
        ax: the axes.
        x: (t,) abscissae, or a dict name -> (t,) where curves have their own.
        lines: dict name -> (t,) values, or (middle, low, high), each (t,), drawn with a band.
        xlabel, ylabel, title: words with symbols or units.
        log: "x", "y", "xy" or "" for linear axes.
        legend: matplotlib location, "ends" for names at the right ends of the lines, or None.
        every: draw a marker at every so many points.
    """
    with plt.rc_context(STYLE):
        for number, (name, y) in enumerate(lines.items()):
            style = look(name, number)
            at = x[name] if isinstance(x, dict) else x
            middle, *band = y if isinstance(y, tuple) else (y,)
            ax.plot(at, middle, label=name, markevery=every, **style)
            if band:
                ax.fill_between(at, *band, color=style["color"], alpha=0.18, linewidth=0)
        for axis in log:
            getattr(ax, f"set_{axis}scale")("log")
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_title(title)
        if legend == "ends":
            label_ends(ax)
        elif legend:
            ax.legend(loc=legend)
    return ax


def label_ends(ax: Axes, gap: float = 0.075) -> Axes:
    """The name of each line at its right end, in its colour, instead of a legend.

    Args:
        ax: axes whose lines are drawn and whose scales are set; their limits stay from here on as they are.
        gap: least distance of two names, as a share of the height of the panel.
    """
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1])) for line in lines]
    height = -1.0
    for (_, y), line in sorted(zip(ends, lines, strict=True), key=lambda pair: pair[0][1]):
        height = max(float(y), height + gap)
        style = dict(color=line.get_color(), va="center", fontsize=9, annotation_clip=False)
        ax.annotate(line.get_label(), (1.02, height), xycoords="axes fraction", **style)
    if ax.get_legend():
        ax.get_legend().remove()
    return ax


def guide(ax: Axes, x: Any, y: Any, label: str) -> Axes:
    """A thin grey reference line, such as a predicted rate or a limit, with its name in the legend."""
    ax.plot(x, y, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), marker="", label=label, zorder=1)
    ax.legend(frameon=False, fontsize=9)
    return ax


def level(ax: Axes, y: float, text: str, at: float = 0.02, vertical: bool = False) -> Axes:
    """A thin grey line across the panel at ``y`` (at x = ``y`` if vertical), named beside it at the share ``at``."""
    (ax.axvline if vertical else ax.axhline)(y, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    place, turn = ((y, at), ax.get_xaxis_transform()) if vertical else ((at, y), ax.get_yaxis_transform())
    offset = dict(xytext=(5, 3), textcoords="offset points", rotation=90 * vertical)
    ax.annotate(text, place, xycoords=turn, color=GREY, fontsize=9, ha="left", va="bottom", **offset)
    return ax


def histograms(ax: Axes, values: Mapping[str, Any], bins: Any, xlabel: str, title: str = "") -> Axes:
    """Overlaid histograms of a few groups, each of area 1, named in a legend."""
    with plt.rc_context(STYLE):
        for number, (name, v) in enumerate(values.items()):
            ax.hist(v, bins, density=True, color=look(name, number)["color"], alpha=0.45, label=name)
        ax.set(xlabel=xlabel, ylabel="density", yticks=[])
        ax.set_title(title)
        ax.legend()
    return ax


def dots(ax: Axes, rows: Mapping[str, tuple[Any, Any, Any]], xlabel: str, title: str = "") -> Axes:
    """A dot with its interval for each named row, the first on top: (middle, low, high)."""
    with plt.rc_context(STYLE):
        for number, (name, (middle, low, high)) in enumerate(rows.items()):
            colour = look(name, 0)["color"]
            ax.plot([low, high], [-number, -number], color=colour, linewidth=2, linestyle="-", marker="")
            ax.plot([middle], [-number], color=colour, marker="o", markersize=7, linestyle="")
        ax.set(yticks=[-k for k in range(len(rows))], yticklabels=list(rows), xlabel=xlabel)
        ax.set_title(title)
    return ax


def grouped_bars(
    ax: Axes,
    values: tuple[Any, Any, Any],
    groups: Sequence[str],
    names: Sequence[str] | None,
    ylabel: str,
    title: str = "",
) -> Axes:
    """Bars with brackets: values (middle, low, high), each (groups, bars of a group); names of the bars, or None."""
    count, width = values[0].shape
    with plt.rc_context(STYLE):
        for k in range(width):
            middle, low, high = (v[:, k] for v in values)
            at = [i + 0.8 * ((k + 0.5) / width - 0.5) for i in range(count)]
            bar = dict(width=0.76 / width, color=COLOURS[k], ecolor="black", label=names and names[k])
            ax.bar(at, middle, yerr=(middle - low, high - middle), **bar)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(xticks=range(count), xticklabels=groups, ylabel=ylabel)
        ax.set_title(title)
        if names:
            ax.margins(y=0.3)
            ax.legend(loc="upper right")
    return ax


def matrix(
    ax: Axes, a: Any, title: str = "", limit: float | None = None, colourbar: bool = False, numbers: str = ""
) -> Axes:
    """A matrix as an image, blue negative, white zero, red positive.

    Args:
        ax, a, title: the axes, the matrix (m, n), the title.
        limit: modulus of the darkest colour.
        colourbar: whether to draw one.
        numbers: format of the entries written into the cells, as "{:.2f}"; "" writes none.
    """
    limit = limit or abs(a).max()
    image = ax.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.set_title(title)
    for i, row in enumerate(a if numbers else []):
        for j, value in enumerate(row):
            ink = "white" if abs(float(value)) > 0.6 * limit else "black"
            ax.text(j, i, numbers.format(float(value)), ha="center", va="center", fontsize=8, color=ink)
    if colourbar:
        ax.figure.colorbar(image, ax=ax, shrink=0.85)
    return ax


def legend_below(figure: Figure, ax: Axes, columns: int = 2) -> None:
    """One legend for the whole figure, under its panels, with the names of ``ax``."""
    for panel in figure.axes:
        if panel.get_legend():
            panel.get_legend().remove()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def plain_ticks(ax: Axes, x: Any = None) -> None:
    """Ticks of logarithmic axes as plain numbers, such as 0.2 or 4,000; those of the x axis at ``x`` if it is given."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    if x is not None:
        ax.set_xticks(x)
        ax.set_xticks([], minor=True)
