"""The loss class, its closed-form weights, and the walk over blocks, each against an independent route."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import close, normal, relative

import mmcl._weigh
from mmcl._contrastive import ExponentialLoss, SumLoss, softplus
from mmcl.covariance import cross_covariance, loss_and_covariance
from mmcl.losses import CLIP, LOSSES, Linear, ModifiedTriplet, SoftTriplet, resolve


# Every loss at parameters that are not its defaults, beside the table of the paper: phi, psi, eps, nu.
def table(n, tau=0.7, margin=0.4, slope=1.7, nu=1, eps=None):
    exp, log = math.exp, math.log
    rows = {
        "linear": ({}, lambda x: x / (n - 1), lambda x: x, 0),
        "clip": ({"tau": tau}, lambda x: tau * log(x), lambda x: exp(x / tau), 1),
        "mine": ({}, log, exp, 0),
        "triplet": ({"margin": margin}, lambda x: x, lambda x: max(x + margin, 0), 0),
        "soft_triplet": (
            {"tau": tau, "margin": margin},
            lambda x: tau * log(1 + x),
            lambda x: exp(x / tau + margin),
            0,
        ),
        "n_plus_1_tuplet": ({}, lambda x: log(1 + x), exp, 0),
        "lifted_structured": ({"margin": margin}, lambda x: max(log(x), 0) ** 2, lambda x: exp(x + margin), 0),
        "modified_triplet": ({"slope": slope}, lambda x: x, lambda x: 1 / (1 + exp(-slope * x)), 0),
    }
    return {
        name: (
            LOSSES[name](**own, nu=nu, **({} if eps is None else {"eps": eps})),
            phi,
            psi,
            usual if eps is None else eps,
            nu,
        )
        for name, (own, phi, psi, usual) in rows.items()
    }


NAMES = list(LOSSES)
OF_THE_CLASS = [name for name in NAMES if name != "siglip"]
EXPONENTIAL = ["clip", "mine", "soft_triplet", "n_plus_1_tuplet", "lifted_structured"]


OF_8_1 = {"nu": 1.6, "eps": 0.7}


def make(name, n=2, **of_the_class):
    return LOSSES["siglip"](scale=1.3, bias=-0.6) if name == "siglip" else table(n, **of_the_class)[name][0]


def naive(phi, psi, eps, nu, s):
    n, total = len(s), 0.0
    for i in range(n):
        by_row = sum(psi(s[i][j] - nu * s[i][i]) for j in range(n) if j != i)
        by_column = sum(psi(s[j][i] - nu * s[i][i]) for j in range(n) if j != i)
        own = eps * psi((1 - nu) * s[i][i])
        total += phi(own + by_row) + phi(own + by_column)
    return total / (2 * n)


def test_the_table_of_losses_is_complete():
    assert set(table(5)) | {"siglip"} == set(LOSSES)


@pytest.mark.parametrize("of_8_1", [{}, OF_8_1], ids=["2.1", "8.1"])
@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("name", OF_THE_CLASS)
def test_value_is_the_double_loop_of_phi_and_psi(name, n, of_8_1):
    loss, *formula = table(n, **of_8_1)[name]
    s = normal(3, n, n, seed=1)
    close(loss(s), torch.tensor([naive(*formula, m.tolist()) for m in s], dtype=s.dtype), 1e-13)


def test_siglip_is_the_double_loop_of_log_sigmoid():
    s, total = normal(6, 6, seed=2), 0.0
    for i in range(6):
        for j in range(6):
            y = 1 if i == j else -1
            total += math.log1p(math.exp(-y * (1.3 * float(s[i, j]) - 0.6))) / 6
    close(make("siglip")(s), torch.tensor(total, dtype=torch.float64), 1e-13)


def test_defaults_are_those_of_the_docstrings():
    s = normal(6, 6, seed=3)
    pairs = {
        "clip": {"tau": 1.0},
        "triplet": {"margin": 1.0},
        "soft_triplet": {"tau": 1.0, "margin": 1.0},
        "lifted_structured": {"margin": 1.0},
        "modified_triplet": {"slope": 1.0},
        "siglip": {"scale": 10.0, "bias": -10.0},
    }
    for name, parameters in pairs.items():
        assert torch.equal(resolve(name)(s), LOSSES[name](**parameters)(s)), name


@pytest.mark.parametrize("tau", [0.05, 1.0, 3.0])
def test_clip_is_tau_times_the_cross_entropy_of_rows_and_columns(tau):
    s = normal(2, 9, 9, seed=4)
    own = torch.arange(9)
    expected = [tau * (F.cross_entropy(m / tau, own) + F.cross_entropy(m.mT / tau, own)) / 2 for m in s]
    close(LOSSES["clip"](tau=tau)(s), torch.stack(expected), 1e-13)


@pytest.mark.parametrize("tau", [0.05, 1.0, 3.0])
def test_clip_weights_are_nu_times_identity_minus_the_mean_of_two_softmaxes(tau):
    s, identity = normal(2, 9, 9, seed=5), torch.eye(9, dtype=torch.float64)
    for nu in (1, 1.5, 4):
        p, q = (s / tau).softmax(-1), (s / tau).softmax(-2)
        close(LOSSES["clip"](tau=tau, nu=nu).weights(s), nu * identity - (p + q) / 2, 1e-14)
        own = s + tau * math.log(0.3) * identity  # eps multiplies the diagonal in both softmaxes
        p, q = (own / tau).softmax(-1), (own / tau).softmax(-2)
        close(LOSSES["clip"](tau=tau, nu=nu, eps=0.3).weights(s), nu * identity - (p + q) / 2, 1e-14)


@pytest.mark.parametrize("nu", [1, 1.1, 3])
def test_infonce_of_7_1_is_the_class_with_eps_one_less_nu_minus_one_times_the_mean_pair(nu):
    s, tau = normal(2, 9, 9, seed=5), 0.4
    diagonal = s.diagonal(dim1=-2, dim2=-1)
    logs = (s / tau).logsumexp(-1) + (s / tau).logsumexp(-2)
    close(LOSSES["clip"](tau=tau, nu=nu)(s), -nu * diagonal.mean(-1) + tau * logs.mean(-1) / 2, 1e-14)
    close(LOSSES["clip"](tau=tau, nu=nu)(s), LOSSES["clip"](tau=tau)(s) - (nu - 1) * diagonal.mean(-1), 1e-14)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_minus_n_times_the_derivative_of_the_value(name, batch, scale):
    n = 8
    for loss in (make(name, n), make(name, n, **OF_8_1), make(name, n, nu=3, eps=0)):
        s = (scale * normal(*batch, n, n, seed=6)).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(s).sum(), s)
        close(loss.weights(s.detach()), -n * gradient)


# ------------------------------------------------------------------ Proposition 8.1, exhaustively


class SoftplusSum(SumLoss):
    """phi(x) = x, psi(x) = log(1 + exp x)."""

    def _psi(self, d):
        return softplus(d)

    def _slope(self, d):
        return torch.sigmoid(d)


class SquaredLog(ExponentialLoss):
    """phi(x) = log(1 + x)^2, psi(x) = exp x."""

    def _phi(self, u):
        return softplus(u).square()

    def _phi_slope(self, u):
        return 2 * softplus(u) * torch.sigmoid(u)


TAU = 0.7
SIX = {  # the loss, phi and psi
    "linear": (Linear, lambda x: x, lambda x: x),
    "log_exp": (lambda **k: CLIP(tau=TAU, **k), lambda x: TAU * x.log(), lambda x: (x / TAU).exp()),
    "log_one_plus_exp": (
        lambda **k: SoftTriplet(tau=TAU, margin=0, **k),
        lambda x: TAU * (1 + x).log(),
        lambda x: (x / TAU).exp(),
    ),
    "sum_softplus": (SoftplusSum, lambda x: x, softplus),
    "squared_log": (SquaredLog, lambda x: (1 + x).log().square(), torch.exp),
    "sum_sigmoid": (ModifiedTriplet, lambda x: x, torch.sigmoid),
}


def equation_8_1(phi, psi, nu, eps, normaliser, s):
    """Value without R, and the alpha and abar of Proposition 8.1, by autograd through (8.1) as printed."""
    n = len(s)
    factor = 1 - (1 - eps) * torch.eye(n, dtype=s.dtype)
    by_row, by_column = (m - nu * m.diagonal().unsqueeze(1) for m in (s, s.mT))
    value = (phi((factor * psi(by_row)).sum(1)) + phi((factor * psi(by_column)).sum(1))).sum() / (2 * normaliser)

    def slopes(d):
        d = d.detach().requires_grad_()
        return torch.autograd.grad(phi((factor * psi(d)).sum(1)).sum(), d)[0]

    return value, slopes(by_row), slopes(by_column)


def encoder(kind, theta):
    if kind == "linear":
        return theta[0]
    if kind == "two layers":
        return theta[0] @ theta[1]
    return 1.3 * theta[0].tanh() + 0.2 * theta[0].square()


@pytest.mark.parametrize("name", SIX)
def test_gradient_in_any_parameters_is_that_of_the_svd_objective_at_frozen_weights_and_minus_one_is_wrong(name):
    make_loss, phi, psi = SIX[name]
    n, d1, d2, r, rho = 40, 7, 6, 3, 0.7
    x, x_tilde = normal(n, d1, seed=30), normal(n, d2, seed=31)
    shapes = {"linear": ([(r, d1)], [(r, d2)]), "two layers": ([(r, 5), (5, d1)], [(r, 5), (5, d2)])}
    shapes["nonlinear"] = shapes["linear"]
    normaliser, worst_printed = n * (n - 1) if name == "linear" else n, 0.0
    for kind, nu, eps in product(shapes, (1, 1.1, 1.5, 3), (0, 0.5, 1, 2)):
        thetas = [
            [(0.4 * normal(*shape, seed=32 + 2 * k + i)).requires_grad_() for i, shape in enumerate(side)]
            for k, side in enumerate(shapes[kind])
        ]
        g1, g2 = (encoder(kind, theta) for theta in thetas)
        s = (x @ g1.mT) @ (x_tilde @ g2.mT).mT
        value, alpha, abar = equation_8_1(phi, psi, nu, eps, normaliser, s)
        loss, flat, penalty = make_loss(nu=nu, eps=eps), sum(thetas, []), rho / 2 * (g1.mT @ g2).square().sum()
        close(loss(s.detach()), value.detach(), 1e-13)
        expected = torch.autograd.grad(value + penalty, flat, retain_graph=True)

        def error(weights, g1=g1, g2=g2, penalty=penalty, flat=flat, expected=expected):
            objective = -(g1 @ cross_covariance(x, x_tilde, weights) @ g2.mT).trace() + penalty
            found = torch.autograd.grad(objective, flat, retain_graph=True)
            return max(relative(a, b) for a, b in zip(found, expected, strict=True))

        assert error(loss.weights(s.detach())) < 1e-12, (kind, nu, eps)
        beta = (alpha + abar.mT) / 2
        printed = (nu * (alpha + abar).sum(1) / 2 - 1).diag() - (beta - beta.diagonal().diag())
        worst_printed = max(worst_printed, error(n / normaliser * printed))
    assert worst_printed > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_minus_n_times_central_differences_of_the_value(name):
    n, h, loss, s = 5, 1e-6, make(name, 5), normal(5, 5, seed=7)
    steps = h * torch.eye(n * n, dtype=s.dtype).view(n * n, n, n)
    slope = (loss(s + steps) - loss(s - steps)).view(n, n) / (2 * h)
    close(loss.weights(s), -n * slope, 1e-8)


SHAPES = [((), 9, 14, 11, 4), ((), 30, 5, 8, 5), ((), 2, 3, 4, 1), ((3,), 7, 9, 10, 2), ((2, 2), 12, 4, 6, 3)]


def problem(shape, seed, scale=1.0):
    batch, n, d1, d2, r = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*batch, *size, generator=generator, dtype=torch.float64)

    return draw(n, d1) + 1, draw(n, d2) - 1, scale * draw(r, d1) / d1**0.5, scale * draw(r, d2) / d2**0.5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_minus_the_trace_gradient(name, shape):
    x, x_tilde, g1, g2 = problem(shape, seed=8)
    rho, loss = 0.3, make(name, x.shape[-2])
    g1.requires_grad_(), g2.requires_grad_()
    s = (x @ g1.mT) @ (x_tilde @ g2.mT).mT
    value = loss(s) + rho / 2 * (g1.mT @ g2).square().sum((-2, -1))
    by_autograd = torch.autograd.grad(value.sum(), (g1, g2))
    with torch.no_grad():
        covariance = cross_covariance(x, x_tilde, loss.weights(s))
        close(-g2 @ covariance.mT + rho * g2 @ g2.mT @ g1, by_autograd[0])
        close(-g1 @ covariance + rho * g1 @ g1.mT @ g2, by_autograd[1])
        value, walked = loss_and_covariance(x, x_tilde, g1, g2, loss)
        close(walked, covariance)
        close(value, loss(s))


def in_blocks(monkeypatch, entries, *arguments):
    whole = loss_and_covariance(*arguments)
    monkeypatch.setattr(mmcl._weigh, "KEEP", 0)
    monkeypatch.setattr(mmcl._weigh, "BLOCK", entries)
    return whole, loss_and_covariance(*arguments)


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize(("batch", "entries"), [((), 1), ((), 45), ((), 13 * 6), ((3,), 13 * 3 * 4)])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_what_the_whole_gives(name, batch, entries, scale, monkeypatch):
    x, x_tilde, g1, g2 = problem((batch, 13, 6, 5, 3), seed=9, scale=scale)
    whole, blocks = in_blocks(monkeypatch, entries, x, x_tilde, g1, g2, make(name, 13, **OF_8_1))
    close(blocks[0], whole[0], 1e-13)
    close(blocks[1], whole[1], 1e-12)


def test_blocks_of_several_sizes_cover_all_rows_once(monkeypatch):
    x, x_tilde, g1, g2 = problem(((), 10, 3, 4, 2), seed=10)
    for rows in range(1, 12):
        whole, blocks = in_blocks(monkeypatch, 10 * rows, x, x_tilde, g1, g2, make("clip"))
        close(blocks[1], whole[1], 1e-13)


def log_sum_exp_reference(name, s, tau=0.7, margin=0.4):
    """Values in exact log arithmetic, one row at a time, with Python floats."""

    def lse(terms):
        top = max(terms)
        return top if top == -math.inf else top + math.log(math.fsum(math.exp(t - top) for t in terms))

    tau, margin = {"clip": (tau, 0), "soft_triplet": (tau, margin), "lifted_structured": (1, margin)}.get(name, (1, 0))
    phi = {"mine": lambda a: a, "lifted_structured": lambda a: max(a, 0) ** 2}
    phi = phi.get(name, lambda a: tau * lse([0.0, a]))
    s, n, total = s.tolist(), len(s), 0.0
    for i in range(n):
        total += phi(lse([(s[i][j] - s[i][i]) / tau + margin for j in range(n) if j != i]))
        total += phi(lse([(s[j][i] - s[i][i]) / tau + margin for j in range(n) if j != i]))
    return total / (2 * n)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8, 1e100])
@pytest.mark.parametrize("name", EXPONENTIAL)
def test_exponential_losses_are_exact_at_huge_similarities(name, size):
    loss, s = make(name), size * normal(7, 7, seed=11)
    if size < 1e100 or name != "lifted_structured":
        close(loss(s), torch.tensor(log_sum_exp_reference(name, s), dtype=s.dtype), 1e-13)
    s.requires_grad_()
    for member in (loss, make(name, **OF_8_1)):
        weights = member.weights(s.detach())
        assert torch.isfinite(weights).all()
        close(weights, -7 * torch.autograd.grad(member(s), s)[0])


@pytest.mark.parametrize("gap", [5.0, 15.0, 19.0, 21.0, 25.0, 33.0])
def test_small_terms_of_log_one_plus_exp_are_not_dropped(gap):
    # s_ij - s_ii = gap, so phi = log(1 + (n - 1) exp(gap)) = gap + log(n - 1) + exp(-gap)/(n - 1) - ...
    n, s = 4, gap * (1 - torch.eye(4, dtype=torch.float64))
    total = gap + math.log(n - 1)
    assert abs(float(LOSSES["clip"]()(s)) - total - math.log1p(math.exp(-total))) < 1e-14 * total
    expected = (n - 1) * (gap + math.log1p(math.exp(-gap))) + math.log(2)
    assert abs(float(LOSSES["siglip"](scale=1, bias=0)(s)) - expected) < 1e-14 * expected


@pytest.mark.parametrize("size", [0.1, 5.0, 30.0])
@pytest.mark.parametrize("name", EXPONENTIAL)
def test_exponentials_and_logits_are_one_function(name, size):
    n, loss = 8, make(name)
    s, right, left = (size * normal(n, n, seed=12)).clamp(-150, 150), normal(n, 3, seed=13), normal(n, 2, seed=14)
    diagonal = s.diagonal()
    results = []
    logits = (s / loss.tau + loss.margin).fill_diagonal_(-math.inf)
    for block in (loss._prepare(s.clone(), 0), (logits, False)):
        value, _, *shares = loss._settle(*loss._totals(block, diagonal, 0), diagonal)
        weights = loss._apart(block, diagonal, 0, *shares)
        results.append((value, weights))
        once, back = loss._apart_times(block, diagonal, 0, *shares, right, left)
        close(once, weights @ right, 1e-13)
        close(back, weights.mT @ left, 1e-13)
    assert loss._prepare(s.clone(), 0)[1]
    close(results[0][0], results[1][0], 1e-13)
    close(results[0][1], results[1][1], 1e-12)


@pytest.mark.parametrize("size", [1.0, 30.0, 60.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_agrees_with_double(name, size):
    loss, s = make(name, 9), (size * normal(9, 9, seed=13)).to(torch.float32)
    assert loss(s).dtype == loss.weights(s).dtype == torch.float32
    close(loss(s).double(), loss(s.double()), 1e-5)
    # a logit of 10^4 is only known to 10^4 eps, and so is the logarithm of a weight
    close(loss.weights(s).double(), loss.weights(s.double()), max(2e-5, 10 * size * torch.finfo(torch.float32).eps))


def test_all_losses_stay_finite_where_the_bound_overflows():
    for dtype, size in ((torch.float32, 1e18), (torch.float64, 1e150)):
        x, x_tilde, g1, g2 = (a.to(dtype) for a in problem(((), 6, 3, 3, 2), seed=14))
        value, covariance = loss_and_covariance(x, x_tilde, size * g1, size * g2, make("clip"))
        assert torch.isfinite(covariance).all(), dtype
        assert torch.isfinite(value), dtype


def test_soft_triplet_without_margin_is_clip_and_clip_at_tau_one_is_n_plus_1_tuplet():
    s = normal(7, 7, seed=15)
    soft, clip = LOSSES["soft_triplet"](tau=0.4, margin=0.0), LOSSES["clip"](tau=0.4)
    close(soft(s), clip(s), 1e-15)
    close(soft.weights(s), clip.weights(s), 1e-15)
    close(LOSSES["n_plus_1_tuplet"]()(s), LOSSES["clip"](tau=1.0)(s), 1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_a_permutation_of_the_pairs_permutes_the_weights(name):
    loss, s = make(name, 9), normal(2, 9, 9, seed=16)
    pi = torch.randperm(9, generator=torch.Generator().manual_seed(17))
    permuted = s[:, pi][:, :, pi]
    close(loss(permuted), loss(s), 1e-14)
    close(loss.weights(permuted), loss.weights(s)[:, pi][:, :, pi], 1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_exchanging_the_modalities_transposes_the_weights(name):
    loss, s = make(name, 9), normal(2, 9, 9, seed=18)
    close(loss(s.mT), loss(s), 1e-14)
    close(loss.weights(s.mT), loss.weights(s).mT, 1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_only_siglip_sees_a_constant_added_to_all_similarities(name):
    loss, s = make(name, 9), normal(9, 9, seed=19)
    seen = float((loss(s + 3) - loss(s)).abs())
    if name == "siglip":
        assert seen > 0.1
    else:
        assert seen < 1e-12
        close(loss.weights(s + 3), loss.weights(s), 1e-12)
        assert abs(float(loss.weights(s).sum())) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_batch_entries_do_not_see_each_other(name):
    loss, s = make(name, 6), normal(4, 6, 6, seed=20)
    s[2] *= 1e3
    close(loss(s), torch.stack([loss(m) for m in s]), 1e-13)
    for whole, one in zip(loss.weights(s), s, strict=True):
        close(whole, loss.weights(one), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_mutated(name):
    loss, s = make(name, 6), normal(6, 6, seed=21)
    arguments = problem(((), 6, 3, 4, 2), seed=22)
    before = [a.clone() for a in (s, *arguments)]
    loss(s), loss.weights(s), loss_and_covariance(*arguments, loss)
    assert all(torch.equal(a, b) for a, b in zip((s, *arguments), before, strict=True))


def test_numpy_similarities_are_accepted():
    s = np.random.default_rng(23).normal(size=(5, 5))
    close(make("clip")(s), make("clip")(torch.tensor(s)), 1e-15)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 1), (2, 0, 0)], ids=str)
def test_similarities_that_are_not_square_are_refused_by_their_shape(shape):
    for call in (make("clip"), make("triplet").weights):
        with pytest.raises(ValueError, match=rf"{tuple(shape)}".replace("(", r"\(").replace(")", r"\)")):
            call(torch.zeros(shape))


@pytest.mark.parametrize("bad", [0, -0.5, math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "parameter"),
    [("clip", "tau"), ("soft_triplet", "tau"), ("modified_triplet", "slope"), ("siglip", "scale")],
)
def test_parameters_that_are_not_positive_are_refused_by_value(name, parameter, bad):
    with pytest.raises(ValueError, match=f"{parameter} = {bad}; it must be a positive number"):
        LOSSES[name](**{parameter: bad})


@pytest.mark.parametrize("name", OF_THE_CLASS)
def test_nu_below_one_and_eps_below_zero_are_refused_by_value(name):
    for nu in (0.99, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"nu = {nu}; it must be a number of at least 1"):
            LOSSES[name](nu=nu)
    with pytest.raises(ValueError, match="eps = -0.1; it must be a number of at least 0"):
        LOSSES[name](eps=-0.1)


def test_an_unknown_loss_is_refused_with_the_names_that_exist():
    with pytest.raises(ValueError, match=r"loss = 'clap'; use one of linear, clip, .*siglip"):
        resolve("clap")
    loss = LOSSES["clip"](tau=0.5)
    assert resolve(loss) is loss
    assert repr(loss) == "CLIP(tau=0.5, nu=1, eps=1)"
