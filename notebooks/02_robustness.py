# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Robust against wrong pairs
#
# Section 3 of the paper (with 7.2 and 8.3). It claims two things. With the linear loss, multimodal
# contrastive learning (MMCL) finds the directions that two modalities share at the rate
# $1/(\eta\sqrt n)$, where $\eta$ is the share of right pairs among $n$ (Theorem 3.1). And it can do
# better than contrastive learning on one modality, wrong pairs included (the abstract's claim (ii),
# from Lemma 7.1). At the end you will have seen both measured, and where the print needs a
# correction or a condition.
# Before: [chapter 01](01_loss_to_svd.ipynb). Next: [chapter 03](03_clip_and_wrong_pairs.ipynb).
#
# The error is $\lVert\sin\Theta(P_r(G_1),U_1)\rVert_F$, the distance between the row space of the
# encoder $G_1$ and the true directions $U_1$: 0 if they agree, $\sqrt r$ if they are orthogonal.
# Points are means over independent data sets, bands 95 % intervals.

# %% tags=["parameters"]
d: int = 40  # dimension of both modalities, where it is not varied
rank: int = 5  # latent dimension r, and the encoders' output dimension
noise_std: float = 0.7  # standard deviation of each noise coordinate (a latent coordinate has 1)
right_share: float = 0.5  # eta, share of right pairs, where it is not varied
sizes: list = [500, 2000, 8000, 32000]  # numbers n of pairs, increasing
dims: list = [40, 80, 160, 320]  # dimensions at which the bias of masking is shown, increasing
draws: int = 12  # independent data sets per point
seed: int = 0  # of every random number here

# %%
import math

import torch
from IPython.display import Markdown

from mmcl import spectral, theory, unimodal
from mmcl.covariance import cross_covariance, truncated_svd
from mmcl.data import spiked
from mmcl.experiments import section_3
from mmcl.experiments.section_3 import ModelSetting, errors_over_n, methods
from mmcl.metrics import probe_risk, relative_error, sin_theta, top_k_accuracy
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show
from mmcl.notebook.statistics import bootstrap, crossing, interval, slope_of_draws

if not 0 < right_share < 1 or 2 * rank > d or min(draws, len(sizes), len(dims)) < 3:
    raise ValueError(f"{right_share = }, {rank = }, {draws = }: use 0 < right_share < 1, "
                     "rank <= d/2, and at least 3 draws, sizes and dims")

# %% [markdown]
# ## 1 Model (3.2): wrong pairs shrink the signal and leave its directions alone
# > **Model (3.2)** (p. 4). $x_i=U_1^*z_i+\xi_i$, $\tilde x_i=U_2^*\tilde z_i+\tilde\xi_i$, with
# > $z_i=\Sigma_z^{1/2}w_i$ and $\tilde z_i=\Sigma_{\tilde z}^{1/2}\tilde w_i$. For the $n$ pairs
# > $(i,j)$ in $E$, $w_i=\tilde w_j$; observed are $C=\{(1,1),\dots,(n,n)\}$. With
# > $m=|C\cap E|$, $p_n=1-m/n$ is the distortion rate.
#
# A row shows $r$ hidden numbers $z_i$ through orthonormal directions $U_1$, plus noise $\xi_i$.
# $E$ is the truth, $C$ is what we are told, and $p_n=1-\eta$ is the share told wrong. The true
# partner of a wrong row is *another row of the same sample*.

# %%
p_n, inf, model = 1 - right_share, math.inf, dict(d1=d, d2=d, rank=rank, noise_std=noise_std)

def basis(u):  # orthonormal, beginning with the columns of u
    return torch.cat([u, torch.linalg.qr(u, mode="complete")[0][:, u.shape[1]:]], 1)

few = spiked(10, 4, 4, 2, wrong_share=0.4, seed=seed)
told = torch.eye(10)[few.partner] - 0.5 * few.wrong.double().diag()
figure, axes = plots.panels(columns=4, width=2.9, height=2.9)
plots.matrix(axes[0], told, "true (red), told wrong (blue)", limit=1)
for ax, share in zip(axes[1:], (0.0, 0.5, 0.9), strict=True):
    p = spiked(2000, wrong_share=share, seed=seed, **model)
    S = basis(p.u1).T @ cross_covariance(p.x, p.x_tilde) @ basis(p.u2)
    plots.matrix(ax, S[: 3 * rank, : 3 * rank], f"$S$, {share:.0%} of pairs wrong", limit=1)
show(figure, alt="Left, pairs told wrong on the diagonal, true ones off it. Right, S in a basis "
     "of the true directions: its signal fades with wrong pairs, the background stays.")

# %%
# Model (3.2) in ten lines
g, n = torch.Generator().manual_seed(seed), 200

def normal(*shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)

