"""The captured bytes of real clients and servers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "vectors" / "golden.jsonl"


@cache
def lines(kind: str | None = None) -> list[dict[str, Any]]:
    """Every line, or those of one kind."""
    with PATH.open(encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    return [entry for entry in entries if kind is None or entry["kind"] == kind]
