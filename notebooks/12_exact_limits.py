# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 Exact limits: how wrong may the pairs be?
#
# Theorem 3.1 bounds the error up to a constant, and first order ([chapter
# 02](02_robustness.ipynb)) gives the constant while errors are small. Neither says when learning
# stops. This chapter does: in high dimension there is a share $\eta_c$ of right pairs below which
# the linear loss finds *nothing*, and a curve above it, both in closed form. With them we ask when
# two modalities beat one, when a spectrum deceives, and which nuisance no pairing removes.
#
# The formulas are ours, derived and checked by simulation, not proved; Mergny and Zdeborová
# ([arXiv 2510.17561](https://arxiv.org/abs/2510.17561)) treat thresholds of such models. Symbols
# are those of [chapter 00](00_read_me_first.ipynb); $\eta$ is the share of right pairs.

# %% tags=["parameters"]
n: int = 1000  # pairs; section 4 has its own number, section 6 has 5,000
draws: int = 6  # independent data sets of a point
shares: list[float] = [0.05, 0.2, 0.4, 0.6, 0.8, 1.0]  # shares eta of right pairs
paper_n: int = 500  # pairs in section 4; 40 dimensions, rank 10, noise as strong as the signal
paper_draws: int = 30  # data sets in section 4
seed: int = 0  # of every random number here

# %%
import itertools
import math

import numpy as np
import torch
from IPython.display import Markdown
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.sparse.linalg import svds

from mmcl import fit, sin_theta, spiked
from mmcl.beyond import limits, limits_compared
from mmcl.beyond.finite_size import finite_size_errors
from mmcl.beyond.limits_general import paired_outliers, unimodal_outliers
from mmcl.notebook import plots, statistics
from mmcl.notebook.claims import claim, ledger, show
from mmcl.theory import multimodal_error, rate_bound

# %%
if sorted(shares) != shares or not 0 < shares[0] < shares[-1] <= 1 or len(shares) < 4:
    raise ValueError(f"shares = {shares}: use at least 4 increasing shares, above 0 and up to 1")
if min(n, paper_n) < 300 or min(draws, paper_draws) < 3:
    raise ValueError("use n, paper_n >= 300 and draws, paper_draws >= 3")

# %% [markdown]
# ## 1 The threshold $\eta_c$ and the curve above it
# **The picture.** Noise alone gives $S$ a bulk of singular values with a sharp edge. The signal
# adds one value outside. Wrong pairs shrink the signal by $\eta$ and leave the noise as it is.
# At $\eta_c$ the outlier sinks into the bulk, and its vectors turn at random.
#
# > **Ours.** One latent of variance $\lambda$, isotropic noise $s_1, s_2$; $n$, $d_1$, $d_2$ grow
# > with $d_1/n \to a$, $d_2/n \to b$. Put $\alpha=\lambda/s_1^2$, $\beta=\lambda/s_2^2$, and
# > $\sigma(\psi)^2 = s_1^2s_2^2(1+\psi)(a+\psi)(b+\psi)/\psi$. The bulk ends at $\sigma(\psi_e)$,
# > $2\psi_e^3+(1+a+b)\psi_e^2=ab$. Outliers are $\sigma(\psi)$ at the roots $\psi<\psi_e$ of
# > $F(\psi) = (a-\alpha\psi)(b-\beta\psi)-\eta^2\alpha\beta\,\psi(1+\psi)$. Hence
# > $$\eta_c^2 = \frac{\psi_e}{1+\psi_e}\Big(\frac a{\alpha\psi_e}-1\Big)\Big(\frac
# > b{\beta\psi_e}-1\Big).$$
#
# $\psi$ only numbers the levels of $\sigma$: 0 is infinitely high, $\psi_e$ the edge.
#
# **Why.** Split $x$ into its signal direction and the rest, which is pure noise. The rest of both
# modalities is a product of two independent Wishart matrices, whose spectrum is known: that gives
# $\sigma(\psi)$. An outlier is where a 2 x 2 determinant of what was split off vanishes: that is
# $F$. Only second moments of the latents enter, so it does not matter *how* a pair is wrong.

