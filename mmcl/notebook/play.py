"""Three figures to play with: the first frame, for GitHub and for print, of what a page's script draws at any setting.

Each takes what the function of its name in ``mmcl.experiments.playable`` returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.patches import Ellipse

from mmcl.notebook import plots
from mmcl.notebook.figures import show


def weights(found: Mapping[str, Any]) -> None:
    """The 6 x 6 weights of CLIP, and the signal that they leave."""
    title = rf"signal left: {found['signal']:+.2f} ($\tau={found['tau']:g}$, $\nu={found['nu']:g}$)"
    figure, (ax,) = plots.panels(width=4.4, height=4.4)
    plots.matrix(ax, np.array(found["weights"]).round(2) + 0, title, limit=3, numbers="{:.2f}")
    ax.set(xlabel=r"second modality $j$", ylabel=r"first modality $i$")
    alt = f"The 6 x 6 weights of CLIP with {found['swapped']} of six pairs wrong; signal left {found['signal']:+.2f}."
    caption = (
        r"The weights of six pairs, the last ones wrong. *Move $\nu$ to 1 with a small $\tau$:* right pairs "
        "vanish and wrong ones stay. *Make more pairs wrong:* the signal left turns negative, until $\\nu$ is larger. "
        r"*Warm the softmax by $\tau$:* it no longer knows who belongs to whom, and pushes strangers."
    )
    show(figure, alt, caption, _setting(found, "tau nu swapped corners"))


def ellipses(found: Mapping[str, Any]) -> None:
    """The ellipses of signal and noise, and the direction each method finds."""
    figure, (ax,) = plots.panels(width=5.2, height=4.4)
    noise = dict(angle=found["angle"], facecolor="#99999955", edgecolor=plots.GREY)
    for patch in (
        Ellipse((0, 0), *(2 * math.sqrt(v) for v in found["noise"]), **noise),
        Ellipse((0, 0), 2, 0.24, angle=45, facecolor="#0072B244", edgecolor=plots.COLOURS[0]),
    ):
        ax.add_patch(patch)
    for name, axis in found["axis"].items():
        style, reach = plots.look(name) | {"marker": ""}, 1.7 * (found["strength"] if name == "multimodal" else 1)
        x, y = reach * math.cos(math.radians(axis)), reach * math.sin(math.radians(axis))
        label = f"{name}: {found['off'][name]:.0f}° off"
        ax.plot([-x, x], [-y, y], label=label, **style)
    ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xlabel="coordinate 1", ylabel="coordinate 2")
    ax.set_title("Noise turns PCA, flips masking, spares pairs")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    alt = (
        f"Signal (blue) at 45 degrees, noise (grey) at {found['angle']:g}, and the directions that three methods find."
    )
    caption = (
        "Signal (blue, along both coordinates) and noise (grey) of one modality. *Turn the noise:* PCA turns with it; "
        "masking, which in two dimensions can say +45° or -45° only, flips when the noise outweighs the signal off the "
        "diagonal; the cross-covariance of the two modalities stays. *Make pairs wrong:* it only gets shorter."
    )
    show(figure, alt, caption, _setting(found, "angle wrong_share noise"))


def scores(found: Mapping[str, Any]) -> None:
    """The densities of the partner's score and of the best stranger's."""
    figure, (ax,) = plots.panels(width=6.4, height=3.4)
    for number, (name, label) in enumerate([("partner", "the partner"), ("best", "the best stranger")]):
        ax.fill_between(found["score"], found[name], color=plots.COLOURS[number], alpha=0.35, linewidth=0)
        ax.plot(found["score"], found[name], color=plots.COLOURS[number], linewidth=1.8, label=label)
    ax.set(xlabel=r"score $s_{ij}/r$", ylabel="density", yticks=[], ylim=(0, None), xlim=(-0.5, 3))
    ax.set_title(f"{found['share']:.1%} of the rows find their partner among {found['candidates']:,} rows")
    ax.legend()
    alt = f"Densities of the partner's score and of the best stranger's; the partner wins in {found['share']:.1%}."
    caption = (
        "Scores of a row with its partner and with the best of the strangers. *Raise $r$:* the partner's score grows "
        "like $r$, the best stranger's like $\\sqrt{2r\\log N}$, and they part. *Add noise or rows:* they meet again."
    )
    show(figure, alt, caption, _setting(found, "noise_std rank candidates score"))


def _setting(found: Mapping[str, Any], names: str) -> dict[str, Any]:
    """What a script begins with; it computes the rest."""
    return {name: found[name] for name in ("name", *names.split())}
