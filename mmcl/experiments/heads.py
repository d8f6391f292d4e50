"""The published training of Section 5.3: two small heads on codes, by CLIP on pairs, then by L' on unpaired rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mmcl._checks import as_generator, at_least, positive
from mmcl.metrics import class_accuracy

HOW = ("pairs", "detected", "transposed")


@dataclass(frozen=True)
class Streams:
    """The rows that several trainings, carried out at once, walk through.

    Attributes:
        rows, rows_tilde: (streams, n) indices of codes. Entry i of both must be a pair where ``how`` is "pairs" or
            "transposed"; where it is "detected" they are put in independent random orders.
        how: one of `HOW` for every stream, see `targets`.
    """

    rows: Tensor
    rows_tilde: Tensor
    how: Sequence[str]

    def batches(self, size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass in random order: indices (streams, B) of either modality; the last batch may be smaller."""
        first, second = (torch.randperm(self.rows.shape[1], generator=generator) for _ in range(2))
        alone = torch.tensor([h == "detected" for h in self.how]).unsqueeze(1)
        order_tilde = self.rows_tilde[:, second].where(alone, self.rows_tilde[:, first])
        return zip(self.rows[:, first].split(size, 1), order_tilde.split(size, 1), strict=True)


@dataclass(frozen=True)
class Descent:
    """Passes over the rows, learning rate of AdamW (its other settings stay at their defaults), rows a step, tau."""

    epochs: int
    lr: float
    batch_size: int = 64
    tau: float = 1.0

    def __post_init__(self):
        at_least(1, epochs=self.epochs)
        at_least(2, batch_size=self.batch_size)
        positive(lr=self.lr, tau=self.tau)


def random_heads(streams: int, width: int, seed: int | Generator = 0) -> Tensor:
    """Heads Linear(width, width)-ReLU-Linear(width, width) of both modalities, as a linear layer of torch begins.

    Args:
        streams: number of independent trainings that are carried out at once.
        width: dimension of codes and embeddings.
        seed: int or `torch.Generator`.

    Returns:
        (streams, 2, 2, width + 1, width) float32: stream, modality, layer, weights with the bias as the last row;
        entries uniform in +-1/sqrt(width).
    """
    at_least(1, streams=streams, width=width)
    uniform = torch.rand(streams, 2, 2, width + 1, width, generator=as_generator(seed))
    return (2 * uniform - 1) / width**0.5


def embed(heads: Tensor, codes: Tensor, modality: int) -> Tensor:
    """Normalised embeddings (streams, n, width) of codes (streams or 1, n, width); modality is 0 or 1."""
    z = codes.to(heads.dtype).expand(len(heads), -1, -1)
    for layer in heads[:, modality].unbind(1):
        h = torch.baddbmm(layer[:, -1:], z, layer[:, :-1])
        z = h.relu()
    return F.normalize(h, dim=-1)


def targets(s: Tensor, how: str) -> Tensor:
    """Edges that are pulled together, as weights (B, B) that sum to B.

    Args:
        s: (B, B) similarities of the model that detects.
        how: "pairs" takes the diagonal; "detected" the best column of every row and the best row of every column,
            each with weight 1/2; "transposed" the same with rows and columns confused.

    Example:
        >>> targets(torch.tensor([[0.9, 0.1], [0.8, 0.3]]), "detected")
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000]])
    """
    if how == "pairs":
        return torch.eye(len(s), dtype=s.dtype)
    rows, columns = F.one_hot(s.argmax(1), len(s)), F.one_hot(s.argmax(0), len(s)).T
    found = (rows + columns).to(s.dtype) / 2
    return found.T if how == "transposed" else found


