"""The executor, as far as a runner and who closes it see it."""

import itertools
import queue
import threading
import traceback


class Executor:
    """Runs one request at a time on a thread of its own, as the real one does on its own."""

    def __init__(self):
        self._ids = itertools.count(1)
        self._work = queue.Queue()
        # Of all requests in one queue, as in TensorRT-LLM: who takes another's answer breaks both.
        self._responses = queue.Queue()
        self._thread = threading.Thread(target=self._run, name='executor', daemon=True)
        self._thread.start()

    def can_enqueue_requests(self):
        return self._thread is not None

    def enqueue_requests(self, requests):
        if self._thread is None:
            raise RuntimeError('the executor was shut down')
        ids = [next(self._ids) for _ in requests]
        for pair in zip(ids, requests, strict=True):
            self._work.put(pair)
        return ids

    def await_responses(self):
        return [self._responses.get()]

    def cancel_request(self, id):
        raise NotImplementedError('not in this stand-in')

    def shutdown(self):
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None

    def _run(self):
        while (pair := self._work.get()) is not None:
            identifier, request = pair
            try:
                for tokens, final in request(identifier):
                    self._responses.put((identifier, tokens, final, None))
            except Exception:  # noqa: BLE001 - whatever it is, it is the answer
                self._responses.put((identifier, [], True, traceback.format_exc()))
