import re
from html.parser import HTMLParser

import pytest

from mmcl.reports.graph import MARKS, Row, graph, label
from mmcl.reports.statements import VERDICTS, Statement


def statement(id, number="Theorem 1", part="paper", chapter="01_a", rests_on=()):
    return Statement(id, number, part, "that $x < 1$ & more", "shown", chapter, "1", rests_on=tuple(rests_on))


@pytest.mark.parametrize(
    ("number", "part", "shown"),
    [
        ("Theorem 3.1, restated as 8.1", "paper", "Thm 3.1"),
        ("Eq. (2.1), (8.1)", "paper", "Eq (2.1)"),
        ("Eq. (7.1) to (7.3)", "paper", "Eq (7.1)"),
        ("Assumptions 4.1, 4.2", "paper", "Asm 4.1"),
        ("Proposition 2.1 with Lemma 2.1", "paper", "a name"),
        ("ours", "ours", "a name"),
    ],
)
def test_a_node_has_the_first_number_of_its_statement_or_the_words_of_its_id(number, part, shown):
    assert label(statement("ours-a-name" if part == "ours" else "a-name", number, part)) == shown


class Drawn(HTMLParser):
    def __init__(self, svg):
        super().__init__()
        self.tags = []
        self.feed(svg)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


ROWS = [
    Row(statement("a"), "shown", "01_a.html#a"),
    Row(statement("b", rests_on=["a"]), "differs", "01_a.html#b"),
    Row(statement("c", chapter="02_b", rests_on=["a", "b", "gone"]), "not reached", "02_b.html#c"),
    Row(statement("ours-d", "ours", "ours", "11_c", rests_on=["c"]), "shown in part", "11_c.html#ours-d"),
]
CHAPTERS = {"01_a": ("01 A", "01_a.html"), "02_b": ("02 B", "02_b.html"), "05_x": ("05 X", "05_x.html")}
CHAPTERS |= {"11_c": ("11 C <x>", "11_c.html")}


def test_each_statement_is_a_link_with_its_mark_and_each_chapter_that_has_one():
    svg = str(graph(ROWS, CHAPTERS))
    links = [a["href"] for a in Drawn(svg).of("a")]
    assert links == ["01_a.html", "02_b.html", "11_c.html", *[row.link for row in ROWS]]
    for row in ROWS:
        assert f">{MARKS[row.status]}</text>" in svg
    assert "x &lt; 1 &amp; more" in svg
    assert svg.count("Part I: the paper") == svg.count("Part II: beyond the paper") == 1


def test_a_line_joins_what_is_needed_to_what_needs_it_and_ends_at_the_nodes():
    drawn = Drawn(str(graph(ROWS, CHAPTERS)))
    assert [line["data-ends"] for line in drawn.of("path")] == ["a b", "a c", "b c", "c ours-d"]
    boxes = dict(zip((row.statement.id for row in ROWS), drawn.of("rect"), strict=True))
    for line in drawn.of("path"):
        ends = [boxes[id] for id in line["data-ends"].split()]
        x0, y0, *_, x1, y1 = map(float, re.findall(r"-?\d+", line["d"]))
        for box, x, y in zip(ends, (x0, x1), (y0, y1), strict=True):
            left, top, width, height = (float(box[k]) for k in ("x", "y", "width", "height"))
            assert min(abs(x - left), abs(x - left - width)) <= 1.5
            assert top <= y <= top + height


def test_no_two_nodes_overlap_and_all_are_within_the_drawing():
    many = [Row(statement(f"s{i}", chapter=f"{i % 12 + 1:02}_x"), "shown", "x") for i in range(60)]
    drawn = Drawn(str(graph(many, {f"{i:02}_x": (f"{i} a chapter", "x") for i in range(1, 13)})))
    boxes = [[float(box[k]) for k in ("x", "y", "width", "height")] for box in drawn.of("rect")]
    _, _, wide, high = map(float, drawn.of("svg")[0]["viewbox"].split())
    for i, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x
        assert x + w <= wide
        assert y + h <= high
        assert all(x + w <= a or a + c <= x or y + h <= b or b + d <= y for a, b, c, d in boxes[:i])


def test_every_verdict_has_a_mark_of_its_own():
    assert set(VERDICTS) <= set(MARKS)
    assert len(set(MARKS.values())) == len(MARKS)
