# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 CLIP and wrong pairs
#
# Chapter 02 dealt with the linear loss, whose weights never look at the data. CLIP's weights do.
# This chapter follows Section 7.3 of the paper (PDF, pages 15 and 16): what CLIP's weights become
# when encoders are good and some pairs are wrong (Lemma 7.2), what one SVD makes of these weights
# (Algorithm 4, Theorem 7.1), and why the paper needs the parameter $\nu$. You will see a right pair
# lose all its weight at $\nu = 1$, the line $\nu\eta - 1$ on which the remaining signal lies, and
# a comparison with the linear loss.
#
# [Chapter 02](02_robustness.ipynb) comes before, [chapter 04](04_unpaired_pairs.ipynb) after;
# symbols are those of [chapter 00](00_read_me_first.ipynb).

# %% tags=["parameters"]
n: int = 2000  # pairs
rank: int = 60  # latent dimension r; Assumption 4.2 asks for log n <= c r
d: int = 80  # dimension of either modality
noise_std: float = 0.3  # standard deviation of the noise; a latent coordinate has variance 1
tau_scale: float = 0.5  # c in the temperature tau = c sqrt(r / log n)
right_shares: list[float] = [0.8, 0.5, 0.3]  # shares eta of right pairs
draws: int = 5  # independent data sets of a point
seed: int = 0  # of every random number here

# %%
import math

import torch
from IPython.display import Markdown

from mmcl import cross_covariance, fit, sin_theta, spiked, truncated_svd
from mmcl.experiments.section_7_3 import pull_and_push, weight_limits
from mmcl.experiments.six_pairs import six_pairs
from mmcl.losses import LOSSES
from mmcl.notebook import plots, statistics
from mmcl.notebook.claims import claim, ledger, show
from mmcl.spectral import algorithm_4
from mmcl.theory import algorithm_4_factor

if not all(0 < eta < 1 for eta in right_shares) or not 2 <= rank < d or n < 100 or draws < 2:
    raise ValueError("use shares between 0 and 1, 2 <= rank < d, n >= 100, draws >= 2")
tau = tau_scale * math.sqrt(rank / math.log(n))

# %% [markdown]
# ## 1 The weights (7.3): what CLIP pulls and what it pushes
# > **(7.1), (7.3)** (PDF, p. 15) "Setting $\nu > 1$ corresponds to choosing different temperature
# > parameters for positive pairs and negative pairs." The weights are, written without sums,
# > $\beta_i = \nu - \tfrac12(P_{ii}+Q_{ii})$ and $\beta_{ij} = \tfrac12(P_{ij}+Q_{ij})$ for $i \ne
# > j$.
# >
# > **Algorithm 4** (p. 15) Compute these weights once, at given initial encoders; decompose
# > $S(\beta)$; return $G_1^\top G_2 = \mathrm{SVD}_r(S)$.
#
# $P$ is the softmax of the similarities $s_{ij}/\tau$ along each row, $Q$ along each column: the
# guess of the encoders, who belongs to whom. A pair we observed is pulled together with strength
# $\nu$; pairs are pushed apart in proportion to the guess. The temperature $\tau$ says how sharp
# the guess is.
#
# Take six pairs, the last two of them swapped, and encoders that are already right. The guess then
# finds the *true* partners, also those we never observed. The weights are the observed pairs times
# $\nu$, minus the true pairs.

# %%
p = six_pairs(wrong=2)
s = (p.x @ p.u1) @ (p.x_tilde @ p.u2).T  # encoders that read off the signal
weights = {nu: LOSSES["clip"](tau=0.5, nu=nu).weights(s) for nu in (1, 2)}
guess = torch.eye(6) - weights[1]
figure, axes = plots.panels(columns=3, width=3.0, height=3.2)
plots.matrix(axes[0], guess + 0, "the guess: true pairs", limit=2, numbers="{:.2f}")
for ax, nu in zip(axes[1:], weights, strict=True):
    title = rf"$W$ at $\nu={nu}$: right pairs weigh {nu - 1}"
    plots.matrix(ax, weights[nu].round() + 0, title, limit=2, numbers="{:.0f}")
show(figure, alt="Six pairs, two swapped. The softmax finds the true pairs; at nu = 1 right pairs "
                 "weigh 0 and wrong ones 1, at nu = 2 right ones 1 and wrong ones 2.")

