# `make test` and `make demo` do all their own set-up on a fresh Debian 12, as root; both work again at once.

export CGO_ENABLED := 0

# Guests share the processors of this machine, so packages are tested one after another.
TEST_FLAGS ?= -count=1 -p 1 -timeout 60m

.PHONY: build setup test test-long demo bench lint clean

build:
	go build -trimpath -o kup ./cmd/kup

setup:
	@scripts/setup.sh

test: setup
	go vet ./...
	go test $(TEST_FLAGS) ./...

# What is random or only shows after many rounds, up to ten times as often as in `make test`: about three quarters of an hour.
test-long:
	@scripts/setup.sh generic
	KUP_LONG_TESTS=1 go test -count=1 -p 1 -timeout 120m -v -run 'Rounds|TrackingEnds|PageServer|AllOrNothing|SurvivesKill|OutliveTheKernel|StaysWhereItIs|StayWhereTheyAre|PowerCutAt' ./test ./test/vm ./internal/frames

demo: setup
	go run ./cmd/kup-demo

# Takes about three quarters of an hour on a machine that does nothing else, and some 10 GB of memory. The results go into docs/bench/.
# Parts of it: go run ./bench -help
bench: setup
	go run ./bench

lint:
	@command -v golangci-lint >/dev/null || { echo "lint: golangci-lint is not installed" >&2; exit 1; }
	golangci-lint run ./...

# The kernels and headers in .cache stay: they are downloads. Remove the folder by hand to have them fetched anew.
clean:
	rm -rf kup demo-out
