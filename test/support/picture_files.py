"""Files that every door reads alike: with their pixels, or with the reason why they are refused.

The pixels come from arrays, or from Pillow told what to do, and not from the code under test.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

_RNG = np.random.default_rng(0)
RGB = np.asarray(Image.fromarray(_RNG.integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48)))
GREY = RGB[:, :, 0]
DEEP = RGB.astype(np.uint16) << 8 | (RGB ^ 0xFF)  # 16 bits whose low byte is another picture
EOI = b'\xff\xd9'


def encoded(image, kind, **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        file, kind, **options
    )
    return file.getvalue()


def exif(orientation):
    values = Image.Exif()
    values[0x0112] = orientation
    return values


def chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + crc(name + content)


def crc(data):
    return struct.pack('>I', zlib.crc32(data))


def png(values, bits, kind, width=64, height=48):
    """Write rows of big-endian values by hand, because Pillow writes no 16-bit colours."""
    rows = values.astype('>u2' if bits == 16 else np.uint8).reshape(height, -1)
    pixels = b''.join(b'\0' + row.tobytes() for row in rows)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(pixels))
        + chunk(b'IEND', b'')
    )


def interlaced(values, cut=lambda pixels: pixels):
    """Write RGB in Adam7's seven passes."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
             (0, 1, 1, 2))  # fmt: skip
    passes = [values[top::down, left::across] for left, top, across, down in steps]
    pixels = b''.join(b'\0' + row.tobytes() for part in passes for row in part)
    header = struct.pack('>IIBBBBB', *values.shape[1::-1], 8, 2, 0, 0, 1)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(cut(pixels)))
    return b'\x89PNG\r\n\x1a\n' + parts + chunk(b'IEND', b'')


def segment(marker, content):
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content


def after_start(file, *segments):
    """Put segments behind a JPEG's start, or chunks behind a PNG's header."""
    head = 2 if file.startswith(b'\xff') else 33
    return file[:head] + b''.join(segments) + file[head:]


def more_scans(file, count):
    last = file.rindex(b'\xff\xda')
    scan = file[file.rindex(b'\xff\xc4', 0, last) : -2]
    return file[:-2] + scan * count + EOI


def index_of_two(file):
    """Say in a JPEG that another picture follows, by which Pillow takes it for an MPO."""
    index = TiffImagePlugin.ImageFileDirectory_v2()
    index[0xB000], index[0xB001] = b'0100', 2
    index[0xB002] = struct.pack('<LLLHH', 0x030000, len(file), 0, 0, 0) + struct.pack(
        '<LLLHH', 0, 10, 10, 0, 0
    )
    body = b'MPF\0II*\0' + struct.pack('<L', 8) + index.tobytes(8)
    return after_start(file, segment(0xE2, body))


def in_scans_of_one_colour(planes):
    """Make a sequential JPEG with a scan for each of [48, 64] Y, Cb and Cr."""
    files = [encoded(plane, 'JPEG', quality=90) for plane in planes]
    first = files[0]
    tables = first[first.index(b'\xff\xdb') : first.index(b'\xff\xc0')]
    components = b''.join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = segment(0xC0, struct.pack('>BHHB', 8, 48, 64, 3) + components)
    scans = []
    for number, file in enumerate(files, 1):
        start = file.index(b'\xff\xda')
        head = segment(0xDA, bytes([1, number, 0, 0, 63, 0]))
        scans.append(file[file.index(b'\xff\xc4') : start] + head + file[start + 10 : -2])
    return b''.join([b'\xff\xd8', tables, frame, *scans, EOI])


JPEG = encoded(RGB, 'JPEG', quality=90)
PROGRESSIVE = encoded(RGB, 'JPEG', quality=90, progressive=True)
PLANES = in_scans_of_one_colour(Image.fromarray(RGB).convert('YCbCr').split())
PNG = encoded(RGB, 'PNG')
BLACK = np.where(np.arange(48)[:, None, None] < 40, RGB, np.uint8(0))
THUMBNAIL = encoded(RGB[:16, :16], 'JPEG')
FRAMES = {'save_all': True, 'append_images': [Image.fromarray(255 - RGB)]}
TEXTS = chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(2**24))) * 80


def header(width, height):
    """Give PNG with another size in its header."""
    size = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return PNG[:8] + chunk(b'IHDR', size) + PNG[33:]


def by_pillow(file):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert('RGB'))


def _grey(values):
    return np.repeat(values[:, :, None], 3, axis=2)


