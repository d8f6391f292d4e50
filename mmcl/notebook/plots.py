"""Figures: arrays in, axes out. Nothing is computed here, and every curve differs by colour, dash and marker."""

import matplotlib.pyplot as plt
from cycler import cycler

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


def panels(columns=1, rows=1, width=4.2, height=3.3):
    """A figure of rows x columns panels in the companion's style, and its axes in reading order."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return figure, list(axes.flat)


def curves(ax, x, lines, xlabel, ylabel, title="", log="", legend="best", every=None):
    """Curves over one x axis.

    Args:
        ax: the axes.
        x: (t,) abscissae, or a dict name -> (t,) where curves have their own.
        lines: dict name -> (t,) values, or (middle, low, high), each (t,), drawn with a band.
        xlabel, ylabel, title: words with symbols or units.
        log: "x", "y", "xy" or "" for linear axes.
        legend: matplotlib location, or None for no legend.
        every: draw a marker at every so many points.
    """
    with plt.rc_context(STYLE):
        for (name, y), style in zip(lines.items(), STYLE["axes.prop_cycle"], strict=False):
            at = x[name] if isinstance(x, dict) else x
            middle, *band = y if isinstance(y, tuple) else (y,)
            ax.plot(at, middle, label=name, markevery=every, **style)
            if band:
                ax.fill_between(at, *band, color=style["color"], alpha=0.18, linewidth=0)
        for axis in log:
            getattr(ax, f"set_{axis}scale")("log")
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_title(title)
        if legend:
            ax.legend(loc=legend)
    return ax


def guide(ax, x, y, label):
    """A thin grey reference line, such as a predicted rate or a limit, with its name in the legend."""
    ax.plot(x, y, color="#666666", linewidth=1.2, linestyle=(0, (4, 3)), marker="", label=label, zorder=1)
    ax.legend(frameon=False, fontsize=9)
    return ax


def grouped_bars(ax, values, groups, names, ylabel, title=""):
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


def matrix(ax, a, title="", limit=None, colourbar=False):
    """A matrix as an image, blue negative, white zero, red positive; limit is the modulus of the darkest colour."""
    limit = limit or abs(a).max()
    image = ax.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.set_title(title)
    if colourbar:
        ax.figure.colorbar(image, ax=ax, shrink=0.85)
    return ax


def table_of_values(ax, values, rows, columns, xlabel, ylabel, title="", form="{:.1e}"):
    """A matrix of numbers written into shaded cells, rows and columns named by their parameters."""
    ax.imshow(values, cmap="Greys", alpha=0.25)
    ax.grid(False)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            ax.text(j, i, form.format(value), ha="center", va="center", fontsize=9)
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), xlabel=xlabel, ylabel=ylabel)
    ax.set(xticklabels=columns, yticklabels=rows)
    ax.set_title(title)
    return ax


def stability(ax, products, lengths, settled, limit):
    """Where the projected iteration converges: settled (products, lengths) bool, limit (products,) predicted."""
    outcomes = (True, "o", COLOURS[0], "converges"), (False, "x", COLOURS[1], "oscillates")
    with plt.rc_context(STYLE):
        for holds, marker, colour, name in outcomes:
            product, length = (settled == holds).nonzero()
            ax.plot(products[product], lengths[length], marker, color=colour, linestyle="none", label=name)
        ax.set(xscale="log", ylim=(0, 1.08), xlabel=r"$\tau\rho$", ylabel=r"relative step length $\eta\rho$")
    guide(ax, products, limit, r"limit $2\rho/(\rho+h)$")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, frameon=False, fontsize=9, columnspacing=1)


def legend_below(figure, ax, columns=2):
    """One legend for the whole figure, under its panels, with the names of ``ax``."""
    for panel in figure.axes:
        if panel.get_legend():
            panel.get_legend().remove()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def plain_ticks(ax, x=None):
    """Ticks of logarithmic axes as plain numbers, such as 0.2 or 4,000; those of the x axis at ``x`` if it is given."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    if x is not None:
        ax.set_xticks(x)
        ax.set_xticks([], minor=True)
