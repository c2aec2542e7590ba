"""What a report says of recipes that were trained several times."""

from ich_ray.reporting.contents import NamedDifference, negated
from ich_ray.statistics.seeds.pooled import OverTrainings

FEW_TRAININGS = 3
"""Of a recipe; the least where a claim is made."""


def pooled_difference(over: OverTrainings | None) -> NamedDifference | None:
    """Return the headline's comparison over all trainings; None of one training, or one recipe."""
    if over is None or over.num_trainings < 2 or over.main is None:
        return None
    a, b = over.main
    found = {
        str(one.metric): one.joined if one.a == a else negated(one.joined)
        for one in over.differences
        if {one.a, one.b} == {a, b}
    }
    return NamedDifference(a=a, b=b, **found)


def of_trainings(over: OverTrainings | None) -> list[str]:
    """Return what a reader is to know of so few trainings."""
    if over is None or over.num_trainings >= FEW_TRAININGS:
        return []
    if over.num_trainings == 1:
        return [
            "Each recipe was trained once, so that nothing is known of what another training would "
            "give: the figures over trainings speak of other patients alone."
        ]
    return [
        "Each recipe was trained twice: how much trainings vary is known so badly that only a very "
        "large difference can be told. Train at least three."
    ]
