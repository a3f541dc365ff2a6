#!/usr/bin/env bash
# The bytes of a module zip that go commands of two releases pack.
#
# Seen with go1.26.11 and go1.27.4 (golang.org/toolchain@v0.0.1-go1.26.11.linux-amd64, …-go1.27.4.…), git, linux/amd64.
# Guessed: "go mod download" of one commit with GOPROXY=direct makes the same zip anywhere: times are left out, the order is that of the tree, and
#   the compressor is the standard library's at its default level.
# Seen: the h1 is the same, the zip is not: other sizes and other SHA-256. The compress/flate of Go 1.27 writes other bytes at the same level.
#   A mirror that pins zips by SHA-256, or a cache that keys on it, sees a module change when a proxy that packs for itself is rebuilt.
set -euo pipefail
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
GOPROXY=$(go env GOPROXY)
export GOPROXY GOENV=off GOWORK=off GOPATH=$tmp/go GOFLAGS=-modcacherw GOTOOLCHAIN=auto
unset GOMODCACHE GOROOT
platform=$(go env GOOS)-$(go env GOARCH)
export HOME=$tmp/home GIT_CONFIG_NOSYSTEM=1
mkdir -p "$HOME" repo/lib
git config --global user.email dev@corp.example
git config --global user.name dev
git config --global protocol.file.allow always
git config --global "url.file://$tmp/repo/.insteadOf" https://git.corp.example/
(
	cd repo/lib
	git init -q
	printf 'module git.corp.example/lib.git\n\ngo 1.20\n' >go.mod
	seq 100000 >numbers.txt
	git add .
	git commit -qm one
	git tag v1.0.0
)
for v in go1.26.11 go1.27.4; do
	goroot=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-$v.$platform" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
	find "$goroot/bin" "$goroot/pkg/tool" -type f -exec chmod a+x {} +
	mkdir $v
	(cd $v && GOPATH=$PWD GOROOT=$goroot GOTOOLCHAIN=local GOPROXY=direct GONOSUMDB=git.corp.example "$goroot/bin/go" mod download git.corp.example/lib.git@v1.0.0)
	at=$v/pkg/mod/cache/download/git.corp.example/lib.git/@v/v1.0.0
	echo "$v: $(stat -c %s $at.zip) bytes, $(cat $at.ziphash)"
	cp $at.zip $v.zip
	cp $at.ziphash $v.ziphash
done
cmp go1.26.11.ziphash go1.27.4.ziphash || { echo "CHANGED: another h1"; exit 1; }
if cmp -s go1.26.11.zip go1.27.4.zip; then echo "CHANGED: the same bytes"; exit 1; fi
echo "as described"
