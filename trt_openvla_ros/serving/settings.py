"""What a server can be told, and who may talk to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import ipaddress
from pathlib import Path

from trt_openvla_ros.engines import DTYPES
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.params import param
from trt_openvla_ros.policy import MAX_NEW_TOKENS
from trt_openvla_ros.prompt import PROMPT_STYLES

TOKEN_VARIABLE = 'TRT_OPENVLA_TOKEN'
_MIN_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServerSettings:
    """The parameters of deploy_server; those of the model are the policy node's."""

    checkpoint: str = param('', 'Directory of a Hugging Face OpenVLA checkpoint, or its Hub id.')
    unnorm_key: str = param(
        '', 'Data set whose statistics are applied where a request names none.'
    )
    engine: str = param('torch', 'Backend that runs the model.')
    device: str = param(
        '', 'Torch device such as cpu or cuda:0; empty takes a GPU if there is one.'
    )
    dtype: str = param(
        '', 'Precision; empty is bfloat16 on a GPU and float32 on the CPU.', choices=('', *DTYPES)
    )
    prompt_style: str = param(
        '',
        'How the model is asked; empty decides from the checkpoint.',
        choices=('', *PROMPT_STYLES),
    )
    max_new_tokens: int = param(
        MAX_NEW_TOKENS, 'Most tokens an answer with reasoning may have.', 1, 8192
    )
    constrain: bool = param(True, 'Restrict tokens to the action range once the action began.')
    host: str = param('127.0.0.1', 'Address to listen on; one that others reach needs a token.')
    port: int = param(8000, 'TCP port; 0 takes a free one.', 0, 65535)
    token_file: str = param(
        '', f'File with the bearer token that clients must send; {TOKEN_VARIABLE} wins over it.'
    )
    allow_no_token: bool = param(
        False, 'Listen on an address that others reach without asking for a token.'
    )
    max_body: int = param(8 * 2**20, 'Longest request body [bytes].', 1024, 2**30)
    max_pixels: int = param(8 * 2**20, 'Largest image, width times height.', 1, 2**28)
    queue_size: int = param(64, 'Most requests inside at once, waiting ones included.', 1, 4096)
    timeout: float = param(
        30.0,
        'Longest time a request waits and is computed [s]; then it gets 503 or 504.',
        0.01,
        3600.0,
    )
    body_timeout: float = param(
        10.0, 'Longest time the body of a request may take to arrive [s].', 0.1, 3600.0
    )
    shutdown_timeout: int = param(
        30, 'Longest time that open requests are given when the server is stopped [s].', 0, 3600
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
