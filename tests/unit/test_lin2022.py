"""What the paper printed agrees with itself, but for what is listed as a contradiction."""

from ich_ray.config_experiment import VARIANTS
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.statistics.paper import lin2022
from ich_ray.statistics.paper.lin2022 import TABLE_1, TABLE_2, TABLE_3, TABLE_4, Printed

TABLES = [TABLE_1, TABLE_2, TABLE_3, *TABLE_4]


def figures() -> list[Printed]:
    return [value for table in TABLES for row in table.values() for value in row.values()]


def test_every_figure_of_the_tables_is_here() -> None:
    assert len(figures()) == (4 * 3 + 1) + 4 * 2 + 2 * 2 + 3 * 4
    assert sum(len(row) for row in lin2022.SUPPLEMENT_TABLE_1.values()) == 4 * 2


def test_only_one_printed_figure_lies_outside_its_brackets() -> None:
    outside = [
        value
        for value in figures()
        if value.low is not None and value.high is not None
        if not value.low <= value.value <= value.high
    ]
    assert outside == [Printed(0.828, 0.817, 0.82)]
    assert any("[0.817, 0.82] in table 4" in said for said in lin2022.CONTRADICTIONS)


def test_the_first_segmentation_is_that_of_table_1() -> None:
    for model, row in TABLE_4[0].items():
        for metric, value in row.items():
            assert value.value == TABLE_1[model][metric].value
            assert value.low == TABLE_1[model][metric].low


def test_models_and_subtypes_have_our_names() -> None:
    for table in (TABLE_1, TABLE_3, *TABLE_4):
        assert set(table) - {"qure_ai"} <= set(VARIANTS)
    assert set(lin2022.SUPPLEMENT_TABLE_1) == set(HEMORRHAGE_TYPES) - {"intraventricular"}


def test_the_student_is_above_the_teacher_in_every_figure_of_the_test_corpus() -> None:
    for table in (TABLE_1, *TABLE_4):
        for metric, value in table["semi_supervised"].items():
            assert value.value > table["baseline"][metric].value
    for row in lin2022.SUPPLEMENT_TABLE_1.values():
        assert row["semi_supervised"].value > row["baseline"].value
    assert lin2022.SPECIFICITY["semi_supervised"] > lin2022.SPECIFICITY["baseline"]
