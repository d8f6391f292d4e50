# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 Optimisers: a fit by singular value decompositions, and what the loss cannot see
#
# Ours, beside the paper. [Chapter 01](01_loss_to_svd.ipynb) shows that a gradient step climbs the
# objective of a truncated singular value decomposition (SVD). Here a step *is* a truncated SVD: we
# follow the iteration to where it is useful, a fit in a few SVDs instead of hundreds of gradient
# steps, to the step length at which it breaks, and to what the loss cannot tell apart.
#
# Symbols are those of chapter 01: rows are samples, $x_i$ and $\tilde x_i$ are a pair,
# $s_{ij} = \langle G_1 x_i, G_2 \tilde x_j\rangle$, $M = G_1^\top G_2$, $S(\beta)$ is the
# contrastive cross-covariance, and $\rho$ weighs the penalty $\frac\rho2\lVert M\rVert_F^2$. A step
# length is $\lambda$.

# %% tags=["parameters"]
n: int = 300  # training pairs
d1: int = 40  # dimension of the first modality
d2: int = 39  # dimension of the second modality
rank: int = 10  # latent dimension r, and the encoders' output dimension
noise_std: float = 0.3  # standard deviation of each noise coordinate (a latent coordinate has 1)
tau: float = 1.0  # temperature of CLIP
rho: float = 1.0  # weight of the penalty rho/2 ||G1^T G2||_F^2
draws: int = 20  # independent data sets where an interval is shown
test_pairs: int = 5000  # held-out pairs for retrieval
splits: int = 10  # random splits of the digits into training and held-out images
seed: int = 0  # of every random number here

# %%
import numpy as np
import torch
from IPython.display import Markdown

from mmcl import covariance, data, spectral, training
from mmcl._checks import as_generator
from mmcl.covariance import loss_and_covariance
from mmcl.experiments import digits
from mmcl.losses import LOSSES
from mmcl.metrics import relative_error, sin_theta, top_k_accuracy
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, show

pairs = data.spiked(n + test_pairs, d1, d2, rank, noise_std=noise_std, seed=seed)
x, x_tilde = pairs.x[:n], pairs.x_tilde[:n]
x_test, x_tilde_test = pairs.x[n:], pairs.x_tilde[n:]
clip = LOSSES["clip"](tau=tau)
inf = float("inf")
linear = spectral.fit(x, x_tilde, rank, rho=rho)
if rank >= min(d1, d2):
    raise ValueError(f"rank = {rank}; this chapter needs a gap after the r-th singular value: use less than min(d1, d2)")

# %% [markdown]
# ## 1 CLIP turns linear at rate $1/\tau$
# **Claim.** As $\tau$ grows the softmax flattens and CLIP's $S(\beta)$ approaches the linear one,
# with a relative difference of order $1/\tau$. The weights tend to $I - \mathbf 1\mathbf 1^\top/n$,
# so the limit is the cross-covariance with divisor $n$; we compare after multiplying by $n/(n-1)$.
# The next term of the expansion is smaller by $s/\tau$, so we fit the slope where $\tau$ is at
# least ten times the largest similarity.

# %%
many = data.spiked(n, d1, d2, rank, noise_std=noise_std, draws=draws, seed=seed + 2)
start = spectral.fit(many.x, many.x_tilde, rank, rho=rho)
largest = float((many.x @ start.g1.mT @ start.g2 @ many.x_tilde.mT).abs().amax())
temperatures = np.logspace(-1, 3, 17)


def distance_to_linear(temperature):
    loss = LOSSES["clip"](tau=float(temperature * largest))
    _, S = loss_and_covariance(many.x, many.x_tilde, start.g1, start.g2, loss)
    linear = covariance.cross_covariance(many.x, many.x_tilde)
    return (n / (n - 1) * S - linear).norm(dim=(-2, -1)) / linear.norm(dim=(-2, -1))


