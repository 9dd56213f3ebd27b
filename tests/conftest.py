"""What every test stands on: no network, no model hub, few threads, the same hypothesis rules everywhere.

Sockets are held to this machine by pytest-socket (see pyproject.toml). The environment is set here, before
any test module imports a library that reads it.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.rules import IN_CI, examples

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # quiet when a test starts a process after tokenizing
os.environ["LANGSMITH_TRACING"] = "false"
# Tiny models on a busy machine run many times slower with a thread for every core. A worker of pytest-xdist
# has a core to itself.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No deadline: the first example of a test pays for imports. CI draws the same examples in every run.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=examples(100), print_blob=True)
settings.load_profile("ci" if IN_CI else "dev")
