#!/usr/bin/env bash
# Run a command with ROS 2 and this package sourced.
set -eo pipefail
# Not with -u: ROS's own files use variables that need not be set.
source /opt/ros/jazzy/setup.bash
source /workspace/install/setup.bash
exec "$@"
