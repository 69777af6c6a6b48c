"""Parses the response to a PDF request. Pure functions.

Nearly every response is ``{"pdf": "<standard base64>"}``, and nothing else. This form is decoded
directly from the body, in 60 % of the time of the general parser (measured: 180 us and 300 us for
100 kB). Everything else is left to the general parser; the result is the same.
"""

import base64
import binascii
import contextlib
import re
from typing import Final

from invoicefs.api.parsing import MAX_VALUES, object_in, parse_json
from invoicefs.errors import TooLarge, UnusableResponse
from invoicefs.model import is_whole_pdf

PDF_TOO_LARGE: Final = "the PDF is larger than the max-pdf-size of this mount"

_USUAL_BEGIN: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"pdf"[ \t\r\n]*:[ \t\r\n]*"')
_USUAL_END: Final = re.compile(rb'"[ \t\r\n]*\}[ \t\r\n]*')
_URL_SAFE_TO_STANDARD: Final = str.maketrans("-_", "+/")
_BLANKS: Final = re.compile(r"\s+")


def parse_pdf_json(body: bytes | bytearray) -> object:
    """Return the bytes in a body of the usual form, or the JSON value in any other body.

    Raises `UnusableResponse` if it is not JSON.
    """
    return _usual_pdf(body) or parse_json(body, MAX_VALUES)


def _usual_pdf(body: bytes | bytearray) -> bytes:
    """Return the decoded bytes in a body of the usual form, or none."""
    begin = _USUAL_BEGIN.match(body)
    end = body.rfind(b'"')
    if begin is None or end < begin.end() or not _USUAL_END.fullmatch(body, end):
        return b""
    with contextlib.suppress(ValueError), memoryview(body)[begin.end() : end] as text:
        # In strict mode it accepts nothing but base64, so neither quotes nor escapes.
        return binascii.a2b_base64(text, strict_mode=True)
    return b""


def parse_pdf(body: object, max_size_bytes: int) -> bytes:
    """Return the PDF in a result of `parse_pdf_json`: base64, standard or URL-safe, padded or not.

    Raises `UnusableResponse` if there is none, and `TooLarge` if it exceeds the limit.
    """
    pdf = body if isinstance(body, bytes) else _decoded(object_in(body).get("pdf"))
    if len(pdf) > max_size_bytes:
        raise TooLarge(f"{PDF_TOO_LARGE}: {len(pdf)} bytes")
    if not is_whole_pdf(pdf):
        raise UnusableResponse("the response does not contain a whole PDF")
    return pdf


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or not text:
        raise UnusableResponse("the response contains no PDF")
    # For standard base64, this takes a fifth of the time (measured).
    with contextlib.suppress(ValueError):
        return binascii.a2b_base64(text, strict_mode=True)
    compact = _BLANKS.sub("", text).translate(_URL_SAFE_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableResponse("the PDF in the response is not base64") from error