wrong, partner = torch.randperm(n, generator=g)[: round(p_n * n)], torch.arange(n)
partner[wrong] = wrong.roll(1)                          # row i belongs to row partner[i]
u1, u2 = (torch.linalg.qr(normal(d, rank))[0] for _ in range(2))
z = normal(n, rank)
z_tilde = torch.empty_like(z).index_copy_(0, partner, z)
x, x_tilde = (a @ u.T + noise_std * normal(n, d) for a, u in ((z, u1), (z_tilde, u2)))
S = (x - x.mean(0)).T @ (x_tilde - x_tilde.mean(0)) / (n - 1)   # all that the linear loss sees
assert torch.allclose(S, cross_covariance(x, x_tilde))
assert (few.z == few.z_tilde[few.partner]).all()        # `spiked` draws the same model

# %% [markdown]
# **Why.** A right pair adds $U_1\Sigma U_2^\top$ to the mean of $S$,
# $\Sigma=\Sigma_z^{1/2}\Sigma_{\tilde z}^{1/2}$, a wrong pair nothing, and the noises of two
# modalities are uncorrelated. With $m$ right pairs $\mathbb E\,U_1^\top SU_2=\frac{m-1}{n-1}\Sigma$
# (centring costs one), or $\frac mn\Sigma$ if the partners of wrong rows are outside the sample
# ("fresh").

# %%
twenty, left = dict(d1=6, d2=6, rank=3, noise_std=0.5, wrong_share=0.5, draws=20_000), {}
for kind in ("permuted", "fresh"):
    p = spiked(20, wrong=kind, seed=seed, **twenty)
    signal = p.u1.mT @ cross_covariance(p.x, p.x_tilde) @ p.u2
    left[kind] = signal.diagonal(dim1=-2, dim2=-1).mean(-1)
inside, fresh = (float(v.mean()) for v in left.values())
claim("model-3.2.permuted", f"10 of 20 pairs wrong: {inside:.4f} of the signal is left, expected "
      f"9/19 = {9 / 19:.4f}; fresh partners leave {fresh:.4f} (allowed: 4 standard errors)",
      inside, 9 / 19, 4 * left["permuted"].std() / left["permuted"].numel() ** 0.5)

# %%
linear = {"multimodal": methods(rank)["multimodal"]}
each = {kind: interval(errors_over_n([200], linear, seed, draws=8 * draws, wrong_share=p_n,
                                     wrong=kind, **model)["multimodal"]) for kind in left}
texts = [f"{m[0]:.2f} [{low[0]:.2f}, {high[0]:.2f}]" for m, low, high in each.values()]
Markdown(f"**So** (model (3.2): shown): with 10 of 20 pairs wrong, {inside:.3f} of the signal is "
         "left. At $n=200$ the kind of wrong pair no longer matters to the linear loss: its error "
         f"is {texts[0]}, with fresh partners {texts[1]}.")

# %% [markdown]
# ## 2 Section 3.1: a probe sees the right singular space of an encoder and nothing else
# > **Section 3.1** (p. 5). "the fine-tuned predictors in downstream tasks only depend on the
# > right-singular vectors in many cases": with $G_1=VCU^\top$, on $P_r(G_1)=U$.
#
# That is why errors are measured between subspaces. **Why.** A linear predictor on $G_1x$ is
# $w^\top G_1x$. Put $AG_1$ for $G_1$, $A$ invertible: now $A^{-\top}w$ predicts the same. So the
# best predictor, and its risk, depend on the row space of $G_1$ alone.

# %%
p = spiked(1000, seed=seed, **model)
f, A = spectral.fit(p.x, p.x_tilde, rank), normal(rank, rank)
train, test, y = p.x[:500], p.x[500:], p.z[:, :1]

def risk(G, ridge=0.0):
    return float(probe_risk(train @ G.T, y[:500], test @ G.T, y[500:], ridge)[0])

ones = torch.ones(500, 1, dtype=y.dtype)                # least squares by hand
h, h_test = (torch.cat([a @ f.g1.T, ones], 1) for a in (train, test))
by_hand = (h_test @ torch.linalg.lstsq(h, y[:500]).solution - y[500:]).square().mean()
assert math.isclose(by_hand, risk(f.g1), rel_tol=1e-9)
change = abs(risk(A @ f.g1) / risk(f.g1) - 1)
claim("sec-3.1.probe", f"under $G_1\\to AG_1$ the risk of a least-squares probe changes by "
      f"{change:.0e} of itself (allowed 1e-6)", change, 0, 1e-6)

# %% [markdown]
# **Where it stops holding.** A penalty on $w$, and retrieval by cosine, do see $A$.

# %%
ridge, with_a = risk(f.g1, 1.0), risk(A @ f.g1, 1.0)
top = [float(top_k_accuracy(p.x @ G.T, p.x_tilde @ f.g2.T)) for G in (f.g1, A @ f.g1)]
Markdown(f"**So** (Section 3.1: shown): least squares has the risk {risk(f.g1):.3f} whatever $A$ "
         f"is. With a penalty it goes from {ridge:.3f} to {with_a:.3f}, and top-1 retrieval from "
         f"{top[0]:.2f} to {top[1]:.2f}.")

