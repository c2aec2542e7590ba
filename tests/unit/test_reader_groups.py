import numpy as np

from ich_ray.annotations import Read
from ich_ray.statistics.reader_groups import reader_groups

KEYS = ["a", "b", "c", "d"]
LABELS = np.array([True, True, False, False])


def reads(
    votes: dict[str, str], *, categories: dict[str, str] | None = None
) -> dict[str, list[Read]]:
    return {
        exam: [
            Read(
                exam=exam,
                reader=f"R{i}",
                category=(categories or {}).get(exam, ""),
                findings={"ICH": vote == "1", "Fracture": False},
            )
            for i, vote in enumerate(said)
        ]
        for exam, said in votes.items()
    }


def test_the_word_of_any_and_of_every_reader_are_truths_of_their_own() -> None:
    groups = reader_groups(reads({"a": "111", "b": "110", "c": "100", "d": "000"}), KEYS, LABELS)
    labels = {g.name: g.labels.tolist() for g in groups}
    assert labels["any reader"] == [True, True, True, False]
    assert labels["every reader"] == [True, False, False, False]
    assert {g.kind for g in groups} == {"truth"}


def test_exams_that_nobody_read_are_in_no_group() -> None:
    groups = reader_groups(reads({"a": "11", "c": "00"}), KEYS, LABELS)
    assert all(g.members.tolist() == [True, False, True, False] for g in groups)


def test_categories_part_the_exams_where_there_are_several() -> None:
    votes = {"a": "11", "b": "11", "c": "00", "d": "00"}
    one = reader_groups(reads(votes, categories=dict.fromkeys(KEYS, "B1")), KEYS, LABELS)
    assert "category" not in {g.kind for g in one}
    split = {"a": "B1", "b": "B2", "c": "B1", "d": "B2"}
    two = [g for g in reader_groups(reads(votes, categories=split), KEYS, LABELS)]
    assert {g.name: g.members.tolist() for g in two if g.kind == "category"} == {
        "B1": [True, False, True, False],
        "B2": [False, True, False, True],
    }
    assert all(g.labels.tolist() == LABELS.tolist() for g in two if g.kind == "category")


def test_reads_without_a_word_of_hemorrhage_make_no_group() -> None:
    fracture = Read(exam="a", reader="R1", category="B1", findings={"Fracture": True})
    assert reader_groups({"a": [fracture]}, KEYS, LABELS) == []
    assert reader_groups({}, KEYS, LABELS) == []
