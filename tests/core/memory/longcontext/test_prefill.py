"""What reading takes beside the memory is bounded by the chunk, whatever the length of the text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from memorag_core.memory.longcontext import LongContextModel
from tests.core.memory.longcontext.conftest import causal_model, random_ids

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

tokens, chunk = int(sys.argv[1]), int(sys.argv[2])
plain = causal_model(
    "qwen2", vocab_size=4096, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
    intermediate_size=1024, max_position_embeddings=1 << 17,
)
model = LongContextModel(plain, chunk=chunk)
model.feed(random_ids(1, 64))  # what is held only once
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = peak()
memory = model.feed(random_ids(1, tokens)).memory
print(json.dumps({"beside": peak() - before - memory.nbytes, "memory": memory.nbytes}))
"""


def beside_the_memory(tokens: int, chunk: int) -> int:
    """Peak bytes of a fresh process while it reads, less those of the memory."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tokens), str(chunk)],
        cwd=ROOT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "MALLOC_MMAP_THRESHOLD_": "65536",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return int(json.loads(run.stdout)["beside"])


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are read from /proc")
def test_the_peak_of_reading_is_bounded_by_the_chunk_and_not_by_the_text() -> None:
    short, long = 4_000, 16_000
    found = {
        (tokens, chunk): beside_the_memory(tokens, chunk) for tokens in (short, long) for chunk in (256, 4000)
    }
    # Four times the text takes no more; logits of it all would be 262 MB, a dense mask 256 MB.
    assert abs(found[long, 256] - found[short, 256]) < 4 << 20
    assert abs(found[long, 4000] - found[short, 4000]) < 8 << 20
    # What a chunk takes is the chunk's: 1,024 wide floats a token, a few times.
    assert found[long, 256] < 12 << 20
    assert 4000 * 4096 < found[long, 4000] < 4 * 4000 * 4096 + (12 << 20)