# %% [markdown]
# ## 3 Theorem 3.1: one constant bounds the error in 43 settings
# > **Assumption 3.1** (p. 5). The condition numbers of $\Sigma_z,\Sigma_{\tilde z}$ are bounded.
# > **Assumption 3.2** (p. 5). $\lVert\Sigma_z\rVert/\lVert\Sigma_\xi\rVert\ge s_1^2$ and
# > $\lVert\Sigma_{\tilde z}\rVert/\lVert\Sigma_{\tilde\xi}\rVert\ge s_2^2$.
# >
# > **Theorem 3.1** (p. 5). Let $G_1,G_2$ minimise the linear loss (3.1). If $p_n\le1-\eta$, then
# > with probability $1-O(n^{-1})$
# > $$\lVert\sin\Theta(P_r(G_1),U_1^*)\rVert_F\vee\lVert\sin\Theta(P_r(G_2),U_2^*)\rVert_F\lesssim
# > \sqrt r\wedge\frac1\eta
# > \sqrt{\frac{r\,(r+r(\Sigma_\xi)+r(\Sigma_{\tilde\xi}))\log(n+d_1+d_2)}n}.$$
#
# The effective rank $r(A)=\operatorname{tr}A/\lVert A\rVert$ counts the directions that noise
# fills. $\lesssim$ hides one constant $C$, which may depend on $\sigma,s_1,s_2$ and the condition
# numbers (p. 19). With the paper's $\varepsilon_n$ (p. 19) for the root without its first $r$, the
# bound is $\sqrt r\,\min(1,C\varepsilon_n/\eta)$. Wrong pairs cost the factor $1/\eta$, which
# $1/\eta^2$ times the data repay.
#
# No set of settings can refute a bound with a free constant; what can fail are its rates, and one
# $C$ for all. We vary $n$, $\eta$, $r$, $d_1$, $d_2$, effective rank and noise, which is at most as
# strong as the signal. $C$ is fixed beforehand: the first-order formula below (ours) says what each
# setting needs, $C^2=\sigma^2(1+\sigma^2)/\log(n+d_1+d_2)$ with noise variance $\sigma^2$, and we
# take the largest.

# %%
settings = section_3.theorem_3_1_settings()
beyond = [ModelSetting("outside", n=8000, **k) for k in ({"noise_std": 2}, {"condition": 16})]
every, count = settings + beyond, len(settings)
measured, predicted = section_3.sweep(every, draws, seed)         # (settings, 2 encoders, draws)
root = torch.tensor([s.rank**0.5 for s in every])
shape = torch.tensor([s.epsilon / s.right_share for s in every])
error = measured.amax(1).mean(-1) / root                # of the worse encoder, per sqrt(r)
rms, first = (a.square().mean((1, 2)).sqrt() / root for a in (measured, predicted))
needs = [s.noise_std * ((1 + s.noise_std**2) / math.log(s.n + s.d1 + s.d2)) ** 0.5
         for s in settings]
C = max(needs)

# %%
figure, axes = plots.panels(columns=2, width=4.9, height=4.1)
at = {s.varied: [k for k, t in enumerate(every) if t.varied == s.varied] for s in every}
for ax, x, y, name, title in (
    (axes[0], shape, error, r"rate $\varepsilon_n/\eta$", f"Theorem 3.1: one bound, $C={C:.2f}$"),
    (axes[1], first, rms, r"predicted error $/\sqrt{r}$", "Ours: each constant predicted")):
    plots.curves(ax, {w: x[k] for w, k in at.items()}, {w: y[k] for w, k in at.items()}, name,
                 r"measured error $/\sqrt{r}$", title, log="xy", legend=None)
    for line in ax.get_lines():
        line.set(linestyle="", markersize=7, alpha=0.8)
    line = torch.logspace(math.log10(x.min()), math.log10(x.max()), 50)
    plots.guide(ax, line, (line * (C if ax is axes[0] else 1)).clamp(max=1), "bound | prediction")
    plots.plain_ticks(ax)
plots.legend_below(figure, axes[0], columns=4)
show(figure, alt="Measured errors: against the bound, one cloud below its line, and above it where "
     "noise exceeds signal; against the first-order prediction, points on the diagonal.")

# %%
largest = measured.amax((1, 2)) / root                  # over data sets and encoders
share_of = float((largest / (C * shape).clamp(max=1))[:count].max())
claim("thm-3.1.one-constant", f"with C = {C:.2f} the error of each of {count * draws} data sets in "
      f"{count} settings is at most {share_of:.2f} of the bound (allowed 1)", share_of, 1, (inf, 0))


# %%
def rate(varied, of):  # log-log slope at noise 0.3, where nothing saturates, and what is allowed
    at = [k for k, s in enumerate(settings) if s.varied == varied and s.noise_std == 0.3]
    both = measured[at].square().mean(1).sqrt()
    slope, standard_error = slope_of_draws([of(settings[k]) for k in at], both)
    return slope, 0.04 + 4 * standard_error             # 0.04: terms beyond the first order

