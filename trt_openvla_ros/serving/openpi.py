"""The websocket protocol of openpi's clients: msgpack with numpy arrays, one answer per message.

Source: packages/openpi-client of Physical-Intelligence/openpi.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import logging
import time
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.serving.arrays import read_msgpack, write_msgpack
from trt_openvla_ros.serving.dialects import check_text, Question
from trt_openvla_ros.serving.pictures import rgb_of_array
from trt_openvla_ros.serving.refusal import forget, Refusal
from trt_openvla_ros.serving.service import Service

# Keys of the camera that OpenVLA models see, in openpi's environments (LIBERO, DROID, others).
# Further cameras and the robot's state are not used.
IMAGE_KEYS = ('observation/image', 'observation/exterior_image_1_left', 'image')
# Each connection may hold a message before the application sees it. Connections together get this
# share of the budget.
_SHARE = 0.5
_COPIES = 3  # of a message while it is read: arrays, and the image again
_CLOSE_CODES = {413: 1009, 409: 1013, 503: 1013}  # too big; try again later
_log = logging.getLogger(__name__)


async def converse(websocket: WebSocket, service: Service) -> None:
    """Send the metadata, then answer until the client leaves or makes an error.

    As in openpi, an error is a text frame, after which the connection is closed.
    """
    try:
        with service.budget.hold(service.settings.max_body, _SHARE):
            await _converse(websocket, service)
    except Refusal as refusal:  # there is no room for another connection
        await websocket.close(1013, refusal.reason[:100])


async def _converse(websocket: WebSocket, service: Service) -> None:
    await websocket.accept()
    name = websocket.headers.get('x-client-id')
    address = websocket.client.host if websocket.client else None
    previous = None
    following = None
    try:
        await websocket.send_bytes(write_msgpack(service.metadata))
        following = asyncio.ensure_future(websocket.receive())
        while True:
            message = await following
            if message['type'] == 'websocket.disconnect':
                return
            arrived = time.perf_counter()
            # Awaited beside the answer, because the client may leave.
            following = asyncio.ensure_future(websocket.receive())
            with service.conversing():
                answering = asyncio.ensure_future(
                    _answer(message, service, address, name, previous)
                )
                await asyncio.wait({answering, following}, return_when=asyncio.FIRST_COMPLETED)
                if following.done() and following.result()['type'] == 'websocket.disconnect':
                    answering.cancel()
                    return
                try:
                    await websocket.send_bytes(await answering)
                except Refusal as refusal:
                    message = None
                    forget(refusal)
                    await _refuse(websocket, service, refusal)
                    return
            previous = time.perf_counter() - arrived
    except WebSocketDisconnect:
        pass
    finally:
        if following is not None:
            following.cancel()


async def _refuse(websocket: WebSocket, service: Service, refusal: Refusal) -> None:
    service.metrics.answered('openpi', refusal.status)
    await websocket.send_text(refusal.reason)
    fallback = 1008 if refusal.status < 500 else 1011
    await websocket.close(_CLOSE_CODES.get(refusal.status, fallback))


async def _answer(
    message: dict[str, Any],
    service: Service,
    address: str | None,
    name: str | None,
    previous: float | None,
) -> bytes:
    client = service.client_of(address, name)
    with service.queue.place(client):
        data = message.get('bytes')
        if data is None:
            raise Refusal(400, 'the message is a text frame; observations are binary msgpack')
        with service.budget.hold(_COPIES * len(data)):
            question, reading = await service.read(read_observation, data)
        prediction = await service.answer(client, question, reading)
        service.metrics.answered('openpi', 200)
        return write_answer(prediction, previous)


def read_observation(
    data: bytes, max_pixels: int, stopped: Callable[[], bool] = lambda: False
) -> Question:
    """Parse an observation; its array needs no decoding that could be stopped.

    Raises:
        Refusal: The observation is not msgpack, or its image or prompt cannot be used.
    """
    observation = read_msgpack(data)
    if not isinstance(observation, dict):
        raise Refusal(400, f'an observation is a map, not {type(observation).__name__}')
    key = next((key for key in IMAGE_KEYS if key in observation), None)
    image = observation.get(key)
    if not isinstance(image, np.ndarray):
        raise Refusal(
            400,
            f'no image: one of {", ".join(IMAGE_KEYS)} is needed as an array; '
            f'there are {", ".join(sorted(map(str, observation)))[:200]}',
        )
    prompt, unnorm_key = observation.get('prompt'), observation.get('unnorm_key')
    if not isinstance(prompt, str):
        raise Refusal(400, 'prompt is missing; the instruction is needed as text')
    if unnorm_key is not None and not isinstance(unnorm_key, str):
        raise Refusal(400, 'unnorm_key is not text')
    check_text('prompt', prompt)
    check_text('unnorm_key', unnorm_key or '')
    return Question(
        'openpi', rgb_of_array(image, max_pixels), prompt, unnorm_key or None, write_answer
    )


def write_answer(prediction: Prediction, previous: float | None = None) -> bytes:
    """Write a chunk of actions, [H, D] float64.

    Args:
        prediction: Prediction of the policy.
        previous: Time of the previous answer [s]; None before the first.
    """
    timings = prediction.timings
    server = {'infer_ms': 1e3 * (timings['queue'] + timings['total'])}
    if previous is not None:
        server['prev_total_ms'] = 1e3 * previous
    return write_msgpack(
        {
            'actions': prediction.actions,
            'reasoning': prediction.reasoning,
            'policy_timing': {'infer_ms': 1e3 * timings['total']},
            'server_timing': server,
        }
    )
