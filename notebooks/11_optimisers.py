# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 Optimisers, and what the loss cannot see
#
# Ours, beside the paper. **If a gradient step is a truncated SVD, why train for hundreds of steps?
# And do all ways to the minimum lead to equally good encoders?**
#
# **Answer.** A dozen SVDs reach what long training reaches, if the step is short enough, and how
# short can be computed. But the loss sees encoders only through $M = G_1^\top G_2$: at one and the
# same loss, retrieval can be anything from excellent to poor.
#
# [Chapter 01](01_loss_to_svd.ipynb) shows that a gradient step climbs the objective of a truncated
# singular value decomposition (SVD). Symbols are those of that chapter: $x_i$ and $\tilde x_i$ are
# a
# pair, $s_{ij} = \langle G_1 x_i, G_2 \tilde x_j\rangle$, $S(\beta)$ is the contrastive
# cross-covariance, and $\rho$ weighs the penalty $\frac\rho2\lVert M\rVert_F^2$. A step length is
# $\lambda$.

# %% tags=["parameters"]
n: int = 300  # training pairs
d1: int = 40  # dimension of the first modality
d2: int = 39  # dimension of the second modality
rank: int = 10  # latent dimension r, and the encoders' output dimension
noise_std: float = 0.3  # standard deviation of each noise coordinate (a latent coordinate has 1)
tau: float = 1.0  # temperature of CLIP
rho: float = 1.0  # weight of the penalty rho/2 ||G1^T G2||_F^2
draws: int = 10  # independent data sets, or distortions, where an interval is shown
epochs: int = 100  # of AdamW
test_pairs: int = 5000  # held-out pairs for retrieval
splits: int = 6  # random splits of the digits into training and held-out images
seed: int = 0  # of every random number here

# %%
import numpy as np
import torch
from IPython.display import Markdown

from mmcl import covariance, data, spectral, training
from mmcl.beyond.optimisers import Encoded, distorted, objective, step_limit, svd_iteration
from mmcl.covariance import loss_and_covariance
from mmcl.experiments import digits
from mmcl.losses import LOSSES
from mmcl.metrics import relative_error, sin_theta, top_k_accuracy
from mmcl.notebook import plots, statistics
from mmcl.notebook.claims import claim, ledger, show

# %%
if rank >= min(d1, d2) or min(draws, splits) < 2 or n < 60:
    raise ValueError("use rank < min(d1, d2), so that there is a gap after the r-th singular "
                     "value, "
                     "draws and splits >= 2, n >= 60")
pairs = data.spiked(n + test_pairs, d1, d2, rank, noise_std=noise_std, seed=seed)
x, x_tilde = pairs.x[:n], pairs.x_tilde[:n]
x_test, x_tilde_test = pairs.x[n:], pairs.x_tilde[n:]
clip, inf = LOSSES["clip"](tau=tau), float("inf")
linear = spectral.fit(x, x_tilde, rank, rho=rho)
best = spectral.fit(x, x_tilde, rank, clip, rho=rho)
start = Encoded(linear.g1, linear.g2)

# %% [markdown]
# ## 1 A step in $M$ is an SVD
# In $M$ the loss has gradient $\rho M - S(\beta(M))$. The gradient step that stays among matrices
# of
# rank $r$ is
#
# $$M^+ = \mathrm{SVD}_r\big((1-\lambda\rho)M + \lambda\, S(\beta(M))\big).$$
#
# With $\lambda\rho = 1$, the full step, it is $\mathrm{SVD}_r(S(\beta(M)))/\rho$: the maximiser of
# the present SVD objective, at once. For the linear loss $S$ stands still and one step is all. For
# CLIP $S$ moves with $M$, so repeat. The whole fit in five lines:

# %%
u, s, v = covariance.truncated_svd(covariance.cross_covariance(x, x_tilde), rank)
M = (u * s) @ v.T / rho                                # start: the linear loss's minimiser
for _ in range(100):
    weights = clip.weights(x @ M @ x_tilde.T)          # beta at the present similarities
    S = x.T @ weights @ x_tilde / n                    # the contrastive cross-covariance
    u, s, v = covariance.truncated_svd(0.5 * M + 0.5 * S / rho, rank)  # step rho lambda = 1/2
    M = (u * s) @ v.T
assert relative_error(M, best.g1.mT @ best.g2) < 1e-3 or tau * rho < 0.7

