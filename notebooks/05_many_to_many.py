# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 Many partners, wrong edges: cleaning the graph first
#
# Sections 3.3 and 5.1 of the paper (pages 6 to 8). A row may have many partners: every digit 2 of
# MNIST goes with every pullover of Fashion-MNIST. Pairs are then the edges of a graph, and noise
# flips edges. The paper cleans the graph by a spectral partition (Algorithm 2) before it learns,
# and finds that this helps from about 15 % of flipped entries on, and decisively at 30 % (Table 1,
# Figure 1). You will see Algorithm 2 as printed beside the variant in the published code, both
# beside the printed numbers, and what may have made the printed run without a partition collapse
# at $p' = 0.3$.
#
# [Chapter 04](04_unpaired_pairs.ipynb) comes before, [chapter 06](06_real_data.ipynb) after.

# %% tags=["parameters"]
data_set: str = "auto"  # "mnist" (with Fashion-MNIST), "digits" (two views of digits) or "auto"
flips: list[float] = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5]  # distortion rates p', 0 first
clusters: list[int] = [5, 10, 15]  # numbers of clusters k; 10 is the number of classes
rows: int = 20000  # training images used of each modality, at most
kept: int = 40  # principal components of each modality
draws: int = 4  # draws of images and of noise
seed: int = 0  # of every random number here

# %%
import json
from pathlib import Path

import torch
from IPython.display import Markdown

from mmcl.experiments.published import published
from mmcl.experiments.section_5_1_linear import noisy_graphs
from mmcl.experiments.sources import components, load_source
from mmcl.graph import algorithm_2, class_graph, cluster, fit_graph, graph_covariance, partition
from mmcl.metrics import relative_error
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show
from mmcl.notebook.statistics import interval
from mmcl.spectral import closed_form
from mmcl.theory import partition_threshold

# %%
if (flips[0] != 0 or sorted(set(flips)) != flips or flips[-1] > 0.5
        or {0.3, 10} - {*flips, *clusters}):
    raise ValueError("flips begin with 0, hold 0.3 and rise to 0.5 at most; clusters hold 10")
inf, p = float("inf"), torch.tensor(flips, dtype=torch.float64)
table, figure_1 = published("table_1"), published("figure_1")

# %% [markdown]
# ## 1 The graph of Section 5.1, and what noise does to it
# > **Section 5.1** (p. 8) "For all $1\le i,j\le n$, if $x_i$ and $\tilde x_j$ are paired, we remove
# > this pair with probability $p'$. Similarly, if [they] are not paired, we pair them in our
# > dataset with probability $p'$."
#
# There are 500 images a side, 50 of each class, so a clean graph has 25,000 edges among 250,000
# entries: one in ten. Flipping 30 % of the entries leaves 17,500 right edges among 85,000. Four of
# five edges are then wrong. Yet right edges lie in ten blocks and wrong ones everywhere: that is
# what a spectral method can see.

# %%
labels = torch.arange(10).repeat_interleave(50)
clean = class_graph(labels, labels)
noisy = class_graph(labels, labels, flip=0.3, seed=seed)
pictures = {"clean: one entry in ten": clean, "30 % flipped: one edge in five is right": noisy,
            "Algorithm 2, k = 10": algorithm_2(noisy, 10, seed=seed),
            "the code's variant, k = 10": class_graph(*partition(noisy, 10, seed))}
