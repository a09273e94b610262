"""Write cache/manifest.schema.json out of the Manifest class: python -m tests.golden.make_manifest_schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from singan_aug.store import Manifest

SCHEMA_PATH = Path(__file__).parents[2] / "cache" / "manifest.schema.json"


def manifest_schema() -> dict[str, Any]:
    """JSON Schema of the manifests that this version writes."""
    schema = Manifest.model_json_schema()
    guard = {"description": "xxh3-128 of all other fields; see cache/README.md", "title": "Manifest Checksum"}
    schema["properties"]["manifest_checksum"] = {**guard, "type": "string", "pattern": "^[0-9a-f]{32}$"}
    schema["required"].append("manifest_checksum")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json.dumps(manifest_schema(), indent=2) + "\n")
