# make run   trains, extracts, evaluates and reports on embedded shapes     make test   runs the suite
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test test-slow lint validator clean
.DELETE_ON_ERROR:

run: $(VENV)/.base
	$(BIN)/fields3d train --config experiments/deepsdf/quickstart.py --workdir $(RUN)
	$(BIN)/fields3d extract $(RUN) --out $(RUN)/meshes --format glb
	$(BIN)/fields3d evaluate $(RUN)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.dev
	XLA_FLAGS=--xla_force_host_platform_device_count=4 $(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .

# The Khronos validator of GLB files, which the tests use where it is there; needs node.
validator:
	mkdir -p .cache/gltf-validator
	npm install --silent --prefix .cache/gltf-validator gltf-validator@2.0.0-dev.3.10

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("fields3d needs Python 3.11 to 3.13: make PYTHON=python3.12 ...") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: requirements.txt setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: requirements.txt setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.base $@

clean:
	rm -rf $(VENV) .cache .pytest_cache
