#!/usr/bin/env bash
# Test the quantisation with other releases of nvidia-modelopt than the venv's: the container's and
# the newest, or those that the arguments name, such as ==0.44.0.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# != 0 ]] || set -- '==0.37.*' '>=0.44'
source "$(tools/setup_env.sh)/env.bash"
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for release in "$@"; do
  # A venv over the other one, which has torch and the rest.
  venv=$scratch/$release
  python -m venv "$venv"
  echo "$site" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/other.pth"
  "$venv/bin/python" -m pip install -q "nvidia-modelopt$release"
  "$venv/bin/python" -c 'from importlib.metadata import version as v; print("modelopt", v("nvidia-modelopt"))'
  PYTHONPATH=$PWD "$venv/bin/python" -m pytest -q -p no:cacheprovider test/unit/test_modelopt_releases.py \
    test/unit/test_pipeline_quantize.py test/unit/test_trtllm_weights.py
done
