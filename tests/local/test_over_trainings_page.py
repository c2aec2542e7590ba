"""What a reader is shown of recipes that were trained several times."""

import json
from dataclasses import replace

import jsonschema
import pytest

from ich_ray.reporting.headline import cautions, headline, main_difference
from ich_ray.reporting.page import signed, to_html
from ich_ray.reporting.record import schema_json, to_json
from ich_ray.statistics.seeds.pooled import OverTrainings
from tests.local.empty_report import EMPTY
from tests.unit.test_over_trainings import corpus, pooled


def over(seeds: int) -> OverTrainings:
    return pooled(corpus(), seeds=seeds)[0]


def test_the_headline_is_of_all_trainings_and_not_of_single_ones() -> None:
    report = replace(EMPTY, over_trainings=over(3))
    main = main_difference(report)
    assert main is not None
    assert (main.a, main.b) == ("ours", "baseline")
    assert headline(report).startswith("ours is ")
    assert "Teacher (baseline)" in headline(report)
    told = next(one for one in over(3).differences if one.metric == "dsc")
    assert main.dsc == told.joined


@pytest.mark.parametrize(("seeds", "caution"), [(1, "trained once"), (2, "trained twice")])
def test_so_few_trainings_are_cautioned_of(seeds: int, caution: str) -> None:
    (sentence,) = cautions(replace(EMPTY, over_trainings=over(seeds)))
    assert caution in sentence
    assert not cautions(replace(EMPTY, over_trainings=over(3)))


def test_means_on_few_bleeding_patients_are_cautioned_of() -> None:
    report = replace(EMPTY, over_trainings=over(3), marked_patients=40)
    (sentence,) = cautions(report)
    assert "40, are fewer than 50" in sentence
    assert "93 to 96" in sentence
    assert not cautions(replace(report, marked_patients=50))


def test_one_training_makes_no_claim_over_trainings() -> None:
    report = replace(EMPTY, over_trainings=over(1))
    assert main_difference(report) is None
    assert "What another training would is not known" in to_html(report)


def test_the_page_gives_every_recipe_pair_and_kind_of_interval() -> None:
    found = over(3)
    html = to_html(replace(EMPTY, over_trainings=found))
    assert "ours-0, ours-1, ours-2" in html
    for one in found.differences:
        assert signed(one.joined.estimate) in html
    assert 'class="over_trainings"' in html
    assert "Over trainings" not in to_html(EMPTY)


def test_the_record_keeps_to_the_schema() -> None:
    record = json.loads(to_json(replace(EMPTY, over_trainings=over(2))))
    jsonschema.validate(record, json.loads(schema_json()))
    assert record["over_trainings"]["metrics"][0]["components"]["cov1"] is not None
    once = json.loads(to_json(replace(EMPTY, over_trainings=over(1))))
    assert once["over_trainings"]["differences"][0]["freedom"] is None
