"""A real Chromium without a window, driven over its own debugging protocol."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time

from websockets.sync.client import connect

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


def find_chromium():
    return next(filter(None, map(shutil.which, NAMES)), None)


def chromium():
    found = find_chromium()
    if not found:
        raise RuntimeError(f'none of {", ".join(NAMES)} is there; run tools/setup_browser.sh')
    return found


class Page:
    """One tab. JavaScript's errors and blocked requests are kept in `complaints`."""

    def __init__(self, profile, size=(1100, 900)):
        self._process = subprocess.Popen(
            [chromium(), '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
             '--disable-dev-shm-usage', '--disable-background-networking',
             '--remote-debugging-port=0', f'--user-data-dir={profile}',
             f'--window-size={size[0]},{size[1]}', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._numbers = itertools.count(1)
        self.complaints, self.requested = [], []
        for line in self._process.stderr:
            if line.startswith('DevTools listening on '):
                break
        else:
            raise RuntimeError('chromium ended')
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(line.split()[-1], max_size=None))
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network', 'DOM'):
            self.call(f'{domain}.enable')
        width, height = size
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def call(self, method, **params):
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': params}
        if hasattr(self, '_session'):
            message['sessionId'] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(60))
            if answer.get('id') == number:
                assert 'error' not in answer, answer
                return answer['result']
            self._note(answer)

    def _note(self, event):
        params = event.get('params', {})
        if event.get('method') == 'Runtime.exceptionThrown':
            self.complaints.append(params['exceptionDetails'])
        elif event.get('method') == 'Log.entryAdded' and params['entry']['level'] == 'error':
            self.complaints.append(params['entry'])
        elif event.get('method') == 'Network.requestWillBeSent':
            self.requested.append(params['request']['url'])

    def js(self, code):
        result = self.call('Runtime.evaluate', expression=code, returnByValue=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def wait(self, code, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.js(code):
            assert time.monotonic() < deadline, f'{code}: {self.complaints}'
            time.sleep(0.05)

    def open(self, url):
        self.call('Page.navigate', url=url)
        self.wait('document.readyState === "complete" && location.href !== "about:blank"')

    def click(self, selector):
        place = f'document.querySelector({selector!r})'
        self.js(f'{place}.scrollIntoView({{block: "center"}})')
        box = self.js(f'(r => [r.x + r.width / 2, r.y + r.height / 2])'
                      f'({place}.getBoundingClientRect())')  # fmt: skip
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=box[0], y=box[1], button='left',
                      clickCount=1)  # fmt: skip

    def type(self, selector, text):
        self.js(f'document.querySelector({selector!r}).focus()')
        self.js(f'document.querySelector({selector!r}).value = ""')
        self.call('Input.insertText', text=text)

    def choose(self, selector, path):
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', files=[str(path)], nodeId=node)

    def screenshot(self, path):
        data = self.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(data))

    def close(self):
        with contextlib.suppress(Exception):
            self._open.close()
        self._process.terminate()
        self._process.wait(20)
        self._process.stderr.close()
