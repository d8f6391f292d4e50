# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 A filter for wrong pairs
#
# Ours, beyond the paper. **Some pairs are wrong and nobody says which. If a first fit drops the
# pairs it does not believe, and a second fit takes the rest: what is gained, and what is the
# price?**
#
# **Answer.** Without a filter the error grows as $1/\eta$, where $\eta$ is the share of right
# pairs. With a filter it grows as $1/\sqrt\eta$, and stops growing near $\eta =
# 1/\sqrt{2\pi r}$. The price: there the filter no longer learns from pairs, but from each modality
# alone, and fails where this fails.
#
# It belongs beside [chapter 02](02_robustness.ipynb) (the linear loss) and
# [chapter 03](03_clip_and_wrong_pairs.ipynb) (CLIP's $\nu$). The error is
# $\lVert\sin\Theta(P_r(G_1),
# U_1)\rVert_F$, at most $\sqrt r$; bands are 95 % intervals over independent data sets.

# %% tags=["parameters"]
filter_n: int = 200_000  # pairs in section 1, kept in float32
ranks: list = [2, 8, 32]  # latent dimensions there
filter_draws: int = 3  # data sets there
compare_n: int = 2000  # pairs in section 2
price_draws: int = 20  # data sets of a point in section 3
splits: int = 6  # random splits of the digits
seed: int = 0  # of every random number here

# %%
import math

import torch
from IPython.display import Markdown

from mmcl import covariance, spectral
from mmcl.beyond.filter_theory import filtered_error, kept_moments
from mmcl.beyond.filtering import filtered_fit
from mmcl.data import spiked
from mmcl.experiments.digits import digits_views
from mmcl.experiments.monte_carlo import errors, long_draw
from mmcl.experiments.section_7_3 import pull_and_push
from mmcl.metrics import sin_theta, top_k_accuracy
from mmcl.notebook import plots, statistics
from mmcl.notebook.claims import claim, ledger, show
from mmcl.notebook.statistics import interval

# %%
if min(price_draws, filter_draws, splits) < 2 or filter_n < 20_000 or compare_n < 500:
    raise ValueError("use price_draws, filter_draws, splits >= 2, filter_n >= 20,000, "
                     "compare_n >= 500")
inf = float("inf")

# %% [markdown]
# ## 1 A teacher's filter
# Split the pairs into two halves. Fit a *teacher* to one half. A pair of the other half is kept if
# the teacher finds its rows similar, $\langle G_1x, G_2\tilde x\rangle > \theta r$. Do it both ways
# round, so that no pair is given up, and fit again to all kept pairs. Nothing about the wrong pairs
# goes in. Why halves? A teacher likes the pairs it was fitted to, the wrong ones too. To the other
# half's teacher a wrong pair is any two strangers. Here it is from scratch, equal to the module.

# %%
p = spiked(4000, 150, 140, 8, noise_std=0.8, wrong_share=0.5, seed=seed)
halves = slice(0, 2000), slice(2000, 4000)
kept, by_chance = torch.zeros(2, 4000, dtype=torch.bool)
for half, other in (halves, halves[::-1]):
    x, y = (a[other] - a[other].mean(0) for a in (p.x, p.x_tilde))
    u, _, v = covariance.truncated_svd(x.T @ y, 8)                    # the other half's teacher
    full = (x @ u).norm() * (y @ v).norm() / 1999                     # score of a perfect pair
    a, b = p.x[half] - p.x[other].mean(0), p.x_tilde[half] - p.x_tilde[other].mean(0)
    kept[half] = ((a @ u) * (b @ v)).sum(1) > 0.5 * full              # theta = 0.5
    by_chance[half] = ((a @ u) * (b.roll(1, 0) @ v)).sum(1) > 0.5 * full
found = filtered_fit(p.x, p.x_tilde, 8, threshold=0.5).kept
assert torch.equal(kept, found)

# %%
right, wrong, strangers = (a.double().mean() for a in (found[~p.wrong], found[p.wrong], by_chance))
claim("ours.filter.strangers", f"kept are {right:.0%} of the right pairs, and {wrong:.1%} of the "
      f"wrong ones; of strangers it would be {strangers:.1%}", wrong, strangers,
      4.5 * float(strangers / 2000 + strangers / 4000) ** 0.5)

