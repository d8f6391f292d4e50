# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 Your own pairs: is there a relation, which pairs are wrong, which rows belong together?
#
# Two tables come with the promise that row $i$ of one belongs to row $i$ of the other: embeddings
# of images and of their captions, two measurements of the same cells. This report asks what the
# tables say about that promise.
#
# **The idea.** Nobody tells us what a right pair looks like. What a *wrong* pair looks like we can
# make as often as we want: take row $i$ of one table and row $j$ of the other. Call them strangers.
# Each pair is scored by a model that was fitted without it, beside thousands of strangers scored by
# the same model. A pair that scores like a stranger is suspect.

# %% tags=["parameters"]
features: str = ""  # .npz with x and y, or the table of x (.npy, .csv, .parquet); "" is the digits
features_y: str = ""  # the table of y, if features is the table of x
n: int = 700  # without files: pairs of the digits, at most 1,000
wrong_share: float = 0.3  # without files: share of the digits' pairs that are shuffled
n_components: int = 0  # dimensions that are compared; 0: chosen by retrieval of held-out rows
fdr: float = 0.1  # right pairs among suspects, and wrong pairs among recovered ones, to accept
permutations: int = 100  # of strangers' correlations
seed: int = 0  # of every random number here

# %%
import numpy as np
import torch
from IPython.display import Markdown, display
from sklearn.metrics.pairwise import cosine_similarity

from mmcl import MMCL, audit
from mmcl.experiments.digits import digits_views
from mmcl.notebook import plots
from mmcl.notebook.claims import claim, ledger, record, show
from mmcl.notebook.files import attach
from mmcl.practice import overview, sentences
from mmcl.practice.files import pairs_of, read_pairs, rows_as_csv
from mmcl.practice.recover import recover

# %%
if not (0 <= wrong_share < 1 and 0 < fdr < 1 and n_components >= 0 and permutations >= 20):
    raise ValueError(f"use wrong_share in [0, 1), fdr in (0, 1), n_components >= 0, permutations "
                     f">= 20;"
                     f" got {wrong_share = }, {fdr = }, {n_components = }, {permutations = }")
if not features and not 100 <= n <= 1000:
    raise ValueError(f"n = {n}; use 100 to 1,000 pairs of the digits")
inf, rng = float("inf"), np.random.default_rng(seed)

# %% [markdown]
# ## 1 What was given
# A fifth of the pairs is held out, unless `x_test` and `y_test` are given. What is learned in
# sections 2 and 3 never sees them. In sections 4 and 5 every pair is judged, each by a model fitted
# without it.


# %%
def shuffled_digits():
    """The digits as a user would give them, and which pairs are wrong."""
    v = digits_views(1300, seed)
    x, y = v.x[:n].numpy(), v.x_tilde[:n].numpy().copy()
    moved = rng.permutation(n)[: round(wrong_share * n)]
    y[moved] = y[np.roll(moved, 1)]
    wrong = np.isin(np.arange(n), moved)
    more = dict(x_unpaired=v.x[1000:1200].numpy())  # 100 of these and 100 of the next are partners
    more |= dict(y_unpaired=v.x_tilde[1100:1300].flip(0).numpy())
    more |= dict(x_test=v.x_test.numpy(), y_test=v.x_tilde_test.numpy())
    return pairs_of(dict(x=x, y=y, labels=v.labels[:n].numpy(), **more)), torch.tensor(wrong)


# %%
given, wrong = (read_pairs(features, features_y), None) if features else shuffled_digits()
fifth = 0 if len(given.x_test) else len(given.x) // 5
held = rng.permutation(len(given.x)) < fifth
x, y = given.x[~held], given.y[~held]
test = (given.x[held], given.y[held]) if fifth else (given.x_test, given.y_test)
names = " and ".join(f"`{name}`" for name in (features, features_y) if name)
Markdown(f"This page is about the pairs of {names}." if features else
         f"This page is about handwritten digits, each cut into two halves like a checkerboard; "
         f"{wrong_share:.0%} of the pairs were shuffled. Of 300 further images there are 200 left "
         f"halves and 200 right ones, 100 of them partners. So it also shows how right it is. "
         f"`mmcl audit features.npz -o report/` makes such a page of your own pairs.")