in_n, allowed = rate("pairs n", lambda s: s.n)
claim("thm-3.1.rate-in-n", f"the error goes as n to the power {in_n:.3f} (allowed: {allowed:.3f} "
      "from -1/2)", in_n, -0.5, allowed)
in_eta, allowed = rate("right pairs", lambda s: s.right_share)
claim("thm-3.1.rate-in-eta", f"the error goes as $\\eta$ to the power {in_eta:.3f} (allowed: "
      f"{allowed:.3f} from -1)", in_eta, -1, allowed)

# %% [markdown]
# **Why.** The mean of $S$ is $\eta\,U_1\Sigma_zU_2^\top$, with singular values of order $\eta$. The
# rest of $S$ has norm about $\varepsilon_n$, by a matrix Bernstein bound: hence effective ranks and
# logarithm. The encoders are the leading singular vectors of $S$ (Lemma 2.1), and these turn by at
# most noise over gap (Davis and Kahan; Yu et al., 2015).
#
# > **Ours.** To first order in $1/\sqrt n$ the constant is known. With $P=I-U_1U_1^\top$,
# > $$\mathbb E\lVert\sin\Theta(P_r(G_1),U_1)\rVert_F^2\approx\frac1{\eta^2n}
# > \operatorname{tr}(P\Sigma_\xi)\,
# > \operatorname{tr}\bigl((\Sigma_z+U_2^\top\Sigma_{\tilde\xi}U_2)\Sigma_z^{-2}\bigr),$$
# > the mean of $\lVert P(S-\mathbb ES)U_2(\eta\Sigma_z)^{-1}\rVert_F^2$. No logarithm is needed.

# %%
usable = [k for k in range(count) if first[k] < 0.3]
off, squares = rms[usable] / first[usable] - 1, measured[usable].square().flatten(1)
k = int(off.abs().argmax())
spread = float(squares[k].std() / squares[k].mean()) / (2 * (2 * draws) ** 0.5)
claim("thm-3.1.first-order", f"the first-order formula predicts the error to {abs(off[k]):.1%} at "
      f"its worst of {len(usable)} settings below $0.3\\sqrt r$ (allowed {0.08 + 4 * spread:.1%})",
      off[k], 0, 0.08 + 4 * spread)                     # 8 %: terms beyond the first order

# %% [markdown]
# The bound counts $r+r(\Sigma_\xi)+r(\Sigma_{\tilde\xi})$ directions where the error has the
# $d_1-r$ of $P$. So with the $C$ that it needs, a setting of isotropic noise should fill the part
# $\sqrt{(d_1-r)/(r+d_1+d_2)}$ of the bound, whatever $n$, $\eta$ and $\sigma$ are (of both encoders
# the mean, if $d_1\ne d_2$). A rate that is wrong in any of them would show here.

# %%
white = [(k, s) for k, s in enumerate(settings) if k in usable and not s.decay]
bounds = torch.stack([theory.rate_bound(s.n, s.right_share, *s.covariances, s.rank, needs[k])
                      for k, s in white])
parts = [((s.d1 + s.d2 - 2 * s.rank) / 2 / (s.rank + s.d1 + s.d2)) ** 0.5 for _, s in white]
squares = measured[[k for k, _ in white]].square().flatten(1)
off = squares.mean(1).sqrt() / (bounds * torch.tensor(parts)) - 1
typical, varies = off.square().mean().sqrt(), squares.std(1) / squares.mean(1)
allowed = 0.02 + varies.square().mean().sqrt() / (2 * draws) ** 0.5  # two standard errors
claim("thm-3.1.needed-constant", f"in {len(white)} settings of isotropic noise the error is the "
      f"predicted part of the bound, each with its own $C$, to {typical:.1%} (root mean square; "
      f"allowed {allowed:.1%})", typical, 0, allowed)

# %% [markdown]
# **Outside these settings** our $C$ is too small, as the theorem allows: noise of twice the
# signal's standard deviation, or a signal of condition number 16, needs a larger one. At small
# noise the bound is generous: $\varepsilon_n$ does not shrink with it.

# %%
own = (error / shape)[usable]
Markdown(f"**So** (Theorem 3.1: shown): $C={C:.2f}$ bounds {count} settings, which need from "
         f"{own.min():.3f} (noise 0.1) to {own.max():.2f}; the error goes as $n^{{{in_n:.2f}}}$ "
         f"and $\\eta^{{{in_eta:.2f}}}$.")

