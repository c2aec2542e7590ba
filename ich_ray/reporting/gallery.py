"""Slices to look at: the anatomy, and over it where reference and prediction agree."""

import io

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from matplotlib.image import imsave
from PIL import Image
from scipy import ndimage

Grey = UInt8[np.ndarray, "rows columns"]
Rgb = UInt8[np.ndarray, "rows columns 3"]
Mask = Bool[np.ndarray, "rows columns"]
Box = tuple[int, int, int, int]

REFERENCE_ONLY, PREDICTION_ONLY, BOTH = (213, 94, 0), (86, 180, 233), (240, 228, 66)
"""Missed, marked in error, found: as in figure 3 of Lin & Yuh, but in colours of Okabe & Ito, since
their red and green are one colour to many eyes."""

FILL, OUTLINE = 0.35, 0.9
"""Opacity inside a region, where the anatomy must stay visible, and on its edge."""

MAX_SIDE = 320
AIR_BELOW = 16
"""Grey values below this are air to the crop: the brain window shows air as black."""


def overlay(image: Grey, reference: Mask, prediction: Mask) -> Rgb:
    """Draw two masks over a slice: reference only red, prediction only blue, both yellow.

    >>> overlay(np.zeros((1, 2), np.uint8), np.array([[True, False]]), np.array([[True, True]]))
    array([[[216, 205,  59],
            [ 77, 162, 210]]], dtype=uint8)
    """
    region = reference.astype(np.uint8) + 2 * prediction.astype(np.uint8)
    colour = np.array([(0, 0, 0), REFERENCE_ONLY, PREDICTION_ONLY, BOTH], np.float64)[region]
    opacity = np.where(_edge(region), OUTLINE, FILL) * (region > 0)
    grey = np.repeat(image[..., None], 3, axis=2)
    blended = grey * (1 - opacity[..., None]) + colour * opacity[..., None]
    drawn: Rgb = np.round(blended).astype(np.uint8)
    return drawn


def square_around_head(image: Grey, *masks: Mask) -> Box:
    """Return (top, left, bottom, right) of a square that holds head and masks.

    The head is the largest connected bright region: a headrest is not part of it. The square may
    reach over the edge of the slice.
    """
    regions, num_regions = ndimage.label(image >= AIR_BELOW)
    if num_regions == 0:
        return 0, 0, max(image.shape), max(image.shape)
    head = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    shown = np.any((head, *masks), axis=0)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    margin = 1 + max(image.shape) // 64
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 + 2 * margin
    top, left = ((int(i[0]) + int(i[-1]) + 1 - side) // 2 for i in (rows, columns))
    return int(top), int(left), int(top + side), int(left + side)


def crop(
    image: UInt8[np.ndarray, "rows columns"], box: Box, *, max_side: int = MAX_SIDE
) -> UInt8[np.ndarray, "side side"]:
    """Cut out a square, black where it reaches over the edge, and shrink it to `max_side`."""
    top, left, bottom, right = box
    rows, columns = image.shape
    margins = ((max(-top, 0), max(bottom - rows, 0)), (max(-left, 0), max(right - columns, 0)))
    cut = np.pad(image[max(top, 0) : bottom, max(left, 0) : right], margins)
    if len(cut) <= max_side:
        return cut
    shrink = _area_mean(len(cut), max_side)
    small: UInt8[np.ndarray, "side side"] = np.round(shrink @ cut @ shrink.T).astype(np.uint8)
    return small


def crop_mask(mask: Bool[np.ndarray, "rows columns"], box: Box) -> Bool[np.ndarray, "side side"]:
    """Cut a mask like its slice; a pixel is marked where at least half of it was."""
    return crop(mask.astype(np.uint8) * 255, box) >= 128


def png(image: Grey | Rgb) -> bytes:
    """Encode a picture; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    fixed = {"Software": "ich_ray"}  # by default the version of matplotlib
    imsave(buffer, image, format="png", cmap="gray", vmin=0, vmax=255, metadata=fixed)
    return buffer.getvalue()


def jpeg(image: Grey, *, quality: int = 85) -> bytes:
    """Encode a slice for the eye alone: few bytes, and not the same values."""
    buffer = io.BytesIO()
    imsave(
        buffer,
        image,
        format="jpeg",
        cmap="gray",
        vmin=0,
        vmax=255,
        pil_kwargs={"quality": quality, "optimize": True},
    )
    return buffer.getvalue()


def webp(image: Grey) -> bytes:
    """Encode a slice for the eye, in fewer bytes than `jpeg` and nearer to its values.

    On a real exam, 256 x 256 on `display.SCALE_HU`: 7.9 kB a slice, 0.7 HU away (RMS) between 0
    and 80 HU; JPEG of quality 90 takes 8.9 kB and is 0.9 HU away, PNG 19.8 kB.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="webp", quality=95, method=4)
    return buffer.getvalue()


def _edge(region: UInt8[np.ndarray, "rows columns"]) -> Mask:
    around = np.pad(region, 1, mode="constant")
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge: Mask = np.any([region != neighbour for neighbour in neighbours], axis=0)
    return edge


def _area_mean(source: int, target: int) -> Float64[np.ndarray, "target source"]:
    """Return the matrix that averages `source` pixels into `target` fewer ones."""
    edges = np.arange(target + 1)[:, None] * source / target
    covered = np.clip(edges - np.arange(source), 0, 1)  # of each source pixel, left of each edge
    return np.asarray((covered[1:] - covered[:-1]) * target / source)
