# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 From the loss to a singular value decomposition
#
# Section 2 of the paper, with 7.4, 8.1 and 8.2. For a whole class of contrastive losses the data
# enter the gradient through one matrix, the *contrastive cross-covariance* $S(\beta)$, and a
# gradient step climbs an objective whose maximum is a truncated singular value decomposition (SVD)
# of it. The step is not itself an SVD: section 5 says what "each step is an SVD" can mean. Before:
# [chapter 00](00_read_me_first.ipynb). Next: [chapter 02](02_robustness.ipynb).
#
# Rows are samples; $x_i\in\mathbb R^{d_1}$ and $\tilde x_i\in\mathbb R^{d_2}$ are a pair. Encoders
# are matrices $G_1$ ($r\times d_1$) and $G_2$ ($r\times d_2$), similarities are
# $s_{ij}=\langle G_1x_i,G_2\tilde x_j\rangle$, and $M=G_1^\top G_2$. The penalty is
# $R=\frac\rho2\lVert M\rVert_F^2$, $\rho>0$.

# %% tags=["parameters"]
n: int = 60  # pairs
d1: int = 12  # dimension of the first modality
d2: int = 11  # dimension of the second modality
d3: int = 10  # dimension of the third modality
rank: int = 3  # the encoders' output dimension r, and the dimension of what the modalities share
noise_std: float = 0.3  # standard deviation of each noise coordinate (a shared coordinate has 1)
tau: float = 1.0  # temperature of CLIP
rho: float = 1.0  # weight of the penalty rho/2 ||G1^T G2||_F^2
nus: list = [1.0, 1.1, 1.5, 3.0]  # nu of (8.1), the weight of an observed pair, >= 1
epss: list = [0.0, 0.5, 1.0, 2.0]  # eps of (8.1), the weight of the pair's own term, >= 0
draws: int = 10  # independent data sets of Section 5
steps: int = 60  # gradient steps drawn
seed: int = 0  # of every random number here

# %%
import itertools

import numpy as np
import torch
from IPython.display import Markdown
from scipy.optimize import minimize

from mmcl import data, modalities, spectral, training
from mmcl.covariance import cross_covariance, loss_and_covariance, truncated_svd
from mmcl.experiments.six_pairs import six_pairs
from mmcl.losses import LOSSES
from mmcl.metrics import relative_error, sin_theta
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show
from mmcl.notebook.statistics import loglog_slope

if rank + 2 > min(d1, d2, d3):
    raise ValueError(f"rank = {rank}; use at most min(d1, d2, d3) - 2 = {min(d1, d2, d3) - 2}")

# %% [markdown]
# The whole chapter on six pairs, all right ones, and $\nu=1$. The encoders read two coordinates, so
# a similarity is an inner product of two short vectors. CLIP turns similarities into weights: each
# pair is pulled together (red), and strangers are pushed apart (blue), the more so the more they
# resemble each other. $S$ is the weighted sum of all $x_i\tilde x_j^\top$. It is all that the
# gradient sees.

# %%
x, x_tilde, u1, u2, _ = six_pairs()
s = (x @ u1) @ (x_tilde @ u2).T
W = LOSSES["clip"](tau=2.0).weights(s)
S = (x.T @ W @ x_tilde / 6).round(decimals=2) + 0     # + 0: no "-0.00"
figure, (one, two, three, four) = plots.panels(columns=2, rows=2, width=3.7, height=3.3)
plots.matrix(one, torch.hstack([x, x_tilde]), r"1  data: $x$, $\tilde x$", numbers="{:.0f}")
one.axvline(2.5, color="black", linewidth=3)
plots.matrix(two, s, r"2  similarities $s=xG_1^\top G_2\tilde x^\top$", numbers="{:.0f}")
plots.matrix(three, W.round(decimals=2) + 0, r"3  CLIP's weights $W$, $\tau=2$", numbers="{:.2f}")
plots.matrix(four, S, r"4  $S=\frac{1}{6}\,x^\top W\tilde x$", numbers="{:.2f}")
show(figure, alt="Heat maps with numbers: six pairs, their similarities, CLIP's weights, and S.")

