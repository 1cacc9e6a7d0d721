# README's two commands (`make demo`, `make test`) set up everything they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
TORCH ?= torch==2.13.0
PEERS ?= $(HOME)/.cache/penstock-serving-peers
DRIFT_PEERS ?= $(HOME)/.cache/penstock-drift-peers

.PHONY: demo test beside test-fast rehearse-kills rehearse rehearse-loop-kills rehearse-planted check-plan soak serve-on-ray check fix bench bench-drift bench-profiles bench-serving bench-serving-peers screenshots docs proto clean

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[movies]'
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[sklearn,lightgbm,implicit,torch,ray,postgres,pandas,grpc,otel,kafka,nats,kubernetes]' --group test --group check
	touch $@

demo: $(VENV)/.base  ## Install, then run the movies pipeline from data to served answers. DATA=dir uses real data.
	$(BIN)/python -m penstock demo $(if $(DATA),--data $(DATA))

# Debian's packages of a browser and of a NATS server. Where they cannot be installed, their tests say so and are skipped.
beside:
	@command -v chromium >/dev/null && command -v nats-server >/dev/null || \
	(apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium nats-server >/dev/null) || \
	echo "chromium or nats-server is missing and could not be installed: their tests will be skipped"

test: $(VENV)/.test beside  ## Every test, fast ones first.
	$(BIN)/python -m pytest tests/unit tests/property tests/contract -n 2 --dist worksteal -q
	$(BIN)/python -m pytest tests/integration tests/story tests/browser -n 2 --dist loadfile -q

test-fast: $(VENV)/.test  ## Unit, property and contract tests only.
	$(BIN)/python -m pytest tests/unit tests/property tests/contract -n 2 --dist worksteal -q

rehearse-kills: $(VENV)/.test  ## More than 300 kills at random moments; the tests do about 60 of them.
	PENSTOCK_LONG=1 $(BIN)/python -m pytest tests/story/test_random_kills.py tests/story/test_prediction_kills.py -q -s -p no:randomly

rehearse-planted: $(VENV)/.test  ## A rehearsal with five planted faults; the tests do three of them in five weeks.
	PENSTOCK_LONG=1 $(BIN)/python -m pytest tests/story/test_rehearsal_planted.py -q -s -p no:randomly

rehearse: $(VENV)/.test  ## Six months of the movies pipeline in minutes, beside arms that are never or always retrained.
	cd examples/movies && ../../$(BIN)/python -m penstock rehearse movies --from 2013-05-08 --weeks 26 --step 1d \
	--data $(abspath ../shared/data/movietweetings) --out $(abspath rehearsal-movies) \
	-p recommender.weeks=8 -p recommender.candidates=60 -p recommender.trees=40

rehearse-loop-kills: $(VENV)/.test  ## A rehearsal of twelve weeks, killed two hundred times; the tests do six kills.
	PENSTOCK_LONG=1 $(BIN)/python -m pytest tests/story/test_rehearsal_kills.py -q -s -p no:randomly

check-plan: $(VENV)/.test  ## A capacity plan against a measured run, within 20 %; for a machine that does nothing else.
	PENSTOCK_LONG=1 $(BIN)/python -m pytest tests/integration/test_capacity.py -k checked -q -s -p no:randomly

soak: $(VENV)/.test  ## A server for an hour at full speed with flat memory, and 100 releases swapped in a million requests.
	PENSTOCK_LONG=1 PENSTOCK_SOAK_S=3600 $(BIN)/python -m pytest tests/integration/test_serving_endurance.py -q -s -p no:randomly

serve-on-ray: $(VENV)/.test  ## Copies on a cluster, a node killed, a release that does not load; the tests leave the last out.
	PENSTOCK_LONG=1 $(BIN)/python -m pytest tests/integration/test_serving_on_ray.py -q -s -p no:randomly

check: $(VENV)/.test  ## Format, lint, types, room directions, shape.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/shape.py
	$(BIN)/python tools/reference.py --check

fix: $(VENV)/.test  ## Let the formatter and the linter mend what they can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test  ## Every benchmark; prints ratios against the bare library in the same run.
	$(BIN)/python -m benchmarks

bench-drift: $(VENV)/.test  ## Error rates of drift beside others, in environments of their own under DRIFT_PEERS (6 GB); about an hour.
	$(BIN)/python -m benchmarks drift --install --peers $(DRIFT_PEERS)

bench-profiles: $(VENV)/.test  ## Profiles of 10 million rows beside others. Needs datasketches and duckdb.
	$(BIN)/python -m pip install --quiet datasketches duckdb
	$(BIN)/python -m benchmarks profiles

bench-serving-peers: $(VENV)/.test  ## Install the servers that ours is compared with, in environments of their own under PEERS (4 GB).
	$(BIN)/python -m benchmarks.serving install --peers $(PEERS)

bench-serving: bench-serving-peers  ## Serving beside seven other servers, in turn on the same core. Needs wrk; about 40 minutes.
	$(BIN)/python -m benchmarks.serving run --peers $(PEERS)

screenshots: $(VENV)/.test beside  ## Every page of the movies example, light and dark, wide and narrow, in screenshots/.
	$(BIN)/python tests/screenshots.py screenshots

docs: $(VENV)/.test  ## Regenerate the reference pages.
	$(BIN)/python tools/reference.py

proto: $(VENV)/.test  ## Generate the messages of the Open Inference Protocol from their description.
	$(BIN)/python -m pip install --quiet grpcio-tools==1.81.1
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/penstock/serving/protocols/oip/inference.proto

clean:
	rm -rf $(VENV) .penstock .mypy_cache .ruff_cache .pytest_cache
