"""Ordinary DICOM objects, read by dicomsdl at a tenth of pydicom's cost; the odd are left to it.

An object is ordinary if dicomsdl, writing again what it read of the header, gives the very bytes
that were there: then every element is where the standard puts it, once and in order, and nothing
is left over for two readers to differ about. Values are taken in their plain forms only, and
converted as pydicom would. Whatever else there is raises `Unsure`, and pydicom decides.
"""

import re
from functools import cache, lru_cache
from typing import Any

import dicomsdl
import numpy as np
from jaxtyping import Integer
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ich_ray.storage.decoding import Unsure

HEADER_BYTES = 64 * 1024
"""A longer header is not ordinary."""

_PREFIX = 128
_MAGIC = b"DICM"
_SYNTAX = b"\x02\x00\x10\x00UI"
_EXPLICIT, _IMPLICIT = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0"
_UNCOMPRESSED = (_EXPLICIT, _IMPLICIT)
_RLE = b"1.2.840.10008.1.2.5\0"
_JPEG = b"1.2.840.10008.1.2.4."
_LOSSLESS = (_JPEG + b"57", _JPEG + b"70")
"""Of the compressed, those that dicomsdl decodes: the lossless JPEG of 1992, at a fifth of
pylibjpeg's cost. Damaged RLE, which pydicom reads, may crash dicomsdl 0.109.4."""

_UNDEFINED = 0xFFFFFFFF
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ITEM = b"\xfe\xff\x00\xe0"
_MOST_ITEMS = 64
"""Of sequences: dicomsdl reads them by recursion, and a stack is finite."""

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_OTHER_PIXELS = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
"""Of floating point: they stand before Pixel Data. Within another value they are odd as well."""

_TEXT = {b"AE", b"AS", b"CS", b"DA", b"DT", b"LO", b"PN", b"SH", b"TM", b"UI"}
_ASCII = re.compile(rb"[ -\[\]-}]*")
"""Printable, and neither backslash nor tilde, which Japanese sets replace by other signs."""

_PRINTABLE = re.compile(r"[^\x00-\x1f\\\x7f]*")
_NUMBER = re.compile(rb" *([+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?) *")
_WHOLE = re.compile(rb" *([+-]?[0-9]{1,9}) *")


