"""What the free text and the codes of a header say of a series, as signs of a closed list.

A Series Description may name a patient, so it is never stored, logged or sent on: only these
signs are. Words are † from memory and from the 60 descriptions of CQ500, unless a source is given.
"""

import re
from collections.abc import Sequence
from enum import StrEnum


class Sign(StrEnum):
    """One thing that a header says of its series."""

    PLAIN = "plain"
    """Said to be without contrast medium."""

    CONTRAST = "contrast"
    ANGIO = "angio"
    """An angiography or a perfusion."""

    BONE = "bone"
    """A bone or other sharp reconstruction, by its name or its kernel."""

    HIGH_RESOLUTION = "high_resolution"
    """Of the temporal bone or the lung."""

    OTHER_REGION = "other_region"
    """Orbits, sinuses, neck, spine or trunk."""

    RENDERED = "rendered"
    """A projection or a surface, no slice."""

    REFORMATTED = "reformatted"
    """Said to be coronal or sagittal; counts where there is no orientation."""

    LOCALIZER = "localizer"


# Ends of words are looked for by (?![A-Z]) rather than \b, so that `CONTRAST2` is found as well.
_PLAIN = re.compile(
    r"\b(?:PLAIN|UNENHANCED|NATIVE?|NCCT|NECT|NON[ -]?CON(?:TRAST|T)?|PRE[ -]?CON(?:TRAST|T)?"
    r"|(?:NO|W/?O|WITHOUT|SANS|UN)[ -]?(?:IV[ -]?)?CON(?:TRAST|T)?)(?![A-Z])"
)
_CONTRAST = re.compile(
    # A posterior fossa and a look after an operation are no contrast: POST must stand alone.
    r"\b(?:CONTRAST|CECT|ENHANCED|ORAL|POST[ -]*(?=$|CON|IV|INJ|GD|C\b)|IV|\d+ ?(?:CC|ML))(?![A-Z])"
    r"|\+ ?C\b|\bC ?\+|\bW/? ?(?:IV|CON)"
)
_ANGIO = re.compile(
    r"\b(?:ANGIO\w*|CTA|CTV|CTP|ARTERIAL|VENOUS|PERFUSION|WILLIS|COW|CAROTIDS?)(?![A-Z])"
)
_BONE = re.compile(r"\b(?:BONES?|OSSEOUS|KNOCHEN|DETAILS?)(?![A-Z])")
_HIGH_RESOLUTION = re.compile(
    r"\b(?:HRCT|HI[ -]?RES|HIGH[ -]RES\w*|IAC|MASTOIDS?|PETROUS)(?![A-Z])"
)
_HEAD = re.compile(r"\b(?:HEAD|BRAIN|CEREBR|CRANI|SKULL|NEURO)")
_ORBIT = re.compile(r"\bORBIT")
_OTHER_REGION = re.compile(
    r"\b(?:PNS|SINUS(?:ES)?|FACE|FACIAL|MAXILLA|MANDIBLE|NECK|C-?SPINE|CERVICAL|SPINE"
    r"|CHEST|THORAX|LUNGS?|ABD\w*|PELVIS)(?![A-Z])"
)
_RENDERED = re.compile(r"\b(?:MIP|MINIP|VRT?|SSD|VOLREND|3D)(?![A-Z])")
_REFORMATTED = re.compile(r"\b(?:COR|CORONAL|SAG|SAGITTAL)(?![A-Z])")
_LOCALIZER = re.compile(r"\b(?:SCOUT|TOPO\w*|LOCALI[SZ]ER|SURVIEW|SCANOGRAM)(?![A-Z])")

_RENDERED_TYPES = {"MIP", "MINIP", "VRT", "SSD", "VOLREND", "3D", "PROJECTION IMAGE"}
_NO_AGENT = {"", "NONE", "NO", "N", "0", "WITHOUT", "PLAIN", "UNKNOWN"}

_SHARP_KERNELS = re.compile(
    # GE by name; Siemens by number, 60 and above are sharp (H60s, B70f, J70h, Hr64); Toshiba
    # FC30 to FC39 bone, FC50 to FC59 and FC80 to FC89 lung and high resolution; Philips YA to YD,
    # L and D. † Vendors' naming as commonly published; checked on the Philips phantom (UB, YA).
    r"BONE\w*|EDGE|DETAIL|LUNG|ULTRA|[BHJUIQ][A-Z]?[6-9]\d[A-Z]?|FC[358]\d|Y[A-D]|[LD]"
)


def signs_of(
    *,
    description: str = "",
    kernel: str = "",
    image_type: Sequence[str] = (),
    contrast_agent: str = "",
) -> frozenset[Sign]:
    """Return what a slice's header says of its series.

    Args:
        description: Series Description (0008,103E).
        kernel: Convolution Kernel (0018,1210), its first value.
        image_type: Image Type (0008,0008).
        contrast_agent: Contrast/Bolus Agent (0018,0010).

    >>> sorted(signs_of(description="PRE CONTRAST BONE", kernel="BONEPLUS"))
    [<Sign.BONE: 'bone'>, <Sign.PLAIN: 'plain'>]
    >>> sorted(signs_of(description="HEAD POST FOSSA 2.5MM"))
    []
    """
    # Readers differ in how they decode other letters: none of them counts.
    ascii_only = description.encode("ascii", "replace").decode("ascii")
    text = " ".join(ascii_only.upper().replace("_", " ").split())
    types = {part.strip().upper() for part in image_type}
    plain = bool(_PLAIN.search(text))
    # What is left once `PRE CONTRAST` and `W/O CONTRAST` are taken out.
    rest = _PLAIN.sub(" ", text)
    agent = contrast_agent.strip().upper() not in _NO_AGENT
    found = {
        Sign.PLAIN: plain,
        # The agent is often written into every series of an exam, the plain one as well.
        Sign.CONTRAST: bool(_CONTRAST.search(rest)) or (agent and not plain),
        Sign.ANGIO: bool(_ANGIO.search(text)),
        Sign.BONE: bool(_BONE.search(text) or _SHARP_KERNELS.fullmatch(kernel.strip().upper())),
        Sign.HIGH_RESOLUTION: bool(_HIGH_RESOLUTION.search(text)),
        # An exam of head and neck holds the head.
        Sign.OTHER_REGION: bool(
            _ORBIT.search(text) or (_OTHER_REGION.search(text) and not _HEAD.search(text))
        ),
        Sign.RENDERED: bool(_RENDERED.search(text) or types & _RENDERED_TYPES),
        Sign.REFORMATTED: bool(_REFORMATTED.search(text)),
        Sign.LOCALIZER: bool(_LOCALIZER.search(text)) or "LOCALIZER" in types,
    }
    return frozenset(sign for sign, holds in found.items() if holds)