# %%
# The limits in ten lines, equal to the module's
def from_scratch(a, b, alpha, beta, eta):
    psi_e = max(np.roots([2, 1 + a + b, 0, -a * b]).real)               # the edge of the bulk
    eta_c = math.sqrt(psi_e / (1 + psi_e) * (a / alpha / psi_e - 1) * (b / beta / psi_e - 1))
    P, Q = alpha * b + beta * a + eta**2 * alpha * beta, alpha * beta * (1 - eta**2)
    D = math.sqrt(P**2 - 4 * Q * a * b)
    psi = 2 * a * b / (P + D)                                           # the smaller root of F
    E = a * b - (1 + a + b) * psi**2 - 2 * psi**3                       # 0 at the edge
    return eta_c, (b - beta * psi) / (b + psi) * E / ((1 + psi) * psi * D) * (psi < psi_e)

at = 0.5, 0.3, 1, 0.8**-0.5, 0.6**-0.5
theirs = [limits.threshold_share(*at), limits.overlaps(*at, 0.7)[0]]
assert np.allclose(from_scratch(0.5, 0.3, 0.8, 0.6, 0.7), theirs)

# %%
# A draw. Isotropic noise looks the same from all sides: signal on coordinate 0, nuisance on 1
def rows(a, b, signal, eta, rng, n=n, stds=(1, 1), nuisance=(0, 0, 0)):
    x, x_tilde = (std * rng.standard_normal((n, round(aspect * n)))
                  for std, aspect in zip(stds, (a, b), strict=True))
    z, w, own = rng.standard_normal((3, n))
    right, (g1, g2, c) = round(eta * n), nuisance
    partner = np.append(z[:right], np.roll(z[right:], 1))               # wrong pairs, in a circle
    w_tilde = c * w + (1 - c**2)**0.5 * own
    x[:, :2] += np.stack([signal**0.5 * z, g1**0.5 * w], 1)
    x_tilde[:, :2] += np.stack([signal**0.5 * partner, g2**0.5 * w_tilde], 1)
    return x - x.mean(0), x_tilde - x_tilde.mean(0)

# %%
def leading(x, x_tilde):
    """Squared coordinates of the leading singular vectors of S on signal and nuisance."""
    u, _, vt = svds(x.T @ x_tilde, k=1, v0=np.ones(min(x.shape[1], x_tilde.shape[1])))
    return np.append(u[:2, 0], vt[0, :2])**2

# %%
shapes = {(0.2, 0.2): 1.0, (0.5, 0.5): 1.0, (1.0, 1.0): 0.9, (0.25, 1.0): 0.7}  # (a, b) -> lambda
critical = {s: float(limits.threshold_share(*s, lam, 1, 1)) for s, lam in shapes.items()}
measured = {}
for number, (s, lam) in enumerate(shapes.items()):
    times = round(draws / math.prod(s)**0.5)                        # few dimensions vary more
    measured[s] = np.array([[leading(*rows(*s, lam, eta, np.random.default_rng([seed, number, k])))
                             for k in range(times)] for eta in shares])[..., [0, 2]]

# %%
far = {s: [i for i, eta in enumerate(shares) if abs(eta - critical[s]) > 0.2] for s in shapes}

def misses(power):
    """Measured minus predicted overlaps with this power of eta in place of the 2 in F."""
    given = torch.tensor(shares, dtype=torch.float64) ** (power / 2)
    curves = {s: np.stack(limits.overlaps(*s, lam, 1, 1, given), -1) for s, lam in shapes.items()}
    return np.concatenate([(measured[s].mean(1) - curves[s])[far[s]].ravel() for s in shapes])

off = misses(2)
error = [(v.var(1, ddof=1) / v.shape[1])[far[s]].ravel() for s, v in measured.items()]
typical, allowed = (off**2).mean()**0.5, 2.5 * np.concatenate(error).mean()**0.5 + 10 / n

# %%
claim("ours.limits.overlap", f"the curves predict the overlaps to {typical:.3f} (root mean square "
      f"of {len(off)} of them), 0.2 and more from the threshold", typical, 0, allowed)
best = min(np.linspace(0.5, 5, 91), key=lambda power: (misses(power)**2).sum())
claim("ours.limits.share-squared", f"of all powers of the share in F, {best:.2f} fits them best (2 "
      "is predicted; 0.5 allowed, four times the spread over seeds)", best, 2, 0.5)