_ALPHA = 255 - RGB[:, :, 1:2]
_PALETTE = Image.fromarray(RGB).quantize(17)
_BITS = GREY > 127
READ = {
    'png': (PNG, RGB),
    'png, 16-bit rgb': (png(DEEP, 16, 2), RGB),
    'png, 16-bit rgba': (png(np.dstack([DEEP, DEEP[:, :, 1:2]]), 16, 6), RGB),
    'png, 16-bit grey': (png(DEEP[:, :, 0], 16, 0), _grey(GREY)),
    'png, 16-bit grey with alpha': (png(DEEP[:, :, :2], 16, 4), _grey(GREY)),
    'png, grey': (encoded(GREY, 'PNG'), _grey(GREY)),
    'png, grey with alpha': (png(np.dstack([GREY, _ALPHA]), 8, 4), _grey(GREY)),
    'png, alpha': (png(np.dstack([RGB, _ALPHA]), 8, 6), RGB),
    'png, 1 bit': (encoded(Image.fromarray(_BITS), 'PNG'), _grey(_BITS * np.uint8(255))),
    'png, palette': (encoded(_PALETTE, 'PNG'), np.asarray(_PALETTE.convert('RGB'))),
    'png, turned': (encoded(RGB, 'PNG', exif=exif(6)), np.rot90(RGB, -1)),
    'png, interlaced': (interlaced(RGB), RGB),
    'png, black below': (encoded(BLACK, 'PNG'), BLACK),
    'png, large texts': (after_start(PNG, TEXTS), RGB),
    **{
        name: (file, by_pillow(file))
        for name, file in {
            'jpeg': JPEG,
            'jpeg, progressive': PROGRESSIVE,
            'jpeg, scan by scan': PLANES,
            'jpeg, grey': encoded(GREY, 'JPEG'),
            'jpeg, cmyk': encoded(Image.fromarray(RGB).convert('CMYK'), 'JPEG'),
            'jpeg, restarts': encoded(RGB, 'JPEG', restart_marker_rows=1),
            'jpeg, thumbnail': after_start(JPEG, segment(0xE1, b'Exif\0\0' + THUMBNAIL)),
            'jpeg, zeros behind': JPEG + bytes(100),
            'jpeg, filled': JPEG[:-2] + b'\xff\xff\xff' + EOI,
            **{
                f'jpeg, turned {n}': encoded(RGB, 'JPEG', exif=exif(n)) for n in (*range(1, 9), 99)
            },
        }.items()
    },
    'jpeg of two pictures': (encoded(RGB, 'MPO', **FRAMES), by_pillow(encoded(RGB, 'JPEG'))),
}

_NEITHER = 'neither a JPEG nor a PNG'
_CUT, _SCANS = 'broken JPEG file: .*(cut off|truncated)', 'more than 64 scans'
REFUSED = {
    'empty': (b'', _NEITHER),
    'junk': (b'junk', _NEITHER),
    **{
        kind.lower(): (encoded(RGB, kind), f'{_NEITHER} file, but {name}')
        for kind, name in {'BMP': 'BMP', 'TIFF': 'TIFF', 'GIF': 'GIF', 'WEBP': 'WebP'}.items()
    },
    'depth': (struct.pack('<iff', 0, 1, 2) + png(DEEP[:, :, 0], 16, 0), 'compressedDepth'),
    'png of two pictures': (encoded(RGB, 'PNG', **FRAMES), 'animated PNG'),
    'png, huge': (header(16000, 16000), '16000 x 16000 pixels; at most 8388608'),
    'png, cut': (PNG[:-60], 'broken PNG file: it is cut off'),
    'png, no end': (PNG[:-12], 'broken PNG file: it is cut off'),
    'png, interlaced, rows missing': (
        interlaced(RGB, lambda pixels: pixels[:-386]),
        'broken PNG file: its rows have 8920 of 9306 bytes',
    ),
    'png, rows missing': (header(64, 60), 'broken PNG file'),
    'png, no palette': (png(GREY, 8, 3), 'broken PNG file: it has no palette'),
    'png, a bit turned': (PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:], 'checksum'),
    'png, no pixels': (header(64, 0), '64 x 0 pixels'),
    'png, chunks': (after_start(PNG, chunk(b'teSt', b'') * 20000), 'too many chunks'),
    'jpeg, cut': (JPEG[:-300], _CUT),
    'jpeg, cut, with an end': (JPEG[:-300] + EOI, _CUT),
    'jpeg, cut, with a thumbnail': (
        after_start(JPEG, segment(0xE1, b'Exif\0\0' + THUMBNAIL))[:-300], _CUT),
    'jpeg, cut, with a comment': (after_start(JPEG, segment(0xFE, EOI))[:-300], _CUT),
    'jpeg, cut, with the next one': (JPEG[:-300] + JPEG, 'another picture begins'),
    'jpeg, only its head': (JPEG[:300], _CUT),
    'jpeg, progressive, cut, with an end': (PROGRESSIVE[:-300] + EOI, _CUT),
    'jpeg, progressive, a scan lost': (PROGRESSIVE[: PROGRESSIVE.rindex(b'\xff\xc4')] + EOI, _CUT),
    'jpeg, scan by scan, cut, with an end': (PLANES[:-100] + EOI, _CUT),
    'jpeg, scan by scan, one lost': (PLANES[: PLANES.rindex(b'\xff\xc4')] + EOI, _CUT),
    'jpeg, many scans': (more_scans(PROGRESSIVE, 64), _SCANS),
    'jpeg of two pictures, many scans': (index_of_two(more_scans(PROGRESSIVE, 64)), _SCANS),
    'jpeg, many segments': (after_start(JPEG, segment(0xFE, b'') * 10000), 'segments'),
    'jpeg, 12 bits': (JPEG.replace(b'\xff\xc0\0\x11\x08', b'\xff\xc1\0\x11\x0c'), 'with 12 bits'),
    'jpeg, lossless': (JPEG.replace(b'\xff\xc0\0\x11', b'\xff\xc3\0\x11'), 'SOF3'),
    'jpeg, huge': (
        JPEG.replace(struct.pack('>HH', 48, 64), struct.pack('>HH', 16000, 16000)),
        '16000 x 16000 pixels; at most 8388608'),
}  # fmt: skip
