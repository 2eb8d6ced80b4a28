# The two commands a newcomer needs: `make demo` and `make test`. `make` lists the rest.
#
# verify never writes, fix does; both are what CI runs, so what passes here passes there.

CARGO ?= cargo
# Features of the tests: the named crash points are compiled in only for them.
TEST_FEATURES ?= gavel-cli/crash-points
# More arguments for the test runner, such as a filter: make test NEXTEST_ARGS=lane
NEXTEST_ARGS ?=
# How the demo and the benchmarks are compiled; DEMO_PROFILE=release optimises more and takes longer.
DEMO_PROFILE ?= quick
BENCH_PROFILE ?= release
# Further arguments of the benchmarks, such as --scenario hot --clients 32.
BENCH_ARGS ?=
# Where `gavel dev` keeps its servers.
DEV_FOLDER ?= gavel-data
CRASH_LOOP_TIMES ?= 10
# How many members batches have at most in `make test-batch-sizes`.
BATCH_SIZES ?= 1 2 60 500
# Of `make soak`: how long, and further arguments, such as --nemesis zombie,duplicate.
SECONDS ?= 3600
CHAOS_ARGS ?=
# How many seeds `make sim` runs, and the first of them.
SEEDS ?= 10000
SEEDS_FROM ?= 0
# Further arguments of it, such as --batch-members 500; without them seeds draw from 1, 2, 60, 500 and a few between.
SIM_ARGS ?=
# Where `make test-console` keeps pictures.
PICTURES ?= target/pictures
# Base images of `make test-docker`: `public`, or `local` from Debian's packages.
BASES ?= public
# How long `make fuzz` runs each target.
FUZZ_SECONDS ?= 60

feature_flag = $(if $(TEST_FEATURES),--features $(TEST_FEATURES))
profile_folder = $(if $(filter dev,$(1)),debug,$(1))

.DEFAULT_GOAL := help
.PHONY: help setup build deb demo test test-console test-docker test-batch-sizes test-doc verify fix bench bench-quick bench-steady bench-outage bench-overload chaos chaos-holes soak rules-off crash-loop sim fuzz advisories clean-dev

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: ## Install what is missing: PostgreSQL 15 or newer, a linker, what tests and checks
	@scripts/setup.sh test

build: ## Build the gavel binary, optimised
	@scripts/setup.sh run
	$(CARGO) build --locked --release -p gavel-cli
	@if command -v objcopy >/dev/null; then scripts/split-debug.sh target/release/gavel target/dist; fi

demo: ## See it happen: transfers between three databases while things are killed
	@scripts/setup.sh run
	$(CARGO) build --locked --profile $(DEMO_PROFILE) -p gavel-cli
	target/$(call profile_folder,$(DEMO_PROFILE))/gavel demo

test: ## See it proved: all tests, against real PostgreSQL servers
	@scripts/setup.sh test
	$(CARGO) nextest run --locked --workspace $(feature_flag) $(NEXTEST_ARGS)
	@$(MAKE) --no-print-directory test-doc

test-batch-sizes: ## The tests over real servers, with batches of 1, 2, 60 and 500 members in turn
	@scripts/setup.sh test
	@for members in $(BATCH_SIZES); do \
	    echo "test-batch-sizes: batches of at most $$members"; \
	    GAVEL_TEST_BATCH_MEMBERS=$$members $(CARGO) nextest run --locked -p gavel-cli -p gavel-tests $(feature_flag) \
	        -E 'package(gavel-tests)' $(NEXTEST_ARGS) || exit 1; \
	done

test-console: ## The console in a real Chromium; needs chromedriver (Debian: chromium-driver). PICTURES=docs/pictures replaces those of the documentation
	@command -v chromedriver >/dev/null || { echo "test-console: there is no chromedriver; on Debian: apt-get install chromium-driver" >&2; exit 1; }
	@mkdir -p $(PICTURES)
	GAVEL_PICTURES=$(abspath $(PICTURES)) $(CARGO) nextest run --locked -p gavel-cli --features gavel-cli/browser $(feature_flag) -E 'binary(console)'

test-docker: ## docker/compose.yaml from nothing to nothing, with kills; needs a Docker engine. BASES=local makes the base images from Debian's packages
	BASES=$(BASES) scripts/test-docker.sh