# %%
lines = [f"| {' | '.join(row)} |" for row in sentences.described(given)]
Markdown("\n".join(["| what | how it is | what to do |", "|---|---|---|", *lines]))

# %%
Markdown(f"**So:** {len(x):,} pairs to learn from, and {len(test[0]):,} held out.")

# %% [markdown]
# ## 2 Is there a relation at all?
# A canonical correlation is the largest correlation that a combination of the one side's features
# has with a combination of the other's; the next one is the largest among what is left. On the rows
# they were chosen on they are always too high. So they are measured on rows held out, five times in
# turn, and again with the partners of those rows permuted, which is chance: 0 on average, give or
# take $1/\sqrt n$ for $n$ pairs. Wrong pairs make them smaller than they are among right ones.

# %%
model = MMCL(n_components or "auto", random_state=seed).fit(x, y)
rank, ridge = model.n_components_, model.ridge_
tried = min(rank + 3, x.shape[1], y.shape[1])
own, chance = overview.held_out_correlations(x, y, tried, permutations, seed=seed)
low, high = (chance.quantile(q, 0) for q in (0.025, 0.975))
related = int((own > chance.amax(1).quantile(0.95)).cumprod(0).sum())
figure, (ax,) = plots.panels(width=5.5)
number = np.arange(1, tried + 1)
lines = {"own partners": own, "strangers": (chance.mean(0), low, high)}
plots.curves(ax, number, lines, "dimension", "correlation on rows held out",
             f"{related} of the first {tried} dimensions are related beyond chance")
ax.locator_params("x", integer=True)
show(figure, alt=f"Canonical correlations of held-out rows; {related} are above chance.")

# %%
beyond = (f"the first {related} of {tried} dimensions are" if related > 1
          else "the first dimension is" if related else "no dimension is")
how = "as was asked for" if n_components else "the number that retrieves held-out rows best"
Markdown(f"**So:** the strongest correlation is {own.max():.2f}, where chance reaches "
         f"{high.max():.2f}; {beyond} above the limit that chance passes in 5 of 100 cases. What "
         f"follows uses {rank}, {how}.")

# %%
if wrong is not None:
    typical = float(chance.square().mean()) ** 0.5
    claim("ours.audit.chance", f"correlations of strangers are {typical:.3f} (root mean square), "
          f"and one over the root of {len(x)} is {len(x)**-0.5:.3f}; ratio",
          typical * len(x) ** 0.5, 1, 0.15)

# %% [markdown]
# ## 3 How well are held-out rows retrieved?
# For each held-out row of the one side, all held-out rows of the other are ranked by similarity;
# the curve says how often the partner is among the first $k$. Two ways learn from the pairs: the
# linear one makes partners similar on average, CLIP makes each partner win against the other rows,
# the more sharply the smaller its temperature $\tau$ is. The third learns each side by itself (PCA)
# and is matched afterwards. The number of dimensions, the ridge (how little directions of small
# variance are trusted) and $\tau$ were chosen in the same way within the rows that are learned
# from. Held-out pairs may be wrong, too: their partners cannot be found by anyone.

# %%
few = rng.permutation(len(x))[:1500]  # CLIP compares all with all
clip = MMCL(rank, "clip", ridge=ridge, random_state=seed, tol=1e-2, max_steps=200)
encoded = {"linear": model.transform(*test),
           "CLIP": clip.fit(x[few], y[few]).transform(*test),
           "PCA of each side": overview.aligned_pca(x, y, rank)(*test)}