# %% [markdown]
# ## 4 Theorem 8.1, Corollary 8.1: a missing factor, and how fast the share of right pairs may fall
# > **Theorem 8.1** (p. 19).
# > $\lVert G_1^\top G_2-\frac1\rho U_1^*\Sigma U_2^{*\top}\rVert\le\frac C\rho\,\varepsilon_n$,
# > with $\Sigma=\Sigma_z^{1/2}\Sigma_{\tilde z}^{1/2}$, and both errors are $\lesssim\sqrt r\wedge
# > \frac{\sqrt r}{1-p_n}\,\varepsilon_n\bigl(1+\frac{\varepsilon_n}{1-p_n}\bigr)$.
# >
# > **Corollary 8.1** (p. 19). Theorem 3.1 for any $\eta\in(0,1]$, so $\eta$ may fall as $n$ grows.
#
# **Erratum.** The first display fails for $p_n>0$: the mean of $S$ is $(1-p_n)U_1\Sigma U_2^\top$,
# as the proof itself says. The limit needs the factor $1-p_n$. The bound on the errors is right.

# %%
def from_limits(n):  # distances of rho G1^T G2 = SVD_r(S) from the printed and the right limit
    p = spiked(n, wrong_share=p_n, draws=draws, seed=seed + n, **model)
    S, truth = cross_covariance(p.x, p.x_tilde), p.u1 @ p.u2.mT
    u, s, v = truncated_svd(S, rank)
    M, right = (u * s.unsqueeze(-2)) @ v.mT, right_share * truth
    far, near, noise = (torch.linalg.matrix_norm(a, 2) for a in (M - truth, M - right, S - right))
    assert (near <= 2 * noise).all()                                                # (8.3)
    return far, near

printed, corrected = (torch.stack(a) for a in zip(*map(from_limits, sizes), strict=True))
far, (slope, one) = float(printed[-1].mean()), slope_of_draws(sizes, corrected)
claim("thm-8.1.printed-limit", f"at n = {sizes[-1]} $\\rho G_1^\\top G_2$ is {far:.3f} away from "
      f"the printed limit (at least $p_n$ = {p_n:g}, where it stays)", far, p_n, (0.02, inf))
claim("thm-8.1.right-limit", f"with the factor $1-p_n$ the distance falls as n to the power "
      f"{slope:.3f} (allowed: {0.04 + 4 * one:.3f} from -1/2)", slope, -0.5, 0.04 + 4 * one)

# %% [markdown]
# How fast may $\eta$ fall? The corollary wants $\eta\sqrt n\to\infty$, up to a logarithm. With
# $\eta=n^{-a}$ the error should go as $n^{a-1/2}$ if $a<\frac12$, and stay if $a\ge\frac12$. It
# stays below $\sqrt r$: even without a right pair the noise of $S$ is larger along $U_1$, where $x$
# varies more, so its singular vectors lean towards $U_1$.

# %%
powers, easy = (0.0, 0.25, 0.5, 0.75), dict(d1=10, d2=10, rank=2, noise_std=0.5, draws=draws + 24)
pair = {"multimodal": methods(2)["multimodal"]}
fading = {f"$\\eta=n^{{-{a:g}}}$" if a else r"$\eta=1$": errors_over_n(
    sizes, pair, seed, wrong_share=lambda n, a=a: 1 - n**-a, **easy)["multimodal"] for a in powers}
rates, ones = zip(*(slope_of_draws(sizes, v) for v in fading.values()), strict=True)
gaps = [float(found - min(a - 0.5, 0)) for a, found in zip(powers, rates, strict=True)]
allowed = 0.04 + 4 * float(max(ones))
claim("cor-8.1.share-may-fall", "slopes of the error for $\\eta=n^{-a}$, a = 0, 1/4, 1/2, 3/4: "
      + ", ".join(f"{v:.2f}" for v in rates) + f"; wanted -1/2, -1/4, 0, 0 (allowed {allowed:.2f})",
      max(gaps, key=abs), 0, allowed)

# %%
figure, axes = plots.panels(columns=2, width=5.2)
panel = dict(xlabel="pairs $n$", log="xy", legend="ends")
limits = {"from printed": interval(printed), "from $1-p_n$ times it": interval(corrected)}
plots.curves(axes[0], sizes, limits, ylabel=r"distance of $\rho\,G_1^\top G_2$ from the limit",
             title="The limit needs the factor $1-p_n$", **panel)
plots.level(axes[0], p_n, "$p_n$")
plots.curves(axes[1], sizes, {m: interval(v) for m, v in fading.items()},
             ylabel=r"error $\|\sin\Theta\|_F$",
             title=r"Their share may fall, slower than $1/\sqrt{n}$", **panel)
for ax in axes:
    plots.plain_ticks(ax, sizes)
show(figure, alt="Left: the distance from the printed limit stays at p_n, that from the right one "
     "falls. Right: the error falls for eta = 1 and n^-1/4 and is flat for n^-1/2, n^-3/4.")

# %%
Markdown("**So** (Theorem 8.1, first display: differs; Corollary 8.1: shown): at "
         f"$n={sizes[-1]}$ the printed limit is missed by {far:.3f}, the one with $1-p_n$ by "
         f"{corrected[-1].mean():.3f}; with $\\eta=n^{{-1/4}}$ the error still falls, as "
         f"$n^{{{rates[1]:.2f}}}$.")