# %% [markdown]
# ## 1 Eq. (2.1) and (8.1): one class holds the usual losses
# > **Eq. (8.1)** (p. 18; eq. (2.1), p. 3, is $\nu=1$).
# > $$L=\frac1{2C_n}\sum_i\phi\Big(\sum_j\epsilon_{ij}\,\psi(s_{ij}-\nu s_{ii})\Big)
# > +\frac1{2C_n}\sum_i\phi\Big(\sum_j\epsilon_{ij}\,\psi(s_{ji}-\nu s_{ii})\Big)+R,$$
# > $\phi,\psi$ smooth and non-decreasing, $\epsilon_{ij}=1$ for $i\ne j$,
# > $\epsilon_{ii}=\epsilon\ge0$, $\nu\ge1$.
#
# Each pair is compared with all strangers of its row and of its column. $\psi$ says how much one
# stranger counts, $\phi$ how their sum counts, $\epsilon$ how much the pair's own term enters it.
# $\nu>1$ gives observed pairs another temperature than strangers. $C_n$ normalises.
#
# | loss | $\phi(t)$ | $\psi(t)$ | $\epsilon$ | $C_n$ | `LOSSES[...]` |
# |---|---|---|---|---|---|
# | linear, eq. (3.1) | $t$ | $t$ | any | $n(n-1)$ | `linear` |
# | InfoNCE: CLIP, ALIGN at $\epsilon=1$ | $\tau\log t$ | $e^{t/\tau}$ | 1 | $n$ | `clip` |
# | MINE | $\log t$ | $e^t$ | 0 | $n$ | `mine` |
# | soft triplet, margin $m$ | $\tau\log(1+t)$ | $e^{t/\tau+m}$ | 0 | $n$ | `soft_triplet` |
# | $N{+}1$ tuplet | $\log(1+t)$ | $e^t$ | 0 | $n$ | `n_plus_1_tuplet` |
# | modified triplet, slope $c$ | $t$ | $1/(1+e^{-ct})$ | 0 | $n$ | `modified_triplet` |
#
# The table is ours. MINE is InfoNCE with $\tau=1$, $\epsilon=0$; the tuplet loss is the soft
# triplet with $\tau=1$, $m=0$. Outside the class: `triplet`, whose $\psi=\max(t+m,0)$ has a kink;
# `lifted_structured`, whose $\phi=\max(\log t,0)^2$ has one in its derivative; `siglip`, which
# compares nothing with $s_{ii}$.

# %%
# The class (8.1), for any phi and psi
def arguments(s, eps, nu):
    own, eye = s.diagonal()[:, None], torch.eye(len(s), dtype=s.dtype)
    return s - nu * own, s.T - nu * own, 1 + (eps - 1) * eye    # by row, by column, eps_ij

def class_loss(s, phi, psi, eps, nu, C):
    rows, columns, e = arguments(s, eps, nu)
    return (phi((e * psi(rows)).sum(1)) + phi((e * psi(columns)).sum(1))).sum() / (2 * C)


# %%
# Its weights (Section 2): beta_i on the diagonal, -beta_ij off it
def derivative(f):
    return torch.func.grad(lambda t: f(t).sum())

def class_weights(s, phi, psi, eps, nu, printed=False):
    rows, columns, e = arguments(s, eps, nu)
    alpha, alpha_bar = (e * derivative(phi)((e * psi(a)).sum(1, keepdim=True)) * derivative(psi)(a)
                        for a in (rows, columns))
    last = (alpha + alpha_bar).diagonal() / 2
    beta = nu * (alpha + alpha_bar).sum(1) / 2 - (torch.ones_like(last) if printed else last)
    beta_ij = (alpha + alpha_bar.T) / 2
    return (beta + beta_ij.diagonal()).diag() - beta_ij


# %%
losses = {  # name: (phi, psi, C_n)
    "linear": (lambda t: t, lambda t: t, n * (n - 1)),
    "InfoNCE": (lambda t: tau * t.log(), lambda t: (t / tau).exp(), n),
    "soft triplet": (lambda t: tau * (1 + t).log(), lambda t: (t / tau).exp(), n),
    "modified triplet": (lambda t: t, torch.sigmoid, n),
    "softplus": (lambda t: t, torch.nn.functional.softplus, n),
    "squared log": (lambda t: (1 + t).log().square(), torch.exp, n),
}
module = {"linear": ("linear", {}), "InfoNCE": ("clip", {"tau": tau}),
          "soft triplet": ("soft_triplet", {"tau": tau, "margin": 0.0}),
          "modified triplet": ("modified_triplet", {})}

# %%
pairs = data.spiked(n, d1, d2, rank, noise_std=noise_std, seed=seed)
x, x_tilde = pairs.x, pairs.x_tilde
g1, g2 = (g.requires_grad_() for g in training.random_encoders(x, x_tilde, rank, seed))
s = ((x @ g1.T) @ (x_tilde @ g2.T).T).detach()
gaps = []
for (name, (known, options)), nu, eps in itertools.product(module.items(), nus, epss):
    (phi, psi, C), loss = losses[name], LOSSES[known](nu=nu, eps=eps, **options)
    gaps += [relative_error(loss(s), class_loss(s, phi, psi, eps, nu, C)),
             relative_error(loss.weights(s), n / C * class_weights(s, phi, psi, eps, nu))]
claim("eq-8.1.members", f"values and weights of four losses of the module are those of (8.1) "
      f"written out, worst of {len(gaps)} differences {max(gaps):.0e}, allowed 1e-10",
      max(gaps), 0, tolerance=1e-10)
Markdown("**So** ((2.1), (8.1): shown): six losses are in the class, and all statements below hold "
         f"for all of them; (8.1) written out agrees with the module to {max(gaps):.0e}.")