# %%
from mmcl.experiments import playable
from mmcl.notebook import play

play.weights(playable.weights(tau=0.5, nu=1.5, swapped=2))

# %% [markdown]
# At $\nu = 1$, which is CLIP, a right pair is worth nothing: pull and push cancel. A wrong pair
# keeps its full weight, and each of its two rows is pushed away from its own true partner. (This is
# so at encoders that are already right. CLIP trained to its minimum stops earlier, where $S=\rho M$
# on what is learnt: chapter 01.) Here are the weights from scratch, equal to the module's.

# %%
p = spiked(n=200, d1=d, d2=d, rank=rank, noise_std=noise_std, wrong_share=0.5, seed=seed)
s = (p.x @ p.u1) @ (p.x_tilde @ p.u2).T                # (n, n) similarities
P, Q = (s / tau).softmax(1), (s / tau).softmax(0)      # the guess, by row and by column
W = 2 * torch.eye(200) - (P + Q) / 2                   # nu = 2 on observed pairs, minus the guess
S = p.x.T @ W @ p.x_tilde / 200                        # the contrastive cross-covariance
assert torch.allclose(W, LOSSES["clip"](tau=tau, nu=2).weights(s))
assert torch.allclose(S, cross_covariance(p.x, p.x_tilde, W))
M = algorithm_4(p.x, p.x_tilde, p.u1.T, p.u2.T, rank, tau=tau, nu=2)
u, c, v = truncated_svd(S, rank)                       # Algorithm 4: one SVD of this S
assert torch.allclose(M.g1.T @ M.g2, (u * c) @ v.T)

# %% [markdown]
# ## 2 Lemma 7.2: four limits, if the rank is large enough
# > **Lemma 7.2** (PDF, p. 16) With probability $1-O(n^{-1})$: $\min\beta_{ij} = 1-O(n^{-\gamma})$
# > over unobserved true pairs, $\max\beta_{ij} \lesssim n^{-1-\gamma}$ over strangers, $\min\beta_i
# > = \nu-1+O(n^{-\gamma})$ over observed right pairs, $\max\beta_i = \nu-O(n^{-\gamma})$ over
# > observed wrong pairs.
#
# It is the picture above, for every pair at once. It needs good encoders (Assumption 7.1; here:
# perfect ones, the best case), enough pairs (7.4), a small temperature $\tau \le
# C\sqrt{r/\log n}/(1+\gamma)$, and a rank $r$ that is large against $\log n$ (Assumption 4.2).
#
# **Erratum.** In the last two limits min and max are exchanged. As $\nu-1\le\beta_i\le\nu$ always,
# a small *minimum* says only that some right pair is at its limit. The proof, Theorem 7.1 and our
# figure use the worst pair: $\max\beta_i$ over right pairs, $\min\beta_i$ over wrong ones.
#
# **Why.** Call $g$ the smallest lead: of all true pairs, the least difference between $s_{ij}$ and
# the best stranger in its row or column. A true pair has similarity about $\lVert z_i\rVert^2
# \approx r$, the best of $n$ strangers about $\sqrt{2 r\log n}$, so $g$ is of order
# $\sqrt{r\log n}$ or more once $r\ge C\log n$ (Lemma 8.1). The softmax turns a lead into
# $e^{-g/\tau}/4 \le 1-\beta \le n\,e^{-g/\tau}$, $1-\beta$ being what it misses of the worst true
# pair; with $\tau \sim \sqrt{r/\log n}$ this is a power of $n$.

# %%
names = "unobserved", "strangers", "right", "wrong"
pairs, ranks = 200, [10, 20, 40, 80, 160]
taus = [tau_scale * math.sqrt(r / math.log(pairs)) for r in ranks]
limits, inside = [], []
for r, t in zip(ranks, taus, strict=True):
    p = spiked(pairs, r + 40, r + 40, r, noise_std, wrong_share=0.5, draws=max(draws, 5), seed=seed)
    limits.append(weight_limits(p, p.u1.mT, p.u2.mT, t))
    true = p.x_tilde.take_along_dim(p.partner.unsqueeze(-1), -2)    # row i: the true partner of x_i
    own = LOSSES["clip"](tau=t).weights((p.x @ p.u1) @ (true @ p.u2).mT).diagonal(dim1=-2, dim2=-1)
    ratio = (own.amax(-1) * (limits[-1].gap / t).exp())[limits[-1].gap > 0]  # own = 1 - beta
    inside.append((ratio >= 0.25) & (ratio <= pairs))
