#!/usr/bin/env bash
# go get -u=patch with GONOPROXY=none.
#
# Seen with go1.27.4 and go1.20.14 (golang.org/toolchain@v0.0.1-go1.27.4.linux-amd64, …-go1.20.14.…), GOPROXY a module proxy.
# Guessed: GONOPROXY=none is the documented way to say that no module goes round the proxy ("none" matches no path), so that
#   every command does what it does with GONOPROXY empty. Wrong guess that was kept: that the proxy's answers were at fault.
# Seen: with GONOPROXY empty "go get -u=patch ./..." succeeds; with GONOPROXY=none it fails, asking nothing of the proxy for the paths
#   above a package's module:
#     go: can't query version "patch" of module github.com/google: no existing version is required
#   Any other value, one that matches nothing here, fails in the same way. get -u and get @latest are not affected.
# Reason, as read in cmd/go: a non-empty GONOPROXY puts an entry before the proxies that answers for patterns alone
#   (modfetch/proxy.go proxyList); a query "patch" of a path with no required version fails in that round with an error that is not "not found", so
#   the round of the proxy never comes.
set -euo pipefail
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
GOPROXY=$(go env GOPROXY)
export GOPROXY GOENV=off GOWORK=off GOPATH=$tmp/go GOFLAGS=-modcacherw GOPRIVATE= GOTOOLCHAIN=auto GONOPROXY=
unset GOMODCACHE GOROOT
platform=$(go env GOOS)-$(go env GOARCH)
mkdir p
cat >p/main.go <<'X'
package main

import (
	"fmt"

	"github.com/google/go-cmp/cmp"
)

func main() { fmt.Println(cmp.Equal(1, 1)) }
X
for v in go1.20.14 go1.27.4; do
	goroot=$(cd / && GOFLAGS=-mod=mod go mod download -json "golang.org/toolchain@v0.0.1-$v.$platform" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
	find "$goroot/bin" "$goroot/pkg/tool" -type f -exec chmod a+x {} +
	try() { # GONOPROXY
		printf 'module example.com/p\n\ngo 1.20\n\nrequire github.com/google/go-cmp v0.5.0\n' >p/go.mod
		rm -f p/go.sum
		(cd p && GOROOT=$goroot GOTOOLCHAIN=local GONOPROXY=$1 "$goroot/bin/go" get -u=patch ./...) >out 2>&1
	}
	try "" || { cat out; echo "CHANGED: $v fails with GONOPROXY empty"; exit 1; }
	for value in none corp.example; do
		if try $value; then echo "CHANGED: $v succeeds with GONOPROXY=$value"; exit 1; fi
		grep -q 'can.t query version "patch" of module .*: no existing version is required' out || { cat out; echo "CHANGED: $v says something else"; exit 1; }
	done
	echo "$v: as described"
done