# %% [markdown]
# **How far does it help?** Let noise be low and the teacher good. A kept right pair adds signal
# $a_1$ and noise $m_1$ to the refit. A kept *wrong* pair adds noise $m_0$, but signal too, $a_0$:
# it
# was kept because its rows agree by chance, and chance agreement also points along $U_1$ and $U_2$.
# To first order
#
# $$\text{error} = \sigma\sqrt{\frac{(d-r)\,r}{n}}\;
# \frac{\sqrt{\eta m_1+(1-\eta)m_0}}{\eta a_1+(1-\eta)a_0}.$$
#
# Without a filter $a_1 = m_1 = m_0 = 1$ and $a_0 = 0$: it is $1/\eta$. With one, the root makes
# $1/\sqrt\eta$ of it as long as right pairs lead in both places; once wrong pairs lead in both,
# $\eta$ drops out. At $\theta = 0$ the switch lies at $\eta = a_0 \approx 1/\sqrt{2\pi r}$. The
# four
# numbers are expectations of $\chi^2$ and normal laws (`mmcl.beyond.filter_theory`).

# %%
thresholds = {"no filter": None, "threshold 0": 0.0, "threshold 0.5": 0.5}
etas = [1.0, 0.6, 0.3, 0.15, 0.08, 0.04, 0.02]
measured = torch.full((len(ranks), 3, len(etas), filter_draws), torch.nan, dtype=torch.float64)
for i, r in enumerate(ranks):
    for j, eta in enumerate(etas):
        if eta < 3 * (2 * r / filter_n) ** 0.5:  # the teacher itself is lost
            continue
        for k in range(filter_draws):
            p = long_draw(filter_n, r + 12, r + 12, r, noise_std=0.01, wrong_share=1 - eta,
                          seed=seed + k)
            fits = [spectral.fit(p.x, p.x_tilde, r) if t is None else filtered_fit(p.x, p.x_tilde,
                                                                                   r, t)
                    for t in thresholds.values()]
            measured[i, :, j, k] = torch.stack([sin_theta(f.g1.double().mT, p.u1) for f in fits])

# %%
predicted = torch.tensor([[[filtered_error(filter_n, r + 12, r, 0.01, eta, t) for eta in etas]
                           for t in thresholds.values()] for r in ranks], dtype=torch.float64)
mean, seen = measured.mean(-1), ~measured[:, 0, :, 0].isnan()
off = (mean / predicted - 1).abs()
spread = (24 * torch.tensor(ranks) * filter_draws).rsqrt()[:, None,
                                                           None]  # of an error with 12 r directions
claim("ours.filter.formula", f"r = {ranks}, all thresholds and shares: measured errors are "
      f"{off.nanmean():.0%} from the formula on average; largest excess over 6 %, in standard "
      "errors", ((off - 0.06) / spread).nan_to_num(-inf).max(), 0, (inf, 4.5))


def slope(k, i, part):
    """Slope of the error in 1/eta at threshold k and rank i over a part of the shares, and the
    formula's."""
    use = part & seen[i]
    x = 1 / torch.tensor(etas)[use]
    return [float(statistics.loglog_slope(x, a[i, k, use])) for a in (mean, predicted)]


# %%
shares = torch.tensor(etas)
large, small = shares >= 0.3, shares <= 0.08
plain = [slope(0, i, shares > 0)[0] for i in range(len(ranks))]
powers = ", ".join(f"{a:.2f} at r = {r}" for a, r in zip(plain, ranks, strict=True))
claim("ours.filter.no-filter-slope", f"no filter: the error grows as a power of 1/eta, {powers}; "
      "farthest from 1", max(abs(a - 1) for a in plain), 0, 0.15)
above, below = slope(2, -1, large), slope(2, 0, small)
claim("ours.filter.large-share", f"threshold 0.5, r = {ranks[-1]}, at least 30 % right: power "
      f"{above[0]:.2f}, the formula's is {above[1]:.2f}, 1/2 in the limit", *above, 0.12)
claim("ours.filter.small-share", f"threshold 0.5, r = {ranks[0]}, at most 8 % right: power "
      f"{below[0]:.2f}, the formula's is {below[1]:.2f}, 0 in the limit", *below, 0.3)

