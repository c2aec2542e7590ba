"""The masks of all exams, model by model: lesions found, surfaces apart, volumes compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.masks.agreement import VolumeAgreement, volume_agreement
from ich_ray.statistics.masks.exam_masks import ExamMasks
from ich_ray.statistics.masks.froc import pooled
from ich_ray.statistics.masks.lesion_detection import (
    LesionDetection,
    lesion_detection,
    resampled_detections,
)
from ich_ray.statistics.masks.surfaces import SurfaceDistances, surface_distances
from ich_ray.statistics.pooled_exams import ComparedExams, Found

RESAMPLES = 1_000
AT_ONCE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskFigures:
    """One entry a model; all empty where no exam has a reference mask."""

    lesions: tuple[LesionDetection, ...] = ()
    surfaces: tuple[SurfaceDistances, ...] = ()
    volumes: tuple[VolumeAgreement, ...] = ()


def mask_figures(
    found: Mapping[str, Found], seen: ComparedExams, *, seed: int, resamples: int = RESAMPLES
) -> MaskFigures:
    """Return what the masks of each model say.

    Args:
        found: Model -> exam -> statistics.
        seen: The exams; those without reference masks are left out.
        seed: Of the resamples of patients, bleeding ones and others apart.
        resamples: How many.
    """
    first = next(iter(found.values()))
    held = [i for i, key in enumerate(seen.keys) if first[key].masks is not None]
    if not held:
        return MaskFigures()
    patients, patient = np.unique(seen.exams.patient[held], return_inverse=True)
    patient = patient.astype(np.int64)
    strata = seen.exams.strata[patients]
    # In 16 bits, some at a time: a thousand resamples of 25,000 patients are 50 MB.
    weights = np.concatenate(
        [
            resample_weights(
                seed=seed, resamples=some, num_clusters=len(patients), strata=strata
            ).astype(np.uint16)
            for some in (
                range(start, min(start + AT_ONCE, resamples))
                for start in range(0, resamples, AT_ONCE)
            )
        ]
    )
    lesions, surfaces, volumes = [], [], []
    for name, of in found.items():
        masks = [_masks(of[seen.keys[i]].masks) for i in held]
        pool = pooled([one.lesions for one in masks], patient)
        samples = resampled_detections(pool, seed=seed, resamples=range(resamples), strata=strata)
        lesions.append(lesion_detection(name, pool, samples))
        surfaces.append(surface_distances(name, [one.surfaces for one in masks], patient, weights))
        volumes.append(
            volume_agreement(
                name,
                np.array([one.predicted_ml for one in masks], np.float64),
                np.array([one.reference_ml for one in masks], np.float64),
                patient,
            )
        )
    return MaskFigures(lesions=tuple(lesions), surfaces=tuple(surfaces), volumes=tuple(volumes))


def _masks(masks: ExamMasks | None) -> ExamMasks:
    assert masks is not None, "an exam has reference masks for all models, or for none"
    return masks
