#!/usr/bin/env bash
# A line of weekly bundles on real modules, older to newer versions: each delta is small, all of it is served from one store, and
# one client that keeps its GOPATH/pkg/sumdb builds at every step, from the store and from the tree unpacked in order.
# Usage: e2e/weeks.sh [WEEKS]
set -euo pipefail
weeks=${1:-10}
here=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; chmod -R u+w "$tmp" 2>/dev/null || true; rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
go build -C "$here" -o "$tmp/modmirror" ./cmd/modmirror
cd "$tmp"
export GOCACHE=$(go env GOCACHE) XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state GOFLAGS="-modcacherw -trimpath" GOTOOLCHAIN=local GOWORK=off
go telemetry off # its process, which outlives the go command, would write where rm works

# A package of each, and how many releases back the line begins.
packages=(
	golang.org/x/text/language golang.org/x/net/html golang.org/x/crypto/ssh golang.org/x/sys/unix golang.org/x/sync/errgroup golang.org/x/term
	golang.org/x/mod/semver golang.org/x/time/rate golang.org/x/tools/go/ast/astutil github.com/spf13/pflag github.com/spf13/cast
	github.com/stretchr/testify/assert github.com/google/uuid github.com/google/go-cmp/cmp github.com/fatih/color github.com/mattn/go-isatty
	github.com/gorilla/mux github.com/sirupsen/logrus github.com/rs/zerolog go.uber.org/zap gopkg.in/yaml.v3 github.com/BurntSushi/toml
	github.com/klauspost/compress/zstd github.com/schollz/progressbar/v3 github.com/cespare/xxhash/v2 github.com/hashicorp/golang-lru/v2
	github.com/go-chi/chi/v5 github.com/julienschmidt/httprouter github.com/pelletier/go-toml/v2
)
mkdir project
cd project
go mod init example.org/line 2>/dev/null
{
	echo "package main"
	echo
	echo "import ("
	printf '\t_ "%s"\n' "${packages[@]}"
	echo ")"
	echo
	echo "func main() {}"
} >main.go
modules=$(for p in "${packages[@]}"; do
	case $p in
	golang.org/x/*) echo "$p" | cut -d/ -f1-3 ;;
	github.com/*/v[0-9]*) echo "$p" | grep -o '^github.com/[^/]*/[^/]*/v[0-9]*' ;;
	github.com/*) echo "$p" | cut -d/ -f1-3 ;;
	*) echo "$p" ;;
	esac
done | sort -u)
export GOMODCACHE=$tmp/outside
for m in $modules; do
	go list -m -versions "$m" 2>/dev/null | tr ' ' '\n' | tail -n +2 | grep -v -- - | tail -n "$weeks" >"$tmp/versions-${m//\//_}" || true
done
[ -s "$tmp/versions-golang.org_x_text" ] || { echo "SKIP: the configured GOPROXY does not answer"; exit 0; }

export SOURCE_DATE_EPOCH=1790000000
base=()
cd "$tmp"
mkdir tree
echo "week  zips new   new bytes      delta      allowed"
for week in $(seq "$weeks"); do
	cd project
	for m in $modules; do
		versions="$tmp/versions-${m//\//_}"
		n=$(wc -l <"$versions")
		[ "$n" -gt 0 ] || continue
		v=$(sed -n "$((week > n ? n : week))p" "$versions")
		cp go.mod go.mod.before
		if ! go get "$m@$v" >"$tmp/get.log" 2>&1; then cp go.mod.before go.mod; fi # what the upstream refuses waits
	done
	rm -f go.mod.before
	go mod tidy >"$tmp/tidy.log" 2>&1 || { cat "$tmp/tidy.log"; fail "tidy outside, week $week"; }
	cd ..
	bundle=line-$week.tar
	GOMODCACHE=$tmp/none ./modmirror sync --name line -o "$bundle" "${base[@]}" --keep-going project 2>sync.log || [ $? = 4 ] || { cat sync.log; fail "sync, week $week"; }
	new=$(tar tvf "$bundle" | awk '/@v\/.*\.(zip|mod|info)$/ { s += $3 } END { print s + 0 }')
	zips=$(tar tf "$bundle" | grep -c '\.zip$' || true)
	size=$(stat -c %s "$bundle")
	allowed=$((new * 102 / 100 + 2 * 1024 * 1024))
	printf '%4d %9d %11d %10d %12d\n' "$week" "$zips" "$new" "$size" "$allowed"
	[ "$week" = 1 ] || [ "$size" -le "$allowed" ] || fail "the delta of week $week is too large"
	./modmirror import --store store "$bundle" 2>import.log || { cat import.log; fail "import, week $week"; }
	! grep -q 'cannot be proven' import.log || { cat import.log; fail "unproven"; }
	if [ -z "$server" ]; then
		./modmirror serve --addr 127.0.0.1:0 store 2>serve.log &
		server=$!
		for _ in $(seq 50); do grep -q ' at http' serve.log && break; sleep 0.1; done
		url=$(grep -om1 'http://[0-9.]*:[0-9]*' serve.log)
	fi
	for _ in $(seq 50); do grep -q "sequence $SOURCE_DATE_EPOCH;" serve.log && break; sleep 0.1; done
	grep -q "sequence $SOURCE_DATE_EPOCH;" serve.log || { cat serve.log; fail "week $week is not served"; }
	tar xf "$bundle" -C tree
	for from in "$url" "file://$tmp/tree"; do
		client=client-${from%%:*}
		rm -rf "$client/mod" inside
		cp -r project inside
		rm -f inside/go.sum
		(
			cd inside
			export GOPROXY=$from GOPATH=$tmp/$client GOMODCACHE=$tmp/$client/mod GONOSUMDB= GONOPROXY=none GOPRIVATE=
			[ "$(go env GOSUMDB)" != off ] || exit 1
			go mod tidy 2>"$tmp/inside.log" && go build ./... 2>>"$tmp/inside.log"
		) || { cat inside.log; fail "the client of $from, week $week"; }
		cmp -s inside/go.sum project/go.sum || fail "go.sum inside differs, week $week"
	done
	base=(--base "$tmp/$bundle")
	SOURCE_DATE_EPOCH=$((SOURCE_DATE_EPOCH + 604800))
done
./modmirror verify --deep line-*.tar >verify.log || { cat verify.log; fail "verify --deep"; }
tail -2 verify.log
echo "lookups of module versions while served: $(./modmirror list "line-$weeks.tar" | wc -l) versions in the line's catalog, $(stat -c %s client-http/pkg/sumdb/*/latest) bytes of remembered head"
echo "PASS: $weeks weeks"
