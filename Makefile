# SecureNotes. `make` alone lists the targets.
#
# Nothing but Go and Docker is installed by hand: the tools are pinned in hack/tools, built from Go modules
# on first use, and kept in ~/.cache/securenotes (SECURENOTES_CACHE moves it). Without Docker or without a
# container registry, see docs/test-cluster.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export GOWORK := off
# As in everything that is shipped: what go vet and the linter compile serves builds and tools too. The race detector,
# which needs cgo, gets it from hack/kind.
export CGO_ENABLED := 0
# What is compiled in one checkout serves every other.
export GOFLAGS := -trimpath -buildvcs=false
BIN := $(CURDIR)/bin
KIND := $(BIN)/kind

# Paths of tools: asking builds a tool that is missing. They expand only in the targets that use them.
tool = $$($(KIND) tools --path $(1))
CONTROLLER_GEN = $(call tool,controller-gen)
HELM = $(call tool,helm)
GOLANGCI_LINT = $(call tool,golangci-lint)

CHART := charts/securenotes-operator
# Every Go module that is ours; tools that are only pinned have no code to check.
MODULES := . hack/kind hack/offline hack/release hack/tools/cert-manager hack/tools/coredns hack/tools/volume-provisioner hack/tools/vulncheck
# Build tags under which code is checked, so that tests of every suite are.
TAGS := integration,e2e,bench

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(KIND) ## bring up a real cluster, the operator and a notes service on it, and show it at work
	@exec $(KIND) run

.PHONY: down
down: $(KIND) ## remove everything that run or test started or added
	@exec $(KIND) down

.PHONY: serve
serve: ## run the notes API alone, without a cluster (not for secrets); ARGS="--listen ..." are passed on
	@mkdir -p $(BIN) && go build -o $(BIN)/securenotes ./app/cmd/securenotes
	@exec $(BIN)/securenotes serve --dev $(ARGS)

##@ Test

.PHONY: test
test: $(KIND) ## run every test: unit, integration, end to end; sets up what they need
	@exec $(KIND) test

.PHONY: test-unit
test-unit: $(KIND) ## run the tests that need nothing but Go
	@exec $(KIND) test unit $(if $(ARGS),-- $(ARGS))

.PHONY: test-integration
test-integration: $(KIND) ## run the tests against a real API server, Vault and PostgreSQL; ARGS="-run ..."
	@exec $(KIND) test integration $(if $(ARGS),-- $(ARGS))

.PHONY: test-env
test-env: $(KIND) ## print what integration tests read, to run some with go test: eval "$(make test-env)"
	@printf 'export %s\n' GOWORK=off CGO_ENABLED=0 'GOFLAGS="$(GOFLAGS)"' \
	  KUBEBUILDER_ASSETS=$$(dirname $(call tool,kube-apiserver)) TEST_ASSET_ETCD=$(call tool,etcd) TEST_ASSET_KUBECTL=$(call tool,kubectl) \
	  SECURENOTES_TEST_SCHEDULER=$(call tool,kube-scheduler) SECURENOTES_TEST_VAULT=$(call tool,vault) SECURENOTES_TEST_HELM=$(call tool,helm) \
	  SECURENOTES_TEST_POSTGRES=/usr/lib/postgresql/15/bin SECURENOTES_TEST_PGBOUNCER=/usr/sbin/pgbouncer \
	  SECURENOTES_TEST_REDIS=/usr/bin/redis-check-rdb SECURENOTES_TEST_HAPROXY=/usr/sbin/haproxy \
	  SECURENOTES_TEST_OBJECTSTORE=$(call tool,versitygw)

.PHONY: test-e2e
test-e2e: $(KIND) ## run the end-to-end tests on the real cluster; ARGS="-run ..."
	@exec $(KIND) test e2e $(if $(ARGS),-- $(ARGS))

.PHONY: test-full
test-full: ## run every test, rotate under fire for ten minutes (SECURENOTES_CHAOS_DURATION, SECURENOTES_CHAOS_SEED), try to exhaust a replica for a minute in each way (SECURENOTES_EXHAUSTION_DURATION), fuzz, and build a release twice
	@SECURENOTES_CHAOS_DURATION=$${SECURENOTES_CHAOS_DURATION:-10m} \
	  SECURENOTES_EXHAUSTION_DURATION=$${SECURENOTES_EXHAUSTION_DURATION:-60s} $(MAKE) test
	@$(MAKE) fuzz bench-rotation bench-backup verify-release

# How long each fuzz target runs; what make test runs of them is their seeds. Go would spend most of
# that time making one large input smaller.
FUZZTIME ?= 10s

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' --with-filename app controllers api | sed 's/:func / /' | sort | \
	while read -r file target; do \
	  echo "fuzz: $$(dirname $$file) $$target"; \
	  go test "./$$(dirname $$file)" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x | tail -n 2; \
	done

.PHONY: bench
bench: $(KIND) ## measure the service against its peers on this machine, and print a table
	@SECURENOTES_TEST_VAULT=$(call tool,vault) SECURENOTES_TEST_POSTGRES=/usr/lib/postgresql/15/bin \
	  go test -tags bench -count 1 -v -run TestBench ./hack/bench

