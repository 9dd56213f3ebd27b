# Every target sets up what it needs in $(VENV) and nothing more; a second run starts at once.
#
#   make demo           memorize a real text and ask it questions (examples/quickstart.py)
#   make test           the tests, on all cores; ARGS="-k store" goes to pytest, ARGS="-n 0" runs them in one process
#   make test-all       the same, and the slow ones; CI=true make test does so too
#   make test-exhaustive  every file call and every line that may fail, where `make test` takes some
#   make test-flag      the tests on FlagEmbedding, which needs an older transformers, in $(VENV)-flag
#   make check          ruff, format, mypy --strict
#   make bench          the benchmarks, or BENCH=benchmarks/one.py; ARGS goes to each
#   make bundled-model  train the bundled memory model again: DATA=folder with prose/train.jsonl.gz
#   make clean          remove what the targets above made, $(VENV) included
#
# On Linux without a GPU, pip's default index serves a CUDA build of torch. For the CPU build:
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=
# All but the one that wants data and other packages.
BENCH ?= $(filter-out benchmarks/peers.py,$(sort $(wildcard benchmarks/*.py)))

RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt

# A worker for each core; idle ones take tests from the others.
PYTEST := $(RUN) -m pytest -n auto --dist worksteal

EXTRAS_base := $(empty)
EXTRAS_demo := [cpu,langchain,openai]
EXTRAS_test := [cpu,ja,langchain,llama-index,openai,quantized,sentence-transformers,test]
EXTRAS_flag := [cpu,flag,sentence-transformers,test]
EXTRAS_check := [cpu,langchain,llama-index,openai,test,dev]

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help demo test test-all test-exhaustive test-flag check format bench bundled-model clean

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

demo: $(VENV)/.demo
	$(RUN) examples/quickstart.py $(ARGS)

test: $(VENV)/.test
	$(PYTEST) -m "not exhaustive $(if $(CI),,and not slow)" $(ARGS)

test-all: $(VENV)/.test
	CI=true $(PYTEST) -m "not exhaustive" $(ARGS)

test-exhaustive: $(VENV)/.test
	$(PYTEST) -m exhaustive $(ARGS)

test-flag:
	$(MAKE) --no-print-directory VENV=$(VENV)-flag $(VENV)-flag/.flag
	$(VENV)-flag/bin/python -m pytest -n auto --dist worksteal tests/core/retrieval tests/core/test_retrieving.py $(ARGS)

check: $(VENV)/.check
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

format: $(VENV)/.check
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

bench: $(VENV)/.demo
	@set -e; for script in $(BENCH); do echo "== $$script"; $(RUN) "$$script" $(ARGS); done

bundled-model: $(VENV)/.base
	@test -n "$(DATA)" || { echo "Say where the text is: make bundled-model DATA=folder"; exit 2; }
	$(RUN) -m memorag_training.bundled --data "$(DATA)" $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-flag build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .codspeed
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up: a stamp file for each set of extras, made anew when the project's metadata changes.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.%: $(VENV)/.torch pyproject.toml constraints.txt
	$(INSTALL) --editable '.$(EXTRAS_$*)'
	@touch $@
