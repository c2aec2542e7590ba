"""Three synthetic hospitals: how each one's scanners and patients differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One hospital: scanner, protocol and population."""

    name: str
    """Key of the site in `SITES`."""

    manufacturer: str
    """Manufacturer (0008,0070), an invented name."""

    kernel: str
    """Convolution Kernel (0018,1210), an invented name."""

    noise_hu: float
    """Standard deviation of the noise in one pixel, HU."""

    noise_peak_per_mm: float
    """Where the noise spectrum peaks, cycles per mm; low is blotchy, high is grainy."""

    blur_mm: float
    """Standard deviation of the point spread, mm."""

    sharpening: float
    """Overshoot of the kernel at edges; 0 is none."""

    field_of_view_mm: float
    """Side of the square reconstruction, mm."""

    tilt_deg: float
    """Gantry tilt, degrees; positive tips the slices towards the orbitomeatal line."""

    intercept: int
    """Rescale Intercept (0028,1052), HU."""

    signed: bool
    """Pixel Representation (0028,0103): whether stored values are signed."""

    contrast: float
    """Calibration: what one true HU above water measures."""

    offset_hu: float
    """Calibration: what water measures, HU."""

    breadth: float
    """Mean ratio of head width to head length."""

    atrophy: float
    """Mean scale of ventricles and sulci; 1 is middle-aged."""

    streak_hu: float
    """Mean amplitude of the streaks from bone, HU."""

    positive_share: float = 0.5
    """Probability that an exam bleeds; `dataclasses.replace` a site to change it."""


SITES: Mapping[str, Site] = MappingProxyType(
    {
        "a": Site(
            name="a",
            manufacturer="Alder",
            kernel="A30",
            noise_hu=3.1,
            noise_peak_per_mm=0.25,
            blur_mm=0.55,
            sharpening=0.0,
            field_of_view_mm=225.0,
            tilt_deg=0.0,
            intercept=-1024,
            signed=False,
            contrast=1.0,
            offset_hu=0.0,
            breadth=0.82,
            atrophy=1.0,
            streak_hu=2.0,
        ),
        "b": Site(
            name="b",
            manufacturer="Birch",
            kernel="SOFT",
            noise_hu=3.5,
            noise_peak_per_mm=0.28,
            blur_mm=0.45,
            sharpening=0.06,
            field_of_view_mm=250.0,
            tilt_deg=16.0,
            intercept=-1000,
            signed=True,
            contrast=1.06,
            offset_hu=2.0,
            breadth=0.86,
            atrophy=0.85,
            streak_hu=3.0,
        ),
        "c": Site(
            name="c",
            manufacturer="Cedar",
            kernel="UB",
            noise_hu=3.5,
            noise_peak_per_mm=0.20,
            blur_mm=0.75,
            sharpening=0.03,
            field_of_view_mm=238.0,
            tilt_deg=9.0,
            intercept=0,
            signed=True,
            contrast=0.95,
            offset_hu=-0.5,
            breadth=0.78,
            atrophy=1.2,
            streak_hu=3.0,
        ),
    }
)
