"""The command ``mmcl audit``: from files to a page and two tables."""

import csv
import re

import nbformat
import numpy as np
import pytest

from mmcl.notebook.files import attach, files_of
from mmcl.reports import audit
from mmcl.reports.__main__ import main


def test_files_travel_in_the_output_of_a_notebook(monkeypatch):
    shown = []
    monkeypatch.setattr("mmcl.notebook.files.display", lambda data, raw: shown.append(data))
    attach("suspects.csv", "id\na\nb\n")
    output = nbformat.v4.new_output("display_data", data=shown[0])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    assert files_of(notebook) == {"suspects.csv": "id\na\nb\n"}
    assert shown[0]["text/plain"] == "suspects.csv: 2 rows"
    for name in ("../x.csv", "", ".hidden"):
        with pytest.raises(ValueError, match="no plain file name"):
            attach(name, "")


def test_mistakes_end_in_one_sentence_before_anything_runs(tmp_path, capsys):
    assert main(["audit", str(tmp_path / "nothing.npz"), "-o", str(tmp_path / "out")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "f.npz").write_bytes(b"")
    assert main(["audit", str(tmp_path / "f.npz"), "-p", "fdrr=0.1", "-o", str(tmp_path / "out")]) == 2
    assert "did you mean fdr?" in capsys.readouterr().err


@pytest.mark.kernel
def test_two_tables_become_a_page_and_the_pairs_in_order_of_suspicion(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(150, 3))
    x = z @ rng.normal(size=(3, 6)) + 0.3 * rng.normal(size=(150, 6))
    y = z @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(150, 5))
    y[:30] = np.roll(y[:30], 1, 0)
    names = [f"img_{i}" for i in range(150)]
    more = dict(x_unpaired=x[100:], y_unpaired=y[100:], x_test=x[60:], y_test=y[60:])
    np.savez("f.npz", x=x, y=y, ids=names, **more)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("stays")
    assert main(["audit", "f.npz", "-o", "out", "-p", "n_components=3", "-p", "permutations=20"]) == 0
    short, *written = capsys.readouterr().out.splitlines()
    assert re.match(r"In short. 150 pairs, related in \d dimensions?. About [\d.]+% of them are wrong", short)
    assert written == ["out/report.html", "out/suspects.csv", "out/recovered.csv"]
    assert (tmp_path / "out" / "mine.txt").read_text() == "stays"
    rows = list(csv.DictReader((tmp_path / "out" / "suspects.csv").read_text().splitlines()))
    assert {row["id"] for row in rows} == set(names)
    assert np.mean([int(row["row"]) < 30 for row in rows[:20]]) > 0.8
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What to do next" in page
    assert page.index("In short") < page.index("What was given</h2>")
    assert "mmcl audit f.npz -p n_components=3 -p permutations=20 -o out" in page
    assert "python -m mmcl report" not in page
    assert audit.PAGE == "report.html"
    told = re.sub(r"<pre.*?</pre>", "", page, flags=re.S)
    about = told[: told.index("How this page was made</h2>")]
    assert "the pairs of <code>" in about
    assert "digits, each" not in about
    assert "nothing is claimed of them" in " ".join(about.split())
    assert "shown</" not in about  # nothing of a reader's own data is a statement of ours