# %% [markdown]
# **How long may the step be?** Close to the minimum a step multiplies the error along a direction
# of
# curvature $h$ of the loss by $1-\lambda(\rho+h)$. So with $h$ the largest curvature along matrices
# of rank $r$ the iteration converges for
#
# $$\lambda\rho < \frac{2\rho}{\rho+h},$$
#
# and jumps to and fro beyond. (Along other matrices the loss bends more, but SVD$_r$ takes those
# directions out: with noise as strong as the signal the limit would be half as long with them.)
# The full step converges only where $h < \rho$. Only the product
# $\tau\rho$ matters (scaling $M$ by $\tau$ turns one loss into the other), and the smaller it is,
# the
# larger $h/\rho$.

# %%
products = torch.tensor([0.1, 0.25, 0.5, 1.0, 2.0], dtype=torch.float64)
lengths = torch.linspace(0.1, 1.0, 7, dtype=torch.float64)
settled, limit = [], []
for product in products.tolist():
    fitted = spectral.fit(x, x_tilde, rank, clip, rho=product / tau)
    limit.append(step_limit(x, x_tilde, Encoded(fitted.g1, fitted.g2), clip, product / tau))
    end = svd_iteration(x, x_tilde, start, clip, product / tau, lengths, steps=60)
    value = objective(x, x_tilde, end.g1[-1], end.g2[-1], clip, product / tau)
    settled.append((value / fitted.loss - 1).abs() < 1e-3)
settled, limit = torch.stack(settled), torch.tensor(limit, dtype=torch.float64)
clear = (lengths / limit[:, None] - 1).abs() > 0.1
agree = (settled == (lengths < limit[:, None]))[clear]

# %%
# noise as strong as the signal, from the minimiser: beyond the limit rounding errors grow
loud, small = data.spiked(150, d1, d2, rank, noise_std=1.0, seed=seed + 1), 0.1 / tau
low = spectral.fit(loud.x, loud.x_tilde, rank, clip, rho=small)
low = Encoded(low.g1, low.g2)
longest = step_limit(loud.x, loud.x_tilde, low, clip, small)
around = longest * torch.tensor([0.85, 1.15], dtype=torch.float64)
end = svd_iteration(loud.x, loud.x_tilde, low, clip, small, around, steps=150)
moved = [relative_error(m, low.g1.mT @ low.g2) for m in end.g1[-1].mT @ end.g2[-1]]
agree = torch.cat([agree, torch.tensor([moved[0] < 1e-3, moved[1] > 1e-3])])

# %%
claim("ours.svd-iteration.step-limit", f"{len(agree)} step lengths, 10 % or more off the limit, "
      f"two in noise as strong as the signal (limit {longest:.3f}): the share that converge or "
      "oscillate as predicted", agree.double().mean(), 1, 0)
gaps, angles = [], []
for product in (0.25, 1.0):
    ours = spectral.fit(x, x_tilde, rank, clip, rho=product / tau, max_steps=3000)
    theirs = training.lbfgs(x, x_tilde, rank, clip, rho=product / tau, seed=seed)
    gaps.append(abs(float(theirs.loss[-1] / ours.loss) - 1))
    angles.append(float(sin_theta(ours.g1.mT, theirs.g1[-1].mT)))
claim("ours.svd-iteration.value", f"CLIP: the fit has the value that L-BFGS finds, to "
      f"{max(gaps):.0e}",
      max(gaps), 0, 1e-6)
claim("ours.svd-iteration.subspace", f"and its subspace, to a sine of {max(angles):.0e}",
      max(angles), 0, 1e-3)

# %%
at = 0.25 / tau
lowest = spectral.fit(x, x_tilde, rank, clip, rho=at)
two = torch.tensor([1.0, 0.8 * float(limit[1])])
path = svd_iteration(x, x_tilde, start, clip, at, two, steps=40)
falls = {name: objective(x, x_tilde, path.g1[:, k], path.g2[:, k], clip, at) - lowest.loss
         for k, name in enumerate(("full step", "0.8 of the limit"))}
falls = {name: a.clamp(min=1e-10) for name, a in falls.items()}

# %%
figure, (left, right) = plots.panels(columns=2, width=4.6, height=3.3)
plots.curves(left, range(41), falls, "SVDs", "loss above its minimum",
             r"A step too long jumps ($\tau\rho = 0.25$)", log="y", every=8, legend="ends")
