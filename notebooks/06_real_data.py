# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Real data: 500 pairs, 59,000 images without partners
#
# Section 5.3 of the paper (pages 8 and 9, Algorithm 3 on page 14). A handwritten digit $c$ (MNIST)
# goes with any article of clothing of class $c$ (Fashion-MNIST). Only 500 pairs are known; the
# other images have lost their partners. The paper trains on the pairs, finds partners among the
# rest by rule (4.2), trains on them, and compares with an oracle who knows the true ones. You will
# see its three curves beside ours, which of them we reach, and which details of the published code
# matter that the text does not state.
#
# [Chapter 05](05_many_to_many.ipynb) comes before; [chapter 15](15_few_pairs.ipynb) asks what a
# spectral method makes of the same 500 pairs. Accuracy is here, as in the authors' notebook, the
# share of MNIST test images whose most similar Fashion-MNIST test image, by cosine, has the right
# class (in chapter 05 Fashion-MNIST was looked up among ten digits). Chance is 1 in 10.

# %% tags=["parameters"]
data_set: str = "auto"  # "mnist" (with Fashion-MNIST), "digits" (two views of digits) or "auto"
pairs: int = 500  # known pairs in what is trained here; a fifth of that with the digits
rows: int = 20000  # training images used of each modality in what is trained here, at most
tests: int = 10000  # test images of each modality, at most
epochs: int = 2  # passes over the images to train an autoencoder here; the stored results have 10
loops: int = 2  # loops of 5 epochs on unpaired rows trained here; the stored results have 20
draws: int = 2  # draws of the pairs in what is trained here
seed: int = 0  # of every random number here

# %%
import json
from pathlib import Path

import torch
from IPython.display import Markdown

from mmcl.covariance import whitening
from mmcl.experiments import autoencoders, section_5_3
from mmcl.experiments.heads import embed, targets
from mmcl.experiments.labelled import Labelled
from mmcl.experiments.published import published
from mmcl.experiments.sources import components, load_source
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show

# %%
if min(pairs, rows, tests) < 100 or min(epochs, loops) < 1 or draws < 2:
    raise ValueError("use pairs, rows, tests >= 100, epochs, loops >= 1, draws >= 2")
authors, inf = published("5.3"), float("inf")
stored = json.loads(Path("stored/section_5_3.json").read_text())

# %% [markdown]
# ## 1 The task: partners are many, pairs are few
# > **Section 5.3** (p. 9) "We generate pairs $(x_i,\tilde x_i)_{i=1}^n$ so that the digit in MNIST
# > is paired with a random image in Fashion-MNIST with the corresponding digit."
#
# Two images of a pair have nothing in common but the class. Each modality is first compressed by an
# autoencoder $E_k$ to 16 numbers, its *code*, from its own images alone; two small networks, the
# *heads*, then map codes into one space. So the pairs must teach ten classes, 50 pairs each.

# %%
source = load_source(data_set, rows, tests, seed)
sides, chance = (source.first, source.second), 1 / len(source.first.labels.unique())
figure, axes = plots.panels(columns=10, rows=2, width=0.75, height=0.75)
for k, side in enumerate(sides):
    for c in range(10):
        image = source.picture(k, side.rows[side.labels == c][0])
        axes[10 * k + c].imshow(image, cmap="Greys")
        axes[10 * k + c].axis("off")
show(figure, alt=f"One image of each class, {source.names[0]} above, {source.names[1]} below: an "
                 "image goes with every image of the class under it.")
Markdown(f"**Data of what is trained here:** {len(sides[0].rows):,} images of {source.names[0]}, "
         f"{len(sides[1].rows):,} of {source.names[1]}. {source.note}")

# %% [markdown]
# ## 2 Algorithm 3: guess partners, train, and trust the better model
# > **Algorithm 3** (p. 14) Train $G^{(0)}$ by CLIP on the pairs; call it the anchor $G^a$. Repeat:
# > find $\hat E^u$ by (4.2) from similarities; minimise the CLIP loss on $\hat E^u$; if the result
# > beats the anchor on validation pairs by the factor $\eta = 1.1$, it becomes the anchor.
#
# **Erratum.** The box takes the similarities from $G^{(0)}$ every time, so that a new anchor would
# never be used; the text (p. 9) takes them from the anchor, and so do we.
#
# (This $\eta$ is the update ratio, not the share of right pairs.) Why an anchor: a model that
# grades its own guesses while it learns from them would confirm itself. Why validation pairs:
# whether a new model guesses better can only be seen on pairs it has not used.
#
# Batches hold 64 images of each modality. In a batch the edges are the best column of every row
# and the best row of every column, each with weight one half, so that the weights add up to 64.
# From scratch:

# %%
s = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
edges = torch.zeros(64, 64, dtype=torch.float64)
edges[range(64), s.argmax(1)] += 0.5                     # the best column of every row
edges[s.argmax(0), range(64)] += 0.5                     # the best row of every column
P, Q = s.softmax(1), s.softmax(0)
W = edges - (P + Q) / 2                                  # beta of (4.1) with nu = 1 on this batch
assert torch.equal(edges, targets(s, "detected"))
s.requires_grad_()
loss = (s.logsumexp(1) + s.logsumexp(0)).sum() / 2 - (edges * s).sum()
assert torch.allclose(torch.autograd.grad(loss, s)[0], -W)

