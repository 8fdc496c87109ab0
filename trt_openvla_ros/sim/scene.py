"""The model of the table in MJCF: sizes, looks, joints and the camera."""

from __future__ import annotations

from trt_openvla_ros.sim.goals import COLOURS

CONTROL_PERIOD = 0.2  # [s]
SUBSTEPS = 48  # steps of the physics in one control period; a multiple of 8, see World.step
IMAGE_SIZE = 256  # [px] square, as the images of BridgeData V2 are stored
RADIUS = 0.024  # [m] half of the width and height of every object
HOLD = RADIUS + 0.005  # [m] distance of each finger from the middle when it holds an object
FIST = 0.025  # [m] half the width of the fist that a closed hand pushes with
OPEN, SHUT = 0.042, 0.012  # [m] distance of each finger from the middle; a shut one aims for 0

_GEOMS = {
    'block': ('box', f'{RADIUS * 0.92} {RADIUS * 0.92} {RADIUS}'),
    'ball': ('sphere', f'{RADIUS}'),
    'cylinder': ('cylinder', f'{RADIUS * 0.85} {RADIUS}'),
}
_FRICTION = 'friction="1.5 0.02 0.002" condim="6" solref="0.01 1"'


def scene_xml() -> str:
    """Describe table, camera, hand and one object of each look in MJCF."""
    bodies = ''
    for colour, rgb in COLOURS.items():
        for shape, (kind, size) in _GEOMS.items():
            bodies += (
                f'<body name="{colour} {shape}" pos="0 0 -1" gravcomp="0"><freejoint/>'
                f'<geom type="{kind}" size="{size}" mass="0.04" {_FRICTION} '
                f'rgba="{rgb[0]} {rgb[1]} {rgb[2]} 1"/></body>'
            )
    # The fingers touch nothing: the fist pushes, and a weld holds; see World.
    finger = (
        '<geom type="box" size="0.011 0.006 0.03" pos="0 0 0.018" rgba="0.25 0.25 0.28 1" '
        'mass="0.1" contype="0" conaffinity="0"/>'
    )
    names = [f'{colour} {shape}' for colour in COLOURS for shape in _GEOMS]
    welds = ''.join(
        f'<weld name="{name}" body1="hand" body2="{name}" relpose="0 0 0 1 0 0 0" active="false" '
        'solref="0.02 1"/>'
        for name in names
    )
    return f"""
<mujoco>
  <option timestep="{CONTROL_PERIOD / SUBSTEPS}" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="{IMAGE_SIZE}" offheight="{IMAGE_SIZE}"/>
    <quality shadowsize="2048" offsamples="4"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
  </visual>
  <worldbody>
    <light directional="true" pos="0 0 2" dir="0.25 0.1 -1" diffuse="0.55 0.55 0.55"
      specular="0.1 0.1 0.1" castshadow="true"/>
    <geom name="table" type="box" size="1.5 1.5 0.02" pos="0.8 0 -0.02"
      rgba="0.72 0.66 0.58 1" {_FRICTION}/>
    <camera name="camera" pos="-0.45 0 0.66" xyaxes="0 -1 0 0.771 0 0.636" fovy="38"/>
    {bodies}
    <body name="goal" mocap="true" pos="0 0 0.12"/>
    <body name="spot" mocap="true" pos="0 0 0">
      <geom type="cylinder" size="0.012 0.0008" rgba="1 0.1 1 1" contype="0" conaffinity="0"/>
    </body>
    <body name="hand" pos="0 0 0.12" gravcomp="1">
      <freejoint/>
      <geom type="box" size="0.018 0.05 0.012" pos="0 0 0.062" rgba="0.9 0.9 0.92 1"
        mass="1.0" contype="0" conaffinity="0"/>
      <geom type="cylinder" size="0.014 0.03" pos="0 0 0.1" rgba="0.55 0.55 0.6 1"
        mass="0.5" contype="0" conaffinity="0"/>
      <geom name="fist" type="box" size="{FIST} {FIST} 0.02" pos="0 0 0.01" mass="0.1" group="4"
        contype="0" conaffinity="0" {_FRICTION}/>
      <body name="finger_left" gravcomp="1">
        <joint name="left" type="slide" axis="0 1 0" range="{SHUT * 0.5} {OPEN}" damping="20"/>
        {finger}
      </body>
      <body name="finger_right" gravcomp="1">
        <joint name="right" type="slide" axis="0 -1 0" range="{SHUT * 0.5} {OPEN}" damping="20"/>
        {finger}
      </body>
    </body>
  </worldbody>
  <equality>
    <weld body1="goal" body2="hand" solref="0.02 1" solimp="0.95 0.99 0.001"/>
    {welds}
  </equality>
  <actuator>
    <position joint="left" kp="400" forcerange="-6 6"/>
    <position joint="right" kp="400" forcerange="-6 6"/>
  </actuator>
</mujoco>"""
