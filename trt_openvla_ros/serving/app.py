"""The application: its routes, its pages and its error answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from importlib.resources import files
import re
from typing import TypeVar

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from trt_openvla_ros.contracts import BasePolicy
from trt_openvla_ros.serving import openpi
from trt_openvla_ros.serving.body import more_of, read_body, read_fields, size_of
from trt_openvla_ros.serving.dialects import Question, read_form, read_question
from trt_openvla_ros.serving.guard import Guard, refusal_body, refusal_headers
from trt_openvla_ros.serving.metrics import CONTENT_TYPE
from trt_openvla_ros.serving.refusal import BROKEN, forget, Refusal
from trt_openvla_ros.serving.request_queue import shutting_down
from trt_openvla_ros.serving.schema import ACT, DESCRIPTION
from trt_openvla_ros.serving.service import Service
from trt_openvla_ros.serving.settings import ServerSettings

T = TypeVar('T')

_PAGE = files('trt_openvla_ros.serving') / 'page'
_SAMPLE_NAME = re.compile(r'[a-z_]+\.jpg')
_CLIENT_GONE = 499  # nginx's number for a client that left; only the metrics show it


def create_app(policy: BasePolicy, settings: ServerSettings, token: str | None = None) -> FastAPI:
    """Make the application.

    Args:
        policy: Policy to serve; the application closes it at its own end.
        settings: Settings of the server.
        token: Token that clients must send; None asks for none.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(policy, settings)
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title='trt_openvla_ros',
        description=DESCRIPTION,
        version='1',
        lifespan=life,
        # FastAPI's own pages load code from the internet, which a laboratory may not reach.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, token=token, local=settings.is_loopback)
    _add_errors(app)
    _add_pages(app)

    @app.post('/act', **ACT)
    async def act(request: Request) -> Response:
        """Ask for the action for one image and instruction, in any of the dialects."""
        return await _act(request, app.state.service)

    @app.get('/metadata', summary='Checkpoint, unnorm_keys, limits and versions.')
    async def metadata() -> dict:
        return app.state.service.metadata

    @app.get('/healthz', summary='200 while the policy answers.')
    async def healthz() -> Response:
        if app.state.service.broken:
            raise Refusal(503, BROKEN)
        if app.state.service.queue.closing:
            raise shutting_down()
        busy = app.state.service.queue.busy_for
        if busy > settings.timeout:
            raise Refusal(503, f'the policy has not answered for {busy:.0f} s')
        return Response('OK\n', media_type='text/plain')

    @app.get('/metrics', summary="Counters and latencies in Prometheus's format.")
    async def metrics() -> Response:
        return Response(app.state.service.metrics.text(), media_type=CONTENT_TYPE)

    @app.websocket('/')
    async def converse(websocket: WebSocket) -> None:
        await openpi.converse(websocket, app.state.service)

    return app


async def _act(request: Request, service: Service) -> Response:
    dialect, status = 'unknown', 500
    try:
        address = request.client.host if request.client else None
        client = service.client_of(address, request.headers.get('x-client-id'))
        with service.queue.place(client):
            question, reading = await _read(request, service)
            dialect = question.dialect
            prediction = await _unless_gone(request, service.answer(client, question, reading))
            body = question.write(prediction)
            status = 200
            return Response(body, media_type='application/json')
    except Refusal as refusal:
        status = refusal.status
        raise
    except ClientDisconnect:
        status = _CLIENT_GONE
        return Response(status_code=status)
    except asyncio.CancelledError:
        # The time for open requests is over; uvicorn would report an internal error.
        refusal = shutting_down()
        status = refusal.status
        return _refused(refusal)
    finally:
        service.metrics.answered(dialect, status)


async def _read(request: Request, service: Service) -> tuple[Question, float]:
    settings = service.settings
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind not in ('application/json', 'multipart/form-data'):
        raise Refusal(
            415, f'content-type {kind!r}; application/json or multipart/form-data is needed'
        )
    with service.budget.hold(size_of(request, settings.max_body)):
        body = await read_body(request, settings.max_body, settings.body_timeout)
        if kind == 'application/json':
            with service.budget.hold(more_of(body)):
                return await _unless_gone(request, service.read(read_question, body))
        fields = await read_fields(request.headers, body)
        return await _unless_gone(request, service.read(read_form, fields))


async def _unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """Await an answer, but cancel it if the client leaves.

    Raises:
        ClientDisconnect: The client left.
    """
    # The body was read, so the next message is the end of the connection.
    gone = asyncio.ensure_future(request.receive())
    asked = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({gone, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ClientDisconnect
        return asked.result()
    finally:
        gone.cancel()
        asked.cancel()


def _refused(refusal: Refusal) -> Response:
    return Response(
        refusal_body(refusal), status_code=refusal.status, headers=refusal_headers(refusal)
    )


def _add_errors(app: FastAPI) -> None:
    """Answer every error as JSON with a reason, and none with a traceback."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        forget(error)
        return _refused(error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        path = f'{request.method} {request.url.path!r:.200}'
        response = _refused(Refusal(error.status_code, f'{path}: {error.detail}; see /docs'))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _refused(Refusal(422, f'the request cannot be used: {error}'))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this answer, and uvicorn logs the traceback.
        return _refused(Refusal(500, "internal error; the server's log has it"))


def _add_pages(app: FastAPI) -> None:
    """Serve the files in page/."""

    def page(name: str, media_type: str = 'text/html') -> Response:
        return Response((_PAGE / name).read_bytes(), media_type=media_type)

    @app.get('/', include_in_schema=False)
    async def index() -> Response:
        return page('index.html')

    @app.get('/docs', include_in_schema=False)
    async def docs() -> Response:
        return page('docs.html')

    @app.get('/samples/{name}', include_in_schema=False)
    async def sample(name: str) -> Response:
        if not _SAMPLE_NAME.fullmatch(name) or not (_PAGE / name).is_file():
            raise Refusal(404, f'there is no sample {name!r:.200}')
        return page(name, 'image/jpeg')