test-doc: ## The examples in the documentation
	$(CARGO) test --locked --workspace --doc $(feature_flag)

verify: ## Check format, lints, documentation, architecture and dependencies; writes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(feature_flag) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	scripts/check-edges.sh
	@scripts/setup.sh test >/dev/null
	cargo deny --locked check bans licenses sources
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh docker/*.sh docker/shard/*.sh docker/local/*.sh .ci/run && echo "shellcheck: clean"; \
	else echo "shellcheck: not installed, skipped"; fi

fix: ## Format, and apply the lints' own corrections
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets $(feature_flag) --fix --allow-dirty --allow-staged

deb: ## A package for Debian and its kin, in target/debian/; needs cargo-deb (cargo install cargo-deb)
	@command -v cargo-deb >/dev/null || { echo "deb: there is no cargo-deb: cargo install cargo-deb" >&2; exit 1; }
	$(CARGO) build --locked --release -p gavel-cli
	scripts/split-debug.sh target/release/gavel target/dist
	target/release/gavel manual --out target/manual
	$(CARGO) deb --locked --no-build --no-strip -p gavel-cli

bench: ## Measure side by side against hand-written two-phase commit; writes docs/benchmarks*
	@scripts/setup.sh run
	$(CARGO) build --locked --profile $(BENCH_PROFILE) -p gavel-cli -p gavel-bench
	target/$(call profile_folder,$(BENCH_PROFILE))/gavel-bench $(BENCH_ARGS)

bench-quick: ## Two scenarios of it in about two minutes, for comparing two builds; writes nothing
	@$(MAKE) --no-print-directory bench BENCH_ARGS="--quick $(BENCH_ARGS)"

bench-steady: ## Ten minutes at one load, sampled as it goes; writes docs/benchmarks-steady*
	@$(MAKE) --no-print-directory bench BENCH_ARGS="steady $(BENCH_ARGS)"

bench-overload: ## Ten times what can be done arrives for a minute: what it costs, and when it is over; writes nothing
	@$(MAKE) --no-print-directory bench BENCH_ARGS="overload $(BENCH_ARGS)"

bench-outage: ## One of four shards goes away and comes back: who else notices; writes nothing
	@$(MAKE) --no-print-directory bench BENCH_ARGS="outage $(BENCH_ARGS)"

chaos: ## A minute of faults at every step, then the judgement of every invariant; writes gavel-chaos.html
	@$(MAKE) --no-print-directory soak SECONDS=60

soak: ## The same for SECONDS=3600, or as long as you like
	@scripts/setup.sh run
	$(CARGO) build --locked --profile $(DEMO_PROFILE) -p gavel-cli
	target/$(call profile_folder,$(DEMO_PROFILE))/gavel chaos --seconds $(SECONDS) $(CHAOS_ARGS)

rules-off: ## Take each rule out and see its test fail; RULE=r5 for some of them
	@scripts/setup.sh test
	@scripts/rules-off.sh $(RULE)

chaos-holes: ## Break the code on purpose and see `gavel chaos` notice; HOLE=lost-vote for some
	@scripts/setup.sh run
	@scripts/rules-off.sh "$(HOLE)" chaos/holes

crash-loop: ## Kill at every crash point, CRASH_LOOP_TIMES times over
	@scripts/setup.sh test
	@for round in $$(seq 1 $(CRASH_LOOP_TIMES)); do \
	    echo "crash-loop: round $$round of $(CRASH_LOOP_TIMES)"; \
	    $(CARGO) nextest run --locked --workspace $(feature_flag) --success-output immediate \
	        -E 'package(gavel-tests) & test(crash)' || exit 1; \
	done

sim: ## Simulate the core: SEEDS=10000 seeds from SEEDS_FROM=0, on every core
	$(CARGO) run --locked --release -p gavel-sim -- --seeds $(SEEDS) --from $(SEEDS_FROM) --threads $$(nproc 2>/dev/null || sysctl -n hw.ncpu) $(SIM_ARGS)

fuzz: ## Feed generated input to every parser, FUZZ_SECONDS each; needs cargo-fuzz
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

advisories: ## Compare the dependencies with what is known to be broken; needs the network
	@scripts/setup.sh test
	cargo deny --locked check advisories

clean-dev: ## Delete the data of `gavel dev` in DEV_FOLDER
	rm -rf -- $(DEV_FOLDER)
