"""Where the memory model that ships with this package lies.

In: nothing. Out: a folder. Knows neither what the files hold nor how a model is loaded.
"""

from __future__ import annotations

from pathlib import Path


def bundled_path() -> Path:
    """The folder of the bundled model: weights, tokenizer, configuration and ``memorag-usage.json``."""
    return Path(__file__).parent