.PHONY: bench-rotation
bench-rotation: $(KIND) ## measure a rotation of a million notes beside one UPDATE of them (SECURENOTES_BENCH_NOTES=... for fewer)
	@SECURENOTES_TEST_VAULT=$(call tool,vault) SECURENOTES_TEST_POSTGRES=/usr/lib/postgresql/15/bin \
	  go test -tags bench -count 1 -v -timeout 60m -run TestBenchRotation ./app/internal/reencrypt

.PHONY: bench-backup
bench-backup: $(KIND) ## measure backup and restore of a million notes beside pg_dump and pg_restore (SECURENOTES_BENCH_NOTES=... for fewer)
	@SECURENOTES_TEST_VAULT=$(call tool,vault) SECURENOTES_TEST_POSTGRES=/usr/lib/postgresql/15/bin \
	  go test -tags bench -count 1 -v -timeout 60m -run TestBenchBackup ./app/internal/backup

##@ Check

.PHONY: verify
verify: verify-fmt vet lint verify-generated chart-lint ## everything that CI checks before the tests

.PHONY: fmt
fmt: ## format the code
	@for m in $(MODULES); do (cd $$m && go fmt ./...); done

.PHONY: verify-fmt
verify-fmt: ## fail when code is not formatted, or has markers of a merge conflict
	@if git grep -nE '^(<{7}|[|]{7}|>{7}) '; then echo 'resolve these merge conflicts' >&2; exit 1; fi
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then printf 'not formatted, run make fmt:\n%s\n' "$$unformatted" >&2; exit 1; fi

.PHONY: vet
vet: ## run go vet
	@for m in $(MODULES); do echo "go vet: $$m"; (cd $$m && go vet -tags $(TAGS) ./...); done

.PHONY: lint
lint: $(KIND) ## run golangci-lint
	@linter=$(GOLANGCI_LINT); for m in $(MODULES); do echo "golangci-lint: $$m"; \
	  (cd $$m && $$linter run --config $(CURDIR)/.golangci.yml --build-tags $(TAGS) ./...); done

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in every module of ours; needs https://vuln.go.dev, or GOVULNDB
	@mkdir -p $(BIN) && (cd hack/tools/vulncheck && go build -o $(BIN)/vulncheck .) && exec $(BIN)/vulncheck $(MODULES)

.PHONY: chart-lint
chart-lint: $(KIND) ## check the chart, its values schema, and that it renders
	@helm=$(HELM); $$helm lint --strict $(CHART) && $$helm template release $(CHART) --namespace somewhere >/dev/null && echo "$(CHART) renders"

##@ Build

.PHONY: generate
generate: $(KIND) ## regenerate what is derived: deepcopy, CRDs, RBAC, the chart's parts, and the page at /docs
	@gen=$(CONTROLLER_GEN); \
	$$gen object paths=./api/... && \
	$$gen crd paths=./api/... output:crd:dir=config/crd/bases && \
	$$gen rbac:roleName=securenotes-operator paths=./controllers/... output:rbac:dir=config/rbac && \
	go run ./hack/chart && \
	go run ./hack/apidocs

.PHONY: verify-generated
verify-generated: ## fail when generated files are not current
	@before=$$(git status --porcelain=v1 --untracked-files=all | sort; git diff | sha256sum); \
	$(MAKE) generate; \
	after=$$(git status --porcelain=v1 --untracked-files=all | sort; git diff | sha256sum); \
	if [ "$$before" != "$$after" ]; then git --no-pager diff --stat; echo "generated files were not current: commit what make generate wrote" >&2; exit 1; fi; \
	echo "generated files are current"

.PHONY: build
build: ## build both binaries into bin/
	@mkdir -p $(BIN) && go build -ldflags "-s -w" -o $(BIN)/ ./app/cmd/securenotes ./controllers/cmd/operator

# All times in a release are that of the commit, so that two builds of it are equal.
release verify-release: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

.PHONY: release
release: $(KIND) ## write dist/: images for amd64 and arm64, SBOMs, chart, CRDs, checksums; VERSION=0.1.0, else the chart's
	@rm -rf dist && helm=$(HELM) && cd hack/release && go run . -helm $$helm -version "$(VERSION)"

.PHONY: verify-release
verify-release: ## build the release twice, the second time in another folder and from nothing, and compare
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; mkdir "$$copy/checkout"; \
	git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C "$$copy/checkout"; \
	$(MAKE) release; \
	GOCACHE=$$copy/cache $(MAKE) -C "$$copy/checkout" release; \
	diff dist/SHA256SUMS "$$copy/checkout/dist/SHA256SUMS"; \
	(cd dist && sha256sum --check --strict SHA256SUMS); echo "both builds are equal"

.PHONY: cluster
cluster: $(KIND) ## bring up the cluster with cert-manager, Vault and PostgreSQL only
	@exec $(KIND) cluster

.PHONY: images
images: $(KIND) ## build both images and put them on the cluster's nodes
	@exec $(KIND) images

.PHONY: tools
tools: $(KIND) ## build every pinned tool into the cache, also those that only tests and hack/offline need
	@exec $(KIND) tools

.PHONY: clean
clean: ## remove what was built in the checkout; the cluster (make down) and the cache stay
	rm -rf $(BIN) dist

# Always asked: go itself knows whether anything changed, in a fraction of a second.
.PHONY: $(KIND)
$(KIND):
	@mkdir -p $(BIN) && cd hack/kind && go build -mod=readonly -o $@ .
