.PHONY: setup demo test lint

setup:
	@bash tools/bootstrap.sh

demo: setup
	.venv/bin/recon4d demo --out .demo

test: setup
	.venv/bin/python -m pytest -n 2 $(PYTEST_ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
