"""A server that runs for a test, and ways to hold it."""

import socket
import threading
import time

import httpx

from trt_openvla_ros.serving.app import create_app
from trt_openvla_ros.serving.main import Server, uvicorn_config


class Served:
    """A server that runs, in a thread of this process, as deploy_server runs it.

    Attributes:
        url, port: Where.
        http: A client of it.
    """

    def __init__(self, policy, token, settings):
        self.policy = policy
        self.app = create_app(policy, settings, token)
        self.server = Server(uvicorn_config(self.app, settings))
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))
        self._thread.start()
        wait(lambda: self.server.started or not self._thread.is_alive())
        self.http = httpx.Client(base_url=self.url, timeout=60)

    @property
    def queue(self):
        return self.app.state.service.queue

    def act(self, **json):
        return self.http.post('/act', json=json)

    def stop(self):
        self.server.should_exit = True

    def close(self):
        self.stop()
        self._thread.join(30)
        self.http.close()
        self._listener.close()
        assert not self._thread.is_alive()


class Gate:
    """Holds the policy inside its vision engine while shut."""

    def __init__(self, policy):
        self._open, self.inside = threading.Event(), threading.Event()
        self._open.set()
        self._encode = policy.engines.vision.encode
        policy.engines.vision.encode = self._pass
        self.undo = lambda: (self.open(), delattr(policy.engines.vision, 'encode'))

    def _pass(self, views):
        if not self._open.is_set():
            self.inside.set()
            self._open.wait(60)
        return self._encode(views)

    def shut(self):
        self.inside.clear()
        self._open.clear()

    def open(self):
        self._open.set()


def wait(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.002)
