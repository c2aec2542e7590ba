"""Are the phantoms like real head CT, and hard for a plain threshold?

Real CT lies in the folder that the environment variable ICH_RAY_REAL_DATA names: RSNA 2019 slices
and one exam, a General Electric head, and CT-ICH 1.0.0 with its masks. All slices are averaged to
256 x 256 before they are compared. Prints a table, and last one line of JSON.

    python -m benchmarks.phantom_realism [exams per site]
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from scipy import ndimage

from ich_ray.phantom import SITES, make_exam

SIZE = 256
CT_ICH_PIXEL_MM = 230 / SIZE  # the JPEG files carry no spacing; a head is about 230 mm of field
CT_ICH_STEP_MM = 5.0
PERCENTILES = (5, 25, 50, 75, 95)
SEED = 20


@dataclass(kw_only=True)
class Findings:
    """What is measured on one source."""

    noise_hu: list[float] = field(default_factory=list)
    neighbours: list[float] = field(default_factory=list)
    brain: list[NDArray[Any]] = field(default_factory=list)
    bands: list[NDArray[Any]] = field(default_factory=list)
    area_mm2: list[float] = field(default_factory=list)
    volume_ml: list[float] = field(default_factory=list)
    lesion_hu: list[float] = field(default_factory=list)
    contrast_hu: list[float] = field(default_factory=list)


def largest_brain(hu: NDArray[Any], pixel_mm: float) -> NDArray[Any]:
    """The largest region of 0 to 80 HU, 5 mm from its border."""
    rounds = max(round(4 / pixel_mm), 1)
    found, _ = ndimage.label(ndimage.binary_opening((hu > 0) & (hu < 80), iterations=rounds))
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    largest, depth = found == sizes.argmax(), max(round(5 / pixel_mm), 1)
    return np.asarray(ndimage.binary_erosion(largest, iterations=depth))


def look(found: Findings, hu: NDArray[Any], pixel_mm: float, lesion: NDArray[Any] | None) -> None:
    """Measure one slice of 256 x 256."""
    brain = largest_brain(hu, pixel_mm)
    if brain.sum() * pixel_mm**2 > 3000 and (lesion is None or not lesion.any()):
        residual = hu - ndimage.gaussian_filter(hu, 2 / pixel_mm)
        inside = residual[brain]
        found.noise_hu.append(1.4826 * float(np.median(abs(inside - np.median(inside)))))
        together = residual * np.roll(residual, 1, axis=1)
        found.neighbours.append(float(together[brain].mean() / inside.var()))
        found.brain.append(np.percentile(hu[brain], (1, 10, 50, 90, 99)))
        edges = (-np.inf, 15, 30, 45, 60, np.inf)
        found.bands.append(np.histogram(hu[brain], edges)[0] / brain.sum())
    if lesion is not None and lesion.any():
        found.area_mm2.append(float(lesion.sum()) * pixel_mm**2)
        near = ndimage.binary_dilation(lesion, iterations=9) & (hu > 15) & (hu < 60)
        ring = near & ~ndimage.binary_dilation(lesion, iterations=4)
        if ring.sum() > 20:
            found.lesion_hu.append(float(np.median(hu[lesion])))
            found.contrast_hu.append(float(np.median(hu[lesion]) - np.median(hu[ring])))


def averaged(image: NDArray[Any]) -> NDArray[Any]:
    """Average a slice to 256 x 256."""
    box = Image.fromarray(image.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(box)


def real_dicom(folder: Path) -> Findings:
    """Measure DICOM slices without masks."""
    found = Findings()
    for path in sorted(folder.glob("*.dcm")):
        image = dcmread(path)
        stored = image.pixel_array
        if stored.shape[0] != stored.shape[1]:
            continue
        hu = stored * float(image.RescaleSlope) + float(image.RescaleIntercept)
        pixel_mm = float(image.PixelSpacing[0]) * stored.shape[0] / SIZE
        look(found, averaged(np.clip(hu, -1024, 3071)), pixel_mm, None)
    return found


def ct_ich(folder: Path) -> Findings:
    """Measure the JPEG slices of CT-ICH: [-20, 100] HU in 8 bits, and their masks."""
    found = Findings()
    for patient in sorted(folder.glob("Patients_CT/*/brain")):
        volume = 0.0
        for path in sorted(patient.glob("*_HGE_Seg.jpg")):
            mask = averaged(np.asarray(Image.open(path).convert("L"))) > 127
            plain = path.with_name(path.name.replace("_HGE_Seg", ""))
            if plain.exists():
                grey = averaged(np.asarray(Image.open(plain).convert("L")))
                look(found, grey * (120 / 255) - 20, CT_ICH_PIXEL_MM, mask)
            volume += float(mask.sum()) * CT_ICH_PIXEL_MM**2 * CT_ICH_STEP_MM / 1000
        if volume:
            found.volume_ml.append(volume)
        for path in sorted(patient.glob("1[0-9].jpg"))[::5]:
            if not path.with_name(f"{path.stem}_HGE_Seg.jpg").exists():
                grey = averaged(np.asarray(Image.open(path).convert("L")))
                look(found, grey * (120 / 255) - 20, CT_ICH_PIXEL_MM, None)
    return found


def phantoms(site: str, num_exams: int) -> tuple[Findings, dict[str, float]]:
    """Measure one site, and how well thresholds do on it."""
    found, rival = Findings(), Threshold()
    for index in range(num_exams):
        exam = make_exam(SITES[site], seed=SEED, index=index, matrix=SIZE)
        hu, pixel_mm = exam.hounsfield, exam.spacing_mm[0]
        for plane, mask in zip(hu, exam.mask, strict=True):
            look(found, plane, pixel_mm, mask > 0)
        voxel_ml = pixel_mm**2 * exam.thickness_mm / 1000
        if exam.mask.any():
            found.volume_ml.append(float((exam.mask > 0).sum()) * voxel_ml)
        rival.see(hu, exam.mask)
    return found, rival.best()


class Threshold:
    """The rival: pixels of [t, 100] HU are blood, as they are or averaged over 3 x 3."""

    CUTS = np.arange(36, 76)

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.labels: list[bool] = []
        self.counts: dict[str, list[NDArray[Any]]] = {"raw": [], "mean3": []}
        self.overlaps: dict[str, list[NDArray[Any]]] = {"raw": [], "mean3": []}

    def see(self, hu: NDArray[Any], mask: NDArray[Any]) -> None:
        """Count over one exam, for each cut."""
        self.labels.append(bool(mask.any()))
        bleeding = (mask > 0).any(axis=(1, 2))
        edges = np.append(self.CUTS, 100.001)
        smooth = ndimage.uniform_filter(hu, (0, 3, 3))
        for name, image in (("raw", hu), ("mean3", smooth)):
            self.counts[name].append(_above(image, edges))
            flagged = _above(image[bleeding], edges)
            hit = _above(image[mask > 0], edges)
            truth = np.full_like(hit, (mask > 0).sum())
            self.overlaps[name].append(np.stack([hit, flagged, truth]))

    def best(self) -> dict[str, float]:
        """The best DSC over positive slices and the best AUC over exams, each at its best cut."""
        result: dict[str, float] = {}
        for name in self.counts:
            hit, flagged, truth = np.sum(self.overlaps[name], axis=0)
            dsc = 2 * hit / (flagged + truth)
            areas = [_auc(cut, np.array(self.labels)) for cut in np.stack(self.counts[name], 1)]
            result[f"{name}_dsc"], result[f"{name}_auc"] = float(dsc.max()), float(max(areas))
            result[f"{name}_dsc_cut"] = float(self.CUTS[dsc.argmax()])
        return result


def _above(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[Any]:
    counts, _ = np.histogram(values, edges)
    return counts[::-1].cumsum()[::-1]


def _auc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(wins)


def summary(found: Findings) -> dict[str, list[float]]:
    """Percentiles over slices (noise, areas), exams (volumes); means of the rest."""

    def spread(values: list[float]) -> list[float]:
        return np.percentile(values, PERCENTILES).round(2).tolist() if values else []

    return {
        "noise_hu": spread(found.noise_hu),
        "neighbours": spread(found.neighbours),
        "brain_hu": np.median(found.brain, axis=0).round(1).tolist(),
        "bands": np.mean(found.bands, axis=0).round(3).tolist(),
        "area_mm2": spread(found.area_mm2),
        "volume_ml": spread(found.volume_ml),
        "lesion_hu": spread(found.lesion_hu),
        "contrast_hu": spread(found.contrast_hu),
    }


def sources(root: Path) -> Iterator[tuple[str, Callable[[], Findings]]]:
    """Name the real sources."""
    for name in ("rsna/stage_2_test", "rsna/stage_2_train", "ge-head-tilt"):
        yield name, partial(real_dicom, root / name)
    yield "ct-ich-v1", lambda: ct_ich(root / "ct-ich-v1")


def main() -> None:
    """Measure, print the table, print the JSON line."""
    num_exams = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    results: dict[str, dict[str, Any]] = {}
    root = os.environ.get("ICH_RAY_REAL_DATA")
    if root:
        results = {name: summary(measure()) for name, measure in sources(Path(root))}
    else:
        print("ICH_RAY_REAL_DATA is not set: no real CT to compare with")
    for site in SITES:
        found, rival = phantoms(site, num_exams)
        results[f"phantom {site}"] = summary(found) | {"threshold": rival}
    for name, result in results.items():
        print(name)
        for figure, value in result.items():
            print(f"  {figure:12} {value}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
