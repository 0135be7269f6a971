# make demo    a real table in, a vetted synthetic table out, in a virtual environment of its own
# make test    the tests          make slow   those that take long
# make lint    style           make bench  the README's figures (needs LIKENESS_DATA)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test slow lint bench clean

demo: $(VENV)/installed
	$(BIN)/likeness run breast-cancer

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	$(BIN)/python -m pipelines.server
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev,datasets]'
	touch $@

bench: $(VENV)/installed
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/series.py
	$(BIN)/python benchmarks/timegan.py
	$(BIN)/python benchmarks/images.py
	$(BIN)/python benchmarks/hmm.py

clean:
	rm -rf $(VENV) .prefect runs published benchmarks/.venvs
