"""The memory of images is used again, and not asked of the kernel for each."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from trt_openvla_ros.nodes.run import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        # As many copies of 6 MB as there are of an image on its way.
        copies = [bytearray(6 << 20) for _ in range(4)]
        del copies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == 'kept':
    keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='mallopt is of glibc')
def test_images_take_memory_of_earlier_ones():
    found = {}
    for how in ('kept', 'returned'):
        words = [sys.executable, '-c', PROGRAM, how]
        found[how] = int(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert found['kept'] < 0.2 * found['returned'], found
