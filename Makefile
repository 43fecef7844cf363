PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
RUN := PYTHONUNBUFFERED=1 $(BIN)/python
WORKERS ?= 2
# Pocket's layers are small: two processes of one thread each are faster than one of two. Else transformers speaks behind the summary.
PYTEST := OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error $(RUN) -m pytest -n $(WORKERS) --dist worksteal

.PHONY: setup demo test tutorials effect check docs docs-site format clean pocket pocket-quality

setup: $(BIN)/.ready  ## a virtual environment with everything

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## erase a concept from pocket, attack, evaluate, report
	$(RUN) -m efface demo

test: setup  ## the tests that run everywhere
	$(PYTEST)

tutorials: setup  ## the commands of the tutorials, as written
	$(PYTEST) -m "slow or not slow" tests/docs/test_tutorials.py

effect: setup  ## every method's effect on pocket, and the slow tests
	$(PYTEST) -m "effect or slow"

check: setup  ## style, types, layers, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src training/pocket training/pocket_flow
	$(BIN)/lint-imports
	$(RUN) docs/generate.py --check

docs: setup  ## write the generated parts of docs/
	$(RUN) docs/generate.py

docs-site: setup  ## docs/ as a site in site/, with the Python API
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(RUN) -m efface leaderboard docs/matrix docs/results --out docs/leaderboard
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pocket-quality: setup  ## measure pocket: every number in docs/pocket.md
	$(RUN) training/pocket/quality.py

pocket: setup  ## train pocket from nothing (needs fonts-noto-color-emoji and hours)
	$(RUN) training/pocket/glyphs.py
	for stage in clip vae judge unet decoder image_prompt card; do $(RUN) training/pocket/train.py $$stage --out pocket-run || exit 1; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