# %%
last = int(seen[0].nonzero().max())
gain = measured[0, 0, last] / measured[0, 1, last]
claim("ours.filter.gain", f"r = {ranks[0]}, {etas[last]:.0%} right: the filter divides the error "
      f"by "
      f"{gain.mean():.0f}, by {gain.min():.0f} in the worst data set", gain.min(), 3, (0, inf))

# %%
figure, axes = plots.panels(columns=len(ranks), width=3.7, height=3.3)
for i, (ax, r) in enumerate(zip(axes, ranks, strict=True)):
    lines = {name: mean[i, k] for k, name in enumerate(thresholds)}
    switch = kept_moments(r, 0.0).wrong
    plots.curves(ax, etas, lines, r"share $\eta$ of right pairs", r"error $\|\sin\Theta\|_F$"
                 if i == 0 else "",
                 rf"$r={r}$: flat below $\eta={switch:.2f}$", log="xy", legend=None)
    for k in range(3):
        ax.plot(etas, predicted[i, k], **plots.look("predicted"), label="_" if k else "predicted")
    plots.level(ax, switch, r"$1/\sqrt{2\pi r}$", at=0.72, vertical=True)
    plots.plain_ticks(ax, [0.02, 0.1, 0.3, 1])
plots.legend_below(figure, axes[0], columns=4)
show(figure, alt="Error against the share of right pairs for three ranks: slope one without a "
     "filter, one half "
     "with it, flat at small shares; the formula lies on the points.")

# %%
Markdown(f"**So:** in powers of $1/\\eta$ the error of the filter grows as {above[0]:.2f} where "
         f"many "
         f"pairs are right ($r={ranks[-1]}$) and as {below[0]:.2f} where few are ($r={ranks[0]}$); "
         f"without a filter as {min(plain):.2f} to {max(plain):.2f}.")

# %% [markdown]
# > **What is proved.** Pareek, Oh and Du (*Understanding the Gain from Data Filtering in Multimodal
# > Contrastive Learning*, NeurIPS 2025, arXiv 2512.14230) state for a linear model: without a
# > filter
# > the error is bounded above *and below* by $1/(\eta\sqrt n)$; with a teacher's filter it is
# > bounded
# > above by $1/\sqrt{\eta n}$ for large $\eta$ and by $1/\sqrt n$ for small. So says the abstract;
# > we
# > have verified no more of the paper. It states no lower bound for the filter, and no constants,
# > which decide where one regime becomes the other. Our formula has both, for low noise only.
#
# ## 2 Twice, and against CLIP's $\nu$
# Does a second filter help, whose teacher is the result of the first? The formula says no: a good
# teacher's error does not enter. It can only help a bad teacher. And how does dropping pairs
# compare with chapter 03, where CLIP's weights find wrong pairs by themselves (Algorithm 4)?

# %%
share = 0.4
p = spiked(compare_n, 80, 80, 60, 0.3, wrong_share=1 - share, draws=2 * filter_draws, seed=seed + 3)
known = spectral.fit(p.x, p.x_tilde.take_along_dim(p.partner.unsqueeze(-1), -2), 60)
first = spectral.fit(p.x, p.x_tilde, 60, rho=share)
tau = 0.5 * math.sqrt(60 / math.log(compare_n))
pull, push = pull_and_push(p, first.g1, first.g2, tau)      # the two parts of CLIP's S, chapter 03
compared = {"linear loss": first.g1, "filter": filtered_fit(p.x, p.x_tilde, 60, 0.5).g1}
for nu in (1.5 / share, 2.5 / share, 10 / share):
    s_nu = nu * pull - push
    compared[rf"Algorithm 4, $\nu={nu:.1f}$"] = covariance.truncated_svd(s_nu, 60)[0].mT
base = sin_theta(known.g1.mT, p.u1)
compared = {name: sin_theta(g.mT, p.u1) / base for name, g in compared.items()}

# %%
p = spiked(10 * compare_n, 40, 40, 20, 0.5, wrong_share=0.9, draws=2 * filter_draws, seed=seed + 4)
by_round = {name: torch.stack([
    sin_theta(filtered_fit(p.x, p.x_tilde, 20, t if k else -inf, max(k, 1)).g1.mT, p.u1)
    for k in range(5)]) for name, t in thresholds.items() if t is not None}
