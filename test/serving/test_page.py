"""The page in a browser: what a person would do, and what they would see."""

from pathlib import Path

from browser import find_chromium, Page
import numpy as np
from PIL import Image
import pytest

from trt_openvla_ros.engines.base import Generation

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason='there is no Chromium to show the page; run tools/setup_browser.sh',
)
PHOTO = Path(__file__).parents[1] / 'data' / 'coffee.jpg'
READY = (
    'document.body.dataset.ready === "yes" && document.querySelector("#image").naturalWidth > 0'
)
TEXT = (
    ' pick up the red can PLAN: reach, grasp VISIBLE OBJECTS: red can [20, 30, 60, 90], '
    'blue <b>ball</b> [100, 120, 160, 200] MOVE: move left GRIPPER POSITION: [10, 20, 30, 40] '
    'ACTION:'
)


@pytest.fixture
def page(tmp_path):
    page = Page(tmp_path / 'profile')
    yield page
    page.close()


def colours(path: Path, box) -> int:
    return len(
        np.unique(np.asarray(Image.open(path).convert('RGB').crop(box)).reshape(-1, 3), axis=0)
    )


def test_a_person_asks_for_an_action(server, page, tmp_path):
    page.open(server.url)
    page.wait(
        'document.body.dataset.ready === "yes" && document.querySelector("#image").naturalWidth'
    )
    page.click('#samples button:nth-child(2)')
    page.wait('document.querySelector("#samples button:nth-child(2)").ariaPressed === "true"')
    page.type('#instruction', 'push the blue ball')
    page.click('#ask')
    page.wait('document.querySelector("#answer").dataset.state === "answered"')
    assert page.js('document.querySelectorAll("#action .row").length') == 7
    assert 'push the blue ball?' in page.js('document.querySelector("#reasoning").textContent')
    assert 'without reasoning' in page.js('document.querySelector("#reasoning").textContent')
    latency = page.js('document.querySelector("#latency").textContent')
    for part in ('read', 'queue', 'vision', 'prefill', 'decode', 'round trip'):
        assert part in latency
    widths = page.js('[...document.querySelectorAll("#bar div")].map(d => d.offsetWidth)')
    assert sum(widths) == pytest.approx(
        page.js('document.querySelector("#bar").offsetWidth'), abs=9
    )
    page.screenshot(tmp_path / 'page.png')
    assert colours(tmp_path / 'page.png', (40, 120, 400, 400)) > 1000  # a photograph is there
    assert page.complaints == []
    assert all(url.startswith((server.url, 'blob:', 'data:', 'about:')) for url in page.requested)


def test_reasoning_is_shown_with_boxes_and_as_text(serve, single, page, monkeypatch, tmp_path):
    single.close = lambda: None
    tokenizer = single.spec.prompter.tokenizer
    action = single.spec.tokens.encode(np.linspace(-0.9, 0.9, 7)).tolist()
    ids = [*tokenizer.encode(TEXT)[1:], tokenizer.empty_piece_id, *action, tokenizer.eos_id]
    monkeypatch.setattr(
        single.engines.language, 'generate', lambda *_: Generation(ids, 0, 0.01, 0.02)
    )
    with serve(policy=single) as server:
        page.open(server.url)
        page.wait('document.body.dataset.ready === "yes"')
        page.choose('#file', PHOTO)
        page.wait('document.querySelector("#image").naturalWidth > 300')
        page.click('#ask')
        page.wait('document.querySelector("#answer").dataset.state === "answered"')
        boxes = page.js(
            '[...document.querySelectorAll("#marks rect")].map(r => '
            '["x", "y", "width", "height"].map(n => +r.getAttribute(n)))'
        )
        assert boxes == [[20, 30, 40, 60], [100, 120, 60, 80]]
        names = page.js('[...document.querySelectorAll("#marks text")].map(t => t.textContent)')
        # What a model writes is never HTML.
        assert names == ['red can', 'blue <b>ball</b>']
        assert page.js('document.querySelectorAll("#reasoning b").length') == 0
        assert page.js('document.querySelectorAll("#marks circle").length') == 2
        page.screenshot(tmp_path / 'reasoning.png')
        assert page.complaints == []


def test_errors_are_shown(server, page):
    page.open(server.url)
    page.wait(
        'document.body.dataset.ready === "yes" && document.querySelector("#image").naturalWidth'
    )
    page.type('#instruction', ' . ')
    page.click('#ask')
    page.wait('document.querySelector("#answer").dataset.state === "failed"')
    assert 'is empty' in page.js('document.querySelector("#error").textContent')


def test_a_token_can_be_given(serve, page):
    with serve(token='a-token-of-this-test') as server:
        page.open(server.url)
        page.wait('!document.querySelector("#locked").hidden')
        page.type('#token', 'a-token-of-this-test')
        page.js('document.querySelector("#token").dispatchEvent(new Event("change"))')
        page.wait('document.body.dataset.ready === "yes"')
        assert page.js('document.querySelector("#locked").hidden')


def test_the_api_is_described(server, page):
    page.open(f'{server.url}/docs')
    page.wait('document.querySelector("#document").className === ""')
    text = page.js('document.body.textContent')
    for part in (
        'POST /act',
        'GET /metadata',
        'original',
        'oft',
        'Retry-After',
        'reasoning_fields',
    ):
        assert part in text
    assert page.complaints == []