figure, axes = plots.panels(columns=4, width=2.7, height=2.9)
for ax, (title, graph) in zip(axes, pictures.items(), strict=True):
    ax.imshow(graph, cmap="Greys", vmax=1.4, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    ax.grid(False)
show(figure, alt="Four graphs: ten clean blocks; the same in noise; the noise outside the blocks "
                 "removed by Algorithm 2; the blocks filled in by the published code's variant.")

# %% [markdown]
# ## 2 Algorithm 2: remove the edges between clusters
# > **Algorithm 2** (p. 8) Normalise the adjacency, $A_n = D_1^{-1/2}AD_2^{-1/2}$; take the singular
# > vectors $2$ to $l+1$, $l = \log_2 k$; scale their rows by $D_1^{-1/2}$ and $D_2^{-1/2}$; apply
# > k-means to both sides together. "Output: $\mathcal E'$ without all intercluster pairs."
#
# $D_1$ and $D_2$ hold the numbers of edges of each row and column. The first pair of singular
# vectors only knows these degrees and is skipped. In the next ones, rows of one class have nearly
# equal entries. (For $k = 10$ we round $l$ up to 4. The printed "columns of $Z$" are its rows.)
# Algorithm 2 removes edges and adds none. In ten lines:

# %%
A = noisy
D1, D2 = A.sum(1), A.sum(0)                                     # degrees of both sides
u, _, vh = torch.linalg.svd(A / D1.sqrt()[:, None] / D2.sqrt())  # A_n
ell = 4                                                         # l = log2 10, rounded up
Z = torch.cat([u[:, 1 : ell + 1] / D1.sqrt()[:, None], vh.T[:, 1 : ell + 1] / D2.sqrt()[:, None]])
by_hand = A * class_graph(*cluster(Z[:500], Z[500:], 10, seed))  # k-means, then remove
near = torch.cdist(Z[:500], Z[500:])                            # rows of one class are close
closer = near[clean == 0].mean() / near[clean == 1].mean()
cleaned = algorithm_2(A, 10, seed=seed)
claim("alg-2.steps", f"p' = 0.3: in Z rows of one class are {closer:.1f} times closer; of "
      f"{int(A.sum()):,} edges these lines leave {int(by_hand.sum()):,}, and the module's "
      "Algorithm 2 the same ones: entries that differ", (by_hand != cleaned).sum(), 0, 0)

# %%
graphs = [class_graph(labels, labels, q, seed) for q in (0.1, 0.2, 0.3)]
kept_right = [float((algorithm_2(g, 10, seed) * clean).sum() / (g * clean).sum()) for g in graphs]
share = float((cleaned * clean).sum() / cleaned.sum())
before = float((noisy * clean).sum() / noisy.sum())
claim("alg-2.cleans", f"p' = 0.3: the share of right edges rises from {before:.2f} to {share:.2f}",
      share - before, 0.25, (0, inf))
Markdown(f"Of the right edges Algorithm 2 keeps {kept_right[0]:.0%}, {kept_right[1]:.0%} and "
         f"{kept_right[2]:.0%} at $p' = 0.1, 0.2, 0.3$: four vectors hardly hold ten classes "
         "apart. The published code has another version, called *the code's variant* here: "
         "$k-1$ vectors, and then every block of the partition filled in whole.")

# %% [markdown]
# ## 3 Table 1 and Figure 1, in closed form
# > **Section 5.1** (p. 8) "[The] naive use of MMCL performs the best [at $p' = 0.1$]. As $p'$
# > increases, the downstream task performance decreases if no partitioning is applied. However,
# > applying algorithm 2 with $k = 10$ yields the highest accuracy for $p' = 0.2$ and $p' = 0.3$."
#
# The linear loss of a graph is again one SVD: pull every edge, push as if its two ends were drawn
# apart, which takes the means out. On principal components of the images it takes milliseconds, so
# we can repeat Table 1 over draws. A Fashion-MNIST test image counts as right if, of ten MNIST test
# images, one a class, that of its class is the most similar. (So does the published code; the text
# says, of all test images.)

# %%
source = load_source(data_set, rows, seed=seed)
first, second = (components(a, kept) for a in (source.second, source.first))  # Fashion-MNIST asks
x, y = first.rows[:200], second.rows[:200]
E = class_graph(first.labels[:200], second.labels[:200])
share_of_edge = E / E.sum()                                     # an edge (I, J) drawn at random
S = x.T @ share_of_edge @ y - torch.outer(x.T @ share_of_edge.sum(1), y.T @ share_of_edge.sum(0))
moved = float(relative_error(graph_covariance(x + 1, y, E), S))
claim("fig-1.covariance", "S is the covariance of the two ends of an edge, Cov(x_I, y_J), also if "
      f"all images are shifted: to {moved:.0e} of its length", moved, 0, 1e-10)
assert torch.allclose(fit_graph(x, y, E, 9).g1, closed_form(S, 9).g1)
queries = min(100, int(first.labels_test.bincount().min()))
found = noisy_graphs(first, second, flips, clusters, draws, 50, queries, seed=seed)

# %%
at = {q: flips.index(q) for q in (0.1, 0.2, 0.3) if q in flips}
plain, printed, filled = found.accuracy[None], found.accuracy[10], found.filled
low = [flips.index(q) for q in flips if 0 < q <= 0.25]
lost = (plain[:, :1] - printed[:, low]).mean(0).max()
claim("fig-1.partition", f"up to p' = 0.25 Algorithm 2 (k = 10) loses {lost:.3f} of the clean "
      "accuracy, 0.03 allowed", lost, 0, (inf, 0.03))
if 5 in clusters:
    few = (found.accuracy[5] - filled[5])[:, low].mean()
    claim("table-1.few-clusters", f"k = 5 costs the code's variant {few:.2f} more than Algorithm "
          "2 as printed: only the variant shows Table 1's drop at small k", few, 0.08, (0, inf))
late = [i for i, q in enumerate(flips) if 0.39 < q < 0.5]
worse = (plain - filled[10])[:, late].mean() if late else torch.tensor(inf)
claim("fig-1.collapse", f"beyond p' = 0.39 the partition costs {worse:.2f}: it is blind there",
      worse if late else 1.0, 0, (0, inf))

# %%
gained = (printed - plain)[:, at[0.3]].mean()
claim("table-1.partition-helps", "p' = 0.3: Algorithm 2 (k = 10) changes the accuracy by "
      f"{gained:+.3f}; printed is a gain of 0.503. In closed form it is not needed",
      gained, 0, 0.15)

# %%
variant = "the code's variant, k = 10"
linear = {"no partition": interval(plain, 0), "Algorithm 2, k = 10": interval(printed, 0),
          variant: interval(filled[10], 0)}
networks = {"no partition": torch.tensor(figure_1["no partitioning"]),
            "Algorithm 2, k = 10": torch.full((11,), torch.nan),  # not in the figure
            variant: torch.tensor(figure_1["k=10"])}

# %%
figure, (left, right) = plots.panels(columns=2, width=4.4, height=3.7)
plots.curves(left, p, linear, "distortion rate $p'$", "test accuracy",
             "Ours, linear: a partition helps little", legend="lower left")
plots.curves(right, figure_1["p"], networks, "distortion rate $p'$", "",
             "Printed, networks: without one, collapse at 0.3", legend=None)
right.legend(right.get_lines()[::2], ["paper, no partitioning", "paper, k = 10"], loc="lower left")
for ax in (left, right):
    ax.set_ylim(0, 0.8)
    plots.level(ax, partition_threshold(50, 500), "no partition beyond", vertical=True, at=0.7)
show(figure, alt="Accuracy against p': in closed form no partition fades slowly from 0.3 on, both "
                 "partitions hold to 0.35; the printed curve without one falls to chance at 0.3.")

# %%
def ours(k, q):
    """Algorithm 2 and the code's variant, or no partition, at rate q."""
    kinds = (found.accuracy[k], found.filled[k]) if k else (found.accuracy[None],)
    return " / ".join(f"{float(a[:, at[q]].mean()):.2f}" for a in kinds)

known = {k: f"k={k}" for k in clusters if f"k={k}" in table} | {None: "no partitioning"}
rows = [["", *(a for q in at for a in (f"$p' = {q}$", "printed"))], ["---"] * (2 * len(at) + 1)]
for k, name in known.items():
    cells = ((ours(k, q), f"{table[name][table['p'].index(q)]:.2f}") for q in at)
    rows.append([name, *(a for pair in cells for a in pair)])
Markdown("\n".join(f"| {' | '.join(row)} |" for row in rows)
         + "\n\nOurs, in closed form: Algorithm 2 / the code's variant.")

# %% [markdown]
# > **Ours.** Where a partition fails can be computed: classes have singular values $m(1-2p')$, with
# > $m = 50$ images of a class a side, and those of the noise end at $2\sigma\sqrt n$,
# > $\sigma^2 = p'(1-p')$. Singular vectors see classes as soon as their strength exceeds
# > $\sigma\sqrt n$, half that edge (Benaych-Georges, Nadakuditi 2012), which is $p' < 0.39$. Figure
# > 1 agrees: the printed curve with $k = 10$ falls from 0.605 at 0.35 to 0.094 at 0.4.

# %%
claim("fig-1.threshold", "the printed curve with a partition falls to chance between the two rates "
      f"around the predicted threshold {partition_threshold(50, 500):.3f}",
      float(figure_1["k=10"][7] > 0.5 and figure_1["k=10"][8] < 0.15
            and 0.35 < partition_threshold(50, 500) < 0.4), 1, 0)

# %% [markdown]
# ## 4 Why the printed run may have collapsed at $p' = 0.3$
# Table 1 has 0.628 without a partition at $p' = 0.2$ and 0.159 at 0.3. The closed form shows no
# such cliff. The published code is full-batch gradient descent with momentum, and multiplies its
# learning rate by 0.3 whenever the loss has not fallen by one part in $10^4$ for ten steps
# (ReduceLROnPlateau). The loss is a mean over edges: the more wrong edges, the smaller its slope.
#
# So we ask: by how much does the loss fall in its first eleven steps? To first order that is the
# squared gradient times the length of these steps, which one gradient per seed tells without
# training. Where it is well below $10^{-4}$, the rule cuts the rate before the run has begun, again
# and again; where it is near, chance decides.

# %%
stored = json.loads(Path("stored/section_5_1.json").read_text())
starts = [r for r in stored["starts"] if r["clusters"] is None]
rates = sorted({r["flip"] for r in starts})
fall = torch.tensor([[r["fall"] for r in starts if r["flip"] == q] for q in rates])
ratio = fall / 1e-4
where = {q: ratio[rates.index(q)] for q in rates}
claim("table-1.rule-spares", f"p' = 0.2: the loss falls by {where[0.2].min():.1f} times what the "
      "rule asks for, in every seed", where[0.2].min(), 1, (0, inf))
claim("table-1.rule-freezes", f"p' = 0.35: it falls by {where[0.35].max():.2f} times that at most: "
      "the rule cuts every run", where[0.35].max(), 1, (inf, 0))
cleaned_starts = [r["fall"] / 1e-4 for r in stored["starts"] if r["clusters"] and r["flip"] == 0.3]
claim("table-1.partition-spares", "after a partition with k = 10 it falls at p' = 0.3 by "
      f"{min(cleaned_starts):.0f} times that at least: no cliff", min(cleaned_starts), 2, (0, inf))
claim("table-1.rule-at-0.3", f"at p' = 0.3 the seeds lie between {where[0.3].min():.2f} and "
      f"{where[0.3].max():.2f} times that: on the edge", (where[0.3].mean() - 1).abs(), 0, 0.25)

# %%
long_runs = sorted((r for r in stored["runs"] if r["rows"] == "first"), key=lambda r: r["step"][-1])
longest = {(r["flip"], r["schedule"], r["partition"], r["seed"]): r for r in long_runs}
shown = {"$p' = 0.2$, the rule": (0.2, "published", None, 0),
         "0.3, the rule, after Algorithm 2": (0.3, "published", "algorithm 2", 0),
         "0.3, constant rate": (0.3, "constant rate", None, 1),
         "0.3, the rule": (0.3, "published", None, 1)}
end = max(longest[key]["step"][-1] for key in shown.values())
curves, steps = {}, {}
for name, key in shown.items():
    run, held = longest[key], int(longest[key]["rate"][-1] < 1e-5)     # frozen: it stays as it is
    curves[name] = run["accuracy"] + held * run["accuracy"][-1:]
    steps[name] = run["step"] + held * [end]

# %%
figure, (left, right) = plots.panels(columns=2, width=4.4, height=3.4)
lines = {"fall of the loss": (ratio.mean(1), ratio.amin(1), ratio.amax(1))}
plots.curves(left, rates, lines, "distortion rate $p'$", "fall in 11 steps / what the rule asks",
             "The rule's threshold lies at 0.3", log="y", legend=None)
plots.level(left, 1.0, "cut if below", at=0.02)
plots.plain_ticks(left, rates)
plots.curves(right, steps, curves, "step", "test accuracy",
             "One seed each: the rule stops the run at 0.3", legend="upper left")
right.axhline(0.1, color=plots.GREY, linestyle=":", linewidth=1)
right.text(end, 0.07, "chance", ha="right", va="top", color=plots.GREY)
right.set_ylim(0, 0.6)
show(figure, alt="Left: the fall of the loss in its first steps crosses what the plateau rule asks "
                 "for at p' = 0.3. Right: from one start, with the rule it stops, without it goes "
                 "on.")

# %%
kept_on, cut = (longest[0.3, how, None, 1] for how in ("constant rate", "published"))
claim("table-1.rule-stops", f"p' = 0.3, seed 1: the rule stops at {cut['accuracy'][-1]:.3f}; "
      f"without it, it has {kept_on['accuracy'][-1]:.3f} at step {kept_on['step'][-1]}",
      kept_on["accuracy"][-1] - cut["accuracy"][-1], 0.03, (0, inf))
head = ("| $p'$ | partition | schedule | seed | steps | last rate | accuracy |\n"
        "|---|---|---|---|---|---|---|\n")
Markdown(head + "\n".join(
    f"| {r['flip']} | {r['partition'] or 'none'} | {r['schedule']} | {r['seed']} | "
    f"{r['step'][-1]} | "
    f"{r['rate'][-1]:.0e} | {r['accuracy'][-1]:.3f} |" for r in longest.values()))

# %% [markdown]
# **What is left open.** A step of the published setting costs two seconds on a processor, so no run
# is stored to its 2,000 steps. The first-order estimate is near its threshold at $p' = 0.3$ (1.00
# to 1.34), and of four seeds two were cut at once. That the printed 0.159 was such a run is likely,
# and not proved; the paper prints one number. The rule does not explain the printed drop from 0.684
# to 0.628 and 0.544 at 0.1, 0.2 and 0.25, where it spares the runs.

# %%
cost = float((plain[:, 0] - plain[:, at[0.3]]).mean())
Markdown("**So** (Algorithm 2: shown; Figure 1: shown in part; Table 1: differs): Algorithm 2 "
         "cleans "
         "the graph, up to $p' = 0.39$ in theory and in print. In closed form it is not needed: at "
         f"0.3 noise costs {cost:.2f} without it. The printed collapse there is probably the "
         "learning-rate rule's.")

# %% [markdown]
# ## Exercises
# **1.** At $p' = 0.3$ four of five edges are wrong. Why does the linear loss hardly care?
# <details><summary>Answer</summary>Wrong edges are spread evenly, so in expectation they add a constant to
# the graph, which centring removes. What is left is the clean S times (1 - 2p')/(1 - 2p' + 10p'),
# and noise that 250,000 entries average out.</details>
#
# **2.** Why does the code's variant lose so much at $k = 5$, and Algorithm 2 as printed nothing?
# <details><summary>Answer</summary>With five clusters two classes share a cluster. Filling in its block makes
# partners of both classes; removing edges between clusters leaves the edges within as they
# were.</details>
#
# **3.** Use `theory.partition_threshold` to find how many images of a class one needs to see
# classes at $p' = 0.45$.
# <details><summary>Answer</summary>The threshold solves m(1 - 2p') = sqrt(10 m p'(1 - p')): with p' = 0.45,
# 0.1 m = sqrt(2.475 m), so m = 248.</details>

# %%
ledger()
