# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 The paper in five minutes
#
# A companion to R. Nakada, H. I. Gulluk, Z. Deng, W. Ji, J. Zou, L. Zhang, *Understanding Multimodal Contrastive Learning
# and Incorporating Unpaired Data*, AISTATS 2023 ([arXiv 2302.06232](https://arxiv.org/abs/2302.06232)). It checks the
# paper's statements one by one, shows where they hold and where they stop holding, and can be rerun with one command.
# This notebook is the map: one picture of the whole argument, the symbols, the conventions, and the list of deviations.
#
# **How to read it.** Each section of each notebook makes a claim, checks it, draws it, and says in one sentence what
# was seen ("So:"). A check is a call `claim(id, statement, measured, expected, tolerance)`; the claims are collected in
# a ledger at the end, and a notebook whose claim fails counts as failed. Our own remarks, beyond or against the paper,
# are set as blockquotes.

# %% tags=["parameters"]
n: int = 300  # known pairs
n_unpaired: int = 1000  # further rows of each modality whose pairing is forgotten, for the third panel
d1: int = 40  # dimension of the first modality
d2: int = 39  # dimension of the second modality
rank: int = 5  # latent dimension r
draws: int = 20  # independent data sets behind every interval
seed: int = 0  # of every random number here

# %%
import numpy as np
import torch

from mmcl import data, spectral, training, unimodal
from mmcl.beyond.refit import detect_and_refit
from mmcl.metrics import sin_theta
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show

inf = float("inf")
if n_unpaired < n or rank >= min(d1, d2):
    raise ValueError(f"n_unpaired = {n_unpaired}, rank = {rank}; use n_unpaired >= n and rank < min(d1, d2)")

# %% [markdown]
# ## 1 The argument, in one picture
# Two modalities see the same thing: $x_i = U_1 z_i + \xi_i$ and $\tilde x_i = U_2 z_i + \tilde\xi_i$. Linear encoders
# $G_1, G_2$ are trained to make the pairs similar and strangers dissimilar. The paper's argument has three steps.
#
# 1. **A contrastive gradient step is an SVD** of a weighted cross-covariance between the modalities (Section 2,
#    Lemma 2.1). Training encoders by CLIP ends where one finds oneself after a few SVDs.
# 2. **Only what the modalities share survives** in a cross-covariance (Theorem 3.1). Noise that is structured within one
#    modality is invisible to it, and wrong pairs only shrink the signal. A method that sees one modality alone cannot
#    tell such noise from signal.
# 3. **The encoders find partners** for rows whose pairing is unknown (Section 4), and these pairs improve the encoders.
#
# For the first panel: distance to the minimum of the CLIP loss, against gradient steps.

# %%
pairs = data.spiked(n, d1, d2, rank, seed=seed)
best = spectral.fit(pairs.x, pairs.x_tilde, rank, "clip")
descent = training.gradient_descent(pairs.x, pairs.x_tilde, rank, "clip", lr=0.1, steps=500, seed=seed)
excess = {"SVD of the contrastive cross-covariance": (best.history - best.loss).clamp(min=1e-9),
          "gradient descent on the encoders": (descent.loss - best.loss).clamp(min=1e-9)}
claim("0.1", "gradient descent ends at the value of the SVD iteration", descent.loss[-1] / best.loss, 1, tolerance=1e-6)

# %% [markdown]
# For the second: the error of the learned subspace against the share of wrong pairs, when each modality has noise of its
# own as strong as the signal. $\sqrt r$ is the error of a subspace orthogonal to the true one.

# %%
wrong_shares = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
errors = {"PCA of one modality": [], "multimodal, linear loss": []}
for share in wrong_shares:
    noisy = data.spiked(2000, d1, d2, rank, 1.0, float(share), draws, seed, noise="correlated", wrong="fresh")
    errors["PCA of one modality"].append(sin_theta(unimodal.fit_pca(noisy.x, rank).mT, noisy.u1))
    g1 = spectral.fit(noisy.x, noisy.x_tilde, rank).g1
    errors["multimodal, linear loss"].append(sin_theta(g1.mT, noisy.u1))
