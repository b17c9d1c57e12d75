"""The addresses of the server and what its OpenAPI page says of them. May import FastAPI and serving's parts."""

from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from imgclf import __version__
from imgclf.serving.answers import BUG, KNOWN, Refusal
from imgclf.serving.service import Service
from imgclf.serving.uploads import BYTES, FIELD, FORM, HOW, read_uploads

# The page's files: what is asked for -> (file in page/, type). FastAPI's own page loads its scripts from elsewhere.
PAGE = {
    "/docs": ("docs.html", "text/html"),
    "/docs/page.css": ("page.css", "text/css"),
    "/docs/page.js": ("page.js", "text/javascript"),
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Scored(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class Classified(BaseModel):
    """One image: its classes, the most probable first; or, where others of the request could be read, why not it."""

    name: str | None
    classes: list[Scored] | None = None
    error: str | None = None
    fix: str | None = None


class Predicted(BaseModel):
    """The images of a request, in their order."""

    images: list[Classified]


class Health(BaseModel):
    """What is served, and whether it is."""

    ready: bool
    model: str
    classes: list[str]
    input: dict[str, int]
    version: str


class Error(BaseModel):
    """What is wrong and what to do about it."""

    error: str
    fix: str


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        "image/*": _BINARY,
        BYTES: _BINARY,
        FORM: {"schema": {"type": "object", "properties": {FIELD: _FILES}, "required": [FIELD]}},
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "A parameter, or a form, that is none."},
    408: {"model": Error, "description": "The body took too long to arrive."},
    413: {"model": Error, "description": "The body is too large."},
    415: {"model": Error, "description": "No type of an image."},
    422: {"model": Error, "description": "No image can be made of it, and why."},
    503: {"model": Error, "description": "Too many are waiting; Retry-After says when to come again."},
}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "Not ready, or about to end."}}


def make_app(service: Service) -> FastAPI:
    """The application that serves a model; `service` has to be running."""
    app = FastAPI(
        title="imgclf", version=__version__, docs_url=None, redoc_url=None,
        description=f"Classifies images with {service.predictor.path.name}.",
    )  # fmt: skip
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)

    @app.post(
        "/predict", response_model=Predicted, responses=_ERRORS, openapi_extra={"requestBody": _BODY},
        response_description="The images with their classes.",
    )  # fmt: skip
    async def predict(request: Request, top: Annotated[int, Query(ge=1)] = 1) -> JSONResponse:
        """Classify one image, or the images of a form, and give the `top` most probable classes of each."""
        uploads = await read_uploads(request)
        return JSONResponse({"images": await service.classify(uploads, top)})

    @app.get("/health", response_model=Health, responses=_NOT_READY, response_description="Ready.")
    async def health() -> JSONResponse:
        """Whether the server is ready, and what it serves."""
        predictor, ready = service.predictor, service.ready
        height, width, channels = predictor.input_shape
        size = {"height": height, "width": width, "channels": channels}
        known = Health(
            ready=ready, model=predictor.path.name, classes=list(predictor.classes), input=size, version=__version__
        )
        return JSONResponse(known.model_dump(), 200 if ready else 503)

    @app.get("/metrics", response_class=Response, response_description="Text.")
    async def metrics() -> Response:
        """What the server counts, in Prometheus' format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    async def page(request: Request) -> Response:
        name, kind = PAGE[request.url.path]
        content = (files(__package__) / "page" / name).read_bytes()
        return Response(content, media_type=kind, headers=PAGE_HEADERS)

    for path in PAGE:
        app.add_api_route(path, page, include_in_schema=False)
    return app


def _answer(refusal: Refusal) -> Response:
    return Response(refusal.body, refusal.status, dict(refusal.headers), "application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(error)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what, fix = KNOWN.get(error.status_code, (str(error.detail), HOW))
    return _answer(Refusal(error.status_code, what, fix, error.headers or {}))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    what = f"{first['loc'][-1]}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return _answer(Refusal(400, what, "see /docs for the parameters"))


async def _failed(_: Request, error: Exception) -> Response:
    return _answer(BUG)  # limits.py says on the terminal what it was
