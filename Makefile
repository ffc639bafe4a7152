# Everything a person does with this tree. Each target installs what it needs (scripts/setup).

CARGO ?= cargo
# The lock file decides what is built; a change to it is a commit of its own.
LOCKED ?= --locked

.PHONY: build demo test lint soak bench clean setup setup-versions
.DEFAULT_GOAL := build

build: ## the program: target/release/lastgood
	scripts/setup
	$(CARGO) build $(LOCKED) --release --package cli

demo: build ## a database, a backup, a mishap, a recovery, in a temporary folder
	target/release/lastgood demo

setup:
	scripts/setup

setup-versions: setup
	scripts/setup-versions

# Most tests wait for servers much of their time: two at a time for each processor keep it busy.
test: export NEXTEST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))
test: export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))
# All is built at once: doc tests alone would have one processor wait for the other while the libraries are compiled.
# Doc tests come first, so that what the test runner says of its tests is the end of the output.
test: setup-versions ## every test, against PostgreSQL 13 to 18
	$(CARGO) test $(LOCKED) --workspace --no-run --quiet
	$(CARGO) test $(LOCKED) --workspace --doc --quiet
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then scripts/in-memory $(CARGO) nextest run $(LOCKED) --workspace; \
	else scripts/in-memory $(CARGO) test $(LOCKED) --workspace --all-targets; fi

# Licences are held by xtask's tests too, so nothing need be installed for that; cargo deny adds
# duplicates and sources where it is there.
lint: setup ## format, lints, licences, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; \
	then $(CARGO) deny --locked check licenses bans sources; fi
	$(CARGO) test $(LOCKED) --quiet --package xtask
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc $(LOCKED) --workspace --no-deps --quiet

# The tests read these; unset, each takes a small number of its own.
soak: export LASTGOOD_SEEDS ?= 5000
soak: export LASTGOOD_KILLS ?= 200
soak: export LASTGOOD_APPARENT_GIB ?= 1024
soak: export LASTGOOD_MATRIX ?= full
soak: export LASTGOOD_IN_MEMORY ?= no
soak: test ## the same tests, with many more seeds, kills, files and versions, and each decoder fuzzed for a minute
	scripts/fuzz $${LASTGOOD_FUZZ_SECONDS:-60}

bench: build ## against pgBackRest on this machine; BENCH_SCALE=full for the 4 GB data set
	bench/run
	bench/wal

clean:
	$(CARGO) clean
	rm -rf bench/work
