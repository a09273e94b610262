"""What a manifest must be before anything is made of it: a store may come from a stranger. No torch here.

A checksum guards against accidents, not against somebody who writes both a harmful value and the checksum that fits it.
"""

from __future__ import annotations

import base64
import math
from datetime import datetime

import xxhash

from singan_aug.config import FitConfig
from singan_aug.images.descriptor import DESCRIPTOR_BYTES
from singan_aug.pyramid.sizes import given_coarsest_px, stack_sizes
from singan_aug.store._manifest import Manifest

__all__ = ["MANIFEST_BYTES", "WEIGHTS_BYTES", "contradiction", "digest_of_config"]

MANIFEST_BYTES = 2**20  # at most; one of 40 scales has 30 KB
WEIGHTS_BYTES = 2**32  # at most; the paper's recipe takes 10 MB


def digest_of_config(config: FitConfig, format_version: int, *, masked: bool) -> xxhash.xxh3_64:
    """The second part of a key, to which the digest of a mask is added where there is one."""
    return xxhash.xxh3_64(f"{format_version}/{masked}/{config.digest()}".encode())


def contradiction(manifest: Manifest) -> str | None:
    """Why these values cannot be of one pyramid; None where they can."""
    config, finest = manifest.config, manifest.scale_sizes[-1]
    if manifest.key[:32] != manifest.fingerprint:
        return f"expected the fingerprint that its key begins with, got {manifest.fingerprint}"
    masked = bool(manifest.mask_values)
    digest = digest_of_config(config, manifest.format_version, masked=masked).hexdigest()
    if not masked and manifest.key[33:] != digest:  # with a mask, its pixels are part of the digest
        return f"expected the config that its key was made of, got another one, of a key that ends in {digest}"
    try:
        generated, copied = stack_sizes(finest, config, given_coarsest_px(manifest.scale_sizes[0], finest, config))
    except ValueError as error:
        return str(error)
    if manifest.scale_sizes != (*generated, *copied):
        return f"expected the scales that its config makes of {finest[1]}x{finest[0]}, got {manifest.scale_sizes}"
    if len(manifest.displacement_px) not in (0, len(manifest.scale_sizes)):
        return f"expected a displacement for each of {len(manifest.scale_sizes)} scales, or none"
    if not all(0 <= px <= 2 * math.hypot(*finest) for px in manifest.displacement_px):
        return f"expected displacements within the image, got {manifest.displacement_px}"
    if sorted(set(manifest.mask_values)) != list(manifest.mask_values):
        return "expected mask values in ascending order, each once"
    return _unreadable(manifest)


def _unreadable(manifest: Manifest) -> str | None:
    try:
        datetime.fromisoformat(manifest.created_at)
    except ValueError:
        return f"expected a date as ISO 8601 has it, got {manifest.created_at!r}"
    try:
        length = len(base64.b64decode(manifest.descriptor, validate=True))
    except ValueError:  # binascii's errors are; so is what it says of other letters than ASCII
        length = 0
    return None if length == DESCRIPTOR_BYTES else f"expected a descriptor of {DESCRIPTOR_BYTES} bytes, got {length}"