# %% [markdown]
# ## 5 Lemma 7.1: masking erases the diagonal, and with it a part of the signal
# > **Lemma 7.1** (p. 14, from Ji et al.). Let $n>d\gg r$, the condition numbers of $\Sigma_\xi$,
# > $\Sigma_{\tilde\xi}$ be bounded, and $I(U^*)=\max_i\lVert e_i^\top U^*\rVert^2=O(r\log d/d)$.
# > With random masking, $\mathbb E\lVert\sin\Theta(U_1^*,P_r(G_1^u))\rVert_F\lesssim
# > \frac{r^{3/2}}d\log d+\sqrt{\frac{dr}n}$.
#
# This is contrastive learning on one modality (*masking* for short; $G_1^u$ is its encoder). A row
# is seen twice, as $Ax$ and as $(I-A)x$; the mask $A$ keeps each coordinate with probability
# $\frac12$. Averaged over masks, the linear loss decomposes the covariance of $x$ *with its
# diagonal set to 0*; the encoder is its top $r$ eigenvectors. No pairs are needed, so none is
# wrong. The price is the first term, a bias that no $n$ removes. $I(U)$, the incoherence, is large
# when the signal sits on few coordinates. The paper compares this bound with Theorem 3.1's. Two
# upper bounds cannot show that one method is worse, so we compute the bias itself.

# %%
u, noises = torch.linalg.qr(normal(10, 2))[0], torch.linspace(0.5, 1.5, 10).double().diag()
bases = [torch.linalg.qr(normal(2 * draws, m, rank))[0] for m in dims]
bias = torch.stack([theory.masked_bias(v, torch.eye(v.shape[1]).double()) for v in bases])
law = [(2 * rank * (rank + 2)) ** 0.5 / m for m in dims]
figure, axes = plots.panels(columns=4, width=3.1, height=2.9)
plots.matrix(axes[0], u @ u.T + noises, "1  signal $UU^\\top$ + noise", limit=1)
plots.matrix(axes[1], unimodal.without_diagonal(u @ u.T), "2  masked: noise erased", limit=1)
plots.matrix(axes[2], (u @ u.T).diag().diag(), "3  signal erased too", limit=1)
terms = {"masked": interval(bias), "predicted": law,
         "paper, constant 1": [rank**1.5 * math.log(m) / m for m in dims]}
plots.curves(axes[3], dims, terms, "dimension $d$", "", "4  bias: falls as $1/d$", "xy", "ends")
plots.plain_ticks(axes[3], dims)
show(figure, alt="The covariance; without its diagonal; the erased diagonal of the signal; the "
     "bias that follows falls as 1/d, far below the printed bound.")

# %%
from mmcl.experiments import playable
from mmcl.notebook import play

play.ellipses(playable.ellipses(angle=120, wrong_share=0.3))

# %%
# All 2^6 masks: the mean cross-covariance of the two views
x = spiked(50, 6, 6, 2, seed=seed).x
masks = torch.cartesian_prod(*6 * [torch.tensor([0.0, 1.0], dtype=x.dtype)])
S = torch.stack([cross_covariance(a * x, (1 - a) * x) for a in masks]).mean(0)
away = relative_error(S, unimodal.without_diagonal(cross_covariance(x, x)) / 4)
assert sin_theta(unimodal.fit_masked(x, 2).T, torch.linalg.eigh(S)[1][:, -2:]) < 1e-6
claim("lem-7.1.diagonal", f"over all 64 masks the mean of S is a quarter of the covariance without "
      f"its diagonal, to {away:.0e} (allowed 1e-12)", away, 0, 1e-12)

# %% [markdown]
# **Why.** $\mathbb E\,a_i(1-a_j)$ is $\frac14$ for $i\ne j$ and 0 for $i=j$. Uncorrelated noise
# lives on the diagonal and vanishes, but $D=\operatorname{diag}(UU^\top)$ goes with it, and that
# turns the leading eigenvectors by $PDU$, $P=I-UU^\top$. For random directions
# $\lVert PDU\rVert_F\approx\sqrt{2r(r+2)}/d$ (ours): the printed term is an upper bound, loose by
# $\sqrt r\log d$.

# %%
v = bases[-1]
turned = v.square().sum(-1, keepdim=True) * v           # D U, and below its part across U
turned = (turned - v @ (v.mT @ turned)).norm(dim=(-2, -1))
close = (bias[-1] / turned).mean()
claim("lem-7.1.bias", f"at d = {dims[-1]} the bias is {close:.3f} times $\\lVert PDU\\rVert_F$, "
      "data set by data set (allowed: 0.05 from 1)", close, 1, 0.05)
ratio, spread = bias[-1].square().mean().sqrt() / law[-1], bias[-1].std() / bias[-1].mean()
allowed = 3 * rank / dims[-1] + 4 * float(spread) / (2 * draws) ** 0.5
claim("lem-7.1.bias-in-d", f"and on average {ratio:.2f} times $\\sqrt{{2r(r+2)}}/d$ (allowed: 3r/d "
      f"and 4 standard errors, {allowed:.2f})", ratio, 1, allowed)