# %%
figure, (ax,) = plots.panels(width=6.4, height=3.8)
fine = torch.linspace(0.01, 1, 400)
lines = {f"$d_1/n={s[0]:g}$, $d_2/n={s[1]:g}$": limits.overlaps(*s, lam, 1, 1, fine)[0]
         for s, lam in shapes.items()}
plots.curves(ax, fine, lines, r"share $\eta$ of right pairs", r"overlap $\langle u, U_1\rangle^2$",
             r"Below $\eta_c$ nothing is found; the formula says where", legend="ends", every=[])
for k, s in enumerate(shapes):
    middle, low, high = statistics.interval(torch.tensor(measured[s][..., 0]), -1)
    ax.errorbar(shares, middle, [middle - low, high - middle], fmt="o", color=plots.COLOURS[k])
show(figure, alt="Overlap against the share of right pairs for four shapes: zero up to a threshold "
                 "of its own, then rising; measured dots lie on the predicted lines.")

# %% [markdown]
# **What it says of the threshold.** Below $\eta_c$ more pairs of the same kind do help: $a$ and $b$
# fall. At fixed $a$, $b$ nothing does. Where $\eta_c > 1$ even right pairs are not enough. Close to
# $\eta_c$ a finite $n$ rounds the corner: at $\eta_c$ itself the overlap falls as $n^{-1/3}$ (known
# for such transitions), so half of it is left at eight times the size. Below, less is; above, more.

# %%
def mean_overlap(eta, size):
    rngs = [np.random.default_rng([seed, 9, size, k]) for k in range(14 * draws)]
    return np.mean([leading(*rows(0.5, 0.5, 1.0, eta, rng, n=size))[[0, 2]] for rng in rngs])

