# A bare `make` lists the targets. What takes more than three lines is a script in tests/tools.

.DEFAULT_GOAL := help
.PHONY: help tools proxies build test matrix soak bench microbench demo demo-real lint check-versions

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

tools: ## install what tests and demo need and this machine lacks (uses apt-get, debootstrap, pip; sudo where not root)
	@tests/tools/install.sh

proxies: ## install Debian's haproxy and nginx-light where this machine lacks them
	@tests/tools/install.sh proxies

build: ## build herdgate and the examples
	cargo build --bins --examples

test: tools build ## run every test, on real HAProxy and nginx; the last line is the sum
	@tests/tools/run.sh

matrix: tools build ## the proxy suites on HAProxy 2.6, 2.8, 3.0, 3.2 and nginx 1.22, 1.26, 1.30, as a table
	@tests/tools/install-matrix.sh
	@tests/tools/matrix.sh

demo: proxies build ## show the main job on real proxies and end by itself (STAY=1: stay up)
	@cargo run --quiet --example demo -- $(if $(STAY),--stay)

soak: tools build ## kill herdgate 30 times under load, and see that nothing settled is lost (2 minutes)
	HERDGATE_KILLS=30 cargo test --test kills -- --nocapture

bench: tools ## compare HAProxy and nginx with herdgate, with a constant agent and alone (ARGS="--rounds 3"; 2 minutes)
	cargo build --release --bin herdgate --example constant-agent --example bench
	@target/release/examples/bench $(ARGS)

microbench: ## time and allocations of codec, body reader and decision; memory of idle connections
	cargo build --release --bin herdgate --example microbench
	@target/release/examples/microbench

demo-real: tools build ## the same with a real model on llama.cpp and the openai client (fetches both, about 200 MB)
	@tests/tools/llama.sh
	@cargo run --quiet --example demo-real

lint: ## formatting, clippy without warnings, licences and sources of dependencies
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --test matrix -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: licences not checked"; fi

check-versions: ## print the versions of the proxies and clients that tests run on
	@tests/tools/versions.sh
