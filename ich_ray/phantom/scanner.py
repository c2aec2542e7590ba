"""What a scanner does to a head: blur, noise, streaks, calibration and integers."""

import numpy as np
from jaxtyping import Integer
from scipy import fft

from ich_ray.phantom.head import Head, Volume
from ich_ray.phantom.sites import Site

LOWEST_HU, HIGHEST_HU = -1024, 3071  # 12 bits, as most scanners have


def measure(
    hu: Volume, head: Head, site: Site, rng: np.random.Generator
) -> Integer[np.ndarray, "slice row col"]:
    """Scan a head.

    Args:
        hu: The true head in HU; overwritten.
        head: Its coordinates.
        site: The scanner.
        rng: Consumed.

    Returns:
        Stored values; HU = stored + `site.intercept`. int16 or uint16, as the site has it.
    """
    _streak(hu, head, site, rng)
    hu -= 0 if site.contrast == 1 else (1 - site.contrast) * np.clip(hu, 0, 120)
    hu += np.float32(site.offset_hu + rng.normal(0, 1.5)) * (hu > -300)
    measured = _transfer(hu, head, site, rng)
    lowest = LOWEST_HU if site.signed else max(site.intercept, LOWEST_HU)
    stored = np.rint(np.clip(measured, lowest, HIGHEST_HU)) - site.intercept
    encoded: Integer[np.ndarray, "slice row col"] = stored.astype(
        np.int16 if site.signed else np.uint16
    )
    return encoded


def _transfer(hu: Volume, head: Head, site: Site, rng: np.random.Generator) -> Volume:
    """Blur and sharpen each slice and add noise of the kernel's spectrum, in frequency space."""
    rows, cols = hu.shape[1:]
    along_y = np.fft.fftfreq(rows, head.pixel_mm)[:, None]
    frequency = np.hypot(along_y, np.fft.rfftfreq(cols, head.pixel_mm)[None, :])
    blur = 2 * (np.pi * site.blur_mm * frequency) ** 2
    transfer = np.exp(-blur) * (1 + site.sharpening * (1 - np.exp(-6 * blur)))
    # Filtered back-projection: a ramp at low frequencies, rolled off by the kernel.
    shape = (frequency + 0.02) * np.exp(-0.5 * (frequency / site.noise_peak_per_mm) ** 2)
    shape *= np.sqrt(rows * cols / np.sum(_folded(shape, cols) ** 2))
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    # Bone starves the detector: the base of the skull is noisier than the vertex.
    bone = (hu > 300).mean(axis=(1, 2))
    level = site.noise_hu * rng.lognormal(0, 0.08) * (0.88 + 1.4 * np.clip(bone, 0, 0.25))
    spectrum = fft.rfft2(white * level[:, None, None].astype(np.float32))
    spectrum *= shape.astype(np.float32)
    spectrum += fft.rfft2(hu) * transfer.astype(np.float32)
    measured: Volume = fft.irfft2(spectrum, s=(rows, cols))
    return measured


def _folded(half: np.ndarray, cols: int) -> np.ndarray:
    """Weight half a spectrum so that its sum of squares is that of the whole."""
    weight = np.full(half.shape[1], np.sqrt(2))
    weight[0] = 1
    if cols % 2 == 0:
        weight[-1] = 1
    whole: np.ndarray = half * weight
    return whole


def _streak(hu: Volume, head: Head, site: Site, rng: np.random.Generator) -> None:
    """Add the bands between the petrous bones, and rays from a point in a few slices."""
    low = np.flatnonzero(head.z[:, head.z.shape[1] // 2, 0] < -12)
    for index in low:
        waves = rng.uniform((0.04, 0.0), (0.16, 6.3), (3, 2))
        lean = rng.normal(0, 0.15)
        line = head.y + np.float32(lean) * head.x
        bands = sum(np.cos(np.float32(2 * np.pi * f) * line + np.float32(p)) for f, p in waves)
        window = np.exp(-((head.x / 45) ** 2) - ((head.y - 22) / 38) ** 2)
        strength = site.streak_hu * rng.uniform(0.5, 2.2)
        hu[index] += (strength * bands * window * (hu[index] > -200)).astype(np.float32)
    for index in np.flatnonzero(rng.random(len(hu)) < 0.06):
        centre = rng.uniform(-90, 90, 2)
        around = np.arctan2(head.y - centre[1], head.x - centre[0])
        rays = rng.normal(0, 1.0, 181).astype(np.float32)
        angles = np.linspace(-np.pi, np.pi, 181)
        value = np.interp(around, angles, rays)
        hu[index] += (site.streak_hu * 1.3 * value * (hu[index] > -200)).astype(np.float32)
