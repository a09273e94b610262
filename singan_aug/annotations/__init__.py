"""Annotations that lie beside images: mask files, COCO and YOLO; and outlines as polygons, run lengths and masks."""

from singan_aug.annotations._coco import Coco, read_coco
from singan_aug.annotations._find import Masks, MaskSource, find_masks, read_mask
from singan_aug.annotations._shapes import (
    Outline,
    Shape,
    decode_rle,
    encode_rle,
    instance_mask,
    joined,
    polygons_of,
)
from singan_aug.annotations._yolo import read_yolo, yolo_line

__all__ = [
    "Coco",
    "MaskSource",
    "Masks",
    "Outline",
    "Shape",
    "decode_rle",
    "encode_rle",
    "find_masks",
    "instance_mask",
    "joined",
    "polygons_of",
    "read_coco",
    "read_mask",
    "read_yolo",
    "yolo_line",
]
