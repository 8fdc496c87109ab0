"""The process that serves a policy."""

from __future__ import annotations

from collections.abc import Sequence
import logging
import socket
import sys

from fastapi import FastAPI
import uvicorn

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import ConfigError, PolicyError
from trt_openvla_ros.policy.loading import open_policy
from trt_openvla_ros.process import allow
from trt_openvla_ros.serving.app import create_app
from trt_openvla_ros.serving.connections import Connection, HEADER_BYTES, WithoutQueries
from trt_openvla_ros.serving.settings import read_token, ServerSettings
from trt_openvla_ros.settings import describe_settings

NAME = 'deploy_server'
_HANG_UP = 0.2  # [s] for connections to close
_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn for an application of `create_app`; at the end it answers open questions first.

    uvicorn itself closes websockets at once, whatever was asked there.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, answer, and close the connections."""
        for server in self.servers:
            server.close()
        await self.config.app.state.service.drain()
        await super().shutdown(sockets)


def uvicorn_config(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """Configure a Server for an application of `create_app`."""
    config = uvicorn.Config(
        app,
        log_level='info',
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Chosen here, because uvicorn's choice depends on what else is installed. This protocol of
        # websockets reads one message, and no further one before the application takes it.
        http=Connection,
        ws='websockets-sansio',
        h11_max_incomplete_event_size=HEADER_BYTES,
        ws_max_size=settings.max_body,
        ws_per_message_deflate=False,
        # For requests that are still being received; all others were answered before.
        timeout_graceful_shutdown=_HANG_UP,
    )
    # Its line about a websocket has the query of the address.
    logging.getLogger('uvicorn.error').addFilter(WithoutQueries())
    return config


def serve(settings: ServerSettings) -> None:
    """Load the policy and serve until the process is interrupted.

    Raises:
        KeyboardInterrupt: A signal came; uvicorn raises it again after its end.
        PolicyError: The policy cannot be loaded, or the address cannot be used.
    """
    token = read_token(settings)
    # Before the minutes of loading, so an address that is taken fails at once.
    with _bind(settings) as listener:
        policy = open_policy(settings)
        # Not before: clients of a model that still loads would take it for a slow one.
        _listen(listener, settings)
        host, port = listener.getsockname()[:2]
        address = f'[{host}]' if ':' in host else host
        _log.info('serving %s on http://%s:%d', policy.description.checkpoint, address, port)
        if token is None and not settings.is_loopback:
            _log.warning('allow_no_token: whoever reaches %s can use this policy', host)
        app = create_app(policy, settings, token)
        allow(settings.shutdown_timeout + 1.0)
        Server(uvicorn_config(app, settings)).run(sockets=[listener])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the server with the parameters of the command line."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if set(arguments) & {'-h', '--help'}:
        print(f'{NAME} [--ros-args] --params-file FILE [-p NAME:=VALUE ...] [--NAME VALUE ...]\n')
        print(describe_settings(ServerSettings))
        return
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    try:
        serve(read_settings(ServerSettings, arguments, NAME))
    except PolicyError as error:
        sys.exit(f'{NAME}: {error}')


def _bind(settings: ServerSettings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _taken(settings, error) from error
    return listener


def _listen(listener: socket.socket, settings: ServerSettings) -> None:
    try:
        listener.listen(2048)
    except OSError as error:  # another server took the address during loading
        raise _taken(settings, error) from error


def _taken(settings: ServerSettings, error: OSError) -> ConfigError:
    return ConfigError(
        f'cannot listen on {settings.host}, port {settings.port}: {error}; '
        'choose another with -p port:=N'
    )
