"""The networks of Section 5.1, one convolutional and one dense, trained by InfoNCE on a graph of pairs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmcl._checks import at_least

FROZEN = 1e-5  # a run ends when its rate is below: under the rule all later steps are together an eighth of a first one


@dataclass(frozen=True)
class Schedule:
    """How encoders are trained.

    Attributes:
        optimizer: a class of `torch.optim`, "SGD" or "AdamW".
        settings: its arguments.
        plateau: arguments of `torch.optim.lr_scheduler.ReduceLROnPlateau`, None for a constant rate.
        steps: steps at most.
        batch: rows and columns of the subgraph that a step takes, None for all.
    """

    optimizer: str
    settings: dict
    plateau: dict | None = None
    steps: int = 2000
    batch: int | None = None

    def start(self, parameters: list[Tensor]) -> tuple:
        """The optimiser, and its plateau rule or None."""
        descent = getattr(torch.optim, self.optimizer)(parameters, **self.settings)
        return descent, self.plateau and torch.optim.lr_scheduler.ReduceLROnPlateau(descent, **self.plateau)


PUBLISHED = Schedule("SGD", {"lr": 1e-3, "momentum": 0.9}, {"factor": 0.3, "patience": 10, "eps": 1e-12})
SCHEDULES = {
    "published": PUBLISHED,
    "constant rate": replace(PUBLISHED, plateau=None),
    "AdamW": Schedule("AdamW", {"lr": 1e-3}, steps=100, batch=100),
}


def convolutional() -> nn.Module:
    """The published encoder of Fashion-MNIST: (n, 1, 28, 28) to (n, 128)."""
    hidden = nn.Linear(128 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128)
    return nn.Sequential(*_block(1, 8, 16), *_block(16, 64, 128), nn.Flatten(), *hidden)


def _block(width, middle, out):
    first, second = nn.Conv2d(width, middle, 3, padding=1), nn.Conv2d(middle, out, 3, padding=1)
    return first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(out)


def dense() -> nn.Module:
    """The published encoder of MNIST: (n, 1, 28, 28) to (n, 128)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width, out in ((784, 512), (512, 256)):
        layers += [nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, 128))


def graph_info_nce(s: Tensor, edges: Tensor, tau: float = 1.0, count: float | Tensor | None = None) -> Tensor:
    """InfoNCE with a graph as target, -1/count sum_ij E_ij ( log softmax_j s_ij/tau + log softmax_i s_ij/tau ).

    Args:
        s: (..., n1, n2) similarities.
        edges: (..., n1, n2) E, entries >= 0. With E = I it is the symmetric cross-entropy of CLIP.
        tau: temperature.
        count: None is 2 |E|. The published loss has the number of edges before the partition: without a partition
            it is twice the loss, and with one its step is that of 2 |E| times 2 |E| / count.

    Returns:
        (...,) value.

    Example:
        >>> s, edges = torch.zeros(4, 4), torch.eye(4)
        >>> round(float(graph_info_nce(s, edges).exp()), 4), round(float(graph_info_nce(s, edges, count=8).exp()), 4)
        (4.0, 4.0)
    """
    logits = s / tau
    both = logits.log_softmax(-1) + logits.log_softmax(-2)
    return -(edges * both).sum((-2, -1)) / (2 * edges.sum((-2, -1)) if count is None else count)