worst = torch.stack([torch.stack([getattr(w, k).amax() for k in names]) for w in limits])

# %%
p = spiked(pairs, 50, 50, 10, noise_std, wrong_share=0.5, seed=seed)
own = LOSSES["clip"](tau=taus[0]).weights((p.x @ p.u1) @ (p.x_tilde @ p.u2).T).diagonal()
right = own[p.partner == torch.arange(pairs)]             # beta_i - (nu - 1) of right pairs
claim("lem-7.2.printed-min", "at r = 10, where the lemma does not hold, the printed minimum over "
      f"right pairs is {right.min():.3f} and would pass; the largest is {right.max():.2f}",
      right.max() - 20 * right.min(), 0, (0, math.inf))
claim("lem-7.2.four-limits", f"at r = 160, n = {pairs} the worst weight of all data sets is "
      f"{worst[-1].max():.1e} from its limit; 1/n = {1 / pairs} allowed (gamma = 1)",
      worst[-1].max(), 0, 1 / pairs)
claim("lem-7.2.sandwich", "share of data sets with positive lead g in which the worst 1 - beta of "
      "CLIP's weights is between exp(-g/tau)/4 and n exp(-g/tau)",
      torch.cat(inside).double().mean(), 1, 0)
claim("lem-7.2.small-rank", "at r = 10, where Assumption 4.2 is broken, the worst weight of an "
      f"unobserved true pair misses its limit by {worst[0, 0]:.2f}; at least 0.5",
      worst[0, 0], 0.5, (0, math.inf))

# %%
labels = "unobserved true pair", "stranger", "right pair", "wrong pair"
figure, (ax,) = plots.panels(width=6.4, height=3.6)
lines = {label: worst[:, k].clamp(min=1e-18) for k, label in enumerate(labels)}
plots.curves(ax, [r / math.log(pairs) for r in ranks], lines, r"$r/\log n$",
             "worst distance from the limit", r"Lemma 7.2 sets in between $8\log n$ and $15\log n$",
             log="xy", legend=None)
plots.plain_ticks(ax, [2, 4, 8, 15, 30])
plots.label_ends(ax)
show(figure, alt="Distance of the weights from the four limits against r over log n: about 1 up to "
                 "four log n, below one in a thousand from fifteen log n on.")

# %%
Markdown("**So** ((7.1) to (7.3), Algorithm 4, Lemma 7.2: shown): for $r \\ge 15\\log n$ the "
         f"weights of CLIP are 0 for right pairs and 1 for wrong ones, to {worst[3].max():.0e}; "
         f"for "
         f"$r \\le 4\\log n$ there is no such limit ({worst[1, 0]:.2f} off).")

# %% [markdown]
# ## 3 Theorem 7.1: the signal left is $\nu\eta - 1$
# > **Theorem 7.1** (PDF, p. 16) If $\nu \ge 1.1\,\eta^{-1}$, the encoders of Algorithm 4 have the
# > error of Theorem 3.1, and **(7.5)** $G_1^\top G_2$ is close to $(\nu-1-\nu
# > p_n)\,U_1\Sigma_z^{1/2}\Sigma_{\tilde z}^{1/2}U_2^\top$.
#
# Insert the four limits into $S$: the observed pairs count $\nu$, of which a share $\eta = 1-p_n$
# is right, and *all* true pairs, observed or not, count $-1$. What is left of the signal is
# $\nu\eta-1$. With every pair right, CLIP ($\nu=1$) is exactly where it is 0. Below $\nu = 1/\eta$
# the sign is wrong: partners are pushed apart.

# %%
nus = torch.linspace(0, 4, 17, dtype=torch.float64)
signal, expected, allowed = {}, {}, {}
errors = {}
for eta in right_shares:
    p = spiked(n, d, d, rank, noise_std, wrong_share=1 - eta, draws=draws, seed=seed)
    first = fit(p.x, p.x_tilde, rank, rho=eta)          # G1^T G2 is near U1 U2^T: Assumption 7.1
    pull, push = pull_and_push(p, first.g1, first.g2, tau)
    s = nus[:, None, None, None] * pull - push          # the S of Algorithm 4, for every nu at once
    signal[eta] = (p.u1.mT @ s @ p.u2).diagonal(dim1=-2, dim2=-1).mean(-1)
    oracle = fit(p.x, p.x_tilde.take_along_dim(p.partner.unsqueeze(-1), -2), rank)
    known = sin_theta(oracle.g1.mT, p.u1)
    errors[eta] = sin_theta(truncated_svd(s, rank)[0], p.u1.expand(len(nus), -1, -1, -1)) / known
    errors["linear", eta] = (sin_theta(first.g1.mT, p.u1) / known).mean()