# %% [markdown]
# Pull and push belong together: without $P$ and $Q$ the loss is least with all images at one point.
#
# > **Ours: the published code differs from the text in three places.** (i) Rule (4.2) keeps the $N$
# > largest of these maxima; the code keeps all of them. (ii) Its batches hold, at the same place of
# > either modality, two images of the *same class*, so the batch itself tells who belongs together.
# > (iii) The edge for column $j$ should join row $\operatorname{argmax}_is_{ij}$ and column $j$;
# > the code joins row $j$ and column $\operatorname{argmax}_is_{ij}$. As equal places hold equal
# > classes, such an edge still joins the right classes as often as the edge meant.
# >
# > We train three ways from the same first stage: with both modalities in random order and edges
# > where they belong (*random batches*), as the published code does (*published code*), and on true
# > pairs (*oracle*).

# %% [markdown]
# ## 3 Figure 3: three curves, printed and ours
# > **Figure 3** (p. 9) "test accuracy with and without additional unpaired data"; $N = 59{,}000$,
# > $n = v = 500$, $\tau = 1$, 100 epochs, AdamW. The paper draws curves without values; the
# > authors' notebook stores them: at best 0.589 from the pairs, 0.644 with unpaired images, 0.727
# > for the oracle.
#
# **Erratum.** The caption calls the orange curve semi-supervised and the blue one the oracle. The
# text, the legend (orange: $n = 500+59000$) and the numbers stored with the published notebook say
# the reverse: orange, the higher one, is the oracle. The stored numbers:

# %%
printed = {k: max(authors[k]) for k in ("paired_only", "with_unpaired", "oracle_pairs")}
claim("fig-3.caption", "the higher of the two stored curves is the oracle's, as in the legend: "
      f"{printed['oracle_pairs']:.3f} against {printed['with_unpaired']:.3f}",
      printed["oracle_pairs"] - printed["with_unpaired"], 0.05, (0, inf))
curves = {k: torch.as_tensor(stored[k]) for k in ("paired", "detected", "transposed", "pairs")}
best = {k: v.amax(1) for k, v in curves.items()}
print(f"Ours: {stored['command']}, {stored['date']}, {len(best['paired'])} draws of the pairs.")

# %%
panels = (("paired", "paired_only", "Pairs alone: reached"),
          ("detected", "with_unpaired", "Unpaired rows: not reached"),
          ("pairs", "oracle_pairs", "Oracle: not reached in 100 epochs"))

# %%
figure, axes = plots.panels(columns=3, width=3.3, height=3.4)
for ax, (ours, theirs, title) in zip(axes, panels, strict=True):
    lines = {"paper": torch.tensor(authors[theirs])}
    lines |= {"ours": (curves[ours].mean(0), curves[ours].amin(0), curves[ours].amax(0))}
    if ours == "detected":
        lines |= {"ours, published code": curves["transposed"].mean(0)}
    at = {k: range(1, len(v[0] if isinstance(v, tuple) else v) + 1) for k, v in lines.items()}
    epoch = "epoch" if ours == "paired" else "epoch after the first stage"
    plots.curves(ax, at, lines, epoch, "test accuracy", title, legend="lower right", every=0.2)
    ax.set_ylim(0.1, 0.76)
    plots.level(ax, max(authors[theirs]), f"best {max(authors[theirs]):.3f}", at=0.02)
show(figure, alt="Accuracy against epochs, three panels: ours meets the printed one on the pairs, "
                 "and stays below it with unpaired rows and with the oracle's pairs.")


# %%
n_draws = len(best["paired"])
error = {k: float(v.std() / n_draws**0.5) for k, v in best.items()}
mean = {k: float(v.mean()) for k, v in best.items()}
claim("fig-3.pairs", f"pairs alone reach {mean['paired']:.3f}, the paper 0.589; 0.03 and two "
      "standard errors allowed", mean["paired"], printed["paired_only"], 0.03 + 2 * error["paired"])
gain = curves["detected"][:, -1] - curves["paired"][:, -1]
claim("fig-3.unpaired", "not reproduced: with unpaired images in random batches the last epoch has "
      f"{gain.mean():+.3f} over the pairs alone, at most {gain.max():+.3f}; the paper has +0.055",
      gain.max(), 0.03, (inf, 0))
aligned = best["transposed"] - best["detected"]
claim("fig-3.alignment", f"the published code's batches gain {aligned.mean():.3f} over random ones "
      f"({', '.join(f'{a:.3f}' for a in aligned)} in {n_draws} draws)", aligned.mean(), 0, (0, inf))
lead = (curves["pairs"] - curves["detected"])[:, -1].min()
claim("fig-3.oracle-order", "at the last epoch true pairs lead over found ones in every draw: by "
      f"{lead:.3f} at least", lead, 0, (0, inf))

# %%
names = {"paired": "pairs", "detected": "unpaired, random batches",
         "transposed": "unpaired, published code", "pairs": "oracle"}