# %% [markdown]
# ## 2 Proposition 2.1 (Proposition 8.1): the gradient sees one matrix
# > **Proposition 2.1** (p. 4; **Proposition 8.1**, p. 18). With $G_k=G_k(\theta_k)$ smooth,
# > $$\frac{\partial L}{\partial\theta_k}
# > =-\frac{\partial\operatorname{tr}(G_1S(\beta)G_2^\top)}{\partial\theta_k}
# > \Big|_{\beta=\beta(G_1,G_2)}+\frac{\partial R}{\partial\theta_k},$$
# > $$S(\beta)=\frac1{C_n}\sum_i\beta_ix_i\tilde x_i^\top
# > -\frac1{C_n}\sum_{i\ne j}\beta_{ij}x_i\tilde x_j^\top.$$
#
# Compute the weights at the present encoders and hold them fixed. The loss then pulls like the
# bilinear function $-\operatorname{tr}(G_1SG_2^\top)$. $\beta_i$ is the pull on pair $i$,
# $\beta_{ij}$ the push between $x_i$ and $\tilde x_j$. In code, $W$ is $n/C_n$ times the matrix of
# $\beta_i$ and $-\beta_{ij}$.
#
# **Why.** $L$ depends on $\theta$ through the $s_{ij}$, so $\partial L=\sum_{ij}\frac{\partial
# L}{\partial s_{ij}}\partial s_{ij}+\partial R$. Put $\alpha_{ij}=\epsilon_{ij}\phi'\psi'$, the
# derivative of the $i$-th summand by $s_{ij}-\nu s_{ii}$, and $\bar\alpha_{ij}$ in the second sum.
# Off the diagonal $s_{ij}$ stands in row $i$ and in column $j$, so
# $\beta_{ij}=\frac12(\alpha_{ij}+\bar\alpha_{ji})$; $s_{ii}$ stands in every term of row and column
# $i$ with factor $-\nu$, and once with factor 1:
#
# $$\beta_i=\nu\sum_j\tfrac12(\alpha_{ij}+\bar\alpha_{ij})-\tfrac12(\alpha_{ii}+\bar\alpha_{ii}).$$
#
# **Erratum.** The paper prints $-1$ for the last term. That is right only where
# $\epsilon\,\phi'\psi'=1$, as for the linear loss with $\epsilon=1$; for CLIP eq. (7.3) has it
# right.

# %%
# CLIP in six lines, and what its gradient sees
nu = max(nus)
s = (x @ g1.T) @ (x_tilde @ g2.T).T                   # (n, n) similarities
P, Q = (s / tau).softmax(1), (s / tau).softmax(0)     # who is close to whom, by row and by column
W = nu * torch.eye(n) - (P + Q) / 2                   # beta_i on the diagonal, -beta_ij off it
S = x.T @ W @ x_tilde / n                             # the contrastive cross-covariance
clip = LOSSES["clip"](tau=tau, nu=nu)
assert torch.allclose(S, cross_covariance(x, x_tilde, clip.weights(s)))
L = clip(s) + rho / 2 * (g1.T @ g2).square().sum()
down1, down2 = torch.autograd.grad(L, (g1, g2))
assert torch.allclose(down1, -g2 @ S.T + rho * g2 @ g2.T @ g1)
assert torch.allclose(down2, -g1 @ S + rho * g1 @ g1.T @ g2)

# %% [markdown]
# Now six choices of $\phi,\psi$, all $\nu$ and $\epsilon$, and three kinds of encoders: a product
# of two matrices, a matrix with entries smooth in $\theta$, and a network
# $\theta_2\tanh(\theta_1x)$. The trace is
# $\frac1{C_n}(\sum_i\beta_is_{ii}-\sum_{i\ne j}\beta_{ij}s_{ij})$, which has a meaning for the
# network too. $R$ stands alike on both sides and is left out.

# %%
encoders = {
    "product": lambda t, x: x @ (t[1] @ t[0]).T,
    "smooth": lambda t, x: x @ (1.3 * (t[1] @ t[0]).tanh() + 0.2 * (t[1] @ t[0]).square()).T,
    "network": lambda t, x: (x @ t[0].T).tanh() @ t[1].T,
}
generator = torch.Generator().manual_seed(seed)

