"""A reproducible companion to "Understanding Multimodal Contrastive Learning" (arXiv 2302.06232)."""

__version__ = "0.1.0"