class Training:
    """The two encoders on their way, with cosine similarities at temperature 1 as published.

    Args:
        images, images_tilde: (n1, 28, 28), (n2, 28, 28) grey levels 0 to 255.
        edges: (n1, n2) the graph.
        schedule: the optimiser and its rate.
        count: of `graph_info_nce`.
        seed: of the initialisation and of the batches.
    """

    def __init__(self, images, images_tilde, edges, schedule: Schedule, count=None, seed: int = 0):
        self.x, self.x_tilde, self.edges, self.count = as_pixels(images), as_pixels(images_tilde), edges.float(), count
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.f, self.g = convolutional(), dense()
            self.f.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.descent, self.rule = schedule.start([*self.f.parameters(), *self.g.parameters()])
        self.batch, self.generator = schedule.batch, torch.Generator().manual_seed(seed)
        self.queue: list[tuple[Tensor, Tensor]] = []

    def loss(self) -> Tensor:
        """The loss of all rows and columns, or of the next random subgraph; a pass takes disjoint ones."""
        if self.batch is None:
            return self._loss(self.x, self.x_tilde, self.edges)
        if not self.queue:
            orders = [torch.randperm(n, generator=self.generator).split(self.batch) for n in self.edges.shape]
            self.queue = list(zip(*orders, strict=False))
        rows, columns = self.queue.pop(0)
        return self._loss(self.x[rows], self.x_tilde[columns], self.edges[rows][:, columns])

    def _loss(self, x, x_tilde, edges):
        z, z_tilde = F.normalize(self.f.train()(x), dim=1), F.normalize(self.g.train()(x_tilde), dim=1)
        return graph_info_nce(z @ z_tilde.T, edges, count=self.count)

    def step(self, loss: Tensor) -> None:
        """One step down ``loss``, which the plateau rule then sees."""
        self.descent.zero_grad()
        loss.backward()
        self.descent.step()
        if self.rule:
            self.rule.step(loss.detach())

    @property
    def rate(self) -> float:
        """The present learning rate."""
        return self.descent.param_groups[0]["lr"]

    def accuracy(self, evaluate: Callable) -> float:
        """``evaluate`` of the two encoders in evaluation mode."""
        with torch.no_grad():
            return evaluate(self.f.eval(), self.g.eval())


def train(training: Training, evaluate: Callable, steps: int, every: int = 25, progress: str = "") -> dict:
    """Steps until ``steps`` are made or the rate is below `FROZEN`.

    Args:
        training: as it starts.
        evaluate: function of the two encoders.
        steps, every: steps at most, and from one record to the next; steps 1, 5, 10 and the last are recorded too.
        progress: title of a bar on stderr, empty for none.

    Returns:
        dict of lists step, loss, rate, accuracy: after so many steps, the loss that the next one would descend.

    Raises:
        ValueError: if a number is out of range.
    """
    at_least(0, steps=steps)
    at_least(1, every=every)
    curve: dict[str, list] = {"step": [], "loss": [], "rate": [], "accuracy": []}
    for step in tqdm(range(steps + 1), desc=progress, unit="step", disable=not progress):
        last = step == steps or training.rate < FROZEN
        record = last or step % every == 0 or step in (1, 5, 10)
        accuracy = training.accuracy(evaluate) if record else None
        loss = training.loss()
        if record:
            for name, value in zip(curve, (step, round(loss.item(), 5), training.rate, accuracy), strict=True):
                curve[name].append(value)
        if last:
            break
        training.step(loss)
    return curve


def first_fall(training: Training, steps: int = 11) -> float:
    """Fall of the loss in its first steps of gradient descent with momentum, to first order, as a share of the loss.

    With momentum m a gradient g that stays as it is moves the weights by lr g sum_{t <= steps} (1 - m^t)/(1 - m),
    which is 48.2 lr g for m = 0.9 and 11 steps. The published plateau rule shortens the first steps unless they
    lower the loss by a share of 1e-4.

    Args:
        training: before its first step, by "SGD"; it goes through the data once.
        steps: number of steps.
    """
    loss, group = training.loss(), training.descent.param_groups[0]
    gradients = torch.autograd.grad(loss, group["params"])
    length = group["lr"] * sum((1 - group["momentum"] ** t) / (1 - group["momentum"]) for t in range(1, steps + 1))
    return length * sum(float(g.square().sum()) for g in gradients) / loss.item()


def as_pixels(images) -> Tensor:
    """(n, 1, 28, 28) float32 of images (n, 28, 28), grey levels as they are."""
    return torch.as_tensor(images).unsqueeze(1).float().contiguous(memory_format=torch.channels_last)
