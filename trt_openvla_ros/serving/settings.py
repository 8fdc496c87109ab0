"""The settings of a server, and the token that it asks for."""

from __future__ import annotations

from dataclasses import dataclass
import ipaddress

from trt_openvla_ros.client import find_token, TOKEN_VARIABLE
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pictures import PIXELS
from trt_openvla_ros.policy.loading import ModelSettings
from trt_openvla_ros.settings import field_of, setting

_MIN_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServerSettings(ModelSettings):
    """The parameters of deploy_server; it shares those of the model with the policy node."""

    unnorm_key: str = setting('', 'Data set whose statistics are applied if a request names none.')
    host: str = setting('127.0.0.1', 'Address to listen on; needs a token if others reach it.')
    port: int = setting(8000, 'TCP port; 0 takes a free one.', low=0, high=65535)
    token_file: str = setting(
        '',
        f'File with the token that clients must send; {TOKEN_VARIABLE} in the environment wins '
        'over it.',
    )
    allow_no_token: bool = setting(
        False, 'Ask for no token, even on an address that others reach.'
    )
    max_body: int = setting(8 * 2**20, 'Longest request body [bytes].', low=1024, high=2**30)
    max_pixels: int = field_of(PIXELS)
    max_memory: int = setting(
        512 * 2**20,
        'Most bytes that all requests together may hold; a further one gets 503.',
        low=2**20,
        high=2**40,
    )
    queue_size: int = setting(
        64, 'Most requests in the server at once, waiting ones included.', low=1, high=4096
    )
    timeout: float = setting(
        30.0,
        'Longest time for waiting and computing [s]; then a request gets 503 or 504.',
        low=0.01,
        high=3600.0,
    )
    body_timeout: float = setting(
        10.0, 'Longest time to receive the body of a request [s].', low=0.1, high=3600.0
    )
    shutdown_timeout: int = setting(
        1,
        'Longest time to answer open requests when the server stops [s]; the others get 503.',
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


def read_token(settings: ServerSettings) -> str | None:
    """Find the bearer token; None if clients need none.

    Raises:
        ConfigError: Others reach the server and there is no token, or the token is too weak.
    """
    token = find_token(settings.token_file, 'token_file')
    if token is None:
        if settings.is_loopback or settings.allow_no_token:
            return None
        raise ConfigError(
            f'others reach host {settings.host}, and there is no token; set '
            f'{TOKEN_VARIABLE} or token_file (python -c "import secrets; '
            'print(secrets.token_urlsafe())" makes one), or allow_no_token:=true'
        )
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() or ' ' in token:
        raise ConfigError(
            f'{TOKEN_VARIABLE} or token_file: the token has {len(token)} characters; at least '
            f'{_MIN_TOKEN} printable ASCII characters without spaces are needed'
        )
    return token
