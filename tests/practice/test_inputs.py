"""What users bring: each container and number type gives the fit of the same numbers, or one sentence."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from helpers import pairs

import mmcl
from mmcl.practice.inputs import as_pair, as_view

X, Y = (a.numpy() for a in pairs(60, 5, 4, seed=0))
FITTED = mmcl.MMCL(2, ridge=0.1).fit(X, Y)


def rotations(x, y, **parameters):
    return mmcl.MMCL(2, ridge=0.1, **parameters).fit(x, y).x_rotations_


def memory_map(a, tmp_path):
    np.save(tmp_path / "a.npy", a)
    return np.load(tmp_path / "a.npy", mmap_mode="r")


SAME = {
    "fortran order": np.asfortranarray,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "big-endian": lambda a: a.astype(">f8"),
    "lists": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "torch": torch.from_numpy,
    "torch with gradients": lambda a: torch.from_numpy(a).requires_grad_(),
    "torch, sparse": lambda a: torch.from_numpy(a).to_sparse(),
    "pandas": pd.DataFrame,
    "pandas, nullable": lambda a: pd.DataFrame(a).convert_dtypes(),
    "sparse rows": scipy.sparse.csr_matrix,
    "sparse columns": scipy.sparse.csc_array,
    "sparse coordinates": scipy.sparse.coo_array,
    "masked": lambda a: np.ma.masked_array(a, mask=np.zeros_like(a, dtype=bool)),
}


@pytest.mark.parametrize("bring", SAME.values(), ids=SAME)
def test_the_container_does_not_matter(bring):
    np.testing.assert_allclose(rotations(bring(X), Y), FITTED.x_rotations_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rotations(X, bring(Y)), FITTED.x_rotations_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.asarray(FITTED.transform(bring(X))), FITTED.transform(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "digits"), [("f4", 1e-5), (">f4", 1e-5), ("f2", 1e-2), ("i1", 0.2), ("u8", 0)])
def test_small_and_integer_types_are_read_as_floats_that_hold_them(dtype, digits):
    x = (20 * X).astype(dtype) if digits == 0.2 else (X - X.min()).astype(dtype)
    np.testing.assert_allclose(rotations(x, Y), rotations(x.astype(float), Y), rtol=1e-4, atol=1e-5)
    assert as_view("X", x).rows().dtype == (torch.float64 if dtype == "u8" else torch.float32)
    assert np.abs(as_view("X", x).rows().numpy() - x.astype(float)).max() == 0


def test_bfloat16_and_mixed_types_are_read_as_floats_that_hold_them():
    x = torch.from_numpy(X).to(torch.bfloat16)
    np.testing.assert_allclose(rotations(x, Y.astype("f4")), rotations(x.double().numpy(), Y), rtol=1e-4, atol=1e-5)


def test_memory_maps_are_read_in_place_and_left_as_they_are(tmp_path):
    x = memory_map(X, tmp_path)
    np.testing.assert_array_equal(rotations(x, Y), FITTED.x_rotations_)
    assert not x.flags.writeable
    np.testing.assert_array_equal(x, X)


def test_scores_come_back_in_the_container_of_the_rows():
    names = ["mmcl0", "mmcl1"]
    frame = pd.DataFrame(X, index=[f"s{i}" for i in range(60)])
    z, z_tilde = FITTED.transform(frame, torch.from_numpy(Y))
    assert isinstance(z, pd.DataFrame)
    assert isinstance(z_tilde, torch.Tensor)
    assert (list(z.columns), z.index[3]) == (names, "s3")
    np.testing.assert_array_equal(z.to_numpy(), FITTED.transform(X))
    assert FITTED.transform(X.astype("f4")).dtype == np.float32
    assert isinstance(FITTED.transform(scipy.sparse.csr_array(X)), np.ndarray)
    assert list(FITTED.get_feature_names_out()) == names


def test_set_output_wraps_the_scores():
    model = mmcl.MMCL(2, ridge=0.1).set_output(transform="pandas").fit(X, Y)
    assert list(model.transform(X).columns) == ["mmcl0", "mmcl1"]


def holes(a, *rows):
    a = a.copy()
    a[list(rows), 1] = np.nan
    return a


def test_rows_with_missing_values_are_refused_by_name():
    with pytest.raises(ValueError, match=r"X holds NaN or infinity in 2 row\(s\): 7, 30; .* drop_missing=True"):
        mmcl.MMCL(2).fit(holes(X, 7, 30), Y)
    frame = pd.DataFrame(holes(Y, 11), index=[f"cell {i}" for i in range(60)])
    with pytest.raises(ValueError, match=r"y holds NaN or infinity in 1 row\(s\): cell 11; "):
        mmcl.MMCL(2).fit(pd.DataFrame(X, index=frame.index), frame)
    with pytest.raises(ValueError, match="X holds NaN"):
        FITTED.transform(holes(X, 3))


def test_dropping_missing_rows_is_the_fit_of_the_others_and_keeps_the_places_of_scores():
    keep = np.setdiff1d(np.arange(60), [7, 30, 31])
    model = mmcl.MMCL(2, ridge=0.1, drop_missing=True).fit(holes(X, 7, 30), holes(Y, 30, 31))
    assert (model.n_samples_, model.n_dropped_) == (57, 3)
    np.testing.assert_allclose(model.x_rotations_, rotations(X[keep], Y[keep]), rtol=1e-9)
    z = model.transform(holes(X, 5))
    assert np.isnan(z).any(1).nonzero()[0].tolist() == [5]
    assert model.score(holes(X, 5), Y) == model.score(np.delete(X, 5, 0), np.delete(Y, 5, 0))


def test_a_number_too_large_for_its_square_ends_in_one_sentence():
    with pytest.raises(ValueError, match="too large"):
        mmcl.MMCL(2).fit(X * 1e200, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X + 1j, Y, "Complex data not supported: X is complex128"),
        (X.astype(str), Y, None),
        (np.full((60, 5), "a"), Y, "X is no table of numbers"),
        (X[0], Y, r"X has 1 dimension\(s\).*Reshape your data"),
        (X[None], Y, r"X has 3 dimension\(s\)"),
        (X[:50], Y, "X has 50 rows and y 60"),
        (X[:0], Y[:0], r"0 sample\(s\)"),
        (X[:, :0], Y, r"0 feature\(s\)"),
        (X[:1], Y[:1], "n_samples = 1"),
        (X, None, "requires y to be passed"),
        (pd.DataFrame({"a": X[:, 0], "b": ["x"] * 60}), Y, r"column\(s\) b of X hold no numbers"),
        (np.array(["2020-01-01"] * 60, dtype="M8[D]").reshape(-1, 1), Y, "X has the dtype datetime64"),
        (iter([1.0]), Y, "X is no table of numbers"),
    ],
    ids=range(13),
)
def test_what_is_no_table_of_numbers_ends_in_one_sentence(x, y, message):
    if message is None:
        np.testing.assert_allclose(rotations(x, y), FITTED.x_rotations_)
        return
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        mmcl.MMCL(2, ridge=0.1).fit(x, y)
    assert len(re.findall(r"\n", str(caught.value))) == 0


def test_frames_whose_rows_have_other_ids_are_refused_and_reordered_ones_too():
    a, b = pd.DataFrame(X, index=list("abcdef" * 10)), pd.DataFrame(Y, index=list("abcdfe" * 10))
    with pytest.raises(ValueError, match=r"row 4 of X has the id 'e' and row 4 of y 'f'; .*y\.loc\[X\.index\]"):
        as_pair(a, b)
    as_pair(a, b.to_numpy())
    as_pair(a, b.set_index(a.index))


def test_inputs_are_not_changed():
    x, y = X.copy(), torch.from_numpy(Y.copy()).requires_grad_()
    mmcl.MMCL(2, loss="clip", tau=1.0, ridge=0.1).fit(x, y).transform(x, y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y.detach().numpy(), Y)
    assert y.grad is None


def test_columns_are_remembered_and_others_refused():
    model = mmcl.MMCL(2).fit(pd.DataFrame(X, columns=list("abcde")), Y)
    assert list(model.feature_names_in_) == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(pd.DataFrame(X, columns=list("abced")))
    with pytest.raises(ValueError, match="y has 3 features, but MMCL is expecting 4"):
        model.transform(pd.DataFrame(X, columns=list("abcde")), Y[:, :3])
