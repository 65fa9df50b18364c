# The commands of the README. Each installs what it needs, builds, and starts what it uses.
CACHE ?= $(HOME)/.cache/floeberg
# One target folder for every checkout, so that a fresh clone does not compile third-party code again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
VENV := $(CACHE)/venv
export FLOEBERG_PYTHON := $(VENV)/bin/python
# s3s declares a newer compiler than it needs (docs/decisions/0003-s3s.md).
CARGO_FLAGS := --locked --ignore-rust-version
FLOEBERG := $(CARGO_TARGET_DIR)/debug/floeberg
SEEDS ?= 300
CYCLES ?= 200
ROUNDS ?= 20

.PHONY: help demo cluster test sim chaos bench bench-cluster bench-memory bench-attacks bench-listings lint fmt system venv build clean

help:
	@echo "make demo   load real data with PyIceberg and query it with DuckDB (KEEP=1 leaves the node running)"
	@echo "make cluster  three nodes on this machine, until Ctrl-C"
	@echo "make test   every test: unit, property, simulation, crash cycles, real clients"
	@echo "make sim    simulate nodes: SEEDS=300, or SEED=n for one; NODES=3 instead of 1, 3 and 5"
	@echo "make chaos  kill a node under load: CYCLES=200; break three nodes and their network: ROUNDS=20 of each fault"
	@echo "make bench  commits per second on this machine, as JSON"
	@echo "make bench-cluster  the same for three nodes against one"
	@echo "make bench-memory  memory and restarts of one node with up to 100,000 tables"
	@echo "make bench-attacks  memory of one node under requests that want as much of it as they can get"
	@echo "make bench-listings  commits beside listings of 100,000 tables and walks over 1,000,000 objects; 10 minutes"

system:
	@tests/setup/install-system
	@tests/setup/claim-target $(CARGO_TARGET_DIR)

venv: system
	@tests/setup/python-venv $(VENV) tests/setup/requirements.txt

build: system
	cargo build $(CARGO_FLAGS) -p floeberg-cli

demo: build venv
	$(FLOEBERG_PYTHON) tests/demo/demo.py --floeberg $(FLOEBERG) $(if $(KEEP),--keep)

cluster: build
	cluster/local/run --floeberg $(FLOEBERG)

# The binary is built first: the tests that start it look for it beside themselves.
# Without network namespaces (root and iproute2) the tests of several nodes fail instead of being skipped.
test: build venv
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	FLOEBERG_CHAOS=required cargo test $(CARGO_FLAGS) --workspace
	FLOEBERG_BIN=$(FLOEBERG) $(FLOEBERG_PYTHON) -m pytest -q -p no:cacheprovider tests/clients

sim: system
	cargo run $(CARGO_FLAGS) -p floeberg-test-sim --bin simulate -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(if $(NODES),--nodes $(NODES))

chaos: build
	cargo run $(CARGO_FLAGS) -p floeberg-test-e2e --bin kill-cycles -- --floeberg $(FLOEBERG) --cycles $(CYCLES)
	cargo run $(CARGO_FLAGS) -p floeberg-test-e2e --bin hostile-requests -- --floeberg $(FLOEBERG)
	cargo run $(CARGO_FLAGS) -p floeberg-test-chaos --bin chaos-rounds -- --floeberg $(FLOEBERG) --nodes 3 --rounds $(ROUNDS)
	cargo run $(CARGO_FLAGS) -p floeberg-test-e2e --bin largest-requests -- --floeberg $(FLOEBERG)

bench: build
	tests/setup/bench $(FLOEBERG)

bench-cluster: build
	tests/setup/bench-cluster $(FLOEBERG)

bench-memory: build
	tests/setup/bench-memory $(FLOEBERG)

bench-listings: build
	tests/setup/bench-listings $(FLOEBERG)

bench-attacks: build venv
	$(FLOEBERG_PYTHON) tests/setup/bench-attacks $(FLOEBERG)

lint: system
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

fmt:
	cargo fmt --all

clean:
	rm -rf $(CARGO_TARGET_DIR)