value = {name: float(a.mean()) for name, a in compared.items()}
best_nu = min(v for name, v in value.items() if name.startswith("Algorithm"))
claim("ours.filter.against-nu", f"r = 60, {share:.0%} right: the filter has {value['filter']:.2f} "
      f"times the error of known pairs, Algorithm 4 at its best nu {best_nu:.2f}; ratio",
      value["filter"] / best_nu, 0.85, (inf, 0))
second, later = (by_round["threshold 0"].mean(-1)[k] / by_round["threshold 0"].mean(-1)[k - 1]
                 for k in (2, 4))
claim("ours.filter.second-round", f"a poor teacher (10 % right, noise 0.5): the second round "
      f"changes the error by {second - 1:+.1%}; less than -3 %", second, 0.97, (inf, 0))
claim("ours.filter.rounds", f"the fourth by {later - 1:+.1%}; less than half as much",
      (later - 1) / (second - 1), 0, 0.5)

# %%
figure, (one, two) = plots.panels(columns=2, width=4.8, height=3.0)
plots.dots(one, {name: interval(a) for name, a in compared.items()},
           "error / error with known pairs", rf"A filter beats every $\nu$ ($\eta={share}$)")
plots.level(one, 1, "known pairs", at=0.1, vertical=True)
plots.curves(two, range(5), {name: interval(a) for name, a in by_round.items()},
             "rounds of the filter", r"error $\|\sin\Theta\|_F$",
             "A poor teacher: two rounds are enough", legend="ends")
two.set_ylim(0, None)
show(figure, alt="Error over that of known pairs for the linear loss, the filter and Algorithm 4; "
                 "error by rounds of the filter, flat from the second on.")

# %% [markdown]
# $\nu$ reweights all pairs alike and tells right from wrong only through the push; a filter decides
# pair by pair. Both need to know no wrong pair. Chapter 16 audits a user's pairs with the same
# score, and gives each pair a probability instead of a threshold.
#
# ## 3 The price
# At small $\eta$ nearly all kept pairs are wrong, and the error is small all the same. So it is not
# pairs that teach. Take it to the end: *every* pair is wrong. Two rows kept for their chance
# agreement still show where each modality varies, which is what PCA would show. At low noise this
# is excellent.

# %%
r, m, alone = ranks[0], filter_n // 4, []
for k in range(2 * filter_draws):
    p = long_draw(2 * m, r + 12, r + 12, r, noise_std=0.01, wrong_share=1.0, seed=seed + 50 + k)
    x, y = p.x.double(), p.x_tilde.double()
    u, _, v = covariance.truncated_svd(covariance.cross_covariance(x[:m], y[:m]), r)
    keep = ((x[m:] @ u) * (y[m:] @ v)).sum(1) > 0          # threshold 0, one way round
    alone.append(sin_theta(spectral.fit(x[m:][keep], y[m:][keep], r).g1.mT, p.u1))
alone, expected = torch.stack(alone).mean(), filtered_error(m, r + 12, r, 0.01, 0.0, 0.0)
claim("ours.filter.all-wrong", f"every pair wrong: the filter's error is {alone:.4f} of at most "
      f"{r**0.5:.1f}, the formula says {expected:.4f}; ratio", alone / expected, 1,
      0.06 + 4.5 * (48 * r * filter_draws) ** -0.5)

# %% [markdown]
# The bill comes when noise is correlated within a modality. Kept pairs look alike because they were
# *chosen* so. Given $G_1x$, the expected row is $\Sigma_xG_1^\top(G_1\Sigma_xG_1^\top)^{-1}G_1x$:
# the refit
# leans towards $\Sigma_xG_1^\top$, one step of PCA. That brings back exactly the noise that pairs
# had
# left out. We filter at $d_1=d_2=10$, $r=4$; and real digits (two views, whitened, rank 20), a
# share of whose pairs are shuffled.

# %%
def with_threshold(t):
    """The method: encoders of a `Spiked` batch, filtered at t or not at all."""
    if t is None:
        return lambda p: spectral.fit(p.x, p.x_tilde, 4).g1
    return lambda p: filtered_fit(p.x, p.x_tilde, 4, t).g1


few = dict(d1=10, d2=10, rank=4, noise_std=1.0, noise="correlated")
fits, price_at = {name: with_threshold(t) for name, t in thresholds.items()}, [1.0, 0.6, 0.3]
priced = [errors(fits, 8000, draws=price_draws, wrong_share=1 - eta, seed=seed + 5, **few)
          for eta in price_at]