# %%
line = {eta: nus * eta - 1 for eta in right_shares}
off = max(float((signal[eta].mean(-1) - line[eta]).abs().max()) for eta in right_shares)
spread = max(float(signal[eta].std(-1).max()) for eta in right_shares) / math.sqrt(draws)
claim("thm-7.1.line", f"the signal left in S is nu eta - 1 to {off:.3f} for nu from 0 to 4 and "
      f"eta = {right_shares}", off, 0, 0.02 + 5 * spread)  # the softmax's leak, and five s.e.
ends = {eta: (float(a[0].mean()), float(a[-1].mean())) for eta, a in signal.items()}
at = max(abs(eta * 4 * low / (low - high) - 1) for eta, (low, high) in ends.items())
claim("thm-7.1.zero", f"it vanishes at nu = 1/eta, to {at:.1%}", at, 0, 0.03)

# %%
figure, (ax,) = plots.panels(width=6.4, height=3.6)
lines = {f"{eta:.0%} right": signal[eta].mean(-1) for eta in right_shares}
plots.curves(ax, nus, lines, r"$\nu$", r"signal in $S$, $\mathrm{tr}(U_1^\top S\,U_2)/r$",
             r"At good encoders $\nu=1$ has the wrong sign once pairs are wrong", legend="ends")
for eta in right_shares:
    ax.plot(nus, line[eta], color=plots.GREY, linewidth=1, linestyle=":", zorder=1)
plots.level(ax, 1, "CLIP", at=0.85, vertical=True)
plots.level(ax, 0, "no signal", at=0.02)
show(figure, alt="The signal in S against nu: lines nu eta - 1 (dotted) through the measured "
                 "points, negative below nu = 1/eta; at nu = 1 all are negative.")

# %% [markdown]
# **Where it stops holding.** At $r = 5$, $d = 40$ the lemma fails, and so does the line: at $\eta =
# 0.8$, $\nu = 3$ the formula says 1.4. The softmax there pushes away strangers as well as partners.

# %%
p = spiked(n, 40, 40, 5, noise_std, wrong_share=0.2, draws=draws, seed=seed)
pull, push = pull_and_push(p, p.u1.mT, p.u2.mT, tau_scale * math.sqrt(5 / math.log(n)))
small = (p.u1.mT @ (3 * pull - push) @ p.u2).diagonal(dim1=-2, dim2=-1).mean()
claim("thm-7.1.small-rank", f"at r = 5 the signal is {small:.2f} where (7.5) says 1.4: short by at "
      "least 0.2", 1.4 - small, 0.2, (0, math.inf))

# %% [markdown]
# ## 4 Algorithm 4 has the rate of Theorem 3.1, and a larger constant
# The theorem's bound has no $1/\eta$, but $\eta$ is a constant in it, so it claims nothing against
# the linear loss. To first order we can compare. Let "known pairs" be the linear loss on all $n$
# true pairs.
#
# > **Ours.** The noise of $S$ has variance $\nu^2-2\nu\eta+1$ (observed pairs, minus true pairs,
# > which share $\eta n$ rows), its signal is $\nu\eta-1$. So the error is $F =
# > \sqrt{\nu^2-2\nu\eta+1}\,/\,|\nu\eta-1|$ times that of known pairs; the linear loss has
# > $1/\eta$. For every $\nu \ge 1.1/\eta$ the theorem allows, $F > 1/\eta$, since $F^2-1/\eta^2$
# > has the sign of $2\nu\eta-1$.

# %%
eta, above = right_shares[0], nus >= 1.1 / right_shares[0]
predicted = algorithm_4_factor(nus, eta)
measured = errors[eta].mean(-1)
clear = measured < 1.7  # first order: beyond, the error is no longer small
short = float((measured / predicted - 1)[clear].abs().max())
claim("thm-7.1.factor", f"F predicts an error below 1.7 to {short:.0%} (eta = {eta}); nearer to "
      "nu = 1/eta the error is no longer small",
      short, 0, 0.15 * math.sqrt(2000 / n))  # what first order leaves out falls as n^-1/2
