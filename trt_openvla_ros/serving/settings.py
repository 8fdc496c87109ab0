"""What a server can be told, and who may talk to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import ipaddress
from pathlib import Path

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.opening import ModelSettings
from trt_openvla_ros.settings import setting

TOKEN_VARIABLE = 'TRT_OPENVLA_TOKEN'
_MIN_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServerSettings(ModelSettings):
    """The parameters of deploy_server; those of the model are the policy node's."""

    unnorm_key: str = setting(
        '', 'Data set whose statistics are applied where a request names none.'
    )
    host: str = setting('127.0.0.1', 'Address to listen on; one that others reach needs a token.')
    port: int = setting(8000, 'TCP port; 0 takes a free one.', low=0, high=65535)
    token_file: str = setting(
        '', f'File with the bearer token that clients must send; {TOKEN_VARIABLE} wins over it.'
    )
    allow_no_token: bool = setting(
        False, 'Listen on an address that others reach without asking for a token.'
    )
    max_body: int = setting(8 * 2**20, 'Longest request body [bytes].', low=1024, high=2**30)
    max_pixels: int = setting(8 * 2**20, 'Largest image, width times height.', low=1, high=2**28)
    queue_size: int = setting(
        64, 'Most requests inside at once, waiting ones included.', low=1, high=4096
    )
    timeout: float = setting(
        30.0,
        'Longest time a request waits and is computed [s]; then it gets 503 or 504.',
        low=0.01,
        high=3600.0,
    )
    body_timeout: float = setting(
        10.0, 'Longest time the body of a request may take to arrive [s].', low=0.1, high=3600.0
    )
    shutdown_timeout: int = setting(
        30,
        'Longest time that open requests are given when the server is stopped [s].',
        low=0,
        high=3600,
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


def read_token(settings: ServerSettings, environment: Mapping[str, str]) -> str | None:
    """Find the bearer token; None where none is asked for.

    Raises:
        ConfigError: There is none although others reach the server, or it is too short.
    """
    token, source = environment.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    if token is None and settings.token_file:
        path = Path(settings.token_file).expanduser()
        source = f'token_file {path}'
        try:
            token = path.read_text(encoding='utf-8').strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'{source} cannot be read: {error}') from error
    if token is None:
        if settings.is_loopback or settings.allow_no_token:
            return None
        raise ConfigError(
            f'host {settings.host} is reached by others, and there is no token; set '
            f'{TOKEN_VARIABLE} or token_file (python -c "import secrets; '
            'print(secrets.token_urlsafe())" makes one), or allow_no_token:=true'
        )
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() or ' ' in token:
        raise ConfigError(
            f'{source}: the token has {len(token)} characters; at least {_MIN_TOKEN} printable '
            'ASCII characters without spaces are needed'
        )
    return token
