"""One pass over blocks of rows: the same moments, the same fit, in any blocks, from disk and on a cluster."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from helpers import pairs, relative

import mmcl
from mmcl.practice import streaming
from mmcl.practice.inputs import as_pair
from mmcl.practice.streaming import Tally, moments, tally


def exact(x, y):
    """Sums of products about the means, by numpy in double precision."""
    both = np.concatenate([np.asarray(x, dtype=float), np.asarray(y, dtype=float)], 1)
    c, d = np.cov(both.T, ddof=0) * len(both), x.shape[1]
    return c[:d, d:], c[:d, :d], c[d:, d:]


@pytest.mark.parametrize("mean", [0.0, 5.0, 1e6])
@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_moments_of_blocks_add_up_to_numpys_covariances_however_far_the_means(mean, rows, monkeypatch):
    monkeypatch.setattr(streaming, "DEALT", 100)
    x, y = pairs(400, 6, 4, seed=1)
    x, y = x + mean, y - 2 * mean
    found = Tally("whiten", seed=0)
    for i in range(0, 400, rows):
        assert found.add(x[i : i + rows], y[i : i + rows])
    total = found.total()
    tolerance = 1e-12 if mean < 10 else 1e-9
    for a, b in zip((total.cross, total.own, total.own_tilde), exact(x, y), strict=True):
        assert relative(a, b) < tolerance
    assert total.n == 400
    torch.testing.assert_close(total.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    standardised = moments(x, y, "standardise")
    assert relative(standardised.own, exact(x, y)[1].diagonal().copy()) < tolerance


def test_a_mean_that_drifts_far_costs_no_digits():
    x, y = pairs(3000, 4, 3, seed=2)
    drift = torch.linspace(0, 1e5, 3000, dtype=x.dtype).unsqueeze(1)
    x = torch.cat([x, (x + drift).flip(0)])[:3000] + drift
    found = tally(as_pair(x.numpy(), y.numpy()), Tally("whiten", seed=0), drop_missing=False).total()
    assert relative(found.cross, exact(x, y)[0]) < 1e-11


def test_float32_rows_are_added_in_double_precision():
    x, y = (a.float() for a in pairs(20_000, 4, 3, seed=3))
    found = tally(as_pair(x + 3, y), Tally("whiten", seed=0), drop_missing=False).total()
    assert relative(found.cross, exact(x + 3, y)[0]) < 2e-6
    assert found.cross.dtype == torch.float64


@pytest.mark.parametrize("sizes", [[100] * 5, [2, 3, 95, 400]], ids=str)
def test_partial_fit_in_any_blocks_is_the_fit_of_all_rows(sizes):
    x, y = (a.numpy() for a in pairs(500, 6, 4, seed=4))
    parts, ends = mmcl.MMCL(3, ridge=0.1), np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        parts.partial_fit(x[start:end], y[start:end])
    whole = mmcl.MMCL(3, ridge=0.1).fit(x, y)
    assert parts.n_samples_ == 500
    np.testing.assert_allclose(parts.x_rotations_, whole.x_rotations_, rtol=1e-8, atol=1e-10)


def test_a_block_that_is_refused_leaves_the_fit_as_it_was():
    x, y = (a.numpy() for a in pairs(300, 6, 4, seed=5))
    model = mmcl.MMCL(2, ridge=0.1).partial_fit(x[:200], y[:200])
    before = model.x_rotations_
    bad = x[200:].copy()
    bad[50] = np.inf
    with pytest.raises(ValueError, match="X holds NaN or infinity"):
        model.partial_fit(bad, y[200:])
    assert model.x_rotations_ is before
    model.partial_fit(x[200:], y[200:])
    np.testing.assert_allclose(model.x_rotations_, mmcl.MMCL(2, ridge=0.1).fit(x, y).x_rotations_, rtol=1e-9)


def test_a_loss_that_compares_all_pairs_cannot_be_streamed():
    assert not hasattr(mmcl.MMCL(2, loss="clip"), "partial_fit")


def test_the_rows_kept_for_testing_are_a_uniform_sample_of_their_fold(monkeypatch):
    monkeypatch.setattr(streaming, "DEALT", 600)
    monkeypatch.setattr(streaming, "HELD_OUT", 20)
    counts = np.zeros(1200)
    place = torch.arange(1200, dtype=torch.float64).unsqueeze(1)
    for seed in range(150):
        found = Tally("centre", seed=seed)
        for i in range(0, 1200, 100):
            found.add(place[i : i + 100], place[i : i + 100])
        kept = [found.held_out(k)[0][:, 0].long().numpy() for k in range(3)]
        assert all(len(k) == 20 for k in kept)
        for k in kept:
            counts[k] += 1
    early, late = counts[:600].mean(), counts[600:].mean()
    assert abs(early - late) < 5 * np.sqrt(2 * 7.5 / 600)


@pytest.mark.slow
def test_memory_beside_a_memory_map_is_small(tmp_path):
    shape = (200_000, 64)
    for name in "xy":
        made = np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="w+", dtype="f4", shape=shape)
        for i in range(0, shape[0], 20_000):
            made[i : i + 20_000] = np.random.default_rng(i).standard_normal((20_000, 64), dtype="f4")
        del made
    code = (
        "import numpy as np, resource, mmcl; r = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
        "a = np.zeros((300, 64), 'f4') + np.random.default_rng(0).standard_normal((300, 64)); mmcl.MMCL(4).fit(a, a);"
        f"x, y = (np.load(r'{tmp_path}/' + n + '.npy', mmap_mode='r') for n in 'xy'); before = r();"
        "mmcl.MMCL(4).fit(x, y); print(r() - before)"
    )
    used = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    data = 2 * shape[0] * shape[1] * 4 // 2**20
    assert used < data + 60  # the pages of the files, which the system may take back, and little beside them


# ---------------------------------------------------------------- dask


def chunked(a, *rows):
    return pytest.importorskip("dask.array").from_array(a, chunks=(rows, a.shape[1]))


def test_dask_arrays_give_the_fit_of_their_numbers_however_they_are_chunked():
    x, y = (a.numpy() for a in pairs(500, 6, 4, seed=6))
    whole = mmcl.MMCL(3).fit(x, y)
    for both in ((chunked(x, 200, 200, 100), chunked(y, 300, 200)), (chunked(x, *[50] * 10), y), (x, chunked(y, 500))):
        found = mmcl.MMCL(3).fit(*both)
        assert (found.n_samples_, found.ridge_) == (500, whole.ridge_)
        np.testing.assert_allclose(found.x_rotations_, whole.x_rotations_, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.transform(both[0]), whole.transform(x), rtol=1e-8, atol=1e-9)
    clip = [mmcl.MMCL(2, loss="clip", tau=1.0, ridge=0.1).fit(*both) for both in ((x, y), (chunked(x, 300, 200), y))]
    np.testing.assert_allclose(clip[0].x_rotations_, clip[1].x_rotations_, rtol=1e-6, atol=1e-8)


def test_missing_rows_of_dask_arrays_are_named_by_their_place_in_the_whole():
    x, y = (a.numpy() for a in pairs(500, 6, 4, seed=7))
    x[321, 0] = np.nan
    with pytest.raises(ValueError, match=r"X holds NaN or infinity in 1 row\(s\): 321;"):
        mmcl.MMCL(2, ridge=0.1).fit(chunked(x, 200, 300), y)
    assert mmcl.MMCL(2, ridge=0.1, drop_missing=True).fit(chunked(x, 200, 300), y).n_dropped_ == 1


def test_chunks_of_unknown_sizes_end_in_one_sentence():
    x, y = (a.numpy() for a in pairs(50, 6, 4, seed=8))
    array = chunked(x, 50)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        mmcl.MMCL(2).fit(array[array[:, 0] > 0], y)


@pytest.mark.kernel
@pytest.mark.slow
def test_a_fit_on_a_dask_cluster_ends_right_though_a_worker_process_is_killed():
    distributed = pytest.importorskip("distributed")
    x, y = (a.numpy() for a in pairs(4000, 6, 4, seed=9))
    killed = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster),
    ):

        def kill_one_that_works():
            while not any(state.processing for state in cluster.scheduler.workers.values()):
                time.sleep(0.01)
            busy = {address for address, state in cluster.scheduler.workers.items() if state.processing}
            killed.append(next(n.pid for n in cluster.workers.values() if n.worker_address in busy))
            os.kill(killed[0], signal.SIGKILL)

        thread = threading.Thread(target=kill_one_that_works, daemon=True)
        thread.start()
        found = mmcl.MMCL(3, ridge=0.1).fit(chunked(x, *[100] * 40), chunked(y, *[100] * 40))
        thread.join(1)
    assert killed
    whole = mmcl.MMCL(3, ridge=0.1).fit(x, y)
    np.testing.assert_allclose(found.x_rotations_, whole.x_rotations_, rtol=1e-8, atol=1e-10)
