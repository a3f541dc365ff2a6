#!/usr/bin/env bash
# A real project crosses the gap: synced from the configured GOPROXY, built where there is no network.
#
#   e2e/offline.sh [MODULE@VERSION]
#
# Inside a network namespace with loopback only, with an empty module cache, without go.sum and with
# GOSUMDB on: go mod tidy, build, vet, mod verify; from modmirror serve, then from the unpacked tar.
# Prints sizes, times and peak memory. Needs unshare (root or user namespaces).
set -euo pipefail
project=${1:-github.com/google/go-containerregistry@v0.22.1}
here=$(cd "$(dirname "$0")/.." && pwd)

if ! unshare -rn true 2>/dev/null; then
	echo "SKIP: no network namespaces here"
	exit 0
fi
if ! go mod download -json "$project" >/dev/null 2>&1; then
	echo "SKIP: the configured GOPROXY does not answer for $project"
	exit 0
fi
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
go build -C "$here" -o "$tmp/bin/modmirror" ./cmd/modmirror
export GOCACHE=$(go env GOCACHE) PATH=$tmp/bin:$PATH XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state
go telemetry off # its process, which outlives the go command, would write where rm works
peak() { awk '/VmHWM/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$1/status"; }

dir=$(go mod download -json "$project" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
cp -r "$dir" project
chmod -R u+w project
rm -rf project/vendor
cp project/go.sum outside.sum

echo "== sync $project"
GOMODCACHE=$tmp/none bash -c '
	modmirror sync -o team.tar project & pid=$!
	while kill -0 $pid 2>/dev/null; do awk "/VmHWM/ { print \$2 }" /proc/$pid/status 2>/dev/null; sleep 0.05; done | sort -n | tail -1 >sync.peak
	wait $pid'
echo "peak memory of sync: $(($(cat sync.peak) / 1024)) MiB"
modmirror info team.tar
modmirror verify --deep team.tar

cat >inside.sh <<'INSIDE'
set -euo pipefail
ip link set lo up
export GOPATH=$PWD/gopath GOMODCACHE=$PWD/gopath/mod GOFLAGS="-modcacherw -trimpath" GOENV=off GOTOOLCHAIN=local GOWORK=off GONOSUMDB= GOPRIVATE=
unset GOPROXY GOSUMDB
if (echo >/dev/tcp/1.1.1.1/53) 2>/dev/null; then echo "there is a network"; exit 1; fi
build() {
	rm -rf gopath
	rm -f project/go.sum
	(
		cd project
		go mod tidy
		# go.sum is what tidy makes; a project may keep lines that tidy would drop.
		! comm -13 <(sort ../outside.sum) <(sort go.sum) | grep . || { echo "go.sum has lines that it did not have outside"; exit 1; }
		go build ./...
		[ "${VET:-}" = off ] || go vet ./... # an old project may not pass a new vet
		go mod verify
	)
}
start_serve() {
	modmirror serve --addr 127.0.0.1:8080 team.tar 2>serve.log &
	pid=$!
	trap 'kill $pid' EXIT
	# /healthz answers at once, /readyz when it is ready.
	until curl -sf http://127.0.0.1:8080/readyz >/dev/null; do sleep 0.01; done
	grep -o 'ready after.*' serve.log
}
echo "== serve: the first time, and seen before"
start_serve; kill $pid; wait $pid
start_serve
eval "$(modmirror env http://127.0.0.1:8080)"
(time build) 2>&1 | grep -v -e ^user -e ^sys -e '^$'
rm -rf gopath
(cd project && time go mod download all) 2>&1 | grep -e real -e go:
echo "peak memory of serve: $(awk '/VmHWM/ { printf "%.0f MiB", $2 / 1024 }' /proc/$pid/status)"
kill $pid; wait $pid
trap - EXIT
echo "== the unpacked tar, without modmirror"
mkdir tree
tar xf team.tar -C tree
export GOPROXY=file://$PWD/tree
build
INSIDE
command -v curl >/dev/null
timeout 900 unshare -rn bash inside.sh
echo "PASS: $project"