most = min(50, len(test[0]))
curves = {name: overview.recall_curve(*z, most) for name, z in encoded.items()}
figure, (ax,) = plots.panels(width=5.5)
best = overview.best_retrieval(encoded)
plots.curves(ax, np.arange(1, most + 1), curves, "$k$", "share with the partner in the first $k$",
             f"The best: {best}" if best else "No way is clearly the best",
             log="x", every=5, legend="lower right")
ax.set_ylim(0, 1.02)
plots.plain_ticks(ax, [1, 2, 5, 10, 20, 50])
show(figure, alt="How often the partner is among the first k, for three ways of learning.")

# %%
tops = ", ".join(f"{float(c[0]):.1%} ({name})" for name, c in curves.items())
verdict = f"{best} is the best" if best else "they differ by no more than chance"
Markdown(f"**So:** of {len(test[0]):,} rows held out the partner comes first in {tops}; by luck it "
         f"would in {1 / len(test[0]):.2%}. Over the whole list, {verdict}. Used: {rank} "
         f"dimensions, ridge {ridge:g}, features standardised and whitened, "
         f"$\\tau={clip.tau_:.3g}$.")

# %% [markdown]
# ## 4 How many pairs are wrong?
# A wrong pair is a pair of strangers, and scores like one. So if a fifth of the pairs were wrong, a
# fifth of them would score as strangers do: a tenth of that fifth in the lowest tenth of strangers'
# scores, and so on. Fewer pairs down there means fewer wrong pairs, **whatever right pairs look
# like**. With $F(t)$ the share that scores below $t$, this bounds the share $p$ of wrong pairs:
#
# $$p\le\inf_t F_{own}(t)\,/\,F_{strangers}(t).$$
#
# The bound below allows for chance in 95 of 100 cases. Right pairs that look like strangers count
# against it. The estimate takes them off, by an assumption: scores are put on the scale on which
# those of strangers follow a bell curve, and those of right pairs are taken to follow another.

# %%
found = audit(given.x, given.y, n_components=rank, fdr=fdr, random_state=seed)
upper, share = found.wrong_share_upper, found.wrong_share
figure, (ax,) = plots.panels(width=5.5)
bins, blue, red = np.linspace(0, 1, 21), *plots.COLOURS[:2]
height, *_ = ax.hist(found.score, bins, density=True, color=blue, alpha=0.6)
plots.level(ax, 1, "if all pairs were wrong", at=0.2)
ax.axhline(upper.high, color=red, linewidth=2)
box = dict(facecolor="white", alpha=0.8, linewidth=0, pad=1)
ax.annotate(f"at most {upper.high:.1%} wrong", (0.02, upper.high + 0.03), color=red, bbox=box)
ax.annotate(f"up to {height[-1]:.1f} →", (0.93, 1.38), ha="right", color="black", bbox=box)
ax.set(xlabel="share of strangers that score lower: unlike partners ← → like partners")
ax.set(ylabel="pairs, relative to strangers", ylim=(0, 1.5))
ax.set_title(f"The low part on the left: at most {upper.high:.1%} are wrong", loc="left")
show(figure, alt="The pairs' ranks among strangers, and the bound on the share of wrong pairs.")

# %%
estimate = (f"the estimate is {share.value:.1%}, between {share.low:.1%} and {share.high:.1%}"
            if found.power.sees else "an estimate cannot be given")
Markdown(f"**So:** at most {upper.high:.1%} of the pairs are wrong (95 % confidence, no "
         f"assumption on right pairs); {estimate}. **What could be seen:** {found.power}")

# %%
if found.power.sees:
    record("wrong_share", "estimated share of wrong pairs", share.value)
record("wrong_share_upper", "upper bound on the share of wrong pairs", upper.high)
record("auc", "how often a right pair scores above strangers, at least", found.power.auc)
if wrong is not None:
    true, slack = float(wrong.double().mean()), 0.02 + 2 / n**0.5
    claim("ours.audit.bound", f"the bound {upper.high:.3f} is at least the true share {true:.3f}, "
                              f"and by no more than {slack:.3f} above it",
          upper.high, true, (0.015, slack))

