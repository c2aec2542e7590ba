from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.sharing import Members, between, repeated, within


def members(*rows: tuple[str, str, str, str], corpus: str = "a", key: str = "k") -> Members:
    """Rows of (patient, exam, slice, image); the image `blank` is one."""
    columns = [np.array([row[i] for row in rows], "S32") for i in range(4)]
    return Members(
        corpus=corpus,
        key_fingerprint=key,
        patient=columns[0],
        exam=columns[1],
        slice=columns[2],
        image=columns[3],
        blank=columns[3] == b"blank",
    )


def found(*rows: tuple[str, str, str, str]) -> dict[tuple[str, str], int]:
    return {(f.oddity.value, f.exam): f.count for f in within(members(*rows))}


def test_different_slices_of_different_patients_share_nothing() -> None:
    rows = [("p", "e", "1", "x"), ("p", "e", "2", "y"), ("q", "f", "3", "z")]
    assert found(*rows) == {}
    other = members(("r", "g", "4", "w"), corpus="b")
    shared = between(members(*rows), other)
    assert not shared
    assert (shared.patients, shared.slices, shared.images) == (0, 0, 0)


def test_one_image_is_judged_by_whom_it_belongs_to() -> None:
    assert found(("p", "e", "1", "x"), ("p", "e", "2", "x")) == {("image_twice_in_exam", "e"): 2}
    assert found(("p", "e", "1", "x"), ("p", "f", "2", "x")) == {
        ("image_in_two_exams", "e"): 1,
        ("image_in_two_exams", "f"): 1,
    }
    assert found(("p", "e", "1", "x"), ("q", "f", "2", "x"), ("q", "f", "3", "x")) == {
        ("image_under_two_patients", "e"): 1,
        ("image_under_two_patients", "f"): 2,
    }


def test_a_copy_names_the_other_exam() -> None:
    copies = within(members(("p", "e", "1", "x"), ("q", "f", "2", "x")))
    assert {f.exam: f.detail for f in copies} == {"e": "also in exam f", "f": "also in exam e"}


def test_blank_images_are_no_copies() -> None:
    a = members(("p", "e", "1", "blank"), ("q", "f", "2", "blank"))
    assert within(a) == []
    assert between(a, members(("r", "g", "3", "blank"), corpus="b")).images == 0


def test_a_slice_in_two_rows_and_an_exam_of_two_patients_are_found() -> None:
    assert found(("p", "e", "1", "x"), ("p", "e", "1", "y")) == {("slice_twice", "e"): 2}
    assert found(("p", "e", "1", "x"), ("q", "e", "2", "y")) == {("exam_of_two_patients", "e"): 2}


def test_corpora_share_patients_slices_and_images_each_for_itself() -> None:
    a = members(("p", "e", "1", "x"), ("p", "e", "2", "y"), ("q", "f", "3", "z"))
    b = members(("p", "g", "4", "v"), ("r", "h", "3", "w"), ("s", "i", "5", "x"), corpus="b")
    shared = between(a, b)
    assert (shared.patients, shared.slices, shared.images) == (1, 1, 1)
    assert [(pair.a_exam, pair.b_exam, pair.images) for pair in shared.exams] == [("e", "i", 1)]


def test_pseudonyms_of_different_keys_are_not_compared() -> None:
    a = members(("p", "e", "1", "x"), key="one")
    shared = between(a, members(("p", "e", "1", "x"), corpus="b", key="two"))
    assert (shared.patients, shared.slices, shared.images) == (None, None, 1)
    assert shared


rows_of_a_corpus = st.lists(
    st.tuples(*(st.sampled_from(["u", "v", "w", "x"]) for _ in range(4))), min_size=1, max_size=12
)


@given(rows_of_a_corpus, rows_of_a_corpus)
def test_what_is_shared_agrees_with_sets(left: list[Any], right: list[Any]) -> None:
    shared = between(members(*left), members(*right, corpus="b"))
    for place, count in ((0, shared.patients), (2, shared.slices), (3, shared.images)):
        assert count == len({row[place] for row in left} & {row[place] for row in right})
    turned = between(members(*right), members(*left, corpus="b"))
    assert (turned.patients, turned.slices, turned.images) == (
        *(shared.patients, shared.slices, shared.images),
    )


@given(st.lists(st.sampled_from("abcdef"), max_size=20))
def test_repeated_keys_agree_with_counting(keys: list[str]) -> None:
    groups = [rows.tolist() for rows in repeated(np.array(keys, "S1"))]
    counted = {key: count for key, count in Counter(keys).items() if count > 1}
    assert {keys[rows[0]]: len(rows) for rows in groups} == counted
    assert all(len({keys[row] for row in rows}) == 1 for rows in groups)