# %%
q = spiked(2, d, d, rank, noise_std=1.0, seed=seed)
found = errors_over_n(sizes[2:3], methods(rank), seed, draws=draws, axes=(q.u1, q.u2),
                      **model | {"noise_std": 1.0})
beside = found["masked"].square().mean() - theory.masked_bias(q.u1, q.noise) ** 2
same = (beside / found["multimodal"].square().mean()).sqrt()
claim("lem-7.1.variance", f"the rest of masking's error is {same:.2f} times the error of MMCL "
      "without wrong pairs (allowed: 0.2 from 1)", same, 1, 0.2)

# %%
Markdown("**So** (Lemma 7.1: shown in part): masking has the variance of MMCL on right pairs and a "
         f"bias: {bias[0].mean():.2f} at $d={dims[0]}$, {bias[-1].mean():.3f} at $d={dims[-1]}$.")

# %% [markdown]
# ## 6 Claim (ii): with wrong pairs, MMCL overtakes masking at a predictable n
# > **Abstract, (ii)** (p. 1). "the feature learning ability of MMCL can be better than that of
# > unimodal contrastive learning applied to each modality even under the presence of wrongly
# > matched pairs."
#
# Wrong pairs multiply MMCL's variance by $1/\eta^2$ and give it no bias. So masking leads at small
# $n$, MMCL at large $n$. **Why.** The squared errors are $a/n$, and $b^2+V/n$ with the bias $b$.
# They are equal at $n^*=(a-V)/b^2$. As $a$ and $V$ grow with $d$ and $b$ falls as $1/d$, $n^*$
# grows as $d^3$: in high dimension masking leads for long. We race them at $d=20$, $r=4$, noise
# 0.5.

# %%
wide = dict(d1=20, d2=20, rank=4, noise_std=0.5)
q = spiked(2, seed=seed + 5, **wide)
truth = (q.u1, q.u2, q.noise, q.noise_tilde)
A, b = theory.multimodal_error(*truth, 1, wrong_share=p_n) ** 2, theory.masked_bias(q.u1, q.noise)
V = 1e6 * (theory.unimodal_error(q.u1, q.noise, 1e6) ** 2 - b**2)
star = float((A - V) / b**2)
assert math.isclose(star, theory.overtaking_n(*truth, wrong_share=p_n), rel_tol=1e-6)
near = [max(50, 10 * round(star * 2**k / 10)) for k in (-2, -1, 0, 1, 2)]
race = errors_over_n(near, methods(4), seed, draws=6 * draws, axes=truth[:2], wrong_share=p_n,
                     **wide)

# %%
three = torch.tensor(near[1:4]).double().log()
met, low, high = (float(v) for v in bootstrap(
    lambda a, b: crossing(three, a.log(), b.log()).exp(),
    race["masked"][1:4].square(), race["multimodal"][1:4].square()))
more = [spiked(2, m, m, 4, noise_std=0.5, draws=24, seed=seed) for m in (40, 80)]
far = torch.stack([theory.overtaking_n(p.u1, p.u2, p.noise, p.noise_tilde, wrong_share=p_n).log()
                   for p in more])
cubic, one = float(far[1].mean() - far[0].mean()) / math.log(2), float(far.var(1).sum() / 24) ** 0.5
claim("abstract-ii.cubic", f"from d = 40 to 80 predicted n* grows as d to the power {cubic:.2f}, "
                           f"to "
      f"{float(far[1].mean().exp()):,.0f} (3; allowed 0.2 and 4 standard errors)", cubic, 3,
      0.2 + 4 * one / math.log(2))
claim("abstract-ii.overtaking", f"MMCL overtakes masking at n = {met:.0f} [{low:.0f}, {high:.0f}], "
      f"predicted {star:.0f} (allowed 30 %)", met / star, 1, 0.3)

# %% [markdown]
# **Where learning from one modality fails.** The same share of pairs is wrong, noise 1:
#
# - *a signal axis*: $U_1$ contains the coordinate $e_1$; noise $I+\frac12ww^\top$, $w$ random and
#   orthogonal to $U_1$, so that something else can take its place. Masking erases $e_1$: its
#   incoherence condition is needed. MMCL has none.
# - *unequal variances*: $r$ noise coordinates have variance 4, more than the signal's 1; the others
#   0.2 to 1. They lead the covariance, so PCA (linear autoencoders) never finds the signal: its
#   error "stays constant" (p. 6). Masking erases them.
# - **Erratum**, *correlated noise*: $\frac12I+3WW^\top$, $W$ random, has condition number 7, within
#   the lemma. Its directions $W$ lead the covariance, with the diagonal or without, so masking
#   fails at any $n$ and $d$. The lemma needs (nearly) diagonal $\Sigma_\xi$.

