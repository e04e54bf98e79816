# Needs Go, make and (for `make race` only) a C compiler. Tools run pinned, nothing is installed. With Node 20 and npm
# the console is built in, else a page that says so.
GO      ?= go
LOG     ?= cmd/weir/testdata/sample.log.gz
FUZZTIME ?= 10s
LINES   ?= 2000000
ARCH    ?= $(shell $(GO) env GOARCH)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT    := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

export CGO_ENABLED = 0

UI      := console/ui
# With the console where npm is.
TRY_UI  := if command -v npm >/dev/null; then $(MAKE) --no-print-directory ui || echo "the console could not be built: weir will have a page that says so"; fi
BUILD   := $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: help build image run analyze ui ui-test test race e2e fleet services lint fmt golden fuzz bench load pushload sample pgo eval senders check ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/weir, one static binary; with the console where npm is
	@$(TRY_UI)
	$(BUILD) -o bin/weir ./cmd/weir

image: ## pack bin/weir-image-ARCH.tar for docker load and podman load, without either; ARCH=arm64 for another
	@$(TRY_UI)
	GOOS=linux GOARCH=$(ARCH) $(BUILD) -o bin/weir-linux-$(ARCH) ./cmd/weir
	$(GO) run ./deploy/image -binary bin/weir-linux-$(ARCH) -arch $(ARCH) -version $(VERSION) -created $$(git log -1 --format=%ct 2>/dev/null || echo 0) \
		-zoneinfo $$($(GO) env GOROOT)/lib/time/zoneinfo.zip -o bin/weir-image-$(ARCH).tar

run: build ## watch LOG=/path/to/access.log (a sample of ours without it) and serve the console at http://127.0.0.1:7380
	bin/weir run --store "bin/$(notdir $(LOG)).db" "$(LOG)"

analyze: build ## look through LOG once and print the alerts
	bin/weir analyze "$(LOG)"

ui: $(UI)/dist/index.html ## build the console (needs Node 20 and npm)

$(UI)/node_modules/.package-lock.json: $(UI)/package.json $(UI)/package-lock.json
	cd $(UI) && npm install --no-save --no-audit --no-fund
	@touch $@

$(UI)/dist/index.html: $(UI)/node_modules/.package-lock.json $(shell find $(UI)/src $(UI)/public $(UI)/scripts -type f) $(wildcard $(UI)/*.html $(UI)/*.ts $(UI)/*.json)
	cd $(UI) && npm run --silent build

ui-test: build ## work a shift in the console with a browser (needs Node 20 and Chromium)
	cd $(UI) && npm test

test: ## vet and test everything
	$(GO) vet ./...
	$(GO) test ./...

race: ## test with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

e2e: ## test with real servers and SDKs: Kafka, ClickHouse, OpenSearch (need a JDK 17, and once the network), OpenTelemetry
	WEIR_E2E=1 $(GO) test ./cmd/weir -run 'Kafka|Bus|Collect|Fleet|Store|Serve|OpenSearch|EveryFormat|SinksAcrossKills' -kills 12 -pause 60s -refuse 120s -busylines 600000 -recoverclients 100000 -timeout 60m -count 1 -v
	$(GO) test ./cmd/weir -run FleetGives -fleetseeds 12 -fleetclients 60 -count 1 -v
	$(GO) test ./alerts -run 'Mishaps|ThroughKills' -alerts 10000 -count 1 -v
	$(GO) test ./cmd/weir -run FloodIsDelivered -flood 100000 -count 1 -v
	cd bench/otlp && $(GO) test -count 1 ./...
	cd bench/deploy && $(GO) test -count 1 ./...
	$(MAKE) --no-print-directory fleet

fleet: build ## a fleet on three brokers and ClickHouse: its alerts are analyze's, and each request is stored once
	$(GO) build -buildvcs=false -o bin/ ./bench/gen ./bench/fleet
	bin/gen -lines $(LINES) -clients 50000 -o bin/load.log
	bin/weir simulate --scenario shop-attacks --quiet --out bin/shop.json.gz --labels bin/shop.ndjson
	bin/fleet -brokers 3 bin/load.log bin/shop.json.gz $(wildcard ../shared/data/tools_shop/access.json.gz)

services: ## run a Kafka broker and a ClickHouse server for trying things out, until interrupted
	$(GO) run ./bench/services/run kafka clickhouse

lint: ## check the style
	$(LINT) config verify
	$(LINT) run ./...

fmt: ## format the code
	$(LINT) fmt ./...

golden: ## write the golden files again and show what changed
	$(GO) test $$(grep -rl --include='*_test.go' '"update"' . | xargs -n1 dirname | sort -u) -run Golden -update
	git diff --stat

fuzz: ## fuzz every target for FUZZTIME=10s
	@set -e; for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "$$p $$f"; $(GO) test $$p -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME); done; done

bench: ## run the benchmarks into bench/new.txt
	$(GO) test ./... -run '^$$' -bench . -benchmem -count 5 | tee bench/new.txt

load: build ## measure analyze against the yardstick on LINES=2000000 made-up lines
	$(GO) build -buildvcs=false -o bin/ ./bench/splitter ./bench/ratio ./bench/gen
	bin/gen -lines $(LINES) -clients 50000 -o bin/load.log
	bin/ratio -splitter bin/splitter bin/load.log -- bin/weir analyze --quiet bin/load.log

pushload: build ## push 50,000 lines/s for a minute, kill weir 5 times, look for every acknowledged line
	$(GO) build -buildvcs=false -o bin/ ./bench/pushload
	bin/pushload -weir bin/weir

pgo: load ## record the profile that builds are optimized by
	bin/gen -json -lines $(LINES) -clients 50000 -o bin/load.json
	$(GO) build -pgo=off -buildvcs=false -o bin/weir-plain ./cmd/weir
	@set -e; rm -f bin/cpu*.pprof; for i in 1 2 3 4 5 6; do for log in log log json; do \
		bin/weir-plain analyze --quiet --cpuprofile bin/cpu$$(ls bin | grep -c pprof).pprof bin/load.$$log >/dev/null; done; done
	$(GO) tool pprof -proto bin/cpu*.pprof > cmd/weir/default.pgo

eval: build ## measure detection on simulated traffic into docs/detection.md
	bin/weir eval --out docs/detection.md

senders: build ## compare what real servers (nginx, HAProxy, Apache, Caddy, rsyslog) were sent with what weir stored
	$(GO) run ./bench/senders -weir bin/weir

sample: ## make the sample log again
	$(GO) run ./bench/gen -lines 3000 -clients 140 -seed 20260302 -span 2h -start 2026-03-02T09:00:00Z -o cmd/weir/testdata/sample.log.gz

check: build ## validate the example configurations
	@set -e; for f in deploy/examples/*.yaml; do [ -e "$$f" ] || continue; bin/weir check -c "$$f"; done

ci: test race lint check ## what CI runs, in this order