for holds, marker, name in ((True, "o", "converges"), (False, "x", "oscillates")):
    row, column = (settled == holds).nonzero().T
    right.plot(products[row], lengths[column], marker, linestyle="none", label=name)
right.set(xscale="log", ylim=(0, 1.3), xlabel=r"$\tau\rho$", ylabel=r"step length $\lambda\rho$")
right.set_title("The limit is predicted", loc="left", fontsize=11)
right.plot(products, limit, **plots.look("predicted"), label=r"predicted $2\rho/(\rho+h)$")
right.legend(loc="upper left", frameon=False, fontsize=8, ncols=3)
plots.plain_ticks(right, products.tolist())
show(figure, alt="The full step jumps, a damped one converges; convergence against step length and "
                 "tau rho, with the predicted limit between.")

# %% [markdown]
# `mmcl.spectral.fit` takes these SVD steps too and ends at the same point, where they stand still.
# In place of one length it has a curvature for every direction. At $M=0$, for centred data, that of
# CLIP along $ab^\top$ is $\rho+\mathrm{Var}(a^\top x)\,\mathrm{Var}(b^\top\tilde x)/\tau$; on the
# way L-BFGS corrects it, and backtracking makes the loss fall. The limit need not be known.
#
# **At high temperature** the softmax flattens and CLIP turns into the linear loss, for which one
# SVD
# is the whole fit.

# %%
many = data.spiked(n, d1, d2, rank, noise_std=noise_std, draws=draws, seed=seed + 2)
first = spectral.fit(many.x, many.x_tilde, rank, rho=rho)
largest = float((many.x @ first.g1.mT @ first.g2 @ many.x_tilde.mT).abs().amax())
plain, distance = covariance.cross_covariance(many.x, many.x_tilde), []
for t in (10, 30, 100):  # temperatures in units of the largest similarity
    warm = LOSSES["clip"](tau=t * largest)
    _, S = loss_and_covariance(many.x, many.x_tilde, first.g1, first.g2, warm)
    distance.append((n / (n - 1) * S - plain).norm(dim=(-2, -1)) / plain.norm(dim=(-2, -1)))
slope = statistics.loglog_slope([10, 30, 100], torch.stack(distance).T).mean()
claim("ours.clip-to-linear.slope", f"the distance of CLIP's S from the linear one falls as "
      f"tau^{slope:.3f}", slope, -1, 0.03)

# %% [markdown]
# ## 2 Gradient descent and AdamW go the same way, slowly
# In the factors, the step $G_1 \mathrel{+}= \lambda(G_2S^\top - \rho\,G_2G_2^\top G_1)$ is one
# step of
# block power iteration on $S$. For the linear loss the theory of power iteration gives the speed:
# each step multiplies the last part of the error by $1-\lambda(\sigma_r-\sigma_{r+1})$, with
# $\sigma_k$ the singular values of $S$.

# %%
u, sigma, _ = covariance.truncated_svd(plain, rank + 1)
lr = 0.5 / float(sigma.max())
predicted = 1 - lr * (sigma[:, rank - 1] - sigma[:, rank])
steps = int(min(1500, np.log(1e-12) / np.log(float(predicted.max()))))
path = training.gradient_descent(many.x, many.x_tilde, rank, "linear", rho, lr, steps, seed,
                                 scale=0.1)
