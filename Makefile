# What one types. Each target is a script that can be called on its own as well.

CLUSTER := integration/cluster

.DEFAULT_GOAL := help
.PHONY: help up down check test ledger ui ui-test simulate mutations model record-session bench-agents packages cluster cluster-check cluster-down images

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 22

up: packages ## packages, build, test cluster, platform, agent, and the Redis service "demo"
	integration/up.sh

down: ## removes what `make up` made
	integration/down.sh

check: packages ## format, lints, scripts, charts
	integration/check.sh

test: packages ## all tests; ONLY=word: the Rust tests with that word in their names
	integration/test.sh $(if $(ONLY),only '$(ONLY)')

ui: ## the browser UI, for the gateway's build to take in
	integration/ui.sh

ui-test: ## the browser UI in Chromium, against the platform of `make up`; makes the pictures in docs/ui
	integration/ui.sh packages
	UI_PICTURES=1 npm --prefix gateway/ui run --silent e2e

simulate: ## the link of hub and agent through faults: SEEDS=10000, or SEED=n to replay one
	cargo test --release --locked -p upm-agent --lib -- --nocapture simulation::tests

mutations: ## shows which oracle of the simulation catches which fault
	cargo test -p upm-agent --features mutations --lib -- --nocapture --test-threads=1 simulation::mutations

model: ## every order of changes and faults of the link's model (MODEL_AGENTS=, MODEL_CHANGES=, MODEL_FAULTS= for more)
	cargo test -p upm-hub --lib -- --nocapture model::check::every_order

record-session: ## keeps a session of this version for later ones to understand: UPM_RECORD_SESSION=0.2
	cargo test -p upm-agent --lib -- recorded::tests::a_session_of_this_version

fuzz: ## searches for input that breaks codec, router and HTTP entry of the gateway (FUZZ_CASES=… for longer)
	PROPTEST_CASES=$${FUZZ_CASES:-20000} cargo test --locked -p upm-transcode -p upm-gateway --lib -- propert random damaged arbitrary never_panic

gateway-clients: packages ## the gateway before clients and checkers of other makes: conformance, OpenAPI, curl, grpcurl, grpcio, Chromium, Envoy
	gateway/stock/conformance.sh
	gateway/stock/openapi.sh
	gateway/stock/clients.sh
	gateway/stock/envoy.sh

bench-gateway: ## the gateway and Envoy side by side: CPU time, requests per second, latency, memory; and the codec by itself
	gateway/bench/bench.sh

ledger: packages ## 1 GB through every change, and faults of the cluster, under writers, on three nodes: prints the gaps
	integration/test.sh ledger

bench-agents: ## memory, CPU time and latency of the link with AGENTS=10000 agents, SCENES=idle,apply,… to choose
	agent/cluster/bench/bench.sh

packages: ## the Debian packages that building and testing need
	$(CLUSTER)/packages.sh

cluster: packages ## the test cluster: a real Kubernetes on this machine (NODES=1..9)
	$(CLUSTER)/programs.sh
	$(CLUSTER)/cluster.sh up

cluster-check: ## shows that the running test cluster does what tests rely on
	$(CLUSTER)/check.sh

cluster-down: ## removes the test cluster with everything in it
	$(CLUSTER)/cluster.sh down

images: ## builds the images of database servers, and brings them into the test cluster
	$(CLUSTER)/images/images.sh load pause base redis
