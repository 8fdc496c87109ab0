"""The one reader of pictures: files and camera messages to RGB arrays, for every door."""

from trt_openvla_ros.pictures.files import MAX_PIXELS, PIXELS, read_picture, read_picture_file
from trt_openvla_ros.pictures.messages import check, decompress, unpack

__all__ = [
    'MAX_PIXELS',
    'PIXELS',
    'check',
    'decompress',
    'read_picture',
    'read_picture_file',
    'unpack',
]
