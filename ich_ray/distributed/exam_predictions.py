"""What a network says of the slices of one exam, as rows of a predictions table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ich_ray.config import InputConfig
from ich_ray.distributed.inputs import channels_of
from ich_ray.exam import Slice
from ich_ray.storage.predictions import MAP_KIND, encode_map

if TYPE_CHECKING:
    from ich_ray.learning.predictor import Predictor


def exam_predictions(
    exam: Sequence[Slice], predictor: "Predictor", config: InputConfig, *, batch: int
) -> list[dict[str, Any]]:
    """Predict the slices of an exam, `batch` of them at a time; one row a slice, in their order."""
    inputs = channels_of(exam, config)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(exam), batch):
        p, maps = predictor.predict(inputs[start : start + batch])
        for item, score, logits in zip(exam[start:], p, maps, strict=False):
            rows.append(
                {
                    "exam": item.exam,
                    "slice": item.key,
                    "p": float(score),
                    "map": encode_map(logits),
                    "map_kind": MAP_KIND,
                    "map_rows": logits.shape[0],
                    "map_columns": logits.shape[1],
                    "rows": item.stored.shape[0],
                    "columns": item.stored.shape[1],
                }
            )
    return rows
