"""Any mask of positives, and kernel encoders in closed form."""

import pytest
import torch
from helpers import close, normal
from sklearn.kernel_approximation import Nystroem

from mmcl.beyond.kernels import fit_kernel, gaussian_kernel, kernel_map, masked_clip, masked_clip_weights
from mmcl.graph import fit_graph, graph_weights
from mmcl.losses import LOSSES
from mmcl.spectral import closed_form


def some_mask(n, m, seed=0):
    mask = torch.rand(n, m, generator=torch.Generator().manual_seed(seed)) < 0.3
    return mask | (torch.arange(n)[:, None] % m == torch.arange(m)) | (torch.arange(n)[:, None] == torch.arange(m) % n)


@pytest.mark.parametrize("shape", [(9, 9), (9, 6), (5, 11)])
def test_the_gradient_identity_holds_for_any_mask_of_positives(shape):
    x, y, mask = normal(shape[0], 4), normal(shape[1], 3, seed=1), some_mask(*shape)
    g1, g2 = normal(2, 4, seed=2).requires_grad_(), normal(2, 3, seed=3).requires_grad_()
    s = (x @ g1.T) @ (y @ g2.T).T
    masked_clip(s, mask, tau=0.7).backward()
    covariance = x.T @ masked_clip_weights(s.detach(), mask, tau=0.7) @ y / shape[0]
    close(g1.grad, -g2.detach() @ covariance.T)
    close(g2.grad, -g1.detach() @ covariance)


def test_with_one_positive_a_row_it_is_clip_and_with_all_it_teaches_nothing():
    s, clip, eye = normal(7, 7), LOSSES["clip"](tau=0.5), torch.eye(7, dtype=torch.bool)
    close(masked_clip(s, eye, 0.5), clip(s))
    close(masked_clip_weights(s, eye, 0.5), clip.weights(s))
    every = torch.ones(7, 7, dtype=torch.bool)
    assert float(masked_clip(s, every)) == 0
    assert float(masked_clip_weights(s, every).abs().max()) == 0


def test_a_mask_without_a_positive_in_a_row_is_refused():
    mask = torch.eye(3, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match="has no positive"):
        masked_clip(normal(3, 3), mask)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3\); give \(3, 3\)"):
        masked_clip_weights(normal(3, 3), torch.eye(3)[1:])


def test_the_kernel_fit_is_the_fit_of_the_features_of_the_kernel():
    x, y, mask = normal(12, 3), normal(12, 4, seed=1), some_mask(12, 12)
    z, z_tilde = kernel_map(x, 1.5)(x), kernel_map(y, 2.0)(y)
    k, k_tilde = gaussian_kernel(x, x, 1.5), gaussian_kernel(y, y, 2.0)
    a, b = fit_kernel(k, k_tilde, graph_weights(mask.double()), 3, rho=0.5)
    best = closed_form(z.T @ graph_weights(mask.double()) @ z_tilde / 12, 3, rho=0.5)
    close(k @ a @ (k_tilde @ b).T, z @ best.g1.T @ best.g2 @ z_tilde.T, 1e-7)
    close(a.T @ k @ a, b.T @ k_tilde @ b, 1e-7)  # balanced in the spaces of the kernels


def test_with_a_linear_kernel_it_is_the_many_to_many_fit_itself():
    x, y, mask = normal(15, 4), normal(15, 3, seed=1), some_mask(15, 15, seed=2)
    a, b = fit_kernel(x @ x.T, y @ y.T, graph_weights(mask.double()), 2)
    best = fit_graph(x, y, mask.double(), 2)
    close((x @ x.T) @ a @ ((y @ y.T) @ b).T, x @ best.g1.T @ best.g2 @ y.T, 1e-8)


def test_features_of_the_kernel_are_those_of_an_independent_program():
    x, new = normal(20, 3), normal(6, 3, seed=1)
    theirs = Nystroem(gamma=1 / (2 * 1.3**2), n_components=20, random_state=0).fit(x.numpy())
    ours = kernel_map(x, 1.3)
    close(ours(new) @ ours(x).T, torch.as_tensor(theirs.transform(new.numpy()) @ theirs.transform(x.numpy()).T), 1e-8)
    close(ours(new) @ ours(x).T, gaussian_kernel(new, x, 1.3), 1e-8)


def test_kernels_of_another_size_than_the_weights_are_refused():
    with pytest.raises(ValueError, match=r"k has shape \(4, 4\); give one matrix \(3, 3\)"):
        fit_kernel(torch.eye(4), torch.eye(3), torch.ones(3, 3), 1)
    with pytest.raises(ValueError, match="width = 0"):
        kernel_map(normal(4, 2), 0)
