"""The autoencoders of Section 5.3 and the cache of their codes."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmcl.experiments import autoencoders


@pytest.fixture
def images():
    """Sixty images that three numbers describe: a bright rectangle, its place and its width."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(60, 28, 28, dtype=torch.uint8)
    for picture in pictures:
        row, column, width = (int(torch.randint(2, 12, (1,), generator=generator)) for _ in range(3))
        picture[row : row + 10, column : column + width] = 200
    return pictures


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_image_becomes_16_numbers_and_an_image_again(images):
    model = autoencoders.train_autoencoder(images, epochs=1, batch_size=30)
    assert autoencoders.encode(model, images).shape == (60, 16)
    assert autoencoders.encode(model, images).dtype == torch.float64
    assert model(images[:5].unsqueeze(1).float()).shape == (5, 1, 28, 28)
    assert (
        sum(p.numel() for p in model.encoder.parameters())
        == sum(
            width * out + out for width, out in ((9, 8), (72, 16), (144, 32), (288, 128), (128, 64), (64, 32), (32, 16))
        )
        + 2 * 16
    )  # convolutions and linear layers with their biases, and the batch normalisation


def test_training_explains_more_of_the_pixels_than_their_mean(images):
    pixels = images.unsqueeze(1).float()
    models = [autoencoders.train_autoencoder(images, epochs=epochs, batch_size=20, lr=1e-2) for epochs in (1, 100)]
    with torch.no_grad():
        first, last = (float((model(pixels) - pixels).square().mean()) for model in models)
    assert last < first / 2
    assert last < float(pixels.var(0, unbiased=False).mean())  # the mean image would leave this


def test_training_depends_on_its_seed_alone_even_in_two_threads(images):
    def run(seed):
        return autoencoders.encode(autoencoders.train_autoencoder(images, epochs=1, batch_size=30, seed=seed), images)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    alone = run(1)
    with ThreadPoolExecutor(2) as both:
        again, other = both.map(run, (1, 2))
    torch.testing.assert_close(alone, again, rtol=1e-4, atol=1e-4)
    assert float((alone - other).abs().max()) > 0.01
    assert torch.equal(torch.get_rng_state(), before)


def test_codes_of_a_row_do_not_depend_on_the_rows_beside_it(images):
    model = autoencoders.train_autoencoder(images, epochs=1, batch_size=30)
    torch.testing.assert_close(autoencoders.encode(model, images)[7:8], autoencoders.encode(model, images[7:8]))


def test_codes_are_trained_once_and_again_when_anything_differs(images, cache, monkeypatch):
    trained = []
    train, encode = autoencoders.train_autoencoder, autoencoders.encode
    monkeypatch.setattr(autoencoders, "train_autoencoder", lambda *a, **k: trained.append(k) or train(*a, **k))
    first = autoencoders.codes(images, images[:9], epochs=1, batch_size=30)
    again = autoencoders.codes(images, images[:9], epochs=1, batch_size=30)
    assert len(trained) == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert (first[0].shape, first[1].shape) == ((60, 16), (9, 16))
    torch.testing.assert_close(first[0][:9], first[1])
    changed = images.clone()
    changed[0, 0, 0] += 1
    autoencoders.codes(changed, images[:9], epochs=1, batch_size=30)
    autoencoders.codes(images, changed[:9], epochs=1, batch_size=30)
    autoencoders.codes(images, images[:9], epochs=1, batch_size=30, seed=1)
    autoencoders.codes(images, images[:9], epochs=1, batch_size=20)
    assert len(trained) == 5
    monkeypatch.setattr(autoencoders, "encode", lambda model, images: encode(model, images))  # other code
    autoencoders.codes(images, images[:9], epochs=1, batch_size=30)
    assert len(trained) == 6
    monkeypatch.setattr(autoencoders, "encode", encode)
    autoencoders.codes(images, images[:9], epochs=1, batch_size=30)
    assert len(trained) == 6
    assert {p.suffix for p in cache.iterdir()} == {".npz"}


def saved(**arrays):
    whole = io.BytesIO()
    np.savez(whole, **arrays)
    return whole.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        saved(train=np.zeros((60, 16)), test=np.zeros((9, 16)))[:-30],
        saved(train=np.zeros((60, 16)), test=np.zeros((9, 16))).replace(b"\0" * 64, b"\1" * 64, 1),
        saved(train=np.zeros((60, 16))),
        saved(train=np.zeros((60, 16)), test=np.zeros((8, 16))),
        saved(train=np.zeros((60, 16), np.float32), test=np.zeros((9, 16), np.float32)),
        saved(train=np.array([None] * 3), test=np.zeros((9, 16))),
    ],
    ids=["empty", "no zip", "cut", "other bytes", "half", "other shape", "other type", "objects"],
)
def test_codes_that_are_not_whole_are_named_once_and_made_anew(images, cache, capsys, content):
    settings = {"epochs": 1, "batch_size": 30}
    made = autoencoders.codes(images, images[:9], **settings)
    (path,) = cache.iterdir()
    path.write_bytes(content)
    again = autoencoders.codes(images, images[:9], **settings)
    assert capsys.readouterr().err == f"mmcl: {path} is not whole and is made anew\n"
    for a, b in zip(made, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    autoencoders.codes(images, images[:9], **settings)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["train_autoencoder", "np.savez", "os.replace"])
def test_an_interrupt_leaves_nothing_half_written(images, cache, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target = {"train_autoencoder": autoencoders, "np.savez": np, "os.replace": os}[where]
        patch.setattr(target, where.split(".")[-1], interrupted)
        with pytest.raises(KeyboardInterrupt):
            autoencoders.codes(images, images, epochs=1)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("wrong", "say"),
    [({"epochs": 0}, "epochs = 0"), ({"batch_size": 1}, "batch_size = 1"), ({"lr": 0.0}, "lr = 0.0")],
)
def test_bad_numbers_are_named(images, wrong, say):
    with pytest.raises(ValueError, match=say):
        autoencoders.train_autoencoder(images, **wrong)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 8, 8\); give \(n, 28, 28\)"):
        autoencoders.train_autoencoder(torch.zeros(4, 8, 8, dtype=torch.uint8))
