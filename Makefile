# make help lists the targets. Only Python 3.11+ and make are needed to start.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
DEMO ?= demo
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test check format bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(STAMP) ## make .venv with cutaway and everything it can use

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "cutaway needs Python 3.11 or newer; found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11." >&2; exit 2; }
	@echo "[1/2] virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/2] packages (about 2 GB on disk; two to six minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on \
	  -c $(CONSTRAINTS) -e '.[all,dev]'
	@touch $@

demo: install ## audit two real networks and write two HTML reports
	@$(BIN)/cutaway zoo fetch vgg16-hed smollm2-135m
	@$(BIN)/cutaway audit vgg16-hed --profile quick --out $(DEMO)/vgg16-hed --atlas $(DEMO)/atlas/vgg16-hed
	@$(BIN)/cutaway audit smollm2-135m --profile quick --out $(DEMO)/smollm2-135m --atlas $(DEMO)/atlas/smollm2-135m
	@echo; echo "Reports:"; for n in vgg16-hed smollm2-135m; do echo "  $(abspath $(DEMO))/$$n/report.html"; done

check: install ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

test: check ## lint, types and every test that is not marked slow
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

format: install ## let ruff fix what it can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: install ## ratios against peers (slow; see docs/benchmarks.md)
	$(BIN)/python -m bench

clean: ## remove the environment and the demo
	rm -rf $(VENV) $(DEMO)
