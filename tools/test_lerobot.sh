#!/usr/bin/env bash
# Record the simulation, make a LeRobot data set of the bag, and load it with the lerobot of PyPI.
# Needs `make build`. An argument names another release of lerobot than 0.4.4, the last for
# Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${1:-0.4.4}
source "$(tools/setup_env.sh)/env.bash"
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A venv over the other one, which has torch. lerobot wants older releases of much that is there
# (torch, av, OpenCV), and robots' drivers; a data set needs only what is named here.
venv=$scratch/venv
python -m venv --without-pip "$venv"
own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$site" >"$own/other.pth"
pip=(python -m pip --python "$venv/bin/python" install -q --disable-pip-version-check)
"${pip[@]}" accelerate 'datasets<5' 'huggingface-hub<0.36'
"${pip[@]}" --no-deps "lerobot==$release" torchcodec
# torchcodec loads FFmpeg's libraries by their own names; the wheel of av has them under others.
mkdir "$scratch/ffmpeg"
for library in "$site"/av.libs/lib{av,sw}*; do
  name=$(basename "$library" | sed -E 's/-[0-9a-f]+\.so\.([0-9]+).*/.so.\1/')
  ln -s "$library" "$scratch/ffmpeg/$name"
done

(
  set +u # colcon's script reads variables that are not there
  source install/setup.bash
  set -u
  export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=$((1 + $$ % 100))
  PYTHONPATH=test/support:$PYTHONPATH python test/support/bag_recorder.py "$scratch/bags"
  install/trt_openvla_ros/lib/trt_openvla_ros/bag_to_lerobot \
    --bags "[$scratch/bags/mcap, $scratch/bags/sqlite3]" --out "$scratch/set" --fps 5 --rows steps \
    --pose-topic /hand/pose --gripper-joint finger_left
)
HF_HUB_OFFLINE=1 HF_HOME=$scratch/hub LD_LIBRARY_PATH=$scratch/ffmpeg:${LD_LIBRARY_PATH:-} \
  DATASET=$scratch/set BAG=$scratch/bags/mcap \
  "$venv/bin/python" -m pytest -q -p no:cacheprovider -c /dev/null --noconftest --rootdir "$PWD" \
  test/lerobot/check_dataset.py