class PlainDataset:
    """The header of an ordinary object: `get` answers as pydicom's `Dataset.get`, or is unsure."""

    def __init__(self, data: bytes) -> None:
        """Read the header from an object, or from its first bytes.

        Raises:
            Unsure: It is no ordinary object.
        """
        window = data[:HEADER_BYTES]
        end = window.find(_PIXEL_DATA)
        if end < 0 or not window.startswith(_MAGIC, _PREFIX):
            raise Unsure
        # dicomsdl sees nothing but the header: no pixels, and none of an icon in a sequence.
        self._header = window[:end]
        self._syntax, named_at = _syntax(self._header)
        self._explicit = self._syntax != _IMPLICIT
        if self._header.count(_ITEM) > _MOST_ITEMS:
            raise Unsure
        try:
            self._dataset = _silent().open_memory(self._header, copy_data=False)
            body = _meta_end(self._header, self._dataset)
            # Elements before the file meta group corrupt memory when dicomsdl writes them.
            if named_at > body:
                raise Unsure
            written = self._dataset.saveToMemory()
        except dicomsdl.DicomException:
            raise Unsure from None
        if self._header[body:] != written[_written_meta_end(written) :]:
            raise Unsure
        self._pixels = _pixels_start(window, end, explicit=self._explicit)
        if any(tag in self._header for tag in _OTHER_PIXELS):
            raise Unsure
        self._encoding = self._text_encoding()

    def get(self, name: str) -> Any:
        """Return the value of an element by its keyword, None where it is absent.

        Raises:
            Unsure: It is not of a plain form.
        """
        found = self._element(name)
        if found is None:
            return None
        values = _converted(*found, self._encoding)
        return values[0] if len(values) == 1 else list(values)

    def check_rest(self, data: bytes) -> None:
        """Check that the pixels are the rest of the object, whatever they hold.

        Raises:
            Unsure: Something follows them, or they end too early.
        """
        start, length = self._pixels
        if length == _UNDEFINED:
            _check_single_fragment(data, start)
        elif start + length != len(data):
            raise Unsure

    def pixels(self, data: bytes, *, decompress: bool) -> Integer[np.ndarray, "rows columns"]:
        """Return the stored values of a slice of 16 bits.

        Args:
            data: The whole object.
            decompress: Whether compressed pixels may be decoded in this process.

        Raises:
            Unsure: They are anything else.
        """
        length = self._pixels[1]
        compressed = length == _UNDEFINED
        if self._syntax not in (_LOSSLESS if compressed else _UNCOMPRESSED):
            raise Unsure
        if compressed and not decompress:
            raise Unsure
        names = ("SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation", "BitsAllocated")
        if [self.get(name) for name in names] not in (
            [1, None, "MONOCHROME2", 16],
            [1, 1, "MONOCHROME2", 16],
        ):
            raise Unsure
        rows, columns, stored_bits = (self.get(n) for n in ("Rows", "Columns", "BitsStored"))
        signed = self.get("PixelRepresentation")
        if not (rows and columns and stored_bits and signed in (0, 1)):
            raise Unsure
        if not 8 <= stored_bits <= 16 or self.get("HighBit") != stored_bits - 1:
            raise Unsure
        if not compressed and length != 2 * rows * columns:
            raise Unsure
        stored: Integer[np.ndarray, "rows columns"] = np.empty(
            (rows, columns), np.int16 if signed else np.uint16
        )
        try:
            _silent().open_memory(data, copy_data=False).copyFrameData(0, stored)
        except dicomsdl.DicomException:
            raise Unsure from None
        # What pydicom does with the bits above those that are declared is its to decide.
        half = 1 << stored_bits - 1
        low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
        if stored_bits < 16 and (stored.max() > high or (signed and stored.min() < low)):
            raise Unsure
        return stored

    def _element(self, name: str) -> tuple[bytes, bytes] | None:
        """Return VR and value of an element, None where it is absent."""
        tag, tag_bytes, known_vr = _tag_of(name)
        element = self._dataset.getDataElement(tag)
        offset = element.offset()
        if offset == 0:
            return None
        header = self._header
        value = header[offset : offset + element.length()]
        if not self._explicit:
            return known_vr, value
        # Of the short form, whose VR stands between the tag and two bytes of length.
        if not header.startswith(tag_bytes, offset - 8):
            raise Unsure
        return header[offset - 4 : offset - 2], value

    def _text_encoding(self) -> str | None:
        """Return the encoding of text, None of sets of which only plain ASCII is read here."""
        found = self._element("SpecificCharacterSet")
        name = "" if found is None else found[1].decode("latin-1").rstrip(" \0")
        if name in ("", "ISO_IR 6"):
            return "ascii"
        if name in ("ISO_IR 100", "ISO_IR 192"):
            return python_encoding[name]
        if all(part in python_encoding for part in name.split("\\")):
            return None
        raise Unsure


# The slices of an exam agree in most elements.
@lru_cache(maxsize=1024)
def _converted(vr: bytes, value: bytes, encoding: str | None) -> tuple[Any, ...]:
    """Return the values of an element, as pydicom would."""
    if vr in _TEXT:
        return tuple(_text(part, encoding) for part in _parts(value))
    if vr == b"DS":
        return tuple(float(_matched(_NUMBER, part)) for part in _parts(value))
    if vr == b"IS":
        return tuple(int(_matched(_WHOLE, part)) for part in _parts(value))
    if vr in (b"US", b"SS") and len(value) == 2:
        return (int.from_bytes(value, "little", signed=vr == b"SS"),)
    raise Unsure


