#!/usr/bin/env bash
# govulncheck finds inside, from the served vulnerability database, what it finds outside.
#
#   e2e/vulndb.sh GOVULNCHECK FOLDER     a govulncheck, and a vulnerability database unpacked
#
# Inside is a network namespace with loopback only.
set -euo pipefail
govulncheck=$1 db=$2
here=$(cd "$(dirname "$0")/.." && pwd)
if ! unshare -rn true 2>/dev/null; then
	echo "SKIP: no network namespaces here"
	exit 0
fi
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
go build -C "$here" -o "$tmp/modmirror" ./cmd/modmirror
export GOCACHE=$(go env GOCACHE) XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state GOFLAGS="-modcacherw -mod=mod" GOTOOLCHAIN=local
go telemetry off # its process, which outlives the go command, would write where rm works
mkdir project
cat >project/go.mod <<'EOF'
module example.com/project

go 1.22

require golang.org/x/text v0.3.5
EOF
cat >project/main.go <<'EOF'
package main

import (
	"os"

	"golang.org/x/text/language"
)

func main() { language.Parse(os.Args[1]) }
EOF
if ! ./modmirror sync -o v.tar --vulndb="$db" project 2>sync.log; then
	if grep -q 'modmirror doctor tells more' sync.log; then echo "SKIP: the configured GOPROXY does not answer"; exit 0; fi
	cat sync.log
	exit 1
fi
./modmirror info v.tar
mkdir bin
ln -s "$govulncheck" bin/govulncheck
export PATH=$PWD/bin:$PATH
plain() { grep -v '^Scanned\|DB updated'; }
(cd project && go mod download all)
(cd project && govulncheck -format text -db "file://$db" ./... | plain) >outside.txt || true
grep -q GO-2021-0113 outside.txt || { echo "FAIL: the known entry was not found outside"; cat outside.txt; exit 1; }
export -f plain

# The commands as docs/operations.md has them, to be typed as they are shown: with env, and from the unpacked tree.
docs=$here/docs/operations.md
typed=$(sed -n 's/^    \(govulncheck -db "$GOVULNDB" .*\)$/\1/p' "$docs")
unpacked=$(sed -n 's/.*`\(govulncheck -db file:[^`]*\)`.*/\1/p' "$docs" | sed "s#/srv/go#$PWD/tree#")
[ -n "$typed" ] && [ -n "$unpacked" ] || { echo "FAIL: the docs show no govulncheck any more"; exit 1; }
mkdir tree
tar xf v.tar -C tree
export typed unpacked
cat >inside.sh <<'EOF'
ip link set lo up
./modmirror serve --addr 127.0.0.1:8080 v.tar 2>serve.log &
pid=$!
trap 'kill $pid' EXIT
until curl -sf http://127.0.0.1:8080/readyz >/dev/null; do sleep 0.01; done
eval "$(./modmirror env http://127.0.0.1:8080)"
export GOPATH=$PWD/gopath GOMODCACHE=$PWD/gopath/mod
# What the page shows.
page=$(curl -s http://127.0.0.1:8080/ | sed -n 's#^<pre>\(govulncheck .*\)</pre>$#\1#p')
cd project
for command in "$typed" "$page" "$unpacked"; do
	echo "== $command" >&2
	eval "$command" | plain >../found.txt || true
	diff ../outside.txt ../found.txt >&2 || exit 1
done
cat ../found.txt
EOF
timeout 120 unshare -rn bash inside.sh >inside.txt || true
sed -n 's/^Vulnerability #[0-9]*: \(GO-[0-9-]*\).*/\1/p' outside.txt | sort >called.txt
(cd project && ../modmirror vulns --source . ../v.tar) >symbols.txt
sed -n 's/^called: \(GO-[0-9-]*\).*/\1/p' symbols.txt | sort | diff called.txt - || { echo "FAIL: other calls by vulns --source"; cat symbols.txt; exit 1; }
diff outside.txt inside.txt || { echo "FAIL: other findings inside"; exit 1; }
echo "PASS: govulncheck, $(grep -c '^Vulnerability' inside.txt) findings inside and outside"
