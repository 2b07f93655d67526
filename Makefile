.PHONY: setup demo test test-clients lint

setup:
	@bash tools/bootstrap.sh

demo: setup
	.venv/bin/recon4d demo --out .demo

test: setup
	.venv/bin/python -m pytest -n 2 $(PYTEST_ARGS)

test-clients: setup
	@bash tools/setup_clients.sh
	RECON4D_CLIENTS=1 .venv/bin/python -m pytest -m clients $(PYTEST_ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