at = {step: critical[0.5, 0.5] + step for step in (-0.2, 0.2)}
kept = {step: mean_overlap(eta, n) / mean_overlap(eta, n // 8) for step, eta in at.items()}
claim("ours.limits.threshold", f"with eight times the rows and dimensions {kept[-0.2]:.0%} of the "
      f"overlap is left at 0.2 below the threshold {critical[0.5, 0.5]:.2f}, less than at it, and "
      f"{kept[0.2]:.0%} at 0.2 above", kept[-0.2], 8 ** (-1 / 3), (math.inf, 0))
Markdown(f"**So:** with a signal of {shapes[1.0, 1.0]:g} times the noise and $d_1=d_2=n$, "
         f"{critical[1.0, 1.0]:.0%} of the pairs must be right, or the linear loss learns nothing.")

# %% [markdown]
# ## 2 When two modalities beat one
# PCA of $x$ needs no pairs. It sees a signal above $\alpha=\sqrt a$ (Baik, Ben Arous, Péché), so
# wrong pairs can make a second modality worse than none. PCA of the joined rows $(x,\tilde x)$ has
# $\sqrt{2a}/(1+\eta)$ for equal modalities. The least that *any* method needs is, by a heuristic
# (linear stability of message passing), $\alpha = \sqrt{a/(1+\eta^2)}$. CCA, which whitens first,
# needs $a+b<1$ and here $\alpha>1.37$ at $\eta=1$: whitening lifts the noise as well. (For strong
# signals PCA and multimodal learning have the same error at $\eta=1$ and equal noise, to first
# order; the difference is at the threshold.)
#
# > **Ours.** Multimodal learning sees weaker signals than PCA if and only if $\eta>\eta^*$, the
# > $\eta_c$ of a signal at PCA's threshold; for equal modalities
# > $\eta^*=(\sqrt a-\psi_e)/\sqrt{\psi_e(1+\psi_e)}$.

# %%
a = 0.25
alphas = torch.linspace(0.2, 1.2, 400)
share_of = {"multimodal": limits.threshold_share(a, a, alphas, 1, 1),
            "joint PCA": (2 * a)**0.5 / alphas - 1,
            "oracle (heuristic)": limits_compared.bayes_threshold_share(a, a, alphas, 1, 1)}
star = float(limits.threshold_share(a, a, a**0.5, 1, 1))
inside = {name: (t >= 0) & (t <= 1) for name, t in share_of.items()}
lines = {name: np.interp(fine, t[inside[name]].flip(0), alphas[inside[name]].flip(0), left=np.nan)
         for name, t in share_of.items()}
lines["PCA of x"] = np.full(len(fine), a**0.5)

# %%
corners = {"only two": (0.47, 1.0), "only one": (0.75, 0.1)}
gain = {}
for corner, (lam, eta) in corners.items():
    rngs = [np.random.default_rng([seed, 20, k]) for k in range(3 * draws)]
    data = [rows(a, a, lam, eta, rng, n=2 * n) for rng in rngs]
    one = [eigh(x.T @ x, subset_by_index=[x.shape[1] - 1] * 2)[1][0, 0]**2 for x, _ in data]
    gain[corner] = np.array([leading(*pair)[0] for pair in data]) - one
    gain[corner, "predicted"] = float(limits.overlaps(a, a, lam, 1, 1, eta)[0]
                                      - limits_compared.pca_overlap(a, lam, 1))

# %%
claim("ours.limits.two-beat-one", "signal below PCA's threshold, all pairs right: the overlap of "
      f"multimodal learning is {gain['only two'].mean():.2f} larger than PCA's (predicted "
      f"{gain['only two', 'predicted']:.2f})", gain["only two"].mean(), 0, (0, math.inf))
claim("ours.limits.one-beats-two", "stronger signal, 10 % right: it is "
      f"{-gain['only one'].mean():.2f} smaller (predicted {-gain['only one', 'predicted']:.2f})",
      -gain["only one"].mean(), 0.15, (0, math.inf))

# %%
figure, (ax,) = plots.panels(width=6.4, height=4.0)
title = rf"Two modalities see more than one from $\eta^*={star:.2f}$ on"
plots.curves(ax, fine, lines, r"share $\eta$ of right pairs", r"signal to noise $\lambda/s^2$",
             title, legend="ends", every=[])
ax.plot([star], [a**0.5], "o", color="black")
ax.annotate(rf"$\eta^*={star:.2f}$", (star, a**0.5), xytext=(4, 5), textcoords="offset points")
ax.text(0.02, 0.77, "PCA sees it,\nmultimodal not", fontsize=9)
ax.text(0.985, 0.47, "only pairs see it", fontsize=9, ha="right")
ax.set_ylim(0.3, 0.9)
show(figure, alt="Least signal that is seen against the share of right pairs: falling lines for "
                 "multimodal learning, joint PCA and Bayes; PCA is level and meets multimodal at "
                 "eta star.")

# %%
Markdown(f"**So:** with $d_1=d_2=n/4$ and a barely visible signal a second modality pays from "
         f"$\\eta^*={star:.2f}$ on; below that use PCA, if the noise is isotropic (section 5).")

# %% [markdown]
# ## 3 A strong modality deceives the spectrum
# A scree plot of $S$ with a clear outlier looks like learned structure. Let *all* pairs be wrong
# and $x$ be strong ($\alpha\psi_e>a$). Then $F$ still has a root, $\psi=a/\alpha$: the signal of
# $x$ meets the noise of $\tilde x$ and makes an outlier whose $v$ points nowhere.

# %%
strong = dict(a=0.3, b=0.5, signal=4.0, stds=(1, 2.5))
etas = [0.0, 0.3, 0.6, 1.0]
found = np.array([[leading(*rows(**strong, eta=eta, rng=np.random.default_rng([seed, 30, k])))
                   for k in range(draws)] for eta in etas])[..., [0, 2]].mean(1)
limit = limits.outliers(0.3, 0.5, 4.0, 1, 2.5, etas)
edge, outlier = float(limit.edge[0]), float(limit.value[0, 0])
x, x_tilde = rows(**strong, eta=0, rng=np.random.default_rng([seed, 30, 0]))
values = np.linalg.svd(x.T @ x_tilde / n, compute_uv=False)
claim("ours.limits.strong-modality", f"all pairs wrong: the largest singular value is "
      f"{values[0] / edge - 1:.0%} above the edge (predicted {outlier / edge - 1:.0%}), and u has "
      f"overlap {found[0, 0]:.2f}", values[0] / outlier, 1, 0.1 * (1000 / n)**0.5)
claim("ours.limits.blind-vector", f"and v has overlap {found[0, 1]:.3f}: nothing learned across",
      found[0, 1], 0, 0.02 * (1000 / n))

# %%
figure, axes = plots.panels(columns=2, width=3.9)
axes[0].hist(values, 40, color=plots.COLOURS[0], alpha=0.6)
plots.level(axes[0], outlier, "predicted outlier", at=0.35, vertical=True)
plots.level(axes[0], edge, "edge", at=0.6, vertical=True)
axes[0].set(xlabel="singular values of $S$", ylabel="how many")
axes[0].set_title("All pairs wrong, yet an outlier", fontsize=11, loc="left")
more = limits.overlaps(0.3, 0.5, 4.0, 1, 2.5, fine)
plots.curves(axes[1], fine, {"$u$": more[0], "$v$": more[1]}, r"share $\eta$ of right pairs",
             "overlap", "The weak side knows better", legend="ends", every=[])
for k in (0, 1):
    axes[1].plot(etas, found[:, k], "o", color=plots.COLOURS[k])
show(figure, alt="Left: histogram of singular values with every pair wrong, one clear outlier. "
                 "Right: overlap of u is high at every share, that of v rises from zero.")

# %% [markdown]
# **So:** an outlier is no evidence for pairs. Shuffle the pairs: what stays in the spectrum is one
# modality's own. Judge by the weak side.
#
# ## 4 Where first order, Theorem 3.1 and the exact curve part
# At the paper's sizes the signal fills a quarter of all dimensions ($d=40$, $r=10$), too many for
# section 1. `finite_size_errors` solves the same problem at finite $d$ (a fixed point in three
# numbers). First order is a straight line in $1/\eta$. So is the theorem's bound, up to
# $\sqrt r$; its constant is open, and 0.33 here.

# %%
names = "multimodal (measured)", "predicted, finite d", "first order", "Theorem 3.1"
some_shares, values = [0.1, *shares[1:]], []
for eta in some_shares:
    p = spiked(paper_n, 40, 40, 10, 1.0, wrong_share=1 - eta, draws=paper_draws, seed=seed)
    model = p.u1[0], p.u2[0], p.noise[0], p.noise_tilde[0]
    values.append((
        sin_theta(fit(p.x, p.x_tilde, 10).g1.mT, p.u1).square().mean().sqrt(),
        finite_size_errors(*model, paper_n, 1.0, eta)[0],
        multimodal_error(*model, paper_n, wrong_share=1 - eta),
        rate_bound(paper_n, eta, *model[2:], 10, constant=0.33)))
curve = dict(zip(names, torch.tensor(values).numpy().T, strict=True))

# %%
ratio = curve["predicted, finite d"] / curve["multimodal (measured)"]
claim("ours.limits.finite-size", f"at the paper's sizes the finite-d prediction is off by "
      f"{ratio.min() - 1:+.1%} to {ratio.max() - 1:+.1%}", np.abs(ratio - 1).max(), 0, 0.1)
p = spiked(500, 40, 40, 10, 0.3, wrong_share=0.5, draws=100, seed=seed)
model = p.u1[0], p.u2[0], p.noise[0], p.noise_tilde[0]
low = sin_theta(fit(p.x, p.x_tilde, 10).g1.mT, p.u1).square().mean().sqrt()
low = low / finite_size_errors(*model, 500, 1.0, 0.5)[0] - 1
claim("ours.limits.finite-size-bias", f"at noise 0.3, half of the pairs right, it is {low:.1%} "
      "low: what it leaves out, of order 1/n, has a sign", low, 0, (0, 0.08))
too_much = curve["first order"][0] / curve["multimodal (measured)"][0]
claim("ours.limits.first-order-parts", f"at a share of {some_shares[0]} first order says "
      f"{too_much:.1f} times the measured error: at least twice", too_much, 2, (0, math.inf))

# %%
figure, (ax,) = plots.panels(width=6.4, height=3.8)
plots.curves(ax, some_shares, curve, r"share $\eta$ of right pairs", r"error $\|\sin\Theta\|_F$",
             "First order parts from the truth at an error of about 1.5", log="xy", legend="ends")
plots.level(ax, 10**0.5, r"$\sqrt{r}$, nothing found", at=0.02)
ax.set_ylim(0.9, 13)
plots.plain_ticks(ax, some_shares)
show(figure, alt="Error against the share of right pairs on logarithmic axes: measured and "
                 "finite-size prediction bend below root r, first order goes on straight.")

# %% [markdown]
# ## 5 Noise with structure: what one modality cannot tell apart
# Sections 1 to 4 had isotropic noise, the best case for PCA. Now one direction of the noise in each
# modality has extra variance $w$, correlated with nothing in the other. PCA takes it for the signal
# as soon as $w>\lambda$; so does masked learning (Lemma 7.1 asks for noise without correlations).
# Infinitely many pairs do not help them. The cross-covariance does not contain this direction.
# But at finite $n$ it makes an outlier by itself, as in section 3, at $\psi=a/\alpha_w$, $\alpha_w
# = w/s^2$.
#
# > **Ours.** The signal stays on top if and only if $F(a/\alpha_w)<0$, that is $\eta >
# > \sqrt a\,(\alpha_w/\alpha-1)/\sqrt{\alpha_w+a}$ for equal modalities.
#
# Above it the overlap is that of section 1, as if the noise had no structure. As $n$ grows this
# share goes to 0 like $n^{-1/2}$. So noise with structure within a modality is the case
# for pairs, even mostly wrong ones.
#
# With several directions the limits are no closed formulas, but roots of the same kind of equation,
# found numerically (`mmcl.beyond.limits_general`). With one direction that is a second route to
# what sections 1 to 3 have in closed form.

# %%
deceived = limits_compared.nuisance_thresholds(0.1, 0.1, 1.5, 1, 1, (2.0, 2.0, 0)).linear
assert np.isclose(deceived, 0.1**0.5 * (2.0 / 1.5 - 1) / (2.0 + 0.1)**0.5)
structured = {"multimodal": [], "PCA": []}
for eta in shares:
    rngs = [np.random.default_rng([seed, 50, k]) for k in range(draws)]
    data = [rows(0.1, 0.1, 1.5, eta, rng, n=3 * n, nuisance=(2.0, 2.0, 0)) for rng in rngs]
    structured["multimodal"].append([leading(*pair)[0] for pair in data])
    structured["PCA"].append([eigh(x.T @ x)[1][0, -1]**2 for x, _ in data])
structured = {name: np.array(some) for name, some in structured.items()}

# %%
# The limits with two directions, signal and structure, in each modality
B, noise = torch.eye(100, 2), torch.eye(100)              # 100 of 1,000: only d/n matters
C, C12 = torch.diag(torch.tensor([1.5, 2.0])), torch.diag(torch.tensor([1.5, 0]))
points = torch.linspace(0.02, 1, 50)
both = [paired_outliers(B, B, C, C, eta * C12, noise, noise, 1000) for eta in points]
exact = np.array([float(found.u[0, 0])**2 for found in both])
alone = [float(unimodal_outliers(B, C, noise, 1000, masked).u[0, 0])**2 for masked in (False, True)]

# %%
cases = [(0.3, 0.5, 4.0, 1, 2.5, eta) for eta in etas] + [(0.25, 1.0, 0.7, 1, 1, 0.8)]
numerical, closed = [], []
for a, b, lam, s1, s2, eta in cases:
    axes = [torch.eye(round(100 * aspect), 1) for aspect in (a, b)]
    noises = [std**2 * torch.eye(len(axis)) for std, axis in zip((s1, s2), axes, strict=True)]
    own = torch.tensor([[lam]], dtype=torch.float64)
    pair, pca = (paired_outliers(*axes, own, own, eta * own, *noises, 100),
                 unimodal_outliers(axes[0], own, noises[0], 100))
    one = limits.outliers(a, b, lam, s1, s2, eta)
    numerical.append([pair.value[0], pair.edge, *(t[0, 0]**2 for t in (pair.u, pair.v, pca.u))])
    closed.append([one.value[0], one.edge, one.u[0], one.v[0],
                   limits_compared.pca_overlap(a, lam, s1)])
apart = np.abs(np.array(numerical) - np.array(closed)).max()

# %%
claim("ours.limits.second-route", "outlier, edge, overlaps of both sides and of PCA: closed "
      f"formulas and the general equations differ by {apart:.0e} at most in {len(cases)} cases",
      apart, 0, 1e-6)
clear = [i for i, eta in enumerate(shares) if abs(eta - deceived) > 0.15]
gap = (structured["multimodal"].mean(1) - np.interp(shares, points, exact))[clear]
claim("ours.correlated.limit", f"noise with structure: the limit predicts the overlap to "
      f"{np.abs(gap).max():.3f} at its worst share", np.abs(gap).max(), 0,
      0.085 * math.sqrt(6000 / (n * draws)))
middle = min(clear, key=lambda i: abs(shares[i] - 0.4))
lead = (structured["multimodal"] - structured["PCA"])[middle].mean()
claim("ours.correlated.multimodal-wins", f"with {1 - shares[middle]:.0%} of the pairs wrong the "
      f"overlap of multimodal learning is {lead:.2f} above PCA's (predicted for PCA and masked "
      f"learning: {max(alone):.3f})", lead, 0.4, (0, math.inf))

# %% [markdown]
# ## 6 Nuisance that both modalities share
# One assumption multimodal learning cannot drop: what correlates is signal. Let the extra direction
# be correlated by $c$ between the modalities, in *every* pair, right or wrong: both recordings come
# from one site. Wrong pairs now shrink the signal and not the nuisance.
#
# Kamai et al. ([arXiv 2606.11190](https://arxiv.org/abs/2606.11190)) compare alignment after
# whitening (CCA) with prediction of $\tilde x$ from $x$ (reduced-rank regression), in the
# population. With variances $g_1, g_2$ of the nuisance, their separation ratios say that the signal
# leads where
#
# - linear loss: $\eta\lambda > c\sqrt{g_1g_2}$ (added by us, as is $\eta$ everywhere),
# - alignment: $\eta\lambda/\sqrt{(\lambda+s_1^2)(\lambda+s_2^2)} >
#   c\sqrt{g_1g_2}/\sqrt{(g_1+s_1^2)(g_2+s_2^2)}$,
# - prediction: $\eta\lambda/\sqrt{\lambda+s_1^2} > c\sqrt{g_1g_2}/\sqrt{g_1+s_1^2}$.
#
# > **Ours, at finite $a$ and $b$.** *Linear:* the larger outlier leads, $F(\psi)<0$ at the $\psi$
# > of the nuisance: section 5 is $c=0$. *Alignment:* sample correlations keep the order of the
# > population's, so nothing changes. *Prediction:* $d_1=an$ regressors fit a share $a$ of anything,
# > so the squares become $(1-a)\,(\cdot)^2+a\lambda$ and $(1-a)\,(\cdot)^2+ag_2$.

# %%
def whitened(x, x_tilde, both):
    """Signal and nuisance in v of alignment (whitens both) or of prediction (whitens x)."""
    factors = [cholesky(t.T @ t, lower=True) for t in (x, x_tilde)]
    inner = solve_triangular(factors[0], x.T @ x_tilde, lower=True)
    if both:  # then v is in whitened coordinates, in which signal and nuisance have equal weight
        inner = solve_triangular(factors[1], inner.T, lower=True).T
    return svds(inner, k=1, v0=np.ones(len(inner)))[2][0, :2]**2

methods = {"linear loss": lambda x, y: leading(x, y)[2:],
           "alignment": lambda x, y: whitened(x, y, True),
           "prediction": lambda x, y: whitened(x, y, False)}

# %%
strengths, grid, c = [0.5, 1.0, 2.2], np.linspace(0.1, 1, 10), 0.4
lead = np.zeros((len(methods), len(strengths), len(grid)))
for i, j, k in itertools.product(range(len(strengths)), range(len(grid)), range(draws)):
    rng, g = np.random.default_rng([seed, 60, i, k]), strengths[i]
    pair = rows(0.01, 0.01, 1.0, grid[j], rng, n=5000, nuisance=(g, g, c))
    for m, method in enumerate(methods.values()):
        signal, nuisance = method(*pair)
        lead[m, i, j] += (signal - nuisance) / draws
changes = statistics.crossing(grid, torch.tensor(lead), torch.zeros(1)).numpy()
lines = [limits_compared.nuisance_thresholds(0.01, 0.01, 1, 1, 1, (g, g, c)) for g in strengths]
expected = np.array([[float(t) for t in line] for line in lines]).T
wide = torch.linspace(0.1, 2.4, 100)
thresholds = limits_compared.nuisance_thresholds(0.01, 0.01, 1, 1, 1, (wide, wide, c))

# %%
for name, gap in zip(methods, np.abs(changes - expected).mean(1), strict=True):
    claim(f"ours.nuisance.{name.split()[0]}", f"{name}: signal and nuisance change places within "
          f"{gap:.3f} of the predicted share, on average over three strengths of the nuisance",
          gap, 0, 0.047 * math.sqrt(6 / draws))

# %%
lines = {"multimodal": exact, "PCA, masked": np.full(len(exact), max(alone))}

# %%
figure, axes = plots.panels(columns=2, width=4.2, height=3.6)
plots.curves(axes[0], points, lines, r"share $\eta$ of right pairs", "overlap of $u$ with $U_1$",
             "Own structure: only pairs help", legend=None, every=[])
for name, values, at in zip(lines, structured.values(), ((0.45, 0.86), (0.6, 0.08)), strict=True):
    axes[0].plot(shares, values.mean(1), **{**plots.look(name), "linestyle": ""})
    axes[0].text(*at, name, color=plots.look(name)["color"], fontsize=9)
axes[1].set(xlabel="variance $g$ of the shared nuisance", ylabel=r"share $\eta$ that is needed")
axes[1].set_title("Whitening pays if nuisance is strong", loc="left", fontsize=11)
for name, line, dots, k in zip(methods, thresholds, changes, (0, 4, 6), strict=True):
    axes[1].plot(wide, line, "-", label=name, color=plots.COLOURS[k], marker="")
    axes[1].plot(strengths, dots, "o", color=plots.COLOURS[k], label="_")
plots.label_ends(axes[1])
show(figure, alt="Left: overlap of multimodal learning rises, that of PCA is zero. Right: share of "
                 "right pairs that three methods need against the variance of a nuisance; they "
                 "cross where it is as strong as the signal.")

# %%
strongest = dict(zip(methods, expected[:, -1], strict=True))
Markdown(f"**So:** with a nuisance 2.2 times as strong as the signal and correlated by {c}, the "
         f"linear loss needs {strongest['linear loss']:.0%} right pairs, prediction "
         f"{strongest['prediction']:.0%}, alignment {strongest['alignment']:.0%}. Under weak "
         "nuisance the order is the reverse.")

# %% [markdown]
# If wrong pairs break the nuisance as well, $c$ shrinks with $\eta$, and more right pairs help no
# method. Nothing in the data tells signal from nuisance then: only a label, or a second site, does.
#
# ## Exercises
# **1.** All pairs are right, and $d_1 = d_2$. Which signal does multimodal learning see that PCA
# does not, if $d/n$ is very small?
# <details><summary>Answer</summary>PCA needs the square root of a. At eta = 1 and small a, psi_e is
# about a, so the other needs a/(psi_e + sqrt(psi_e(1 + psi_e))), about sqrt(a)(1 - sqrt(a)): nearly
# the same, and eta* is about 1 - sqrt(a). The second modality pays in high dimension.</details>
#
# **2.** Units: measure $\tilde x$ in centimetres instead of metres. Which of $\eta_c$, overlaps,
# edge changes?
# <details><summary>Answer</summary>Only the edge, by 100: alpha, beta, a and b are free of units.
# The PCA of the joined rows does change, and the one of section 2 is for equal noise.</details>
#
# **3.** In section 6 let wrong pairs be wrong in the nuisance too, so that $c$ becomes $c\,\eta$.
# For which variances does the linear loss find the signal, in the population?
# <details><summary>Answer</summary>The share eta stands on both sides and cancels: the signal leads
# if lambda > c sqrt(g1 g2), whatever the share of right pairs.</details>

# %%
ledger()
