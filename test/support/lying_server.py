"""A server that describes a policy and answers each question as a test edits it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import threading
from typing import Any

import numpy as np
from stand_in_policy import StandInPolicy

from trt_openvla_ros.codec import encode_description, encode_prediction

IMAGE = np.full((8, 8, 3), 128, np.uint8)


@contextmanager
def lying(
    describe: Callable[[dict[str, Any]], Any] = lambda facts: None,
    answer: Callable[[dict[str, Any]], Any] = lambda answer: None,
    policy: StandInPolicy | None = None,
) -> Iterator[str]:
    """Serve a policy over HTTP; the two functions change its JSON in place. Give the URL."""
    policy = policy or StandInPolicy(np.zeros(7))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self):
            facts = encode_description(policy.description)
            describe(facts)
            self._send(facts)

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            given = encode_prediction(policy.predict(IMAGE, asked['instruction']))
            answer(given)
            self._send(given)

        def _send(self, value):
            body = json.dumps(value).encode()  # NaN and Infinity as Python and JavaScript write
            self.send_response(200)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_address[1]}'
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