distance = torch.stack([distance_to_linear(t) for t in temperatures])
far = temperatures >= 10
slopes = np.polyfit(np.log(temperatures[far]), distance[far].log().numpy(), 1)[0]
claim("ours.clip-to-linear.slope", "CLIP to linear: log-log slope in tau, mean of draws", slopes.mean(), -1, tolerance=0.02)

# %%
figure, (ax,) = plots.panels(width=5.5)
band = tuple(distance.quantile(q, dim=1) for q in (0.5, 0.05, 0.95))
plots.curves(ax, temperatures, {f"CLIP, median and 90% of {draws} draws": band},
             "temperature $\\tau$ / largest similarity", "relative distance to the linear S", log="xy")
plots.guide(ax, temperatures[far], 2 * float(band[0][-1]) * temperatures[-1] / temperatures[far], "slope $-1$")
show(figure, alt="Relative distance between CLIP's S and the linear one against tau: a straight line of slope minus one.")

# %%
Markdown(
    f"**So:** the linear loss is CLIP at high temperature. At a $\\tau$ of ten times the largest similarity the two "
    f"matrices differ by {float(distance[far][0].median()):.1%}, and the difference falls with slope {slopes.mean():.3f}."
)

# %% [markdown]
# ## 2 A gradient step in $M$ is a truncated SVD
# **Claim.** In $M$ the loss has gradient $\rho M - S(\beta(M))$. The step that stays among matrices
# of rank $r$ is
#
# $$M^+ = \mathrm{SVD}_r\big((1-\lambda\rho)M + \lambda\, S(\beta(M))\big),$$
#
# the nearest matrix of rank $r$ to a plain gradient step. With $\lambda = 1/\rho$, the full step,
# it is $\mathrm{SVD}_r(S(\beta(M)))/\rho$: the maximiser of the present SVD objective, in one step.

# %%
g1, g2 = training.random_encoders(x, x_tilde, rank, seed)
_, S = loss_and_covariance(x, x_tilde, g1, g2, clip)
full1, full2 = spectral.projected_step(x, x_tilde, g1, g2, clip, rho, 1 / rho)
best = spectral.closed_form(S, rank, rho)
assert relative_error(full1.mT @ full2, best.g1.mT @ best.g2) < 1e-10

# %% [markdown]
# In the factors, the gradient step $G_1 \mathrel{+}= \lambda(G_2S^\top - \rho\,G_2G_2^\top G_1)$ is
# one step of block power iteration on $S$. For the linear loss $S$ stands still, so the theory of
# power iteration predicts the speed: close to the minimiser the subspace error shrinks by
# $1 - \lambda(\sigma_r - \sigma_{r+1})$ a step.

# %%
u, sigma, _ = covariance.truncated_svd(covariance.cross_covariance(many.x, many.x_tilde), rank + 1)
lr = 0.3 / float(sigma.max())
predicted = 1 - lr * (sigma[:, rank - 1] - sigma[:, rank])
steps = int(min(1500, np.log(1e-13) / np.log(float(predicted.median()))))
path = training.gradient_descent(many.x, many.x_tilde, rank, "linear", rho, lr, steps, seed, scale=0.1)
error = sin_theta(path.g1.mT, start.g1.mT.expand_as(path.g1.mT))

# %% [markdown]
# The whole error is a sum over pairs of directions that decay at rates of their own, so it follows
# the slowest of them only in the end. We therefore check that slowest part itself: with
# $G_1 = T(U^\top + X u_{r+1}^\top + \dots)$, it is the last entry of $X = (G_1U)^{-1}G_1u_{r+1}$.

# %%
slowest = torch.linalg.solve(path.g1 @ u[..., :rank], path.g1 @ u[..., rank:])[..., -1, 0].abs()


def rate(size, error):
    """Factor per step of ``size`` while the error is between 1e-4 and rounding, from a straight line through its logarithm."""
    late = ((error < 1e-4) & (error > 1e-12)).nonzero().flatten()
    return np.exp(np.polyfit(late, size[late].log(), 1)[0])