# %% [markdown]
# ## 5 Which pairs are wrong?
# Every pair gets a probability of being wrong, from the two bell curves of section 4. The suspects
# are the most probable ones, as many as keep the share of right pairs to expect among them at most
# at a limit, the parameter `fdr`. `suspects.csv`, beside this page, has all pairs in this order,
# the most suspect first: `score` is the share of strangers that score lower, `weight` what the pair
# should count in a fit.

# %%
order = found.score.argsort(stable=True)
suspect = torch.isin(torch.arange(len(order)), found.suspects)
table = {"id": given.ids, "row": given.rows, "probability_wrong": found.probability,
         "score": found.score, "weight": found.weight, "suspect": np.where(suspect, "yes", "no")}
table |= {} if given.labels is None else {"label": given.labels}
attach("suspects.csv", rows_as_csv({name: values[order] for name, values in table.items()}))

# %%
head = ["| place | id | probability of being wrong | strangers that score lower |",
        "|---|---|---|---|"]
rows = [f"| {k + 1} | {given.ids[i]} | {found.probability[i]:.3f} | {found.score[i]:.1%} |"
        for k, i in enumerate(order[:10].tolist())]
Markdown("\n".join(head + rows)) if found.power.sees else None

# %%
Markdown("**So:** the pairs score as strangers do, so the order of `suspects.csv` says nothing."
         if not found.power.sees else
         f"**So:** the list of suspects holds {len(found.suspects):,} of {len(order):,} pairs; "
         f"up to about {fdr:.0%} of the list may be right pairs. {sentences.unnamed(found)}"
         if len(found.suspects) else
         f"**So:** no pair is so clearly wrong that a list of suspects would hold at most "
         f"{fdr:.0%} right ones.")

