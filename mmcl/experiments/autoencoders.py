"""Two convolutional autoencoders give the 16-d codes of Section 5.3; trained with a fixed seed, once, and kept."""

import hashlib
import inspect
import io
import sys
import threading
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmcl._checks import as_seed, at_least, positive
from mmcl._files import write_whole
from mmcl.experiments.images import cache_folder

CODE = 16  # dimension of a code
SEEDING = threading.Lock()  # the generator that layers are initialised from belongs to all threads


class Autoencoder(nn.Module):
    """The published architecture: three convolutions and four linear layers to a code, and back.

    Images are (n, 1, 28, 28) grey levels from 0 to 255, codes (n, 16).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Flatten()),
            *_dense(3 * 3 * 32, 128, 64, 32, CODE),
        )
        self.decoder = nn.Sequential(
            *(*_dense(CODE, 32, 64, 128, 3 * 3 * 32), nn.Unflatten(1, (32, 3, 3))),
            *(nn.ConvTranspose2d(32, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 8, 3, 2, 1, 1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.ConvTranspose2d(8, 1, 3, 2, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images after coding and decoding."""
        return self.decoder(self.encoder(images))


def _dense(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers[:-1]


def train_autoencoder(
    images: Tensor, epochs: int = 10, batch_size: int = 256, lr: float = 2e-3, seed: int = 0, progress: bool = False
) -> Autoencoder:
    """An autoencoder that minimises the mean squared error of the pixels, by AdamW.

    Args:
        images: (n, 28, 28) uint8.
        epochs, batch_size: passes over the images, and images per step. (Published: 20 passes in batches of 64.)
        lr: learning rate of `torch.optim.AdamW`, whose other settings stay at their defaults.
        seed: of the initialisation and of the order of the images.
        progress: show a progress bar on stderr.

    Returns:
        Autoencoder in evaluation mode.

    Raises:
        ValueError: if a number is out of range or the images are not 28 x 28.

    Reference: PMLR 206:4348-4380, Section 5.3.
    """
    at_least(1, epochs=epochs)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    seed = as_seed(seed)
    x = _pixels(images)
    with SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=lr), torch.Generator().manual_seed(seed)
    with tqdm(total=epochs * len(x), desc="autoencoder", unit="image", disable=not progress) as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=generator).split(batch_size):
                batch = x[rows].float()
                optimizer.zero_grad()
                (model(batch) - batch).square().mean().backward()
                optimizer.step()
                bar.update(len(rows))
    return model.eval()


def encode(model: Autoencoder, images: Tensor) -> Tensor:
    """Codes (n, 16), float64, of images (n, 28, 28), with the statistics the batch normalisation has learned."""
    with torch.no_grad():
        return torch.cat([model.encoder(block.float()) for block in _pixels(images).split(4096)]).double()


def codes(
    images: Tensor, images_test: Tensor, seed: int = 0, progress: bool = False, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Codes of training and test images from an autoencoder trained on the former, or from the cache.

    The cache, in `mmcl.experiments.images.cache_folder`, is keyed by the text of what computes the codes, the images,
    the seed and the settings. An entry appears when it is complete and not before.

    Args:
        images, images_test: (n, 28, 28), (m, 28, 28) uint8.
        seed, settings: of `train_autoencoder`.
        progress: show a progress bar on stderr.

    Returns:
        (n, 16) and (m, 16), float64.
    """
    key = hashlib.sha256(_source().encode() + repr((seed, sorted(settings.items()))).encode())
    for a in (images, images_test):
        key.update(np.ascontiguousarray(a).tobytes())
    path = cache_folder() / f"codes-{key.hexdigest()[:16]}.npz"
    if (kept := _kept(path, len(images), len(images_test))) is not None:
        return kept
    model = train_autoencoder(images, seed=seed, progress=progress, **settings)
    train, test = encode(model, images), encode(model, images_test)
    whole = io.BytesIO()
    np.savez(whole, train=train.numpy(), test=test.numpy())
    write_whole(path, whole.getvalue())
    return train, test


def _kept(path: Path, n: int, m: int) -> tuple[Tensor, Tensor] | None:
    """The codes (n, 16) and (m, 16) in a file of the cache, or None if it is not there or, which is said, not whole."""
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as kept:
            train, test = torch.from_numpy(kept["train"]), torch.from_numpy(kept["test"])
        if (train.shape, test.shape) == ((n, CODE), (m, CODE)) and train.dtype == test.dtype == torch.float64:
            return train, test
    except (OSError, EOFError, ValueError, TypeError, LookupError, zipfile.BadZipFile, zlib.error):
        pass
    print(f"mmcl: {path} is not whole and is made anew", file=sys.stderr)
    return None


def _source() -> str:
    """What the codes depend on besides the images and the settings: the text of what computes them."""
    parts: tuple[Any, ...] = Autoencoder, _dense, train_autoencoder, encode, _pixels
    return "\n".join([str(CODE), *map(inspect.getsource, parts)])


def _pixels(images: Tensor) -> Tensor:
    images = torch.as_tensor(images)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; give (n, 28, 28) grey levels")
    return images.unsqueeze(1)
