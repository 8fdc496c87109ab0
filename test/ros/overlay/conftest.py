from player import Table
import pytest
from viewer import camera_pose, screen, SIM_TOPICS, Viewer


@pytest.fixture
def watch(graph, mirror):
    """Start a simulation and an overlay node with parameters; give the one who looks."""
    running = []

    def start(remap=SIM_TOPICS, **parameters):
        running.append(Table(graph.context, {'rate': 20.0, 'seed': 7}))
        place = {'camera_pose': camera_pose(mirror)}
        running.append(screen(graph.context, remap, {**place, **parameters}))
        running.append(Viewer(graph.context))
        return running[-1]

    yield start
    while running:
        running.pop().close()