# %%
if wrong is not None:
    worst = order[: 12]
    figure, axes = plots.panels(columns=6, rows=2, width=1.1, height=1.25)
    for ax, i in zip(axes, worst.tolist(), strict=True):
        picture = np.empty(64)
        white = (np.indices((8, 8)).sum(0) % 2 == 0).ravel()
        picture[white], picture[~white] = x[i], y[i]
        ax.imshow(picture.reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{given.ids[i]}: {'wrong' if wrong[i] else 'right'}", fontsize=8)
    figure.suptitle("The most suspect pairs: two digits in one picture")
    show(figure, alt="The twelve most suspect pairs put together: pieces of two digits.")

# %%
if wrong is not None:
    said, seen, _, error = overview.reliability(found.probability, wrong, bins=5)
    figure, (ax,) = plots.panels(width=4.6)
    plots.curves(ax, said, {"seen": seen}, "probability said", "share that was wrong",
                 f"Said and seen differ by {error:.3f} on average", legend=None)
    plots.guide(ax, [0, 1], [0, 1], "perfect")
    show(figure, alt="Reliability of the probabilities: said against seen.")


# %%
def placed(score):
    """Of each right pair the share of wrong ones below it, of each wrong one that of right ones
    above."""
    above = (score[~wrong].unsqueeze(1) > score[wrong]).double()
    return above.mean(1), above.mean(0)


# %%
if wrong is not None and wrong.sum() >= 20 and len(found.suspects):
    simple = overview.cosine_scores(x, y, rank, seed=seed)
    claim("ours.audit.calibrated", "what is called probable happens as often: the calibration "
                                   f"error is {error:.3f}", error, 0, 0.05)
    ours, theirs = placed(found.score), placed(simple)
    spread = sum(float((a - b).var()) / len(a) for a, b in zip(ours, theirs, strict=True)) ** 0.5
    claim("ours.audit.ranking", f"right pairs rank above wrong ones in {ours[0].mean():.1%} of "
          f"cases, by cosine in {theirs[0].mean():.1%}: not below by 3.5 standard errors",
          ours[0].mean() - theirs[0].mean(), 0, (3.5 * spread, inf))
    false = float((~wrong[found.suspects]).double().mean())
    claim("ours.audit.suspects", f"of {len(found.suspects)} suspects {false:.1%} are right",
          false, fdr, (inf, 3 * (fdr / wrong.sum()) ** 0.5))

# %% [markdown]
# **Does it help?** Encoders are fitted with a weight for each pair, the root of the probability
# that it is right, and to all pairs alike. How near the top are the partners of held-out rows?

# %%
judged = audit(x, y, n_components=rank, random_state=seed) if fifth else found  # no row held out
weights = {"all alike": torch.ones(len(x)), "weighted": judged.weight}
if wrong is not None:
    best = overview.known_probability(found.score, wrong).clamp(min=1e-8).sqrt()
    weights |= {"by the truth at each score": best, "right pairs known": (~wrong).double()}
near = {name: 1 / overview.weighted_places(x, y, w, rank, test).double()
        for name, w in weights.items()}
gain = near["weighted"] - near["all alike"]
error = float(gain.std() / len(gain) ** 0.5)
if wrong is not None:
    claim("ours.audit.refit", f"with weights, the mean of one over the place changes by "
          f"{gain.mean():+.3f}, with a standard error of {error:.3f}", gain.mean(), 0, (error, inf))

# %%
Markdown("**So:** one over the place of the partner, which is 1 if it always comes first, is on "
         "average " + ", ".join(f"{v.mean():.3f} ({name})" for name, v in near.items())
         + f". Weights change it by {gain.mean():+.3f}, with a standard error of {error:.3f}"
         + ("." if abs(gain.mean()) > 2 * error else ": no difference that can be seen here."))

# %%
Markdown(
    "**Why not as much as knowing the right pairs?** Weights can know no more than the scores that "
    "they are made of. The third weights are the root of the share of right pairs at each score, "
    "learned from the truth: the most that these scores could tell. The share of the gain that was "
    "recovered on numerals in two descriptions (900 pairs, 30 % and 50 % of them wrong, ten draws "
    "of each):\n\n"
    "| descriptions | right above wrong | ours | truth at each score | the same, better scores |\n"
    "|---|---|---|---|---|\n"
    "| pixels, Zernike moments | 97 % | 90 %, 85 % | 88 %, 84 % | 99 %, 96 % |\n"
    "| Fourier, Zernike moments | 89 % | 45 %, 56 % | 45 %, 52 % | 67 %, 73 % |\n"
    "| Fourier, pixels | 80 % | 34 %, 36 % | 39 %, 35 % | 70 %, 67 % |\n\n"
    "So it is not the weights but the scores that do not tell more: where right pairs often score "
    "as strangers do, nobody can weigh them apart. The better scores are by encoders that were "
    "fitted to right pairs alone, which only the truth can choose.") if wrong is not None else None

# %% [markdown]
# ## 6 Which unpaired rows belong together?
# Partners are looked for among rows that were given without one, by a model of the pairs that are
# not suspect. A share `fdr` of what is recovered may be wrong, on average over data sets, those
# counted in where nothing is found. What holds of the list at hand are the probabilities beside its
# pairs. If nothing is recovered, the report says what it would take.

# %%
clear = ~suspect.numpy()
recovered = None
if min(len(given.x_unpaired), len(given.y_unpaired)) and clear.sum() >= 20:
    recovered = recover(given.x[clear], given.y[clear], given.x_unpaired, given.y_unpaired,
                        n_components=rank, fdr=fdr)
    i, j = recovered.pairs.T.numpy()
    names = {"x_id": given.x_unpaired_ids[i], "y_id": given.y_unpaired_ids[j]}
    attach("recovered.csv", rows_as_csv(names | {"probability_right": recovered.confidence}))

# %%
Markdown("**So:** no unpaired rows were given." if recovered is None else
         f"**So:** nothing was recovered: {recovered.reason}." if not len(recovered.pairs) else
         f"**So:** for {len(recovered.pairs):,} of {len(given.x_unpaired):,} unpaired rows of x a "
         f"partner is proposed in `recovered.csv`. By their own probabilities about "
         f"{float((1 - recovered.confidence).sum()):.1f} of these pairs are wrong.")

# %%
if recovered is not None and len(recovered.pairs):
    first = recovered.confidence.argsort(descending=True)[:10].tolist()
    rows = [f"| {names['x_id'][k]} | {names['y_id'][k]} | {recovered.confidence[k]:.2f} |"
            for k in first]
    display(Markdown("\n".join(["| x | y | probability of being right |", "|---|---|---|", *rows])))

# %%
Markdown("**Is the promise kept, and are these probabilities right?** Digits are recovered eight "
         "times more, where a quarter of the rows has no partner, and at a rate of 20 %, so that "
         "some recovered pairs are wrong. The rate is counted as if every row could bring a wrong "
         "pair. Only those can whose most similar row is not their partner: so of what is "
         "recovered a fifth *of their share* should be wrong, not more and not "
         "less.") if wrong is not None else None

# %%
if wrong is not None:
    sure, happened, false, misled = [], [], [], []
    for draw in range(8):
        v = digits_views(n + 250, 1000 + 8 * seed + draw)
        known = v.x[:n].numpy(), v.x_tilde[:n].numpy()
        alone = v.x[n:-50].numpy(), v.x_tilde[n + 50:].numpy()
        back = recover(*known, *alone, n_components=rank, fdr=0.2)
        sure.append(back.confidence)
        happened.append(back.pairs[:, 0] - back.pairs[:, 1] == 50)
        false.append(float((~happened[-1]).sum()) / max(1, len(back.pairs)))
        nearest = cosine_similarity(*MMCL(rank).fit(*known).transform(*alone)).argmax(1)
        misled.append(np.mean(np.arange(200) - nearest != 50))
    sure, happened = torch.cat(sure), torch.cat(happened)
    perfect = overview.perfect_error(sure, bins=5)

# %%
if wrong is not None and n >= 300:  # fewer known pairs vouch for few recovered ones, or for none
    claim("ours.audit.recovered", f"of {len(sure) / 8:.0f} pairs recovered at a rate of 20 % "
          f"{np.mean(false):.1%} are wrong, mean of 8 data sets; {np.mean(misled):.0%} of the rows "
          "are most similar to a stranger", np.mean(false), 0.2 * np.mean(misled),
          3.5 * 0.04 / 8**0.5)  # 0.04: the spread of one data set

# %%
if wrong is not None and len(sure) >= 100:
    said, seen, _, error = overview.reliability(sure, happened, bins=5)
    figure, (ax,) = plots.panels(width=4.6)
    plots.curves(ax, said, {"seen": seen}, "probability said", "share that was right",
                 f"Said and seen differ by {error:.3f} on average", legend=None)
    plots.guide(ax, [0, 1], [0, 1], "perfect")
    show(figure, alt="Reliability of the probabilities of recovered pairs: said against seen.")
    claim("ours.audit.recovered-calibrated", f"the probabilities of {len(sure)} recovered pairs "
          f"err by {error:.3f}; were they exact, it would be {perfect.mean():.3f} by chance",
          error, perfect.mean(), (inf, 0.05))

# %% [markdown]
# ## 7 What to do next

# %%
steps = sentences.next_steps(found, related, rank, recovered and recovered.confidence, best)
Markdown("\n".join(f"- {step}" for step in steps))

# %% tags=["summary"]
Markdown("**In short.** " + sentences.summary(found, related, recovered and recovered.confidence))

# %% [markdown]
# ## What was claimed, and what came out

# %%
ledger() if wrong is not None else Markdown(
    "Of your own pairs nobody knows which are wrong, so nothing is claimed of them here. `mmcl "
    "report 16` makes this page of digits whose wrong pairs are known, and checks each claim.")
