"""One slice of each exam of a report's gallery as pictures, kept for pages that show some again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ich_ray.reporting.contents import GallerySlice, Report
from ich_ray.reporting.gallery import crop, crop_mask, overlay, png, square_around_head
from ich_ray.reporting.html import data_uri
from ich_ray.reporting.scrolled_exam import Overlap, overlap


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedStill:
    """What a model marks on the slice."""

    title: str
    """Of the model."""

    picture: str
    """Data URI: the slice with the reference and these pixels over it."""

    overlap: Overlap
    p: float | None
    """Probability of the slice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Still:
    """A slice, cut to the head."""

    exam: str
    slice: str
    caption: str
    """Why the exam is shown."""

    reference: int
    """Pixels."""

    plain: str
    """Data URI: the slice, nothing drawn on it."""

    marked: Mapping[str, MarkedStill]
    """By model."""


def still(report: Report, shown: GallerySlice) -> Still:
    """Draw a slice of the gallery."""
    box = square_around_head(shown.image, shown.reference, *shown.predictions.values())
    image, reference = crop(shown.image, box), crop_mask(shown.reference, box)
    return Still(
        exam=shown.exam,
        slice=shown.slice,
        caption=shown.caption,
        reference=int(shown.reference.sum()),
        plain=data_uri(png(image), "image/png"),
        marked={
            name: MarkedStill(
                title=report.title_of(name),
                picture=data_uri(
                    png(overlay(image, reference, crop_mask(prediction, box))), "image/png"
                ),
                overlap=overlap(prediction, shown.reference),
                p=shown.p.get(name),
            )
            for name, prediction in shown.predictions.items()
        },
    )


def stills_to_json(stills: Sequence[Still]) -> bytes:
    """Return what `stills_of_json` reads."""
    return json.dumps([asdict(one) for one in stills], sort_keys=True).encode()


def stills_of_json(content: bytes) -> tuple[Still, ...]:
    """Read what `stills_to_json` wrote."""
    return tuple(
        Still(**{**one, "marked": {name: _marked(of) for name, of in one["marked"].items()}})
        for one in json.loads(content)
    )


def _marked(record: Mapping[str, Any]) -> MarkedStill:
    return MarkedStill(**{**record, "overlap": Overlap(**record["overlap"])})
