"""Requests that nobody waits for."""

import time

from rclpy.node import Node
from std_srvs.srv import SetBool

from trt_openvla_ros.nodes.robot.requests import Request, Requests


def test_request_that_gets_no_answer_is_made_again(bench):
    server, client = Node('server', context=bench.context), Node('client', context=bench.context)
    asked = []

    def answer(request, response):
        asked.append(request.data)
        response.success = True
        return response

    server.create_service(SetBool, 'pause', answer)
    requests = Requests(client, 0.2)
    pause = Request(requests.client(SetBool, '/pause'), SetBool.Request(data=True), lambda a: '')
    bench.spin(client)
    requests.begin([pause], time.monotonic())

    deadline = time.monotonic() + 20
    while not requests.trouble.startswith('/pause has not answered for 0.5'):
        assert time.monotonic() < deadline, requests.trouble
        requests.go_on(time.monotonic())
    bench.spin(server)  # it takes all that came meanwhile
    while requests.trouble:
        assert time.monotonic() < deadline, requests.trouble
        requests.go_on(time.monotonic())

    assert len(asked) >= 2
    requests.destroy()
