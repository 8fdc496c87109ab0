#!/usr/bin/env bash
# Build the packages of test/interfaces that ROS 2 does not have here, once for each state of them,
# and print the file to source. Run it in the environment of tools/setup_env.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 3>&1 >&2

missing=$(python - test/interfaces/*/package.xml <<'PYTHON'
from pathlib import Path
import sys

from ament_index_python.packages import get_packages_with_prefixes

names = {Path(path).parent.name for path in sys.argv[1:]}
print(*sorted(names - get_packages_with_prefixes().keys()))
PYTHON
)
[[ -n $missing ]] || { echo /dev/null >&3; exit; }

# In the venv, as everything else that is built once: `make clean` leaves it there.
key=$( (cat "$0"; find test/interfaces -type f | sort | xargs cat; echo "$missing") \
  | sha256sum | cut -c1-12)
place=$VIRTUAL_ENV/interfaces-$key
# Two at once, say `make test` in two checkouts: the second waits and finds it done.
exec 9>"$place.lock"
flock 9
if [[ ! -f $place/.complete ]]; then
  echo "building $missing for the tests (once, half a minute) ..."
  rm -rf "$place"
  mkdir -p "$place"
  colcon --log-base "$place/log" build --event-handlers console_direct- \
    --base-paths test/interfaces --packages-select $missing \
    --build-base "$place/build" --install-base "$place/install" \
    --cmake-args -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python" -DBUILD_TESTING=OFF
  rm -rf "$place/build"
  touch "$place/.complete"
fi
echo "$place/install/local_setup.bash" >&3
