"""Pages of HTML that need nothing but themselves: templates filled, images and scripts within, no network."""

from __future__ import annotations

import base64
import io
from typing import Any

import jinja2
from PIL import Image

__all__ = ["embedded", "rendered"]


def rendered(
    package: str,  # whose folder templates/ holds the template, such as "singan_aug.study"
    template: str,
    **values: Any,
) -> str:
    """A template of Jinja, filled; text is escaped, and a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def embedded(image: Image.Image, *, quality: int | None = None) -> str:
    """A data URI that holds `image` as WebP: exact, or smaller at a quality of 1 to 100."""
    file = io.BytesIO()
    if quality is None:
        image.save(file, "WEBP", lossless=True, exact=True)
    else:
        image.save(file, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
