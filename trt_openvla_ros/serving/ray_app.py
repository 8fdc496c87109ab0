"""The same application on Ray Serve: one replica of the policy for each GPU.

    pip install 'ray[serve]'
    python -m trt_openvla_ros.serving.ray_app --ros-args -p checkpoint:=openvla/openvla-7b

Replicas share nothing. Any replica answers any request, and /metrics shows only the replica that
answers. A newer request of an `X-Client-Id` replaces an older one only within one replica. Ray's
proxy receives a whole body before a replica can refuse it as too long.
"""

from __future__ import annotations

from dataclasses import dataclass
import sys
from typing import Any

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import ConfigError, PolicyError
from trt_openvla_ros.policy.loading import check_checkpoint, open_policy
from trt_openvla_ros.serving.app import create_app
from trt_openvla_ros.serving.settings import read_token, ServerSettings
from trt_openvla_ros.settings import describe_settings, setting

NAME = 'deploy_server'  # name of the node in parameter files, as for the server without Ray


@dataclass(frozen=True)
class RaySettings(ServerSettings):
    """The parameters of deploy_server, and the number of replicas."""

    replicas: int = setting(0, 'Copies of the policy; 0 makes one for each GPU.', low=0, high=1024)


def application(settings: RaySettings, token: str | None, gpus: int) -> Any:
    """Make the Ray Serve application.

    Args:
        settings: Settings of the replicas.
        token: Token that clients must send; None asks for none.
        gpus: Number of GPUs that Ray has. If it is 0, or device is cpu, replicas compute on CPUs.
    """
    from ray import serve

    on_gpus = gpus > 0 and settings.device != 'cpu'
    replicas = settings.replicas or (gpus if on_gpus else 1)

    @serve.deployment(
        name='policy',
        num_replicas=replicas,
        ray_actor_options={'num_gpus': 1 if on_gpus else 0, 'num_cpus': 1},
        # One place more, so /healthz is answered while all others are taken.
        max_ongoing_requests=settings.queue_size + 1,
        graceful_shutdown_timeout_s=float(settings.shutdown_timeout),
    )
    @serve.ingress(lambda: create_app(open_policy(settings), settings, token))
    class Policy:
        """A replica: the application, with a policy of its own."""

    return Policy.bind()


def main(argv: list[str] | None = None) -> None:
    """Serve until the process is interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    if set(arguments) & {'-h', '--help'}:
        print(__doc__)
        print(describe_settings(RaySettings))
        return
    try:
        settings = read_settings(RaySettings, arguments, NAME)
        token = read_token(settings)
        check_checkpoint(settings)
        _serve(settings, token)
    except PolicyError as error:
        sys.exit(f'ray_app: {error}')
    except KeyboardInterrupt:  # after Ray has stopped the replicas
        pass


def _serve(settings: RaySettings, token: str | None) -> None:
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise ConfigError("Ray is not installed; pip install 'ray[serve]'") from error
    # The dashboard would listen too, without asking for our token.
    ray.init(include_dashboard=False, ignore_reinit_error=True)
    serve.start(http_options={'host': settings.host, 'port': settings.port})
    gpus = int(ray.cluster_resources().get('GPU', 0))
    serve.run(application(settings, token, gpus), name='policy', route_prefix='/', blocking=True)


if __name__ == '__main__':
    main()
