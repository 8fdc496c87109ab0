"""Build and install this package as the Dockerfile does, from the files that Docker would send.

    python tools/check_docker_build.py

The command is the Dockerfile's. This venv takes the place of the image's ROS and Python, and the
stand-in that of TensorRT. Docker itself is not needed.
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile

from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[1]
DOCKERFILE = 'docker/Dockerfile'


def context(root: Path = ROOT) -> set[str]:
    """List the files that Docker sends as the context of the build.

    Args:
        root: Directory of the context, with .dockerignore.
    """
    lines = (root / '.dockerignore').read_text().splitlines()
    rules = [line.strip() for line in lines if line.strip() and not line.startswith('#')]
    sent = exclude_paths(str(root), rules, dockerfile=DOCKERFILE)
    return {path for path in sent if not (root / path).is_dir()}


def build_command() -> str:
    """Read the command of the Dockerfile that builds, installs and imports the package."""
    text = (ROOT / DOCKERFILE).read_text().replace('\\\n', '')
    (command,) = re.findall(r'^RUN (.*colcon build.*)$', text, re.MULTILINE)
    return command


def main() -> None:
    """Build in a directory that is laid out as the image's /workspace."""
    command = build_command()
    venv = Path(sys.prefix)
    for there, here in {
        '/opt/ros/jazzy/setup.bash': venv / 'env.bash',
        '/usr/bin/python3': venv / 'bin' / 'python',
    }.items():
        assert there in command, there
        command = command.replace(there, str(here))
    stand_in = str(ROOT / 'test' / 'stand_in')
    environment = {**os.environ, 'PYTHONPATH': stand_in}
    # By it, ROS's wheels would believe that this Python's paths are those of the next one.
    environment.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None)
    with tempfile.TemporaryDirectory(prefix='workspace-') as workspace:
        for path in sorted(context()):
            copy = Path(workspace) / 'src' / 'trt_openvla_ros' / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy)
        words = ['bash', '-eo', 'pipefail', '-c', command]
        subprocess.run(words, cwd=workspace, env=environment, check=True)
    print('the package builds, installs and is imported as in the image')


if __name__ == '__main__':
    main()