def normal(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# %%
def gradient_errors(loss, nu, eps, encode):
    """Relative error of Proposition 8.1's gradient against autograd: derived, as printed."""
    (phi, psi, C), shapes = losses[loss], ((5, d1), (rank, 5), (5, d2), (rank, 5))
    theta = [(normal(*shape) / 2).requires_grad_() for shape in shapes]
    s = encode(theta[:2], x) @ encode(theta[2:], x_tilde).T
    true = torch.autograd.grad(class_loss(s, phi, psi, eps, nu, C), theta, retain_graph=True)
    for printed in (False, True):
        W = class_weights(s.detach(), phi, psi, eps, nu, printed)
        frozen = torch.autograd.grad(-(W * s).sum() / C, theta, retain_graph=True)
        yield max(relative_error(a, b) for a, b in zip(frozen, true, strict=True))


# %%
cases = list(itertools.product(nus, epss, encoders.values()))
errors = {k: np.array([list(gradient_errors(k, *case)) for case in cases]) for k in losses}
derived, printed = (np.array([e[:, k].max() for e in errors.values()]) for k in (0, 1))
claim("prop-8.1.gradient", f"Proposition 8.1 against autograd, relative error: worst of "
      f"{len(cases) * len(losses)} cases {derived.max():.0e}, allowed 1e-12",
      derived.max(), 0, tolerance=1e-12)
claim("prop-8.1.printed-beta", f"with the printed $-1$ each of the five nonlinear losses has a "
      f"wrong gradient, by up to {printed[1:].min():.2f} to {printed[1:].max():.1f} of its norm; "
      "0.001 would be wrong", printed[1:].min(), 1e-3, tolerance=(0, np.inf))

# %%
Markdown(f"**So** (Proposition 2.1: shown in part): it holds to {derived.max():.0e}, also for "
         f"encoders that are not linear, with the $\\beta_i$ above; with the printed one the "
         f"gradient "
         f"of InfoNCE is off by up to {printed[1]:.0%} of its norm.")

# %% [markdown]
# **Where it stops holding.** Nowhere, if $\phi$ and $\psi$ have a derivative at their arguments.
# But $\beta$ is frozen: after a step the weights, and $S$, are others. Section 5 shows what that
# costs.
#
# ## 3 Remark 2.1 and eq. (3.1): the linear loss sees the sample cross-covariance
# > **Remark 2.1** (p. 4). If $C_n=n(n-1)$ and $\phi,\psi$ are the identity,
# > $S=\frac1{n-1}\sum_i(x_i-\bar x)(\tilde x_i-\bar{\tilde x})^\top$.
#
# The linear loss gives each stranger the same push whatever the encoders are. Its $S$ stands still
# during training: it is the matrix that partial least squares decomposes.
#
# **Why.** $\beta_{ij}=1$ and $\beta_i=n-1$, and
# $\sum_{i\ne j}x_i\tilde x_j^\top=n^2\bar x\bar{\tilde x}^\top-\sum_ix_i\tilde x_i^\top$.

# %%
s, g1, g2 = s.detach(), g1.detach(), g2.detach()
far, far_tilde = x + 10, x_tilde - 30                  # means far from zero
covariance = np.cov(far.T, far_tilde.T)[:d1, d1:]
S = [far.T @ LOSSES["linear"](eps=eps).weights(s) @ far_tilde / n for eps in epss]
gap = max(relative_error(a, covariance) for a in S)
claim("rem-2.1.cross-covariance", f"$S$ of the linear loss is the cross-covariance of np.cov, for "
      f"{len(epss)} values of eps: relative error {gap:.0e}, allowed 1e-10", gap, 0, 1e-10)
S = cross_covariance(x, x_tilde)
value, trace = LOSSES["linear"]()(s), (g1 @ S @ g2.T).trace()
claim("eq-3.1.sign", f"erratum below (3.1), p. 4: the linear loss is {value:.4f}, minus the trace "
      f"{trace:.4f} and not plus; their sum, relative", (value + trace) / value, 0, 1e-10)

# %% [markdown]
# **Where it stops holding.** At $\nu>1$: the uncentred $\frac1n\sum_ix_i\tilde x_i^\top$ comes in,
# so data should be centred first.

# %%
W = LOSSES["linear"](nu=nu, eps=1.0).weights(s)
extra = (nu - 1) * n / (n - 1) * x.T @ x_tilde / n
assert torch.allclose(cross_covariance(x, x_tilde, W), S + extra)
Markdown("**So** (Remark 2.1: shown): the linear loss sees the sample cross-covariance, to "
         f"{gap:.0e}, at every step.")

# %% [markdown]
# ## 4 Lemma 2.1: the best encoders are a truncated SVD
# > **Lemma 2.1** (p. 4). Let $A=\sum_jc_jU_{1,j}U_{2,j}^\top$ be an SVD and $\rho>0$. The
# > maximisers of $\operatorname{tr}(G_1AG_2^\top)-\frac\rho2\lVert G_1^\top G_2\rVert_F^2$ are the
# > $(G_1,G_2)$ with $G_1^\top G_2=\frac1\rho\sum_{j\le r}c_jU_{1,j}U_{2,j}^\top$; their right
# > singular vectors are unique up to rotation and do not depend on $\rho$.
#
# The sum of the $r$ largest terms is $\mathrm{SVD}_r(A)$. Reward grows linearly and the penalty
# quadratically, so each direction is worth a parabola, and $r$ dimensions pay for the $r$ highest.
# A linear regression on $G_1x$ depends on the right singular space of $G_1$ only, so $\rho$ needs
# no tuning.

# %%
c = torch.arange(rank + 2.0, 0, -1, dtype=x.dtype)     # singular values r + 2, ..., 1
U1, U2 = (torch.linalg.qr(normal(d, rank + 2))[0] for d in (d1, d2))

def turned(ratio, angle):
    """A with c_(r+1) = ratio c_r, and the best encoders whose r-th direction turns to the next."""
    values, turn = c.clone(), torch.eye(rank + 2, rank, dtype=c.dtype)
    values[rank] = ratio * c[rank - 1]
    turn[rank - 1, rank - 1], turn[rank, rank - 1] = np.cos(angle), np.sin(angle)
    strength = (values[:, None] * turn**2).sum(0) / rho
    return (U1 * values) @ U2.T, strength[:, None] * (U1 @ turn).T, (U2 @ turn).T


# %%
m, kept = np.linspace(0, 2.1 * c[0] / rho, 100), [float(v) for v in c[: rank + 1]]
figure, (left, right) = plots.panels(columns=2, width=4.4)
plots.curves(left, m, {f"$c={v:g}$": v * m - rho / 2 * m**2 for v in kept},
             "singular value $m$ of $M$", r"worth $c_km-\rho m^2/2$",
             f"Each direction is a parabola;\nthe {rank} highest are kept", legend=None, every=200)
for k, v in enumerate(kept, 1):
    left.text(v / rho, 1.02 * v**2 / 2 / rho, f"$c_{{{k}}}={v:g}$", ha="center", va="bottom")
left.set_ylim(0, 0.6 * kept[0] ** 2 / rho)
angles, worth = np.linspace(0, np.pi / 2, 40), {}
for name, ratio in (("tie: $c_{r+1}=c_r$", 1), ("$0.9\\,c_r$", 0.9), ("$0.5\\,c_r$", 0.5)):
    pieces = [turned(ratio, angle) for angle in angles]
    worth[name] = [spectral.svd_objective(*g, A, rho) for A, *g in pieces]
plots.curves(right, np.degrees(angles), worth, "$r$-th direction turned to the next (degrees)",
             "SVD objective", "The subspace is unique\nonly with a gap", legend="ends", every=200)
show(figure, alt="Parabolas, one a singular value; the objective against an angle, flat for a tie.")

# %% [markdown]
# **Why.** Complete the square: the objective is
# $\frac1{2\rho}\lVert A\rVert_F^2-\frac\rho2\lVert M-A/\rho\rVert_F^2$. $M$ runs over all matrices
# of rank at most $r$, and the nearest of them to $A/\rho$ is $\mathrm{SVD}_r(A)/\rho$ (Eckart,
# Young, Mirsky); the value left is $\frac1{2\rho}\sum_{k\le r}c_k^2$. The column space of $M$ is
# the right singular space of $G_1$. The encoders themselves are free: $(BG_1,B^{-\top}G_2)$ has the
# same $M$ for every invertible $B$.

# %%
A, *_ = turned(0.5, 0.0)

def factors(flat):
    return flat[: rank * d1].view(rank, d1), flat[rank * d1 :].view(rank, d2)

def maximise(rho):
    """A maximiser found without an SVD: L-BFGS on both factors from a random start."""
    def down(flat):
        flat = torch.tensor(flat, requires_grad=True)
        value = -spectral.svd_objective(*factors(flat), A, rho)
        return value.item(), torch.autograd.grad(value, flat)[0].numpy()
    start, stop = 0.3 * normal(rank * (d1 + d2)) / rho**0.5, {"ftol": 0, "gtol": 1e-10}
    found = minimize(down, start.numpy(), jac=True, method="L-BFGS-B", options=stop)
    return factors(torch.tensor(found.x))


# %%
u, top, v = truncated_svd(A, rank)
found = {strength: maximise(strength) for strength in (0.1, 1.0, 10.0)}   # rho: (G1, G2)
product = max(relative_error(h1.T @ h2, (u * top) @ v.T / k) for k, (h1, h2) in found.items())
best = top.square().sum() / 2                          # the lemma's value, times rho
value = max(abs(k * spectral.svd_objective(*g, A, k) / best - 1) for k, g in found.items())
span = max(sin_theta(h.T, w) for g in found.values() for h, w in zip(g, (u, v), strict=True))
claim("lem-2.1.maximiser", f"L-BFGS at $\\rho=0.1,1,10$ ends at $M=\\mathrm{{SVD}}_r(A)/\\rho$, "
      f"relative error {product:.0e}, allowed 1e-5", product, 0, tolerance=1e-5)
claim("lem-2.1.value", f"its value is $\\sum_{{k\\le r}}c_k^2/(2\\rho)$, relative error "
      f"{value:.0e}, allowed 1e-8", value, 0, tolerance=1e-8)
claim("lem-2.1.rho", f"the right singular spaces of both encoders are those of A for all three "
      f"$\\rho$: sin$\\Theta$ {span:.0e}, allowed 1e-5", span, 0, tolerance=1e-5)

# %% [markdown]
# **Where it stops holding.** "Unique" needs a gap, $c_r>c_{r+1}$, for which the lemma does not ask,
# and $c_r>0$, which it takes for granted. With a tie the subspace can turn at no cost.

# %%
A, h1, h2 = turned(1.0, 0.7)                           # a tie, and 0.7 radians
_, k1, k2 = turned(1.0, 0.0)
values = [spectral.svd_objective(*h, A, rho) for h in ((h1, h2), (k1, k2))]
apart, difference = sin_theta(h1.T, k1.T), values[0] / values[1] - 1
claim("lem-2.1.tie", f"with $c_r=c_{{r+1}}$ two encoders, sin$\\Theta$ {apart:.2f} apart, "
      f"have one maximal value: relative difference {difference:.0e}", difference, 0, 1e-10)
Markdown(f"**So** (Lemma 2.1: shown in part): it holds, to {product:.0e} in $M$, if uniqueness is "
         "given the conditions $c_r>c_{r+1}$ and $c_r>0$.")

# %% [markdown]
# ## 5 What "each step is an SVD" means
# > "at each step of gradient descent [...] the increment of parameter is in the direction of top-r
# > singular vectors of $S$" (p. 4, after Lemma 2.1).
#
# Read literally this is not so, as the figure shows. Read as "the step climbs an objective whose
# maximum is $\mathrm{SVD}_r(S)/\rho$" it is Proposition 2.1: a step of length $\lambda$ adds
# $\lambda G_2D^\top$ to $G_1$ and $\lambda G_1D$ to $G_2$, with $D=S(\beta)-\rho M$, and that is
# gradient *ascent* on the SVD objective of the present $S(\beta)$. We follow gradient descent on
# CLIP and measure which share of $G_1$, and of its increment, lies in the span of the top $r$
# singular vectors of the present $S$ (left; a random direction has $r/d_1$).

# %%
clip, lr = LOSSES["clip"](tau=tau), 0.4
many = data.spiked(n, d1, d2, rank, noise_std=noise_std, draws=draws, seed=seed + 2)

def share(g, S):
    """Share of ||g||^2 in the span of the top left singular vectors of S."""
    u, _, _ = truncated_svd(S, rank)
    return (g @ u).square().sum((-2, -1)) / g.square().sum((-2, -1))

path = training.gradient_descent(many.x, many.x_tilde, rank, clip, rho, lr, steps, seed)
S = torch.stack([loss_and_covariance(many.x, many.x_tilde, *g, clip)[1]
                 for g in zip(path.g1, path.g2, strict=True)])
encoder, increment = share(path.g1, S), share(path.g1.diff(dim=0), S[:-1])

# %%
more = data.spiked(5 * n, d1, d2, rank + 2, noise_std=noise_std, seed=seed + 2)
end = training.lbfgs(more.x, more.x_tilde, rank, clip, rho=rho, seed=seed)
_, own = loss_and_covariance(more.x, more.x_tilde, end.g1[-1], end.g2[-1], clip)
u, strength, _ = truncated_svd(own, min(rank + 4, d1, d2))
learnt = (torch.linalg.qr(end.g1[-1].T)[0].T @ u).square().sum(0)    # 1: G1 holds u_k whole
shared = torch.arange(len(learnt)) < rank + 2

# %%
lines = {"encoder $G_1$": encoder[:-1].mean(-1), "its increment": increment.mean(-1)}
kinds = {"learnt": learnt > 0.5, "left out": (learnt < 0.5) & shared}

# %%
figure, (left, right) = plots.panels(columns=2, width=4.4)
plots.curves(left, np.arange(steps), lines, "gradient steps on CLIP",
             f"share in the top {rank} directions of $S$",
             "The encoder turns to the top singular\nvectors, its late steps away from them",
             legend="ends", every=10)
left.set_ylim(0, 1.05)
plots.level(left, rank / d1, "a random direction", at=0.6)
right.bar(np.arange(1, len(strength) + 1), strength, color=plots.GREY, label="noise")
for name, k in kinds.items():
    right.bar(k.nonzero().flatten() + 1, strength[k], label=name)
right.set(xlabel="direction $k$ of $S(\\beta)$ at CLIP's minimum", ylabel="singular value of $S$")
right.set_title(f"{rank + 2} shared, {rank} dimensions:\nthose left out come first", loc="left")
right.legend(frameon=False)
show(figure, alt="Left: the encoder's share in the top singular vectors rises to 1, its increment's"
     " falls to 0. Right: singular values of S; the two largest belong to directions left out.")

# %% [markdown]
# **Why.** Multiply out: a step moves $M$ by exactly
# $\lambda(DG_2^\top G_2+G_1^\top G_1D)+\lambda^2DM^\top D$. The objective rises, and the loss
# falls, at the rate $\lVert G_2D^\top\rVert_F^2+\lVert G_1D\rVert_F^2\ge0$. Early $M$ is small and
# $D\approx S$: the step multiplies the encoders by $S$, as power iteration does. Later $D$ is
# nearly 0 on directions already learnt, so what little the step still moves lies outside them.

# %%
# One step of the loss itself, by autograd, beside the law for M
h1, h2 = path.g1[0], path.g2[0]

def loss_at(g1, g2):
    s = training.similarities(many.x, many.x_tilde, g1, g2, normalize=False)
    return clip(s) + rho / 2 * (g1.mT @ g2).square().sum((-2, -1))

free = [h.clone().requires_grad_() for h in (h1, h2)]
down1, down2 = torch.autograd.grad(loss_at(*free).sum(), free)        # knows nothing of S
M = h1.mT @ h2
D = S[0] - rho * M
first, second = D @ h2.mT @ h2 + h1.mT @ h1 @ D, D @ M.mT @ D
lengths = torch.logspace(-4, -1, 7, dtype=M.dtype)[:, None, None, None]   # lambda
moved = (h1 - lengths * down1).mT @ (h2 - lengths * down2) - M

# %%
law = relative_error(moved, lengths * first + lengths**2 * second)
claim("prop-2.1.step-in-m", f"a step of the loss moves $M$ by the two terms above: relative error "
      f"{law:.0e}, allowed 1e-10", law, 0, tolerance=1e-10)
rest = (moved - lengths * first).norm(dim=(-2, -1)).mT
slope = loglog_slope(lengths.flatten(), rest)
claim("prop-2.1.second-order", f"what the first-order term leaves falls with slope "
      f"{slope.mean():.4f} in the step length", slope[(slope - 2).abs().argmax()], 2, 1e-3)
step = torch.zeros(draws, 1, 1, dtype=M.dtype, requires_grad=True)
rate = (h2 @ D.mT).square().sum((-2, -1)) + (h1 @ D).square().sum((-2, -1))
gains = []
for f in (lambda *g: spectral.svd_objective(*g, S[0], rho), lambda *g: -loss_at(*g)):
    value = f(h1 - step * down1, h2 - step * down2).sum()
    gains.append(torch.autograd.grad(value, step)[0].flatten() / rate)
claim("prop-2.1.ascent", f"objective and minus loss both rise at the rate above, {draws} draws: "
      "worst relative error", torch.stack(gains).sub(1).abs().max(), 0, tolerance=1e-10)

# %%
start, late = increment[0].mean(), increment[-1].mean()
claim("prop-2.1.increment", f"of the first increment {start:.2f} lies along the top {rank} "
      f"singular vectors, of the last {late:.2f} (means of {draws} draws; a random direction has "
      f"{rank / d1:.2f}, a step along them 1)", increment[-1].max(), 0.5, tolerance=(np.inf, 0))
h1, h2 = path.g1[0], path.g2[0]
frozen = spectral.closed_form(S[0], rank, rho)
speed = 0.4 / torch.linalg.matrix_norm(S[0], 2)[:, None, None]
for _ in range(1000):
    h1, h2 = training.gradient_step(h1, h2, S[0], rho, speed)
gap = relative_error(h1.mT @ h2, frozen.g1.mT @ frozen.g2)
claim("prop-2.1.frozen", f"ascent with $S$ frozen ends at $\\mathrm{{SVD}}_r(S)/\\rho$: relative "
      f"error {gap:.0e} after 1,000 steps, allowed 1e-5", gap, 0, tolerance=1e-5)

# %% [markdown]
# **Where it stops holding.** $S$ moves, so equal gradients at a point do not make the optima equal.
# At a minimum of CLIP $DG_2^\top=0$ and $G_1D=0$: $M$ consists of $r$ singular triples of its *own*
# $S(\beta)$. If the encoders have room for all shared directions these are the top $r$. **If not,
# the minimum is not the top-$r$ SVD of its own $S$**: the top ones are those left out (right). The
# softmax stops pulling at what it has aligned, and its weights go on pulling at the rest; the
# minimum is a saddle point of the SVD objective. For the linear loss this cannot happen.

# %%
few = data.spiked(5 * n, d1, d2, rank, noise_std=noise_std, seed=seed + 2)
best = training.lbfgs(few.x, few.x_tilde, rank, clip, rho=rho, seed=seed)
_, S_best = loss_and_covariance(few.x, few.x_tilde, best.g1[-1], best.g2[-1], clip)
top = spectral.closed_form(S_best, rank, rho)
own_gap = relative_error(best.g1[-1].T @ best.g2[-1], top.g1.T @ top.g2)
if noise_std < 0.5 and 0.4 < tau * rho < 2.5:          # beyond, noise or a flat softmax decides
    claim("prop-2.1.own-svd", "r shared directions: at CLIP's minimum $M$ is "
          f"$\\mathrm{{SVD}}_r(S(\\beta))/\\rho$, relative error {own_gap:.0e}", own_gap, 0, 1e-5)
    claim("prop-2.1.few-dimensions", "r + 2 shared directions: the encoder's share in the two top "
          "singular vectors of its own $S$", learnt[:2].sum(), 0, tolerance=1e-3)
Markdown("**So** (Proposition 2.1 with Lemma 2.1: shown in part): a gradient step climbs the SVD "
         f"objective of the present $S(\\beta)$; {start:.0%} of the first increment, {late:.0%} of "
         "the last lie along its maximiser, yet CLIP ends in the SVD "
         f"of its own $S$, to {own_gap:.0e}, if the encoders have room for all that is shared.")

# %% [markdown]
# > **Ours.** A step that *is* a truncated SVD,
# > $M^+=\mathrm{SVD}_r((1-\lambda\rho)M+\lambda S(\beta(M)))$, is projected gradient descent in
# > $M$: [chapter 11](11_optimisers.ipynb).

# %% [markdown]
# ## 6 Corollary 7.1: three modalities, one encoder each
# > **Corollary 7.1** (p. 17). For the loss (7.6), summed over all pairs of modalities, and
# > symmetric $R$,
# > $$\frac{\partial L_M}{\partial G_\mu}=-\frac{\partial}{\partial G_\mu}\sum_{\mu'\ne\mu}
# > \operatorname{tr}(G_\mu S_{\mu,\mu'}(\beta)G_{\mu'}^\top)\Big|_{\beta}
# > +\frac{\partial}{\partial G_\mu}\sum_{\mu'\ne\mu}R(G_\mu,G_{\mu'}).$$
#
# Images, text and sound of the same $n$ things have three cross-covariances and three encoders.
# Each encoder climbs the sum of the objectives it takes part in.
#
# **Why.** Proposition 8.1 for each pair, and sums have the sum of the gradients. Exchanging the two
# modalities transposes $s$, so $S_{\mu',\mu}=S_{\mu,\mu'}^\top$ and one formula serves both sides.

# %%
U3 = torch.linalg.qr(normal(d3, rank))[0]
views = [x, x_tilde, pairs.z @ U3.T + noise_std * normal(n, d3)]
G = [normal(rank, v.shape[1]).div(2).requires_grad_() for v in views]

def corollary_errors(phi, psi, C, eps, nu):
    """Relative error of Corollary 7.1's gradients against autograd: derived, as printed."""
    s = {(a, b): (views[a] @ G[a].T) @ (views[b] @ G[b].T).T for a, b in ((0, 1), (0, 2), (1, 2))}
    L = sum(class_loss(pair, phi, psi, eps, nu, C) for pair in s.values())
    true = torch.autograd.grad(L, G, retain_graph=True)
    for printed in (False, True):
        W = {k: class_weights(v.detach(), phi, psi, eps, nu, printed) for k, v in s.items()}
        cross = {(a, b): views[a].T @ w @ views[b] / C for (a, b), w in W.items()}
        cross |= {(b, a): S.T for (a, b), S in cross.items()}
        up = [sum(G[b] @ S.T for (a, b), S in cross.items() if a == mu) for mu in range(3)]
        yield max(relative_error(-a, b) for a, b in zip(up, true, strict=True))


# %%
errors = np.array([list(corollary_errors(*parts, eps, nu)) for parts in losses.values()
                   for eps, nu in itertools.product(epss, nus)])
three, wrong = errors.max(0)
claim("cor-7.1.gradient", f"Corollary 7.1 against autograd, three modalities, {len(errors)} "
      f"losses: worst relative error {three:.0e}, allowed 1e-12", three, 0, tolerance=1e-12)
claim("cor-7.1.printed-beta", f"with the printed $\\beta_i$, which repeats the $-1$ of Proposition "
      f"8.1, it is {wrong:.1g}; 0.001 would be wrong", wrong, 1e-3, tolerance=(0, np.inf))
total = modalities.additive_loss(views, G, clip, rho)
slopes = torch.autograd.grad(total, G)
for mu in range(3):
    there = modalities.modality_gradient(views, [g.detach() for g in G], mu, clip, rho)
    assert torch.allclose(slopes[mu], there)

# %% [markdown]
# With three modalities we know of no single SVD that gives the encoders: each must serve two
# cross-covariances. `fit_modalities` climbs in one encoder after the other.

# %%
fit = modalities.fit_modalities(views, rank, "linear", rho)
both = torch.cat(fit.encoders, 1)
off = torch.block_diag(*(torch.ones(v.shape[1], v.shape[1]) for v in views)) == 0
whole = cross_covariance(torch.cat(views, 1), torch.cat(views, 1)) * off
alone = spectral.closed_form(cross_covariance(x, x_tilde), rank, rho)
left_over = relative_error(rho * both.T @ both * off, whole)
change = relative_error(fit.encoders[0].T @ fit.encoders[1], alone.g1.T @ alone.g2)

# %%
Markdown(f"**So** (Corollary 7.1: shown in part): it holds to {three:.0e} with the right "
         f"$\\beta_i$. "
         f"Three encoders of rank {rank} leave {left_over:.0%} of the six cross-covariances, and "
         f"$G_1^\\top G_2$ differs by {change:.1%} from the SVD of $S_{{1,2}}$ alone.")

# %% [markdown]
# **Where it stops holding.** The gradient identity does not. But section 5 carries over only in
# part: for three modalities we know no closed form as in Lemma 2.1.
#
# ## Exercises
# 1. What are $\beta_i$ and $\beta_{ij}$ of InfoNCE with $\epsilon=0$? Which of $\epsilon=0$ and
# $\epsilon=1$ keeps pulling at a pair that is already aligned?
#
# <details><summary>Answer</summary>
#
# $\alpha_{ij}=P_{ij}$ with the softmax $P$ over the strangers only, so $\alpha_{ii}=0$ and
# $\beta_i=\nu$: the pull never ends. With $\epsilon=1$ it is $\nu-(P_{ii}+Q_{ii})/2$, which for
# $\nu=1$ goes to 0.
#
# </details>
#
# 2. Replace $R$ by weight decay, $\frac\rho2(\lVert G_1\rVert_F^2+\lVert G_2\rVert_F^2)$. What is
# the maximum of the objective in Lemma 2.1 then?
#
# <details><summary>Answer</summary>
#
# For a given $M$ the cheapest factors cost $\rho\sum_km_k$, with $m_k$ the singular values of $M$.
# So a direction is worth $(c_k-\rho)m_k$: infinite if $c_1>\rho$, and otherwise $M=0$ is best. A
# linear loss needs a penalty that grows faster than linearly in $M$.
#
# </details>
#
# 3. Why do the top singular vectors of the linear loss's $S$ stay the top ones when CLIP's do not?
#
# <details><summary>Answer</summary>
#
# Its weights do not depend on $s$, so $S$ does not answer to what is learnt, and every minimum is a
# maximum of the one fixed SVD objective. CLIP's $\beta_i$ falls as $P_{ii}$ rises.
#
# </details>

# %% [markdown]
# ## Ledger

# %%
ledger()