rates = torch.tensor([rate(*pair) for pair in zip(slowest.T, error.T, strict=True)])
ratio = predicted.log() / rates.log()
claim("ours.power-iteration.rate", "linear loss: steps per e-fold of the slowest part, measured / predicted, mean of draws", ratio.mean(), 1,
      tolerance=0.01 + 3 * ratio.std() / draws**0.5)

# %%
figure, (ax,) = plots.panels(width=5.5)
lines = {"whole error": error[:, 0].clamp(min=1e-13), "slowest part": slowest[:, 0].clamp(min=1e-13)}
plots.curves(ax, path.step, lines, "gradient steps", r"sin$\Theta$ to the SVD's subspace", log="y", every=0.1)
tail = torch.arange(steps // 3, steps)
guide = 0.2 * slowest[steps // 3, 0] * predicted[0] ** (tail - steps // 3)
plots.guide(ax, tail, guide, r"rate predicted by the gap $\sigma_r-\sigma_{r+1}$")
show(figure, alt="Gradient descent on the factors approaches the SVD's subspace at the rate the spectral gap predicts.")

# %%
Markdown(
    "**So:** gradient descent on linear encoders is a slow way to compute an SVD, and how slow can be read off the gap: "
    f"{-1 / float(predicted[0].log()):.1f} steps per e-fold predicted, {-1 / float(rates[0].log()):.1f} measured."
)

# %% [markdown]
# ## 3 The iteration reaches what other optimisers reach
# **Claim.** Repeating the step finds a stationary value of CLIP, the one that L-BFGS with automatic
# differentiation and long gradient descent on the factors reach, in the same subspace, for every
# $\tau$ and $\rho$ tried.

# %%
taus, rhos = (0.5, 1.0, 2.0), (0.1, 0.5, 1.0)
gap, angle, steps = (np.zeros((3, 3)) for _ in range(3))
for i, j in np.ndindex(3, 3):
    loss = LOSSES["clip"](tau=taus[i])
    ours = spectral.fit(x, x_tilde, rank, loss, rho=rhos[j], max_steps=3000)
    theirs = training.lbfgs(x, x_tilde, rank, loss, rho=rhos[j], seed=seed)
    gap[i, j] = abs(theirs.loss[-1] / ours.loss - 1)
    angle[i, j] = sin_theta(ours.g1.mT, theirs.g1[-1].mT)
    steps[i, j] = ours.steps
claim("ours.svd-iteration.value", "CLIP: relative difference of value to L-BFGS, worst of nine", gap.max(), 0, tolerance=1e-6)
claim("ours.svd-iteration.subspace", "CLIP: sinTheta to L-BFGS, worst of nine", angle.max(), 0, tolerance=1e-3)
best = spectral.fit(x, x_tilde, rank, clip, rho=rho)
descent = training.gradient_descent(x, x_tilde, rank, clip, rho, lr, steps=1500, seed=seed)
claim("ours.svd-iteration.gradient-descent", "CLIP: long gradient descent reaches the same value", descent.loss[-1] / best.loss, 1, tolerance=1e-6)

# %% [markdown]
# > **Only the product $\tau\rho$ matters.** Scaling $M$ by $\tau$ turns the loss at $(\tau, \rho)$
# > into $\tau$ times the loss at $(1, \tau\rho)$, so fits with equal $\tau\rho$ have the same
# > subspace. This is ours; it halves every grid.
#
# **Where the full step breaks.** Close to a minimiser a step multiplies the error along a direction
# of curvature $h$ of $\ell$ by $1 - \lambda(\rho + h)$. With $h$ the largest curvature along
# matrices of rank $r$, the iteration converges for $\lambda\rho < 2\rho/(\rho+h)$ and jumps to and
# fro beyond. The smaller $\tau\rho$, the larger is CLIP's curvature beside that of the penalty,
# $h/\rho$. The full step $\lambda\rho = 1$, the pure SVD, converges only where $h < \rho$.

# %%
products = np.array([0.1, 0.25, 0.5, 1.0, 2.0, 4.0])
lengths = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def settles(fit, rho, relative_length, steps=100):
    """Whether the iteration from the linear fit ends at the loss of ``fit``, for several step lengths at once."""
    step = torch.tensor(relative_length)[:, None, None] / rho
    batch = [a.expand(len(step), -1, -1) for a in (x, x_tilde, linear.g1, linear.g2)]
    for _ in range(steps):
        batch[2:] = spectral.projected_step(*batch, clip, rho, step)
    values = loss_and_covariance(*batch, clip)[0] + rho / 2 * (batch[2].mT @ batch[3]).square().sum((-2, -1))
    return ((values / fit.loss - 1).abs() < 1e-3).numpy()


fits = [spectral.fit(x, x_tilde, rank, clip, rho=p / tau) for p in products]
h = np.array([spectral.curvature(x, x_tilde, f.g1, f.g2, clip) for f in fits])
limit = 2 / (1 + h * tau / products)
settled = np.stack([settles(f, p / tau, lengths) for f, p in zip(fits, products, strict=True)])
clear = abs(lengths / limit[:, None] - 1) > 0.1
agreement = (settled == (lengths < limit[:, None]))[clear].mean()
claim("ours.svd-iteration.step-limit", "share of step lengths, 10% off the limit, that behave as predicted", agreement, 1, tolerance=0)

# %%
figure, (left, right) = plots.panels(columns=2, width=4.6)
product = products[2]
paths = {}
for relative_length, name in ((1.0, "full step, $\\lambda\\rho = 1$"), (0.8 * limit[2], "0.8 of the limit")):
    g1, g2, history = linear.g1, linear.g2, []
    for _ in range(40):
        value, _ = loss_and_covariance(x, x_tilde, g1, g2, clip)
        history.append(float(value + product / tau / 2 * (g1.mT @ g2).square().sum() - fits[2].loss))
        g1, g2 = spectral.projected_step(x, x_tilde, g1, g2, clip, product / tau, relative_length * tau / product)
    paths[name] = np.maximum(history, 1e-12)
title = f"$\\tau\\rho = {product}$"
plots.curves(left, np.arange(40), paths, "steps", "loss above its minimum", title, log="y", every=4)
for holds, marker, name in ((True, "o", "converges"), (False, "x", "oscillates")):
    row, column = (settled == holds).nonzero()
    right.plot(products[row], lengths[column], marker, linestyle="none", label=name)
right.set(xscale="log", ylim=(0, 1.08), xlabel=r"$\tau\rho$", ylabel=r"relative step length $\lambda\rho$")
plots.guide(right, products, limit, r"limit $2\rho/(\rho+h)$")
show(figure, alt="Left: the full step jumps, a damped one converges. Right: where the iteration converges, and the limit.")

# %%
Markdown(
    f"**So:** the SVD iteration lands where L-BFGS lands, to {gap.max():.0e} in value, in at most {steps.max():.0f} steps, "
    f"and the range of step lengths is known: at $\\tau\\rho={product:g}$ up to $\\lambda\\rho={limit[2]:.2f}$. "
    "`mmcl.spectral.fit` lets the Barzilai-Borwein rule propose the length, never longer than $1/\\rho$, and backtracks "
    "until the loss falls."
)

# %% [markdown]
# > The paper's statement is about the direction of one step. That the undamped iteration need not
# > converge, and the length up to which it does, is ours.

# %% [markdown]
# ## 4 Gradient descent and AdamW beside the SVD path
# **Claim.** All of them go to the same place or near it; what differs is the number of steps. We
# draw the loss above its minimum and the distance to the true subspace against the steps taken, for
# the damped SVD iteration, full-batch gradient descent on the factors, and minibatch AdamW, once on
# the same loss and once as the paper trains (cosine similarities, no penalty; Section 5.2), which
# is a different loss and shows in the right panel only. The SVD iteration starts from the linear
# loss's SVD.

# %%
svd = [(linear.g1, linear.g2)]
h_best = spectral.curvature(x, x_tilde, best.g1, best.g2, clip)
for _ in range(50):
    svd.append(spectral.projected_step(x, x_tilde, *svd[-1], clip, rho, min(1 / rho, 1.2 / (rho + h_best))))
settings = {"rho": rho, "normalize": False, "seed": seed}
runs = {"SVD iteration": (torch.arange(51), *(torch.stack(g) for g in zip(*svd, strict=True))),
        "gradient descent": (descent.step, descent.g1, descent.g2),
        "AdamW, batches of 50": (lambda p: (p.step, p.g1, p.g2))(training.adamw(x, x_tilde, rank, clip, **settings)),
        "AdamW as published": (lambda p: (p.step, p.g1, p.g2))(training.adamw(x, x_tilde, rank, clip, seed=seed))}


def above_minimum(g1, g2):
    batch = [a.expand(len(g1), -1, -1) for a in (x, x_tilde)]
    value = torch.cat([loss_and_covariance(*(a[i : i + 50] for a in (*batch, g1, g2)), clip)[0] for i in range(0, len(g1), 50)])
    return (value + rho / 2 * (g1.mT @ g2).square().sum((-2, -1)) - best.loss).clamp(min=1e-9)


excess = {name: above_minimum(g1, g2) for name, (_, g1, g2) in runs.items() if name != "AdamW as published"}
distance = {name: sin_theta(g1.mT, pairs.u1.expand(len(g1), -1, -1)) for name, (_, g1, _) in runs.items()}
near = {name: int(runs[name][0][(e < 0.01 * best.loss).nonzero()[0]]) for name, e in excess.items() if e.min() < 0.01 * best.loss}
ratio = near["gradient descent"] / near["SVD iteration"]
claim("ours.optimisers.steps", "steps to 1% above the minimum: gradient descent / SVD iteration", ratio, 3, tolerance=(0, inf))
claim("ours.optimisers.minimum", "SVD iteration: loss above the minimum after 50 steps", excess["SVD iteration"][-1] / best.loss, 0, tolerance=1e-6)

# %%
figure, (left, right) = plots.panels(columns=2, width=4.6)
steps = {name: run[0] + 1 for name, run in runs.items()}
plots.curves(left, steps, excess, "gradient steps + 1", "loss above its minimum", log="xy", every=0.1, legend=None)
plots.curves(right, steps, distance, "gradient steps + 1", "sin$\\Theta$ to the true subspace", log="x", every=0.1, legend=None)
plots.guide(right, [1, 2000], [sin_theta(linear.g1.mT, pairs.u1)] * 2, "linear loss, one SVD")
plots.legend_below(figure, right)
show(figure, alt="Loss and subspace error against steps: the SVD iteration is there after ten, the others need hundreds.")

# %%
ends = {name: float(d[-1]) for name, d in distance.items()}
Markdown(
    f"**So:** the training runs of the literature trace the SVD path slowly, gradient descent {ratio:.0f} times as slowly. "
    f"The single SVD of the linear loss is at {float(sin_theta(linear.g1.mT, pairs.u1)):.2f} from the true subspace; the "
    f"others end at {min(ends.values()):.2f} ({min(ends, key=ends.get)}) to {max(ends.values()):.2f} ({max(ends, key=ends.get)})."
)

# %% [markdown]
# > AdamW on minibatches minimises the loss of 50 pairs, not that of $n$: fewer strangers in each
# > softmax. It settles above the minimum of the full loss however long it runs.

# %% [markdown]
# ## 5 What the loss cannot tell apart
# **Claim.** $(AG_1, A^{-\top}G_2)$ has the same $M$, so the same loss and the same subspaces, for
# every invertible $A$. Cosine similarity is invariant under orthogonal $A$ only. Retrieval
# therefore depends on something the loss does not see. We distort the fitted encoders by matrices
# $A$ of growing condition number and retrieve the partners of held-out pairs by cosine.


# %%
def top1(g1, g2):
    return top_k_accuracy(x_test @ g1.mT, x_tilde_test @ g2.mT)


conditions = np.array([1.0, 1.5, 2, 3, 5, 10, 20, 50])
generators = (as_generator(seed + k) for k in (4, 5))
left_q, right_q = (torch.linalg.qr(torch.randn(draws, rank, rank, generator=g, dtype=x.dtype))[0] for g in generators)
stretch = torch.tensor(conditions)[:, None] ** torch.linspace(-0.5, 0.5, rank, dtype=x.dtype)
A = (left_q * stretch[:, None, None, :]) @ right_q
g1, g2 = A @ best.g1, torch.linalg.inv(A).mT @ best.g2
change = max(relative_error(m, best.g1.mT @ best.g2) for m in (g1.mT @ g2).flatten(0, 1))
claim("ours.unseen.same-loss", "M, so the loss, is unchanged by A (condition up to 50)", change, 0, tolerance=1e-10)
accuracy = torch.stack([torch.stack([top1(a, b) for a, b in zip(*gs, strict=True)]) for gs in zip(g1, g2, strict=True)])
found = training.lbfgs(x, x_tilde, rank, clip, rho=rho, seed=seed)
balanced = float(top1(best.g1, best.g2))
noise = 3 * (balanced * (1 - balanced) / test_pairs) ** 0.5
if rank > 1 and balanced > 3 * noise:  # an accuracy near zero has nothing to lose
    claim("ours.unseen.retrieval", f"top-1 lost at condition number {conditions[-1]:g} (median A), at the same loss; three standard errors",
          balanced - accuracy[-1].median(), noise, tolerance=(0, inf))

# %%
figure, (ax,) = plots.panels(width=5.5)
band = tuple(accuracy.quantile(q, dim=1) for q in (0.5, 0.05, 0.95))
plots.curves(ax, conditions, {f"balanced, distorted by A ({draws} draws)": band}, "condition number of A",
             f"top-1 accuracy among {test_pairs:,}", log="x")
plots.guide(ax, conditions, [top1(found.g1[-1], found.g2[-1])] * len(conditions), "factors L-BFGS ends at")
ax.set_ylim(0, None)
show(figure, alt="Top-1 accuracy falls as the condition number of A grows, while the loss stays the same to rounding.")

# %%
Markdown(
    f"**So:** at one and the same loss, top-1 is {balanced:.2f} with the balanced factors, "
    f"{float(top1(found.g1[-1], found.g2[-1])):.2f} with those L-BFGS ends at, and {float(accuracy[-1].median()):.2f} at "
    f"condition number {conditions[-1]:g}. `fit` returns the balanced pair, $G_1G_1^\\top = G_2G_2^\\top$; training on the "
    "factors ends wherever its start led it."
)

# %% [markdown]
# ## 6 The same on real handwritten digits
# **Claim.** Nothing above needs the model. We split the 1,797 digits that come with scikit-learn
# into two views by a checkerboard of pixels, 32 and 32, train on 900 images and retrieve, for each
# of the 897 others, its second view from its first.

# %%
views = digits.digits_views(seed=seed)
scale = views.x.std()
centre = views.x.mean(0), views.x_tilde.mean(0)
a, b = ((v - m) / scale for v, m in zip((views.x, views.x_tilde), centre, strict=True))
ours = spectral.fit(a, b, rank, clip, rho=rho)
theirs = training.lbfgs(a, b, rank, clip, rho=rho, seed=seed)
claim("ours.digits.value", "digits: CLIP value relative to L-BFGS", theirs.loss[-1] / ours.loss, 1, tolerance=1e-6)
claim("ours.digits.subspace", "digits: sinTheta to L-BFGS", sin_theta(ours.g1.mT, theirs.g1[-1].mT), 0, tolerance=1e-3)

# %% [markdown]
# For retrieval, all encoders are SVDs, over random splits; what differs is how the views are scaled
# before, and the singular directions after: by $\sigma_k^0$ (singular vectors), $\sigma_k^{1/2}$
# (balanced factors) or $\sigma_k$. Whitening is by $(\hat\Sigma + I)^{-1/2}$, with grey levels 0 to
# 16 as the unit. CLIP is fitted to the whitened views.

# %%
parts = [digits.digits_views(seed=seed + k) for k in range(splits)]
train, test = ([torch.stack([getattr(v, name + end) for v in parts]) for name in ("x", "x_tilde")] for end in ("", "_test"))
test = [b - a.mean(-2, keepdim=True) for a, b in zip(train, test, strict=True)]
train = [a - a.mean(-2, keepdim=True) for a in train]
whiten = [covariance.whitening(a, ridge=1.0) for a in train]
white, white_test = ([a @ w for a, w in zip(views, whiten, strict=True)] for views in (train, test))


def held_out_top1(f, views, power=0.5):
    """Top-1 of the held-out views for a fit whose directions are scaled by sigma^power; 0.5 leaves it balanced."""
    sigma = f.g1.square().sum(-1).unsqueeze(-2)
    scale = (sigma ** (power - 0.5)).where(sigma > 0, 0)  # a view with constant pixels has fewer than 32 directions
    return top_k_accuracy(views[0] @ f.g1.mT * scale, views[1] @ f.g2.mT * scale)


# %%
ranks, scores = (2, 5, 10, 20, 30), {}
for r in ranks:
    plain, whitened = spectral.fit(*train, r), spectral.fit(*white, r)
    nonlinear = spectral.fit(*white, r, "clip", rho=0.1, tol=1e-2)
    for name, row in {"linear loss, balanced": (plain, test), "linear loss, singular vectors": (plain, test, 0),
                      "whitened, balanced": (whitened, white_test), r"whitened, scaled by $\sigma_k$": (whitened, white_test, 1),
                      "whitened, CLIP, balanced": (nonlinear, white_test)}.items():
        scores.setdefault(name, []).append(held_out_top1(*row))
scores = {name: torch.stack(rows) for name, rows in scores.items()}
at_20 = {name: rows[ranks.index(20)] for name, rows in scores.items()}
gain = at_20["whitened, balanced"] - at_20["linear loss, singular vectors"]
claim("ours.digits.whitening", "digits, rank 20: top-1 gained by whitening over singular vectors", gain.mean(), 2 * gain.std() / splits**0.5, (0, inf))
claim("ours.digits.chance", "digits, rank 20: held-out top-1, whitened linear loss, in multiples of chance",
      at_20["whitened, balanced"].mean() * 897, 100, tolerance=(0, inf))

# %%
figure, (ax,) = plots.panels(width=5.5)
bands = {name: (rows.median(-1)[0], rows.amin(-1), rows.amax(-1)) for name, rows in scores.items()}
plots.curves(ax, ranks, bands, "rank r of the encoders", "held-out top-1 among 897", legend=None)
ax.set_ylim(0, None)
plots.legend_below(figure, ax)
show(figure, alt="Held-out retrieval on digits against rank: whitening both views lifts the plain linear loss at every rank.")

# %%
Markdown("**So:** the iteration ends where L-BFGS ends on real pixels too, and one SVD retrieves hundreds of times better than chance. "
         "Top-1 at rank 20, mean ± standard deviation of " + f"{splits} splits: "
         + "; ".join(f"{name} {float(v.mean()):.3f} ± {float(v.std()):.3f}" for name, v in at_20.items()) + ".")

# %% [markdown]
# How the singular directions are weighted decides more than the loss: the covariance of real data
# is far from isotropic, the directions with most variance are not those that tell images apart, and
# whitening, that is, canonical correlation analysis with a ridge, mends most of it.
#
# > On these data the balanced factors are never the best pair to retrieve with: before whitening it
# > helps to drop the singular values, after it to use them twice. The loss does not decide this
# > either.

# %% [markdown]
# ## Ledger

# %%
ledger()