# %%
axis, tilted = section_3.one_signal_axis(d, rank, seed)
cases = {"a signal axis": {"axes": axis, "noise": tilted},
         "unequal variances": {"noise": "diagonal"}, "correlated noise": {"noise": "correlated"}}
loud = dict(d1=d, d2=d, rank=rank, noise_std=1.0)
over = {name: errors_over_n(sizes, methods(rank), seed, draws=draws, wrong_share=p_n,
                            **loud, **case) for name, case in cases.items()}
last = {name: {m: float(v[-1].mean()) for m, v in found.items()} for name, found in over.items()}

# %%
figure, axes = plots.panels(columns=2, rows=2, width=5.2, height=3.2)
panel["ylabel"] = r"error $\|\sin\Theta\|_F$"
plots.curves(axes[0], near, {m: interval(v) for m, v in race.items()},
             title=f"MMCL overtakes at n = {met:.0f}", **panel)
plots.level(axes[0], star, f"predicted {star:.0f}", at=0.7, vertical=True)
titles = ("A signal axis: masking loses it", "Unequal variances: PCA fails, masking leads",
          "Correlated noise: only pairs help")
for ax, title, found in zip(axes[1:], titles, over.values(), strict=True):
    plots.curves(ax, sizes, {m: interval(v) for m, v in found.items()}, title=title, **panel)
for ax, at in zip(axes, (near, sizes, sizes, sizes), strict=True):
    plots.plain_ticks(ax, at)
show(figure, alt="Four panels of error against n: MMCL falls in all; masking flattens at its bias, "
     "loses one direction on an axis, and fails under correlated noise; PCA fails in two.")

# %%
axis_error = last["a signal axis"]["masked"]
claim("lem-7.1.incoherence", f"a signal axis: masking has the error {axis_error:.2f} at n = "
      f"{sizes[-1]}, one direction lost (at least 0.95)", axis_error, 0.95, (0, inf))
flat, one = slope_of_draws(sizes, over["unequal variances"]["PCA"])
claim("sec-3.2.pca-constant", f"unequal variances: PCA's error goes as n to the power {flat:.3f} "
      f"(allowed: {0.01 + 4 * one:.3f} from 0)", flat, 0, 0.01 + 4 * one)
pops = [theory.masked_bias(p.u1, p.noise).mean() for m in (d, 4 * d)
        for p in [spiked(2, m, m, rank, noise_std=1.0, noise="correlated", draws=8, seed=seed)]]
claim("lem-7.1.correlated-noise", f"noise of condition number 7: masking's bias is {pops[0]:.2f} "
      f"at d = {d} and {pops[1]:.2f} at {4 * d}, no smaller (allowed: 5 %)",
      pops[1] / pops[0], 1, (0.05, inf))

# %%
ahead = []
for name, case in cases.items():
    p = spiked(2, draws=50, seed=seed, **loud, **case)
    first = theory.multimodal_error(p.u1, p.u2, p.noise, p.noise_tilde, sizes[-1], 1.0, p_n)
    ahead.append((over[name]["multimodal"][-1].square().mean() / first.square().mean()).sqrt() - 1)
worst = max(map(float, ahead), key=abs)
claim("abstract-ii.no-condition", f"in all three cases MMCL's error at n = {sizes[-1]} is the "
      f"first-order one to {abs(worst):.1%} (allowed 15 %)", worst, 0, 0.15)

# %%
mm = {name: v["multimodal"] for name, v in last.items()}
Markdown(f"**So** (abstract (ii): shown): with {p_n:.0%} of the pairs wrong MMCL overtakes masking "
         f"at $n={met:.0f}$ (predicted {star:.0f}; it grows as $d^3$); with a signal axis "
         f"its error is {mm['a signal axis']:.2f} at $n={sizes[-1]}$, masking's {axis_error:.2f}. "
         "In the first two panels PCA, which has no bias there, is best throughout.")

# %% [markdown]
# ## Exercises
# 1. What is $\mathbb E\,U_1^\top SU_2$ if all pairs are wrong?
# <details><summary>Answer</summary>
#
# With $m=0$ it is $-\Sigma/(n-1)$: the true partner is among the strangers, so the signal is small,
# negative, and gone as $n$ grows.
# </details>
#
# 2. A fifth of the pairs is right. How many times more pairs repay the wrong ones? And if someone
#    removed exactly the wrong ones?
# <details><summary>Answer</summary>
#
# The error goes as $1/(\eta\sqrt n)$: $1/\eta^2=25$ times. Without the wrong pairs it would be
# $1/\sqrt{\eta n}$: 5 times. Chapter 14 asks what a filter can do.
# </details>
#
# 3. Which directions $U$ does masking find without bias? Try `theory.masked_bias`.
# <details><summary>Answer</summary>
#
# Those with $D=\operatorname{diag}(UU^\top)=\frac rdI$, since then $PDU=0$: columns of a Hadamard
# matrix over $\sqrt d$, for example. The most incoherent signal loses nothing.
# </details>

# %% [markdown]
# ## What was claimed, and what came out

# %%
ledger()
