"""A reproducible companion to "Understanding Multimodal Contrastive Learning" (PMLR 206:4348-4380, arXiv 2302.06232).

The names below are the public face; each is imported from its file when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcl.beyond.detection import detect_pairs as detect_pairs
    from mmcl.beyond.detection import score_matrix as score_matrix
    from mmcl.beyond.refit import detect_and_refit as detect_and_refit
    from mmcl.covariance import cross_covariance as cross_covariance
    from mmcl.covariance import truncated_svd as truncated_svd
    from mmcl.data import spiked as spiked
    from mmcl.detection_theory import bayes_top1 as bayes_top1
    from mmcl.losses import LOSSES as LOSSES
    from mmcl.metrics import sin_theta as sin_theta
    from mmcl.metrics import top_k_accuracy as top_k_accuracy
    from mmcl.practice.audit import audit as audit
    from mmcl.practice.estimator import MMCL as MMCL
    from mmcl.spectral import fit as fit
    from mmcl.unimodal import fit_masked as fit_masked
    from mmcl.unimodal import fit_pca as fit_pca

__version__ = "0.1.0"

_HOME = {
    "LOSSES": "losses",
    "MMCL": "practice.estimator",
    "audit": "practice.audit",
    "bayes_top1": "detection_theory",
    "cross_covariance": "covariance",
    "detect_and_refit": "beyond.refit",
    "detect_pairs": "beyond.detection",
    "fit": "spectral",
    "fit_masked": "unimodal",
    "fit_pca": "unimodal",
    "score_matrix": "beyond.detection",
    "sin_theta": "metrics",
    "spiked": "data",
    "top_k_accuracy": "metrics",
    "truncated_svd": "covariance",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'mmcl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"mmcl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