added = interval(priced[0]["threshold 0"] - priced[0]["no filter"])
clean = priced[0]["no filter"].mean()
claim("ours.filter.price", f"correlated noise, no pair wrong: the filter adds {added[0]:.3f} to "
      f"the "
      f"error of {clean:.3f} (lower limit of the interval above 0)", added[1], 0, (0, inf))

# %%
views, both = [digits_views(seed=seed + i) for i in range(splits)], []
for name in ("x", "x_tilde"):
    train, test = (torch.stack([getattr(v, name + end) for v in views]) for end in ("", "_test"))
    root, middle = covariance.whitening(train, ridge=1.0), train.mean(-2, keepdim=True)
    both.append(((train - middle) @ root, (test - middle) @ root))
(x, x_test), (y, y_test) = both
order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed))


def retrieval(wrong, threshold):
    """Top-1 (splits,) on held-out digits when a share of the training pairs is shuffled."""
    moved, shuffled = order[: round(wrong * len(order))], y.clone()
    shuffled[:, moved] = y[:, moved.roll(1)]
    f = filtered_fit(x, shuffled, 20, threshold)
    return top_k_accuracy(x_test @ f.g1.mT, y_test @ f.g2.mT)


# %%
digit_shares = [0.0, 0.2, 0.4, 0.6, 0.8]
digits = {name: torch.stack([retrieval(wrong, t) for wrong in digit_shares])
          for name, t in (("no filter", -inf), ("threshold 0.5", 0.5))}
left_over = digits["no filter"][2:4].mean() / digits["no filter"][0].mean()
claim("ours.digits.half-wrong", "digits: with half of the pairs wrong (mean of 0.4 and 0.6) the "
      f"linear loss keeps {left_over:.0%} of its accuracy (at least 50 %)", left_over, 0.5, (0,
                                                                                             inf))

# %%
figure, (one, two) = plots.panels(columns=2, width=4.8, height=3.2)
lines = {m: interval(torch.stack([f[m] for f in priced])) for m in thresholds}
plots.curves(one, price_at, lines, r"share $\eta$ of right pairs", r"error $\|\sin\Theta\|_F$",
             "Correlated noise: the filter does harm", legend=None)
plots.curves(two, digit_shares, {m: interval(v) for m, v in digits.items()},
             "share of shuffled pairs", "top-1 of held-out images",
             "Digits: gradual loss, no gain to speak of", legend=None)
for ax in (one, two):
    ax.set_ylim(0, None)
    plots.label_ends(ax)
show(figure, alt="Under correlated noise the filter raises the error; on digits it changes "
                 "retrieval little.")

# %%
change = (digits["threshold 0.5"] - digits["no filter"]).mean(-1)
Markdown(f"**So:** under correlated noise the filter raises the error of clean pairs from "
         f"{clean:.3f} "
         f"to {priced[0]['threshold 0'].mean():.3f}; on digits it changes top-1 by "
         f"{change.min():+.2f} to {change.max():+.2f}.")

# %% [markdown]
# **Where it stops holding.** The formula needs low noise and a teacher that sees the signal. Below
# about $\eta = \sqrt{2r/n}$ the teacher is chance, and so is what it keeps.
#
# ## Exercises
# **1.** $r = 8$, $n = 10^6$, a tenth of the pairs is right. By how much does a filter at $\theta =
# 0$
# divide the error?
# <details><summary>Answer</summary>filtered_error(10**6, 20, 8, 0.01, 0.1, None) over the same at
# 0.0
# is 3.0: below 1/eta = 10, since half of the wrong pairs are kept.</details>
#
# **2.** Why does a high threshold not remove all wrong pairs at $r = 2$?
# <details><summary>Answer</summary>Among two coordinates a stranger agrees by chance often; the
# score of a right pair, a chi-squared variable with two degrees of freedom, is often small. In many
# dimensions both concentrate and part.</details>
#
# **3.** Somebody keeps the *best half* of the pairs by similarity, under correlated noise, and
# reports that
# "data quality improved". What should be checked?
# <details><summary>Answer</summary>Whether the kept pairs are right, not whether they are similar:
# against hidden or known pairs, as in chapter 13. Similar rows may share their modality's
# noise.</details>

# %%
ledger()
