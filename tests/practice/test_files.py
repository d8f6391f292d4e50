"""Files of pairs: read as what they are, or refused in one sentence; tables written as they are read."""

import csv
import io
import sys

import numpy as np
import pytest

from mmcl.practice.files import pairs_of, read_pairs, rows_as_csv

X, Y = np.arange(12.0).reshape(4, 3), np.arange(8.0).reshape(4, 2) ** 2


def test_an_archive_holds_all_it_is_asked_for(tmp_path):
    more = dict(x_unpaired=X[:2], y_unpaired=Y[:3], x_unpaired_ids=["p", "q"], x_test=X[:1], y_test=Y[:1])
    np.savez(tmp_path / "f.npz", x=X.astype("f4"), y=Y.astype(int), ids=list("abcd"), labels=[1, 1, 2, 2], **more)
    given = read_pairs(tmp_path / "f.npz")
    np.testing.assert_array_equal(given.x, X)
    np.testing.assert_array_equal(given.y, Y)
    assert given.ids.tolist() == list("abcd")
    assert given.labels.tolist() == [1, 1, 2, 2]
    assert given.x_unpaired_ids.tolist() == ["p", "q"]
    assert given.y_unpaired_ids.tolist() == [0, 1, 2]
    assert len(given.x_test) == len(given.y_test) == 1


@pytest.mark.parametrize("head", [True, False])
def test_two_tables_are_the_archive(tmp_path, head):
    names = ",".join("abc")
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header=names if head else "", comments="")
    np.save(tmp_path / "y.npy", Y)
    given = read_pairs(tmp_path / "x.csv", tmp_path / "y.npy")
    np.testing.assert_array_equal(given.x, X)
    np.testing.assert_array_equal(given.y, Y)
    assert given.ids.tolist() == [0, 1, 2, 3]


def test_columns_of_ids_and_labels_are_no_features(tmp_path):
    (tmp_path / "x.csv").write_text('id,a,label,b\n"one, two",1,cat,2\nthree,,dog,4\nfour,5,cat,6\n')
    (tmp_path / "y.csv").write_text("1\n2\n3\n")
    given = read_pairs(tmp_path / "x.csv", tmp_path / "y.csv")
    assert given.ids.tolist() == ["one, two", "four"]
    assert given.rows.tolist() == [0, 2]
    assert given.labels.tolist() == ["cat", "cat"]
    assert given.x.tolist() == [[1, 2], [5, 6]]
    assert given.missing == 1


def test_a_parquet_table_is_the_archive(tmp_path):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    x, y = (pandas.DataFrame(rows, columns=[f"f{i}" for i in range(rows.shape[1])]) for rows in (X.astype("f4"), Y))
    x.assign(id=list("abcd"), label=[1, 1, 2, 2]).to_parquet(tmp_path / "x.parquet")
    y.assign(f0=[0.0, None, 8.0, 18.0]).to_parquet(tmp_path / "y.parquet")
    given = read_pairs(tmp_path / "x.parquet", tmp_path / "y.parquet")
    np.testing.assert_array_equal(given.x, X[[0, 2, 3]])
    assert given.y[:, 0].tolist() == [0, 8, 18]
    assert given.ids.tolist() == ["a", "c", "d"]
    assert given.labels.tolist() == [1, 2, 2]
    assert given.missing == 1


def test_what_a_parquet_table_needs_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    np.save(tmp_path / "y.npy", Y)
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"to read x.parquet, pip install pandas pyarrow; or save it as .csv"):
        read_pairs(tmp_path / "x.parquet", tmp_path / "y.npy")


def test_rows_that_are_missing_or_repeated_are_counted():
    x = X.copy()
    x[1, 0], x[3] = np.inf, x[2]
    given = pairs_of({"x": x, "y": Y, "x_unpaired": x, "y_unpaired": Y})
    assert (given.missing, given.repeated) == (1, 1)
    assert given.x_unpaired_ids.tolist() == [0, 2, 3]


def test_a_table_is_read_back_as_it_was_written_and_runs_no_formula():
    names = np.array(['a,"b"', "=1+1", "-x", "-3", "@f"])
    text = rows_as_csv({"id": names, "score": np.array([0.5, 1, 2, 3, 1 / 3])})
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows] == ["id", 'a,"b"', "'=1+1", "'-x", "-3", "'@f"]
    assert rows[-1][1] == "0.3333"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.npz", b"no archive", "cannot read f.npz"),
        ("f.txt", b"1,2", "f.txt is no table that is read here; use .npz, .npy, .csv, .parquet"),
        ("f.csv", b"a,b\n1,2\n3\n", "the lines of f.csv are not equally long"),
        ("f.csv", b"a,b\n1,x\n3,y\n", "column b holds no numbers"),
        ("f.csv", b"", "cannot read f.csv"),
    ],
)
def test_a_file_that_cannot_be_read_ends_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "y.npy", Y[:2])
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / name, "" if name == "f.npz" else tmp_path / "y.npy")


def test_files_that_do_not_fit_together_are_named(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "f.npz", x=X, y=Y)
    np.savez(tmp_path / "pickled.npz", x=X, y=np.array([{}], dtype=object))
    for arguments, message in (
        (("x.npy",), "x.npy is one table"),
        (("f.npz", "x.npy"), "f.npz holds both modalities; leave out x.npy"),
        (("nothing.npz",), "there is no file"),
        (("nothing.npy", "x.npy"), "there is no file"),
        (("pickled.npz",), "cannot read pickled.npz"),
    ):
        with pytest.raises(ValueError, match=message):
            read_pairs(*(tmp_path / a for a in arguments))
    for arrays, message in (
        ({"x": X}, "there is no y, but x; name"),
        ({"x": X, "y": Y[:3]}, "x has 4 rows and y 3"),
        ({"x": X, "y": Y[:, 0]}, r"y is float64 of shape \(4,\)"),
        ({"x": X, "y": Y, "ids": ["a"]}, "there are 1 ids for 4 rows"),
        ({"x": X, "y": Y, "x_unpaired": Y}, r"x_unpaired is float64 of shape \(4, 2\); give .* \(rows, 3\)"),
        ({"x": X, "y": Y, "x_test": X}, "x_test has 4 rows and y_test 0"),
    ):
        with pytest.raises(ValueError, match=message):
            pairs_of({name: np.asarray(a) for name, a in arrays.items()})
