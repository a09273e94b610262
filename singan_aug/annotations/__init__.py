"""Annotations that lie beside images: mask files, COCO and YOLO; and outlines as polygons, run lengths and masks."""

from singan_aug.annotations._coco import Coco, CocoImages, match_coco, read_coco
from singan_aug.annotations._find import Masks, MaskSource, find_masks
from singan_aug.annotations._masks import open_mask, read_mask
from singan_aug.annotations._match import counted, of_two_images, places
from singan_aug.annotations._shapes import (
    Objects,
    Outline,
    Shape,
    added_polygons,
    decode_rle,
    encode_rle,
    instance_mask,
    joined,
    polygons_of,
)
from singan_aug.annotations._yolo import is_yolo, read_yolo, refuse_poses, yolo_line

__all__ = [
    "Coco",
    "CocoImages",
    "MaskSource",
    "Masks",
    "Objects",
    "Outline",
    "Shape",
    "added_polygons",
    "counted",
    "decode_rle",
    "encode_rle",
    "find_masks",
    "instance_mask",
    "is_yolo",
    "joined",
    "match_coco",
    "of_two_images",
    "open_mask",
    "places",
    "polygons_of",
    "read_coco",
    "read_mask",
    "read_yolo",
    "refuse_poses",
    "yolo_line",
]
