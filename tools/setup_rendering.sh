#!/usr/bin/env bash
# Install OpenGL if it is missing; MuJoCo renders with it without a display.
# Without the right to install it, say how to. Never fails: only the simulation needs OpenGL.
# Not part of setup_env.sh, because every change of that file makes a new venv.
set -uo pipefail

# Looks for the libraries that PyOpenGL loads for MUJOCO_GL=egl.
renders() {
  "${PYTHON:-python3}" - <<'PYTHON'
import ctypes.util
import sys

libraries = [ctypes.util.find_library(name) for name in ('EGL', 'OpenGL', 'GL', 'GLESv2')]
sys.exit(not (libraries[0] and any(libraries[1:])))
PYTHON
}

packages=(libegl1 libopengl0 libgl1-mesa-dri)
renders && exit
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "installing ${packages[*]}, for rendering in the simulation ..."
  # Two set-ups at once: the second waits for dpkg's lock.
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >/dev/null
  renders && exit
fi
echo "no OpenGL (EGL): the simulation cannot render; all else works. To install it:" \
  "sudo apt install ${packages[*]}, or the packages of that kind on your system"
exit 0
