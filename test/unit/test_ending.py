"""How a process begins, stops and ends, with commands that do what stops worst."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 15  # [s] on a busy machine; docs/node.md has the measured times
# A main thread that is deep in a library runs no handler of Python's.
DEEP = """
import ctypes
mutex = ctypes.create_string_buffer(64)
lock = ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
print('deep', flush=True)
lock(mutex)
"""


@pytest.fixture
def start(tmp_path):
    """Start a module of that text as scripts/ do; wait until it prints a line."""
    processes = []

    def begin(text, stopped=130, line=True):
        (tmp_path / 'command.py').write_text(text)
        code = f"from trt_openvla_ros.process import run; run('command', stopped={stopped})"
        process = subprocess.Popen(
            [sys.executable, '-c', code],
            env={**os.environ, 'PYTHONPATH': f'{ROOT}:{tmp_path}'},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        if line:
            assert process.stdout.readline()
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def indent(text):
    return text.replace('\n', '\n    ')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('stopped', [0, 130])
@pytest.mark.parametrize(
    'text',
    [
        'print("imports", flush=True)\nimport time\ntime.sleep(60)',
        DEEP,
        f'def main():{indent(DEEP)}',
        # What swallows the interruption, and goes on.
        """
import time
def main():
    print('on', flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
""",
        # What the interruption breaks.
        """
import time
def main():
    print('on', flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise RuntimeError('broken')
""",
        # Where nothing can be raised.
        """
import time
class Waiting:
    def __del__(self):
        print('on', flush=True)
        time.sleep(60)
def main():
    Waiting()
    time.sleep(60)
""",
        # After the command.
        """
import atexit, time
@atexit.register
def wait():
    print('on', flush=True)
    time.sleep(60)
def main():
    pass
""",
        # A thread that is no daemon, and one that reads what never comes.
        """
import threading, time, os
def main():
    threading.Thread(target=time.sleep, args=(60,)).start()
    threading.Thread(target=os.read, args=(os.pipe()[0], 1)).start()
    print('on', flush=True)
    time.sleep(60)
""",
    ],
    ids=['imports', 'deep import', 'deep', 'deaf', 'broken', 'destructor', 'ended', 'threads'],
)
def test_a_signal_ends_whatever_it_does(start, text, number, stopped):
    process = start(text, stopped)

    process.send_signal(number)

    _, errors = process.communicate(timeout=PATIENCE)
    # After the command's own end its code counts, which is 0 here.
    assert process.returncode in ({0, stopped} if 'atexit' in text else {stopped})
    assert errors == ''


def test_nohup_is_heeded(start):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start('import time\ndef main():\n    print("on", flush=True)\n    time.sleep(9)')
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)


def test_clean_up_is_done_whole_though_the_signal_comes_again(start):
    process = start("""
import time
def main():
    try:
        print('on', flush=True)
        time.sleep(60)
    finally:
        print('cleaning', flush=True)
        time.sleep(0.5)
        print('clean')
""")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == 'cleaning\n'
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)

    output, errors = process.communicate(timeout=PATIENCE)

    assert (output, errors, process.returncode) == ('clean\n', '', 130)


def test_pipe_that_nobody_reads_does_not_hold_it(start):
    process = start("""
import sys
def main():
    print('on', flush=True)
    while True:
        print('x' * 1000)
""")
    process.send_signal(signal.SIGTERM)

    assert process.wait(PATIENCE) == 130


def test_a_fork_that_is_stopped_stops_nobody_else(start):
    process = start("""
import os, signal, time
def main():
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.write(sender, b'on')
        time.sleep(60)
    os.read(receiver, 2)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    print('on', flush=True)
    time.sleep(0.3)
    print('still on')
""")
    output, _ = process.communicate(timeout=PATIENCE)
    assert (output, process.returncode) == ('still on\n', 0)


@pytest.mark.parametrize(
    ('text', 'code', 'errors'),
    [
        ('', 0, ''),
        ('import sys; sys.exit()', 0, ''),
        ('import sys; sys.exit(3)', 3, ''),
        ('import sys; sys.exit("no such file")', 1, 'no such file\n'),
        ('import sys; sys.exit("")', 1, '\n'),
    ],
)
def test_it_ends_as_python_would(start, text, code, errors):
    process = start(
        'import atexit\n@atexit.register\ndef last():\n    print("last")\n'
        f'def main():\n    print("no end of line", end="")\n    {text or "pass"}',
        line=False,
    )
    assert process.communicate(timeout=PATIENCE) == ('no end of linelast\n', errors)
    assert process.returncode == code


def test_unexpected_error_has_its_traceback_and_a_code_of_its_own(start):
    process = start('def main():\n    {}["key"]', line=False)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == os.EX_SOFTWARE
    assert "KeyError: 'key'" in errors
    assert 'Traceback' in errors
