"""A reproducible companion to "Understanding Multimodal Contrastive Learning" (PMLR 206:4348-4380, arXiv 2302.06232).

The names below are the public face; each is imported from its file when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "LOSSES": "losses",
    "bayes_top1": "theory",
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


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'mmcl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"mmcl.{_HOME[name]}"), name)