last = {k: float(v[:, -1].mean()) for k, v in curves.items()}
head = ("| trained on | ours, last epoch | best epoch | range of draws | paper, best epoch |\n"
        "|---|---|---|---|---|\n")
Markdown(head + "\n".join(
    f"| {names[k]} | {last[k]:.3f} | {mean[k]:.3f} | {best[k].min():.2f} to {best[k].max():.2f} | "
    f"{printed[p]:.3f} |"
    for k, p in (("paired", "paired_only"), ("detected", "with_unpaired"),
                 ("transposed", "with_unpaired"), ("pairs", "oracle_pairs"))))

# %% [markdown]
# (The best epoch is chosen on test accuracy, in the paper's numbers and in ours.) **Where it stops
# holding.** The first number is reproduced. The second is not: with images that are truly unpaired
# no trained model beats the anchor by 1.1 on the validation pairs, in any of three draws, and the
# accuracy falls a little. The published code's batches bring it above the pairs, but give back only
# about a third of the 0.086 that are missing, and the oracle stays 0.08 short too. So from the
# second stage on our training is behind the authors', also where batches are alike, and we cannot
# say why. We suspect the scale of the codes: a step of AdamW has the same length whatever it is, so
# larger codes train faster, and our oracle still rises at epoch 100. That is not tested.

# %% [markdown]
# ## 4 The same, live and small
# Autoencoders, pairs, unpaired images: a small run of the whole algorithm, undertrained on purpose.
# It shows that the code runs and lets you change it; it says nothing about Figure 3. (The digits
# have no autoencoder; 16 principal components stand in.)

# %%
if source.real:
    codes = [autoencoders.codes(a.rows, a.rows_test, seed, epochs=epochs) for a in sides]
    # whitened: what the heads learn then depends neither on the scale of a code nor on its axes
    white = [(c.mean(0), whitening(c, ridge=1e-3 * float(c.var(0).mean()))) for c, _ in codes]
    coded = [Labelled((c - m) @ w, a.labels, (t - m) @ w, a.labels_test)
             for (c, t), (m, w), a in zip(codes, white, sides, strict=True)]
else:
    coded = [components(a, 16) for a in sides]
stages = section_5_3.Stages(draws, pairs if source.real else pairs // 5, loops=loops,
                            lr_unpaired=2e-4)
live = section_5_3.accuracy_curves(*coded, stages, seed)
reached, asked = live["paired"].amax(1), min(len(coded[0].rows_test), stages.queries)

# %%
over = (reached.min() - chance) / (chance * (1 - chance) / asked) ** 0.5
learnt, _ = section_5_3.learn_pairs(section_5_3.draw(*coded, stages, seed), stages, seed)
z, z_tilde = (embed(learnt, a.rows_test[None, :1000], k) for k, a in enumerate(coded))
alike = coded[0].labels_test[:1000, None] == coded[1].labels_test[:1000]
apart = [float(cosine[alike].mean() - cosine[~alike].mean()) for cosine in z @ z_tilde.mT]
claim("alg-3.pairs-teach", f"heads trained on the pairs reach {reached.mean():.2f}, at least "
      f"{over:.0f} standard errors over chance; the cosine of test images of one class is "
      f"{min(apart):.2f} above that of two classes in the worst draw (0 if all images are one "
      "point; 1/9 asked for, a tenth of what ten classes allow)", min(apart), 1 / 9, (0, inf))
Markdown("Last epoch, mean of draws: " + ", ".join(
    f"{names[k]} {live[k][:, -1].mean():.3f}" for k in names) + ".")

# %%
Markdown("**So** (Algorithm 3: shown; Figure 3: shown in part): the curve of the pairs is "
         "reproduced "
         f"({mean['paired']:.3f} against 0.589) and the order of the other two; the gain from "
         f"unpaired "
         f"images is not ({mean['detected']:.3f}, or {mean['transposed']:.3f} with the published "
         f"code's batches, against 0.644), nor the oracle's level ({mean['pairs']:.3f}, rising).")

# %% [markdown]
# ## Exercises
# **1.** The anchor is right for little more than half of the images, and wrong edges join
# look-alikes. Use chapter 02 to say what such a share of wrong pairs does to the linear loss, and
# why it should not be fatal.
# <details><summary>Answer</summary>Wrong pairs at random shrink the signal by the share of right
# ones and add noise; with 59,000 rows the noise is small. But these errors are not at random: they
# repeat the anchor's own confusions of classes, which no number of rows averages out.</details>
#
# **2.** Which change to Algorithm 3 would make its accuracy independent of how batches are ordered?
# <details><summary>Answer</summary>Apply rule (4.2) to all rows at once, as the text says and
# chapter 04 does in blocks, or shuffle both modalities independently before each epoch.</details>
#
# **3.** Run `make report NB=06 P="data_set=digits"`. Why is accuracy so much higher with a fifth of
# the pairs?
# <details><summary>Answer</summary>The two views of the digits show the same images: they share
# much more than the class, although only the class is used to pair them.</details>

# %%
ledger()
