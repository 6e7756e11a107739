"""Hints and pseudo objects: discs and bars of known pixels, and the table of the docs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scenes import disc

from oce2stardist.annotations.hints import Box, Hints, Stroke
from oce2stardist.annotations.shapes import ObjectVerdict
from oce2stardist.errors import InputError
from oce2stardist.pseudo_labels.files import PseudoLabels
from oce2stardist.training_labels import hints as module
from oce2stardist.training_labels.alpha import choose_alpha
from oce2stardist.training_labels.draw_cells import CellDraw, draw_held_back
from oce2stardist.training_labels.hints import follow_hints, summarise
from oce2stardist.training_labels.make import make_training_labels, object_weights

SHAPE = (60, 120)
CENTRES = [(15, 15), (15, 45), (15, 75), (15, 105), (45, 15), (45, 45)]
RADIUS = 7
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "merge.md").read_text(encoding="utf-8")


def discs(*extra):
    """Six discs, 1 to 6, and more objects, given as masks."""
    labels = np.zeros(SHAPE, np.int32)
    for number, centre in enumerate(CENTRES, start=1):
        labels[disc(SHAPE, centre, RADIUS)] = number
    for number, mask in enumerate(extra, start=len(CENTRES) + 1):
        labels[mask] = number
    return labels


def click(y, x, role="cell"):
    return Stroke(np.array([[y, x]]), role, f"the {role} at {y}, {x}")


def stroke(*pixels, role="cell"):
    return Stroke(np.array(pixels), role, "the stroke")


def row_of(y, first, last, role="cell"):
    return stroke(*((y, x) for x in range(first, last + 1)), role=role)


def merge(labels, *strokes, boxes=(), annotations=None, pseudo=None, held_back=None, **verdicts):
    """Training labels of one image; verdicts are v3="right" for object 3."""
    said = {int(name[1:]): ObjectVerdict(word) for name, word in verdicts.items()}
    hints = {"a": Hints(strokes, [Box(np.s_[box], "the box") for box in boxes], said)}
    hinted = follow_hints({"a": labels}, hints)
    annotations = {} if annotations is None else {"a": annotations}
    given = PseudoLabels({"a": labels}, {}).replaced({"a": hinted["a"].labels})
    cells = CellDraw().draw(annotations, seed=0, may_be_none=True)
    return make_training_labels(
        annotations,
        given if pseudo is None else PseudoLabels({"a": pseudo}, {}),
        cells,
        held_back=held_back or {},
        complete=False,
        background_distance=10.0,
        overlap=0.0,
        hinted=hinted,
    )


def sources(merged):
    return dict(zip(merged.objects["pseudo_id"], merged.objects["source"], strict=True))


def is_one_cell(merged, mask, source):
    """Whether both halves have exactly this cell, of this source and at full weight."""
    (number,) = np.unique(merged.sparse["a"][mask])
    (row,) = merged.objects[merged.objects["id"] == number].to_dict("records")
    return (
        number > 0
        and np.array_equal(merged.sparse["a"] == number, mask)
        and np.array_equal(merged.pseudo["a"] == number, mask)
        and row["source"] == source
        and object_weights(merged, "a")[number] == 1
    )


# The table


def table_of_docs():
    section = DOCS.split("## Points, boxes and verdicts\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def table_of_docstring():
    lines = module.__doc__.splitlines()
    first, middle, last = [i for i, line in enumerate(lines) if re.fullmatch("=+ +.*=", line)][:3]
    starts = [match.start() for match in re.finditer("=+", lines[first])]
    rows: list[list[str]] = []
    for line in lines[middle + 1 : last]:
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[1]:
            rows.append(cells)
        else:  # a line that goes on
            rows[-1] = [
                f"{above} {below}".strip() for above, below in zip(rows[-1], cells, strict=True)
            ]
    return rows


def test_docstring_and_docs_print_the_same_table_of_hints():
    assert table_of_docs() == table_of_docstring()


BAR = np.zeros(SHAPE, bool)
BAR[40:50, 60:116] = True  # longer than three reaches
ONE = disc(SHAPE, CENTRES[1], RADIUS)
HALVES = [ONE & (np.arange(SHAPE[1]) < 45), ONE & (np.arange(SHAPE[1]) > 46)]


# Confirmed, split, joined


@pytest.mark.parametrize("how", ["point", "stroke", "right", "box"])
def test_a_hint_in_an_object_confirms_it_as_it_is(how):
    hints = {
        "point": {"strokes": [click(20, 43)]},
        "stroke": {"strokes": [row_of(15, 40, 50)]},
        "right": {"v2": "right"},
        "box": {"boxes": [np.s_[8:23, 38:53]]},
    }[how]
    merged = merge(discs(), *hints.pop("strokes", ()), **hints)
    assert is_one_cell(merged, ONE, "confirmed")
    assert sources(merged)[2] == "confirmed" and sources(merged)[3] == "pseudo"
    assert merged.sparse["a"][15, 53] == 0  # near it, and background in the pseudo labels
    assert merged.sparse["a"][15, 75] == -1  # another pseudo object
    assert merged.sparse["a"].max() == merged.sparse["a"][15, 45]


def test_marks_part_an_object_at_its_neck():
    large, small = disc(SHAPE, (42, 75), 12), disc(SHAPE, (42, 94), 8)
    merged = merge(discs(large | small), click(40, 71), click(44, 97))
    cells = merged.sparse["a"]
    for mask, (y, x) in ((large & ~small, (40, 71)), (small & ~large, (44, 97))):
        cell = cells == cells[y, x]
        assert (cell & mask).sum() / (cell | mask).sum() > 0.93
    assert merged.objects["source"].value_counts()["split"] == 2
    assert ((cells > 0) == (large | small)).all()


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_clicks_that_touch_are_one_and_others_part_an_object(apart):
    merged = merge(discs(), click(15, 45), click(15, 45 + apart))
    assert list(merged.objects["source"]).count("split") == (0 if apart == 1 else 2)


def test_strokes_that_cross_are_one_cell():
    down = stroke(*((y, 45) for y in range(10, 20)))
    assert is_one_cell(merge(discs(), row_of(15, 40, 50), down), ONE, "confirmed")


def test_a_stroke_over_several_objects_joins_them_and_fills_the_gap():
    labels = discs()
    labels[ONE] = 0
    for number, half in enumerate(HALVES, start=7):
        labels[half] = number
    assert (labels[15, 45:47] == 0).all()
    merged = merge(labels, row_of(15, 40, 51))
    cell = merged.sparse["a"] > 0
    assert is_one_cell(merged, cell, "joined")
    # nothing but the tips of the disc, in the gap, lies outside of the hull of its halves
    assert not (cell & ~ONE).any() and (ONE & ~cell).sum() <= 4
    assert sources(merged)[7] == "joined" and 8 not in sources(merged)


def test_a_stroke_that_slips_into_another_object_does_not_join_it():
    labels = discs(disc(SHAPE, (15, 60), 6))
    merged = merge(labels, row_of(15, 40, 54))  # 13 pixels in one, 1 in the other
    assert is_one_cell(merged, ONE, "confirmed") and sources(merged)[7] == "pseudo"


# Removed, unknown, missed


@pytest.mark.parametrize("how", ["point", "verdict"])
def test_a_removed_object_is_known_background(how):
    merged = (
        merge(discs(), click(15, 45, "background"))
        if how == "point"
        else merge(discs(), v2="background")
    )
    assert (merged.sparse["a"][ONE] == 0).all() and (merged.pseudo["a"][ONE] == 0).all()
    assert 2 not in sources(merged)


def test_a_background_mark_speaks_for_a_reach_and_a_verdict_for_all_of_an_object():
    merged = merge(discs(BAR), click(45, 61, "background"))
    reach = np.sqrt(
        4 * disc(SHAPE, CENTRES[0], RADIUS).sum() / np.pi
    )  # the median object is a disc
    near = BAR & disc(SHAPE, (45, 61), reach)
    for half in (merged.sparse["a"], merged.pseudo["a"]):
        assert (half[near] == 0).all() and (half[BAR & ~near] == -1).all()
    merged = merge(discs(BAR), v7="background")
    assert (merged.sparse["a"][BAR] == 0).all()


@pytest.mark.parametrize("how", ["verdict", "mark"])
def test_an_object_that_is_wrong_or_ignored_is_unknown(how):
    hints = [click(15, 45, "unknown")] if how == "mark" else []
    merged = merge(discs(), *hints, **({"v2": "wrong"} if how == "verdict" else {}))
    assert merged.sparse == {}  # nothing is known
    assert ((merged.pseudo["a"] == -1) == ONE).all()
    assert set(sources(merged)) == {1, 3, 4, 5, 6}


def test_a_mark_in_no_object_makes_background_around_it_unknown():
    merged = merge(discs(), click(45, 75), click(15, 45))
    reach = np.sqrt(4 * disc(SHAPE, CENTRES[0], RADIUS).sum() / np.pi)
    near = disc(SHAPE, (45, 75), reach)
    pseudo = merged.pseudo["a"]
    assert (pseudo[near] == -1).all() and ((pseudo == -1) == near).all()
    assert (merged.sparse["a"][near] == -1).all()
    assert is_one_cell(merged, ONE, "confirmed")


def test_a_mark_on_a_wrong_object_is_a_cell_without_outline():
    merged = merge(discs(), click(15, 45), v2="wrong")
    assert (merged.pseudo["a"][ONE] == -1).all() and (merged.pseudo["a"][15, 53:57] == -1).all()


def test_a_stroke_that_lies_mostly_in_no_object_confirms_none():
    merged = merge(discs(), row_of(15, 50, 60))  # 3 of 11 pixels on the disc
    assert sources(merged)[2] == "pseudo" and merged.pseudo["a"][15, 56] == -1


@pytest.mark.parametrize(
    "box", [np.s_[5:36, 35:67], np.s_[13:18, 43:48]], ids=["too large", "too small"]
)
def test_a_box_that_nothing_fits_makes_unknown_what_it_holds_or_what_fills_it(box):
    merged = merge(discs(), boxes=[box])
    expected = np.zeros(SHAPE, bool)
    expected[box] = True
    assert ((merged.pseudo["a"] == -1) == (expected | ONE)).all()
    assert set(sources(merged)) == {1, 3, 4, 5, 6}


def test_what_a_background_mark_covers_is_background_in_objects_that_it_only_brushes():
    merged = merge(discs(), row_of(15, 52, 60, "background"))
    assert (merged.sparse["a"][15, 53:61] == 0).all()


# Beside outlines


def outline(mask, number=50):
    return np.where(mask, number, -1).astype(np.int32)


def test_an_outline_that_holds_the_mark_is_the_cell():
    hand = disc(SHAPE, (15, 43), 5)
    merged = merge(discs(), click(15, 43), annotations=outline(hand))
    assert sources(merged)[-1] == "manual" and "confirmed" not in set(sources(merged).values())
    assert (merged.sparse["a"][ONE & ~hand] == -1).all()


def test_a_confirmed_cell_beside_an_outline_loses_what_is_outlined():
    hand = ONE & (np.arange(SHAPE[1]) < 43)
    merged = merge(discs(), click(15, 47), annotations=outline(hand))
    assert is_one_cell(merged, ONE & ~hand, "confirmed")
    assert (merged.sparse["a"][hand] == 50).all()


def test_ids_of_confirmed_cells_are_those_of_no_outline_and_no_other_object():
    hand = disc(SHAPE, (45, 90), 6)
    merged = merge(discs(), click(15, 45), click(15, 75), annotations=outline(hand, 2))
    assert merged.objects["id"].is_unique and (merged.sparse["a"][hand] == 2).all()
    assert list(merged.objects["source"]).count("confirmed") == 2


def test_confirmed_cells_train_and_judge_nothing():
    hand = np.maximum(
        outline(disc(SHAPE, CENTRES[0], 6), 50), outline(disc(SHAPE, CENTRES[4], 6), 51)
    )
    held_back = draw_held_back({"a": [50, 51]}, share=0.5, seed=0)
    merged = merge(discs(), click(15, 45), annotations=hand, held_back=held_back)
    assert is_one_cell(merged, ONE, "confirmed")
    assert (merged.known["a"][ONE] == -1).all()
    assert set(np.unique(merged.known["a"])) == {-1, 0, 50, 51}
    assert set(merged.cells["label"]) == {50, 51}
    alone = merge(discs(), click(15, 45))
    assert alone.cells.empty
    alpha = choose_alpha("auto", {"a": discs()}, alone.known, trusted=True, seed=0)
    assert alpha.value == 0.5 and alpha.reason.startswith("no annotated cell to judge")


def test_other_pseudo_labels_give_way_to_what_hints_said_of_those_of_the_run():
    others = discs() * (discs() != 3)  # of another witness, which lacks the third
    merged = merge(discs(), click(15, 45), v1="background", v3="wrong", pseudo=others)
    assert is_one_cell(merged, ONE, "confirmed")
    assert (merged.pseudo["a"][disc(SHAPE, CENTRES[0], RADIUS)] == 0).all()
    assert (merged.pseudo["a"][disc(SHAPE, CENTRES[2], RADIUS)] == -1).all()


def test_images_without_hints_stay_as_they_are():
    labels = {"a": discs(), "b": discs()}
    hinted = follow_hints(labels, {"a": Hints([click(15, 45)])})
    assert list(hinted) == ["a"]
    merged = make_training_labels(
        {}, PseudoLabels(labels, {}), {}, held_back={}, complete=False,
        background_distance=10.0, overlap=0.0, hinted=hinted,
    )  # fmt: skip
    assert list(merged.sparse) == ["a"]
    np.testing.assert_array_equal(merged.pseudo["b"], discs())


def test_turning_the_image_turns_the_result():
    labels = discs(disc(SHAPE, (42, 75), 12) | disc(SHAPE, (42, 94), 8))
    marks = [(40, 71), (44, 97), (15, 45), (45, 60)]
    merged = merge(labels, *(click(y, x) for y, x in marks))
    last = SHAPE[0] - 1
    flipped = merge(labels[::-1], *(click(last - y, x) for y, x in marks))
    for half in ("sparse", "pseudo"):
        one, other = getattr(merged, half)["a"], getattr(flipped, half)["a"][::-1]
        assert (np.sign(one) == np.sign(other)).mean() > 0.999
        pairs = pd.DataFrame({"one": one.ravel(), "other": other.ravel()})
        assert pairs.groupby("one")["other"].agg(lambda x: (x == x.mode()[0]).mean()).min() > 0.9


# What is said of it


def test_the_summary_counts_cells_and_objects():
    labels = discs(disc(SHAPE, (42, 75), 12) | disc(SHAPE, (42, 94), 8))
    strokes = [
        click(15, 45),
        click(40, 71),
        click(44, 97),
        click(45, 60),
        click(15, 75, "background"),
    ]
    hints = {"a": Hints(strokes, [], {4: ObjectVerdict("wrong"), 1: ObjectVerdict("right")})}
    assert summarise(follow_hints({"a": labels}, hints).values()) == (
        "points and verdicts confirm 2 pseudo objects, split some into 2 cells, join some into 0 "
        "cells, remove 1, leave 1 unknown; 1 cell has no outline"
    )


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"strokes": [click(15, 43), click(15, 47, "background")]},
         "object 2 of a must agree. Got the cell at 15, 43 and the background at 15, 47; remove"),
        ({"strokes": [click(15, 43)], "v2": "background"}, "background on object 2 and the"),
        ({"strokes": [click(15, 43), click(15, 47)], "v2": "right"}, "the verdict right on object"),
        ({"boxes": [np.s_[8:23, 38:53], np.s_[9:23, 38:53]]}, "Got the box and the box; remove"),
        ({"v9": "right"}, "on objects of the pseudo labels. Got 9 in a, which has no such"),
    ],
    ids=["point and point", "point and verdict", "right and two points", "two boxes", "no object"],
)  # fmt: skip
def test_hints_that_contradict_each_other_are_refused_in_one_line(hints, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        merge(discs(), *hints.pop("strokes", ()), **hints)
    assert "\n" not in str(caught.value)


def test_a_verdict_on_an_object_that_lies_elsewhere_by_now_is_refused():
    told = Hints(
        verdicts={2: ObjectVerdict("right", (15.3, 45.4)), 3: ObjectVerdict("right", (15.0, 45.0))}
    )
    with pytest.raises(
        InputError, match=r"Got object 3 of a at y 15, x 45, which lies at y 15.0, x 75"
    ):
        follow_hints({"a": discs()}, {"a": told})


def test_hints_where_there_are_no_pseudo_labels_are_refused():
    with pytest.raises(InputError, match="Got some of b, which has none; pass --pseudo"):
        follow_hints({"a": discs()}, {"b": Hints([click(1, 1)])})