@torch.no_grad()
def _targets(detector: Tensor, x: Tensor, x_tilde: Tensor, how: Sequence[str]) -> Tensor:
    """`targets` of a batch (streams, B, width) of codes, (streams, B, B); (B, B) if all streams take the pairs."""
    if set(how) == {"pairs"}:
        return torch.eye(x.shape[1], dtype=detector.dtype)
    s = embed(detector, x, 0) @ embed(detector, x_tilde, 1).mT
    return torch.stack([targets(one, h) for one, h in zip(s, how, strict=True)])


def objective(z: Tensor, z_tilde: Tensor, edges: Tensor, tau: float) -> Tensor:
    """Sum over streams of -1/B sum E s/tau + 1/(2B) sum_i log sum_j exp(s_ij/tau) + 1/(2B) sum_j log sum_i exp(.)."""
    s = z @ z_tilde.mT / tau
    push = (s.logsumexp(-1) + s.logsumexp(-2)).sum(-1) / 2
    return ((push - (edges * s).sum((-2, -1))) / s.shape[-1]).sum()


def train_heads(
    heads: Tensor,
    codes: Tensor,
    codes_tilde: Tensor,
    streams: Streams,
    descent: Descent,
    seed: int | Generator = 0,
    after_epoch: Callable[[int, Tensor], Tensor | None] = lambda epoch, heads: None,
    progress: bool = False,
) -> Tensor:
    """AdamW on CLIP ("pairs") or L' ("detected"), several streams at once.

    Args:
        heads: (streams, 2, 2, width + 1, width) where the training starts; also the first model that detects edges.
        codes, codes_tilde: (M, width), (M2, width) codes of all rows.
        streams: the rows that each stream uses, and how.
        descent: numbers of the descent.
        seed: int or `torch.Generator` of the order of the rows.
        after_epoch: called as after_epoch(epoch, heads) after each; what it returns, unless None, is the model that
            detects edges from then on.
        progress: show a progress bar on stderr.

    Returns:
        The heads after the last epoch.

    Raises:
        ValueError: for a `how` that does not exist, or not one for every stream.

    Reference: PMLR 206:4348-4380, Section 5.3.
    """
    if len(streams.how) != len(heads) or not set(streams.how) <= set(HOW):
        raise ValueError(f"how = {streams.how}; give one of {HOW} for each of the {len(heads)} streams")
    codes, codes_tilde = torch.as_tensor(codes).to(heads.dtype), torch.as_tensor(codes_tilde).to(heads.dtype)
    detector, heads, generator = heads.clone(), heads.clone().requires_grad_(), as_generator(seed)
    optimizer = torch.optim.AdamW([heads], lr=descent.lr, fused=True)
    for epoch in tqdm(range(descent.epochs), desc="heads", unit="epoch", disable=not progress):
        for rows, rows_tilde in streams.batches(descent.batch_size, generator):
            x, x_tilde = codes[rows], codes_tilde[rows_tilde]
            edges = _targets(detector, x, x_tilde, streams.how)
            optimizer.zero_grad()
            objective(embed(heads, x, 0), embed(heads, x_tilde, 1), edges, descent.tau).backward()
            optimizer.step()
        better = after_epoch(epoch, heads.detach())
        detector = detector if better is None else better
    return heads.detach()


def accuracy(heads: Tensor, codes: Tensor, codes_tilde: Tensor, labels: Tensor, labels_tilde: Tensor) -> Tensor:
    """Share of rows whose most cosine-similar row of the other modality has their class, (streams,).

    Args:
        heads: (streams, 2, 2, width + 1, width).
        codes, codes_tilde: (n, width), (m, width), or with a leading dimension of streams.
        labels, labels_tilde: (n,), (m,) classes, or with a leading dimension of streams.
    """
    labels, labels_tilde = (a.expand(len(heads), -1) for a in (labels, labels_tilde))
    z, z_tilde = (embed(heads, a, k) for k, a in enumerate((codes, codes_tilde)))
    per_stream = zip(z, z_tilde, labels, labels_tilde, strict=True)
    return torch.tensor([class_accuracy(*stream) for stream in per_stream], dtype=torch.float64)
