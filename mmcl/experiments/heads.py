"""The published training of Section 5.3: two small heads on codes, by CLIP on pairs, then by L' on unpaired rows."""

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from mmcl._checks import as_generator, at_least, positive
from mmcl.metrics import class_accuracy

HOW = ("pairs", "detected", "transposed")


def random_heads(streams, width, seed=0):
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


def embed(heads, codes, modality):
    """Normalised embeddings (streams, n, width) of codes (streams or 1, n, width); modality is 0 or 1."""
    z = codes.to(heads.dtype).expand(len(heads), -1, -1)
    for layer in heads[:, modality].unbind(1):
        h = torch.baddbmm(layer[:, -1:], z, layer[:, :-1])
        z = h.relu()
    return F.normalize(h, dim=-1)


def targets(s, how):
    """Edges that are pulled together, as weights (B, B) that sum to B.

    Args:
        s: (B, B) similarities of the model that detects.
        how: "pairs" takes the diagonal; "detected" the best column of every row and the best row of every column,
            each with weight 1/2; "transposed" the same with rows and columns confused.
    """
    if how == "pairs":
        return torch.eye(len(s), dtype=s.dtype)
    rows, columns = F.one_hot(s.argmax(1), len(s)), F.one_hot(s.argmax(0), len(s)).T
    found = (rows + columns).to(s.dtype) / 2
    return found.T if how == "transposed" else found


def objective(z, z_tilde, edges, tau):
    """Sum over streams of -1/B sum E s/tau + 1/(2B) sum_i log sum_j exp(s_ij/tau) + 1/(2B) sum_j log sum_i exp(.)."""
    s = z @ z_tilde.mT / tau
    push = (s.logsumexp(-1) + s.logsumexp(-2)).sum(-1) / 2
    return ((push - (edges * s).sum((-2, -1))) / s.shape[-1]).sum()


def train_heads(
    heads,
    codes,
    codes_tilde,
    rows,
    rows_tilde,
    how,
    epochs,
    lr,
    batch_size=64,
    tau=1.0,
    seed=0,
    after_epoch=None,
    progress=False,
):
    """AdamW on CLIP ("pairs") or L' ("detected"), several streams at once.

    Args:
        heads: (streams, 2, 2, width + 1, width) where the training starts; also the first model that detects edges.
        codes, codes_tilde: (M, width), (M2, width) codes of all rows.
        rows, rows_tilde: (streams, n) indices of the rows that each stream uses. Entry i of both must be a pair where
            `how` is "pairs" or "transposed"; where it is "detected" they are put in independent random orders.
        how: one of `HOW` for every stream, see `targets`.
        epochs: passes over the rows.
        lr: learning rate of `torch.optim.AdamW`, whose other settings stay at their defaults.
        batch_size: rows per step; the last batch may be smaller.
        tau: temperature.
        seed: int or `torch.Generator` of the order of the rows.
        after_epoch: called as after_epoch(epoch, heads) after each; what it returns, unless None, is the model that
            detects edges from then on.
        progress: show a progress bar on stderr.

    Returns:
        The heads after the last epoch.

    Raises:
        ValueError: for bad numbers, or a `how` that does not exist.

    Reference: arXiv 2302.06232, Section 5.3; notebook 04.
    """
    at_least(1, epochs=epochs)
    at_least(2, batch_size=batch_size)
    positive(lr=lr, tau=tau)
    if len(how) != len(heads) or not set(how) <= set(HOW):
        raise ValueError(f"how = {how}; give one of {HOW} for each of the {len(heads)} streams")
    codes, codes_tilde = torch.as_tensor(codes).to(heads.dtype), torch.as_tensor(codes_tilde).to(heads.dtype)
    teacher, heads, generator = heads.clone(), heads.clone().requires_grad_(), as_generator(seed)
    optimizer = torch.optim.AdamW([heads], lr=lr, fused=True)
    alone = torch.tensor([h == "detected" for h in how]).unsqueeze(1)
    steady = None if any(h != "pairs" for h in how) else torch.eye(batch_size, dtype=heads.dtype)
    for epoch in tqdm(range(epochs), desc="heads", unit="epoch", disable=not progress):
        first, second = (torch.randperm(rows.shape[1], generator=generator) for _ in range(2))
        order, order_tilde = rows[:, first], rows_tilde[:, second].where(alone, rows_tilde[:, first])
        for i in range(0, rows.shape[1], batch_size):
            x, x_tilde = codes[order[:, i : i + batch_size]], codes_tilde[order_tilde[:, i : i + batch_size]]
            if steady is None:
                with torch.no_grad():
                    s = embed(teacher, x, 0) @ embed(teacher, x_tilde, 1).mT
                    edges = torch.stack([targets(a, h) for a, h in zip(s, how, strict=True)])
            else:
                edges = steady[: x.shape[1], : x.shape[1]]
            optimizer.zero_grad()
            objective(embed(heads, x, 0), embed(heads, x_tilde, 1), edges, tau).backward()
            optimizer.step()
        better = after_epoch(epoch, heads.detach()) if after_epoch else None
        teacher = teacher if better is None else better
    return heads.detach()


def accuracy(heads, codes, codes_tilde, labels, labels_tilde):
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