least = float((measured[above] / errors["linear", eta]).min())
claim("thm-7.1.worse", f"for every nu from 1.1/eta to 4 Algorithm 4 has at least {least:.2f} times "
      "the error of the linear loss", least, 1, (0, math.inf))

# %%
sizes = [n // 4, n // 2, n]
rate, distance = [], []
for size in sizes:
    p = spiked(size, d, d, rank, noise_std, wrong_share=0.2, draws=draws, seed=seed)
    first = fit(p.x, p.x_tilde, rank, rho=0.8)
    ours = algorithm_4(p.x, p.x_tilde, first.g1, first.g2, rank, tau=tau, nu=3.0)
    rate.append(sin_theta(ours.g1.mT, p.u1).mean())
    gap = ours.g1.mT @ ours.g2 - (3 * 0.8 - 1) * p.u1 @ p.u2.mT
    distance.append(torch.linalg.matrix_norm(gap, 2).mean())
slopes = [float(statistics.loglog_slope(sizes, torch.stack(a))) for a in (rate, distance)]
claim("thm-7.1.rate", f"with nu = 3, eta = 0.8 the error falls as n^{slopes[0]:.2f}: at least as "
      "fast as n^-1/2", slopes[0], -0.5, (math.inf, 0.05))
claim("eq-7.5.operator-norm", f"the operator norm in (7.5) falls as n^{slopes[1]:.2f} (the bound "
      "printed there is a small constant over log n)",
      slopes[1], -0.5, (0.3, 0.05))

# %%
figure, (ax,) = plots.panels(width=6.4, height=3.6)
shown = predicted.clamp(max=8)
title = rf"{eta:.0%} right: for every $\nu \geq 1.1/\eta$ worse than the linear loss"
plots.curves(ax, nus, {"Algorithm 4": measured.clamp(max=8), "predicted F": shown}, r"$\nu$",
             "error / error with known pairs", title, legend="ends")
plots.level(ax, float(errors["linear", eta]), "linear loss", at=0.02)
plots.level(ax, 1 / eta, r"no signal", at=0.35, vertical=True)
ax.axvspan(0, 1, color=plots.GREY, alpha=0.12, linewidth=0)
ax.annotate("outside the paper,\nsign reversed", (0.5, 0.9), xycoords=("data", "axes fraction"),
            ha="center", va="top", fontsize=8)
show(figure, alt="Error of Algorithm 4 against nu: it peaks at nu = 1/eta and comes down to the "
                 "level of the linear loss from above; nu below 1 is outside the paper.")

# %%
Markdown("**So** (Theorem 7.1: shown): Algorithm 4 recovers the features, not slower than the "
         f"paper states ($n^{{{slopes[0]:.2f}}}$; faster than $n^{{-1/2}}$, as the smallest "
         f"samples "
         f"are not yet in the first order), with {float(measured[-1] / errors['linear', eta]):.2f} "
         "times the error of the linear loss at $\\nu = 4$. What $\\nu$ buys is that CLIP does not "
         "cancel.")

# %% [markdown]
# ## Exercises
# **1.** All pairs are right ($\eta = 1$) and the encoders perfect. What is $S$ at $\nu = 1$, and
# what does a gradient step on the CLIP loss do?
# <details><summary>Answer</summary>The weights are all 0 in the limit of small tau, so S = 0 and
# only the penalty acts: CLIP has nothing left to learn. This is why chapter 04 needs nu > 1
# too.</details>
#
# **2.** Use $\nu = 0$: no observed pair is pulled at all. Why is the error then that of *known*
# pairs?
# <details><summary>Answer</summary>S is minus the cross-covariance of the true pairs that the
# softmax found. Its singular spaces are right, F = 1, but the sign is wrong: similarities of
# partners become negative, so it cannot be iterated.</details>
#
# **3.** Run this chapter with a warmer softmax, `make report NB=03 P="tau_scale=2"`. Which claims
# fail, and why does Theorem 7.1 not mind?
# <details><summary>Answer</summary>The limits of Lemma 7.2 are no longer reached, since exp(-g/tau)
# is no small power of n. The theorem assumes tau small enough: it does not speak about this
# case.</details>

# %%
ledger()