errors = {name: torch.stack(e) for name, e in errors.items()}
lead = (errors["PCA of one modality"] - errors["multimodal, linear loss"])[wrong_shares == 0.5].min()
claim("0.2", "half of the pairs wrong, noise within modalities: PCA's error minus multimodal's, smallest of draws", lead, 0,
      tolerance=(0, inf))

# %% [markdown]
# For the third: rows of unknown pairing are matched by the encoders fitted so far, and the encoders are fitted again to
# all pairs, known and detected (notebook 03). We use fewer known pairs than above, a tenth, since with many there is
# little left to gain.

# %%
known = max(2 * rank, n // 10)


def subspace_errors(draw):
    """sinTheta of the subspace from the known pairs, after each of three rounds of detecting and refitting, and with
    all pairs known."""
    pairs, rest = ((draw.x[rows], draw.x_tilde[rows]) for rows in (slice(known), slice(known, None)))
    found = detect_and_refit(*pairs, *rest, rank, rounds=3)
    path = [*(looked.g1 for looked in found.history), *[found.g1] * (4 - len(found.history))]
    return torch.stack([sin_theta(g.mT, draw.u1) for g in (*path, spectral.fit(draw.x, draw.x_tilde, rank).g1)])


models = [data.spiked(known + n_unpaired, d1, d2, rank, seed=seed + k) for k in range(draws)]
rounds = torch.stack([subspace_errors(draw) for draw in models])
gain = rounds[:, 0] - rounds[:, 3]
claim("0.3", "error removed by unpaired rows, mean of draws", gain.mean(), 2 * gain.std() / draws**0.5, (0, inf))

# %%
figure, (one, two, three) = plots.panels(columns=3, width=4.1, height=3.9)
steps = {name: np.arange(1, len(e) + 1) for name, e in excess.items()}
plots.curves(one, steps, excess, "gradient steps + 1", "CLIP loss above its minimum", "1  A gradient step is an SVD",
             log="xy", every=0.1)
bands = {name: tuple(e.quantile(q, dim=1) for q in (0.5, 0.05, 0.95)) for name, e in errors.items()}
plots.curves(two, wrong_shares, bands, "share of wrong pairs", r"sin$\Theta$ to the true subspace",
             "2  Wrong pairs only shrink the signal")
plots.guide(two, wrong_shares, [rank**0.5] * len(wrong_shares), r"orthogonal, $\sqrt{r}$")
band = tuple(rounds[:, :4].quantile(q, dim=0) for q in (0.5, 0.05, 0.95))
plots.curves(three, range(4), {f"{known} pairs + {n_unpaired:,} unpaired": band}, "rounds of matching and refitting",
             r"sin$\Theta$ to the true subspace", "3  Unpaired rows find their partners")
plots.guide(three, range(4), [rounds[:, 4].median()] * 4, "all pairs known")
three.set(xticks=range(4), ylim=(0, None))
for ax in (one, two, three):
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), frameon=False)
show(figure, alt="""Three panels: SVD steps reach the CLIP minimum first; multimodal learning survives wrong pairs where
     PCA fails; matching unpaired rows lowers the error.""")

# %% [markdown]
# **So:** the loss is an SVD in disguise; an SVD across modalities ignores what they do not share, even when half of the
# pairs are wrong; and what it has learned from few pairs is enough to find more. (Medians of the draws; bands hold 90% of
# them.)
#
# > The other half of the second truth: in noise without structure unimodal learning needs no pairs at all and wins as
# > soon as some pairs are wrong. [Notebook 02](02_robustness.ipynb) shows both halves.

