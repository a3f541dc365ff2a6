#!/usr/bin/env bash
# Offline is as good as online, for a real project: the same go commands from the configured GOPROXY, and from a bundle without a
# network, over HTTP and from the unpacked tar, print and write the same.
#
#   e2e/parity.sh [MODULE@VERSION]
#
# Everything starts from an empty module cache, without go.sum, with GOSUMDB on. Queries are compared for what is carried: the upstream
# has newer versions of most.
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
dir=$(go mod download -json "$project" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
cp -r "$dir" project
chmod -R u+w project
rm -rf project/vendor project/go.sum
modmirror sync -q -o t.tar project

cat >all.sh <<'ALL'
# all.sh NAME: everything, into NAME.txt.
set -u
name=$1 top=$PWD
export GOPATH=$top/$name GOMODCACHE=$top/$name/mod GOFLAGS="-modcacherw" GOTOOLCHAIN=local GOWORK=off
unset GONOSUMDB GOSUMDB GOPRIVATE
mkdir -p "$name"
cp -r project "$name/project"
cd "$name/project"
run() {
	echo "== $*" >>"$top/$name.txt"
	"$@" >"$top/out" 2>"$top/err" || { echo "ended with $?" >>"$top/$name.txt"; head -5 "$top/err" >&2; }
	sed "s#$GOMODCACHE#CACHE#g; s#$top/$name#TOP#g; /^\t\"Query\"/d" "$top/out" >>"$top/$name.txt"
}
run go mod tidy
run cat go.mod go.sum
run go list -m all
run go list -m -json=Path,Version,Time,Replace,Indirect,GoVersion,Sum,GoModSum all
run go mod graph
run go mod why -m all
run go mod vendor
run cat vendor/modules.txt
rm -rf vendor
run go list -deps -test -f '{{with .Module}}{{.Path}}@{{.Version}}{{end}} {{.ImportPath}}' ./...
run go build ./...
run go mod verify
run go mod download -json all
first=$(go list -m -f '{{if not .Main}}{{.Path}}@{{.Version}}{{end}}' all | sed '/^$/d' | sed -n 1,20p)
for m in $first; do run go list -m -json=Path,Version,Time,GoVersion "$m"; done
rm -rf "$GOMODCACHE"
ALL
echo "== online"
bash all.sh online
cat >inside.sh <<'INSIDE'
set -euo pipefail
ip link set lo up
unset GOPROXY
if (echo >/dev/tcp/1.1.1.1/53) 2>/dev/null; then echo "there is a network"; exit 1; fi
modmirror serve --addr 127.0.0.1:8083 t.tar 2>serve.log &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 50); do modmirror env http://127.0.0.1:8083 >env.sh 2>/dev/null && break; sleep 0.1; done
. ./env.sh
echo "== inside"
bash all.sh inside
mkdir unpacked
tar xf t.tar -C unpacked
echo "== file://"
GOPROXY=file://$PWD/unpacked bash all.sh tree
INSIDE
unshare -rn bash inside.sh
for n in inside tree; do cmp "$n.txt" online.txt || { diff "$n.txt" online.txt | sed -n 1,20p; exit 1; }; done
! grep -B1 "^ended with" online.txt
echo "the same: $(wc -l <online.txt) lines of $(grep -c '^== ' online.txt) commands"