inside, next_one = path.g1 @ u[..., :rank], path.g1 @ u[..., rank:]
slowest = torch.linalg.solve(inside, next_one)[..., -1, 0].abs()   # the part along u_(r+1)
late = slice(steps // 2, 2 * steps // 3)
measured = (slowest[late][-1] / slowest[late][0]) ** (1 / (len(slowest[late]) - 1))
ratio = predicted.log() / measured.log()
claim("ours.power-iteration.rate", f"linear loss: gradient descent needs {ratio.mean():.3f} "
      f"times the "
      "predicted number of steps", ratio.mean(), 1, 0.03 + 3 * float(ratio.std()) / draws**0.5)

# %%
h = spectral.curvature(x, x_tilde, best.g1, best.g2, clip)
length = torch.tensor([min(1.0, 1.2 * rho / (rho + h))])
svd = svd_iteration(x, x_tilde, start, clip, rho, length, steps=50)
descent = training.gradient_descent(x, x_tilde, rank, clip, rho, lr, steps=1000, seed=seed)
how = dict(epochs=epochs, seed=seed)
adamw = training.adamw(x, x_tilde, rank, clip, rho=rho, normalize=False, **how)
published = training.adamw(x, x_tilde, rank, clip, **how)  # cosines and no penalty, another loss
runs = {"SVD iteration": (torch.arange(51), svd.g1[:, 0], svd.g2[:, 0]),
        "gradient descent": (descent.step, descent.g1, descent.g2),
        "AdamW, batches of 50": (adamw.step, adamw.g1, adamw.g2),
        "AdamW as published": (published.step, published.g1, published.g2)}

# %%
above = {name: objective(x, x_tilde, g1, g2, clip, rho) / best.loss - 1
         for name, (_, g1, g2) in runs.items() if name != "AdamW as published"}
away = {name: sin_theta(g1.mT, pairs.u1.expand(len(g1), -1, -1)) for name,
        (_, g1, _) in runs.items()}
near = {name: int(runs[name][0][(e < 0.01).nonzero()[0]]) for name, e in above.items()
        if bool((e < 0.01).any())}
ratio = near["gradient descent"] / max(1, near["SVD iteration"])
claim("ours.optimisers.steps", f"to 1 % above the minimum gradient descent takes {ratio:.0f} "
      f"times as "
      "many steps as the SVD iteration; at least 3", ratio, 3, (0, inf))
claim("ours.optimisers.minimum", "after 50 steps the SVD iteration is at the minimum, relative "
      "excess", above["SVD iteration"][-1], 0, 1e-6)
claim("ours.svd-iteration.gradient-descent", "1,000 steps of gradient descent end there too, "
      "relative excess", above["gradient descent"][-1], 0, 1e-5)

# %%
figure, (left, right) = plots.panels(columns=2, width=4.6, height=3.3)
ticks = {name: run[0] + 1 for name, run in runs.items()}
plots.curves(left, ticks, {k: a.clamp(min=1e-8) for k, a in above.items()}, "steps + 1",
             "relative loss above the minimum", "A dozen SVDs, or hundreds of steps", log="xy",
             every=0.1, legend=None)
plots.curves(right, ticks, away, "steps + 1", r"$\|\sin\Theta(G_1, U_1)\|_F$",
             "One SVD of the linear loss is closest", log="x", every=0.1, legend=None)
plots.level(right, float(sin_theta(linear.g1.mT, pairs.u1)), "linear loss, one SVD", at=0.66)
plots.legend_below(figure, right)
show(figure, alt="Loss and subspace error against steps: the SVD iteration is there after ten, the "
                 "others need hundreds.")

# %%
ends = {name: float(a[-1]) for name, a in away.items()}
Markdown(f"**So:** gradient descent traces the SVD path {ratio:.0f} times as slowly. One SVD of "
         f"the "
         f"linear loss is {float(sin_theta(linear.g1.mT, pairs.u1)):.2f} from the true subspace; "
         f"the others end at {min(ends.values()):.2f} to {max(ends.values()):.2f}.")

# %% [markdown]
# > AdamW on batches minimises the loss of 50 pairs, with fewer strangers in each softmax, not that
# > of $n$. It settles above the minimum however long it runs.
#
# ## 3 What the loss cannot see
# Take any invertible $A$. The encoders $(AG_1, A^{-\top}G_2)$ have the same $M$, so the same
# similarities, loss and subspaces. But retrieval is by cosine, and cosines are the same only under
# rotations. We distort the fitted encoders by random $A$ of growing condition number (largest over
# smallest stretch) and look up held-out partners.

# %%
conditions, balanced = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0], Encoded(best.g1, best.g2)


def top1(g):
    """Share of held-out rows that find their partner by cosine, for each pair of encoders."""
    return top_k_accuracy(x_test @ g.g1.mT, x_tilde_test @ g.g2.mT)


found = [distorted(balanced, kappa, draws, seed + 4) for kappa in conditions]
changed = max(relative_error(m, best.g1.mT @ best.g2) for g in found for m in g.g1.mT @ g.g2)
accuracy = torch.stack([top1(g) for g in found])
trained = training.lbfgs(x, x_tilde, rank, clip, rho=rho, seed=seed)
by_lbfgs, own = float(top1(Encoded(trained.g1[-1], trained.g2[-1]))), float(top1(balanced))

