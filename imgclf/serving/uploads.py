"""The images of a request: its body, or the files of a form. May import starlette and serving's parts."""

import logging

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from imgclf.serving.answers import Refusal
from imgclf.serving.service import Upload
from imgclf.serving.settings import IMAGES_IN_REQUEST

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it warns of broken forms; we answer

FIELD = "image"
FORM = "multipart/form-data"
BYTES = "application/octet-stream"
HOW = f"send the image's bytes as image/jpeg (or any image/...) or {BYTES}, or as the field {FIELD!r} of a {FORM} form"


async def read_uploads(request: Request) -> list[Upload]:
    """Read the images of a request, one or several.

    Raises:
        Refusal: its type is none of an image or a form, or there is no image in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Refusal(415, f"the content encoding {encoding[:40]!r} is not understood", "send the image as it is")
    if kind == FORM:
        return await _form(request)
    if kind != BYTES and not kind.startswith("image/"):
        raise Refusal(415, f"{kind[:80]!r} is no type of an image" if kind else "the request has no content type", HOW)
    data = await request.body()
    if not data:
        raise Refusal(422, "no image can be made of this: empty file", HOW)
    return [Upload(None, data)]


async def _form(request: Request) -> list[Upload]:
    # a text field of a form may have 1 MB (starlette), a file as much as the whole request
    try:
        async with request.form(max_files=IMAGES_IN_REQUEST, max_fields=IMAGES_IN_REQUEST) as form:
            files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
            if not files:
                raise Refusal(400, f"the form has no file in the field {FIELD!r}", HOW)
            return [Upload(file.filename or None, await file.read()) for file in files]
    except FormParserError:  # which starlette before 1.0 lets through
        raise Refusal(400, f"the body is no {FORM}", HOW) from None