# %% [markdown]
# ## 2 Symbols and names
#
# | paper | code | meaning |
# |---|---|---|
# | $x_i,\ \tilde x_i$ | `x` (n, d1), `x_tilde` (n, d2) | a pair: row i of both modalities |
# | $n,\ N$ | `n`, `n_unpaired` | known pairs; further rows of unknown pairing |
# | $G_1, G_2$ | `g1` (r, d1), `g2` (r, d2) | linear encoders; an embedding is `x @ g1.mT` |
# | $M = G_1^\top G_2$ | `g1.mT @ g2` | all that the loss sees of the encoders |
# | $s_{ij}$ | `s = x @ g1.mT @ (x_tilde @ g2.mT).mT` | similarity of row i and row j |
# | $\phi, \psi, \epsilon, \nu$ | `mmcl.losses.LOSSES[name]` | a member of the loss class, eq. (2.1) |
# | $\beta_i, \beta_{ij}$ | `loss.weights(s)`: `W[i, i]`, `-W[i, j]` | contrastive weights, $W = -n\,\partial\ell/\partial s$ |
# | $S(\beta)$ | `mmcl.spectral.cross_covariance(x, x_tilde, W)` | contrastive cross-covariance |
# | $\mathrm{SVD}_r$ | `mmcl.spectral.truncated_svd(a, rank)` | best approximation of rank r |
# | $R$, $\rho$ | `rho` | penalty $\tfrac\rho2\lVert G_1^\top G_2\rVert_F^2$ |
# | $\tau$ | `tau` | temperature of CLIP |
# | $U_1, U_2, z_i$ | `u1` (d1, r), `u2` (d2, r), `z` (n, r) | what the spiked model plants |
# | $\eta$ (share of right pairs) | `1 - wrong_share` | in Sections 3 and 4; in notebook 01 $\eta$ is a step length |
# | $\sin\Theta$ | `mmcl.metrics.sin_theta(u, v)` | Frobenius norm of the sines of the principal angles, $\le\sqrt r$ |

# %% [markdown]
# ## 3 Conventions
# Rows are samples. Covariances have divisor $n-1$ where they belong to the linear loss and $n$ where the weights are
# given. Computation is in float64, and every random number comes from the `seed` parameter. An interval is over
# independent draws, data and all, unless the text says what is held fixed. A function that takes (n, d) takes
# (..., n, d) as well, so that a study over draws is one call.

# %% [markdown]
# ## 4 Deviations from the paper
# What differs, and why. Numbered statements are cited where the paper has them: eq. (2.1), Lemma 2.1, Theorem 3.1,
# Sections 5.1 to 5.3.
#
# | what | the paper | here |
# |---|---|---|
# | loss class | eq. (2.1) | the same, written with $\tfrac1{2n}$ for each direction; SigLIP is added, which lies outside |
# | constants | Theorem 3.1 holds up to constants | we check rates, and fit a constant at one point where a curve is drawn |
# | optimiser | gradient steps, AdamW | both are here, beside an iteration of SVDs with a step length rule, which is ours |
# | full step | one step is an SVD | repeated at full length it oscillates for small $\tau\rho$: notebook 01, section 5 |
# | limit of CLIP | weights flatten as $\tau$ grows | the limit is $(n-1)/n$ times the linear loss's matrix |
# | training as published | normalised embeddings, torch's initialisation | the same; linear layers have no bias here |
# | encoders returned | wherever training ends | balanced, $G_1G_1^\top = G_2G_2^\top$: notebook 01, section 7 |
# | unpaired rows, Section 5.1 | both modalities come in the order of their pairs, so partners share a batch | run so, and in random order, where the gain becomes a loss: notebook 03, section 2 |
# | baseline, Section 5.1 | 100 epochs of AdamW on the pairs | the same, and the closed form on the pairs alone, which is level with the end of the published curve: notebook 03, section 3 |
# | edges $E$ | the largest entries of a batch, or row and column argmax | the same, and rules over all candidates with a density-ratio score and a controlled false discovery rate |
# | Section 5.2, stored output | at chance, after fewer images and epochs than its code asks for | run until it learns: notebook 04, section 3 |
#
# Status of the statements: (i) loss to SVD: shown, notebook 01. (ii) robustness, and multimodal against unimodal: shown
# where noise is structured within a modality, with the other half of the truth beside it, notebook 02. (iii) unpaired
# data: the mechanism is shown, with detection over all candidates; the published experiment is reproduced and differs in
# what it shows, notebook 03. Real data: notebook 04.

# %% [markdown]
# ## Ledger

# %%
ledger()