# %%
claim("ours.unseen.same-loss", "M, and so the loss, changes by rounding only", changed, 0, 1e-10)
error = 3 * (own * (1 - own) / test_pairs) ** 0.5
lost = own - accuracy[-1].median()
claim("ours.unseen.retrieval", f"at condition number {conditions[-1]:g} top-1 falls from "
      f"{own:.2f} to "
      f"{accuracy[-1].median():.2f}, at the same loss; loss of three standard errors or more",
      lost, error, (0, inf))
figure, (ax,) = plots.panels(width=5.8, height=3.2)
band = tuple(accuracy.quantile(q, dim=1) for q in (0.5, 0.05, 0.95))
plots.curves(ax, conditions, {"distorted by $A$": band}, "condition number of $A$",
             f"top-1 among {test_pairs:,}", "One loss, any retrieval", log="x", legend=None)
plots.level(ax, by_lbfgs, "where L-BFGS ends", at=0.6)
plots.plain_ticks(ax, conditions)
ax.set_ylim(0, None)
show(figure, alt="Top-1 falls as the condition number of A grows, while the loss stays the same.")

# %% [markdown]
# `fit` returns the balanced pair, $G_1G_1^\top = G_2G_2^\top$; training on the factors ends
# wherever
# its start leads. On real data the scale of the directions matters even more than here. Digits,
# seen
# as two views (a checkerboard of pixels), each retrieved from the other:

# %%
parts = [digits.digits_views(seed=seed + k) for k in range(splits)]
views = []
for name in ("x", "x_tilde"):
    train, test = (torch.stack([getattr(v, name + end) for v in parts]) for end in ("", "_test"))
    views.append((train - train.mean(-2, keepdim=True), test - train.mean(-2, keepdim=True)))
roots = [covariance.whitening(a, ridge=1.0) for a, _ in views]
white = [(a @ w, b @ w) for (a, b), w in zip(views, roots, strict=True)]


def held_out(views, r):
    """Top-1 among held-out images (splits,), balanced encoders of the linear loss."""
    (x, x_test), (y, y_test) = views
    f = spectral.fit(x, y, r)
    return top_k_accuracy(x_test @ f.g1.mT, y_test @ f.g2.mT)


# %%
ranks = [5, 10, 20, 30]
scores = {name: torch.stack([held_out(v, r) for r in ranks])
          for name, v in (("pixels", views), ("whitened pixels", white))}
gain = scores["whitened pixels"][2] - scores["pixels"][2]
claim("ours.digits.whitening", f"digits, rank 20: whitening both views adds {gain.mean():.2f} to "
      f"the "
      "top-1; at least two standard errors", gain.mean(), 2 * gain.std() / splits**0.5, (0, inf))
chance = scores["whitened pixels"][2].mean() * 897
claim("ours.digits.chance", f"it is {chance:.0f} times chance; at least 100", chance, 100, (0, inf))
figure, (ax,) = plots.panels(width=5.4, height=3.0)
lines = {name: statistics.interval(a) for name, a in scores.items()}
plots.curves(ax, ranks, lines, "rank r of the encoders", "top-1 among 897",
             "Digits: the scale of directions decides", legend="ends")
ax.set_ylim(0, None)
show(figure, alt="Held-out retrieval on digits against rank: whitening both views lifts it.")

# %%
Markdown(f"**So:** at one loss, top-1 is {own:.2f} balanced, {by_lbfgs:.2f} where L-BFGS ends, "
         f"{float(accuracy[-1].median()):.2f} at condition number {conditions[-1]:g}; on digits "
         f"whitening takes it from {scores['pixels'][2].mean():.2f} to "
         f"{scores['whitened pixels'][2].mean():.2f}.")

# %% [markdown]
# **Where it stops holding.** The limit of the step is local, near the minimum; from far away a
# longer step may still arrive. And the paper speaks of the direction of one step: that the undamped
# iteration need not converge, and when, is ours.
#
# ## Exercises
# **1.** How many SVDs does the *linear* loss need, and why?
# <details><summary>Answer</summary>One: its S does not depend on the encoders, so the full step
# lands on
# the minimiser of Lemma 2.1.</details>
#
# **2.** You double tau and halve rho. What changes?
# <details><summary>Answer</summary>Only the scale: M doubles. Subspaces, step limit and number of
# steps
# depend on the product alone.</details>
#
# **3.** Two teams report the same CLIP loss, one retrieves twice as well. Who is wrong?
# <details><summary>Answer</summary>Nobody need be: the loss does not determine the encoders, only
# G1^T G2.
# Balance the factors by an SVD of M and compare again.</details>

# %%
ledger()
