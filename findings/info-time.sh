#!/usr/bin/env bash
# How old a release is, by the proxy's time and by the checksum database.
#
# Seen with Go 1.26.8 and the public checksum database sum.golang.org, on 2026-11-29.
# Guessed: the Time that "go list -m -json" prints of a tagged version is off by days at most: who tags does so after a commit or two. Tools that wait some
#   days before they take a release go by it.
# Seen: github.com/dgraph-io/ristretto v0.2.0 says 2023-09-04. Its record in the database comes after that of github.com/alecthomas/assert/v2 v2.11.0, which
#   was committed on 2024-09-17. So for 379 days at least nobody had asked for it, most likely because it was tagged a year after its commit; on its first day
#   it looked a year old. Of 451 versions with records above 100,000 in the module graph of caddy v2.10.0, three are such, by 447, 379 and 237 days or more. Records are
#   appended when somebody asks for the first time, so their numbers bound the age from above; the time bounds nothing, and can be set by the author too.
set -euo pipefail
shopt -s inherit_errexit
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
export GOPATH=$tmp/go GOMODCACHE=$tmp/go/pkg/mod GOFLAGS=-mod=mod GONOSUMDB='' GOPRIVATE=''
printf 'module example.com/p\n\ngo 1.20\n' >go.mod
seen() { # module, version: prints time and record
	go mod download "$1@$2"
	echo "$(go list -m -json "$1@$2" | sed -n 's/^\t"Time": "\(.\{10\}\).*/\1/p') $(head -n 1 "$GOMODCACHE/cache/download/sumdb/sum.golang.org/lookup/$1@$2")"
}
early=$(seen github.com/alecthomas/assert/v2 v2.11.0)
late=$(seen github.com/dgraph-io/ristretto v0.2.0)
read -r early first <<<"$early"
read -r late second <<<"$late"
expect() { [ "$2" = "$3" ] || { echo "CHANGED: $1: $2, not $3"; exit 1; }; }
expect "time of assert/v2 v2.11.0" "$early" 2024-09-17
expect "time of ristretto v0.2.0" "$late" 2023-09-04
[ "$first" -lt "$second" ] || { echo "CHANGED: record $first is not before $second"; exit 1; }
echo "as described"