def _text(value: bytes, encoding: str | None) -> str:
    if _ASCII.fullmatch(value):
        return value.decode("ascii")
    if encoding is None:
        raise Unsure
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError:
        raise Unsure from None
    if not _PRINTABLE.fullmatch(text):
        raise Unsure
    return text


def _parts(value: bytes) -> list[bytes]:
    """Split a value; blanks that end a part are significant to some readers."""
    parts = value.rstrip(b" \0").split(b"\\")
    if any(part.endswith(b" ") for part in parts):
        raise Unsure
    return parts


def _matched(form: re.Pattern[bytes], value: bytes) -> bytes:
    match = form.fullmatch(value)
    if match is None:
        raise Unsure
    return match[1]


def _syntax(header: bytes) -> tuple[bytes, int]:
    """Return the transfer syntax, and where the header names it, exactly once."""
    start = header.find(_SYNTAX) + len(_SYNTAX)
    length = int.from_bytes(header[start : start + 2], "little")
    syntax = header[start + 2 : start + 2 + length]
    known = syntax in (*_UNCOMPRESSED, _RLE) or syntax.startswith(_JPEG)
    if not known or header.count(_SYNTAX) != 1:
        raise Unsure
    return syntax, start


def _check_single_fragment(data: bytes, start: int) -> None:
    """Refuse compressed pixels that are not one fragment after a table of at most one offset."""
    table = int.from_bytes(data[start + 4 : start + 8], "little")
    fragment = start + 8 + table
    end = fragment + 8 + int.from_bytes(data[fragment + 4 : fragment + 8], "little")
    items = data[start : start + 4], data[fragment : fragment + 4]
    if table not in (0, 4) or items != (_ITEM, _ITEM) or data[end:] != _DELIMITER:
        raise Unsure


def _meta_end(header: bytes, dataset: Any) -> int:
    """Return the end of the file meta group: its elements one after the other, and no more."""
    end = _PREFIX + len(_MAGIC)
    for element in dataset:
        tag = element.tag()
        if tag >> 16 != 2:
            break
        offset = element.offset()
        # Of OB alone the length takes four bytes more.
        if offset != end + (12 if header.startswith(b"OB", end + 4) else 8):
            raise Unsure
        if not header.startswith(_tag_bytes(tag), end):
            raise Unsure
        end = offset + element.length()
    return end


def _written_meta_end(data: bytes) -> int:
    """Return the end of the file meta group of what dicomsdl wrote: its length comes first."""
    start = _PREFIX + len(_MAGIC) + 8
    return start + 4 + int.from_bytes(data[start : start + 4], "little")


def _pixels_start(window: bytes, tag_at: int, *, explicit: bool) -> tuple[int, int]:
    """Return offset and length of the value of Pixel Data (7FE0,0010)."""
    start = tag_at + (12 if explicit else 8)
    if start > len(window):
        raise Unsure
    length = int.from_bytes(window[start - 4 : start], "little")
    forms = (b"OW\0\0", b"OB\0\0") if length == _UNDEFINED else (b"OW\0\0",)
    if explicit and window[tag_at + 4 : start - 4] not in forms:
        raise Unsure
    return start, length


@cache
def _tag_of(name: str) -> tuple[int, bytes, bytes]:
    """Return the tag of a keyword, as a number and as its bytes, and its VR by the dictionary."""
    tag = tag_for_keyword(name)
    assert tag is not None, name
    return tag, _tag_bytes(tag), dictionary_VR(tag).encode()


@cache
def _tag_bytes(tag: int) -> bytes:
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


@cache
def _silent() -> Any:
    """Return dicomsdl, told to keep to itself what it thinks of files: it would print values."""
    dicomsdl.set_loglevel(dicomsdl.LogLevel.DISABLE)
    return dicomsdl
