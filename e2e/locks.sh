#!/usr/bin/env bash
# A lock made with one release of Go gives the same bytes with another one, on either side of Go 1.27, whose compress/flate writes other bytes:
# with private modules, which the go command packs, from a git repository, and public ones.
#
#   e2e/locks.sh [MODMIRROR]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
mkdir "$tmp/bin"
if [ $# -gt 0 ]; then cp "$1" "$tmp/bin/modmirror"; else go build -C "$here" -o "$tmp/bin/modmirror" ./cmd/modmirror; fi
cd "$tmp"
GOPROXY=$(go env GOPROXY) GOCACHE=$(go env GOCACHE) cache=$(go env GOMODCACHE)
export GOPROXY GOCACHE GOWORK=off GOFLAGS=-modcacherw
unset GOPRIVATE GONOSUMDB GONOPROXY

# Two releases, the last of each line.
arch=$(go env GOARCH)
release() { # LINE: its GOROOT
	local v dir
	v=$(cd / && GOFLAGS=-mod=mod go list -m -versions -f '{{range .Versions}}{{println .}}{{end}}' "golang.org/toolchain@v0.0.1-go1.21.13.linux-$arch" 2>/dev/null |
		sed -n "s/^v0\.0\.1-go\($1\.[0-9]*\)\.linux-$arch\$/\1/p" | sort -t. -k3,3n | tail -1)
	[ -n "$v" ] || return 1
	dir=$(cd / && GOMODCACHE=$cache go mod download -json "golang.org/toolchain@v0.0.1-go$v.linux-$arch" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
	[ -x "$dir/bin/go" ] || find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod a+x {} +
	echo "$dir"
}
old=$(release 1.26) || { echo "SKIP: the configured GOPROXY does not answer"; exit 0; }
new=$(release 1.27) || fail "no go1.27"

# A private repository.
export HOME=$tmp/home GOENV=off GIT_CONFIG_NOSYSTEM=1
for config in "$tmp/config" "$HOME/.config"; do
	XDG_CONFIG_HOME=$config go telemetry off # its process, which outlives the go command, would write where rm works
done
mkdir -p "$HOME" repo/lib
git config --global user.email dev@corp.example
git config --global user.name dev
git config --global init.defaultBranch main
git config --global protocol.file.allow always
git config --global "url.file://$tmp/repo/.insteadOf" https://git.corp.example/
(
	cd repo/lib
	git init -q
	printf 'module git.corp.example/lib.git\n\ngo 1.20\n\nrequire golang.org/x/mod v0.20.0\n' >go.mod
	printf 'package lib\n\nimport _ "golang.org/x/mod/semver"\n' >lib.go
	for i in $(seq 2000); do echo "// line $i of a text that compresses, $((i * i % 977))"; done >>lib.go
	git add .
	git commit -qm one
	git tag v1.0.0
	seq 100000 >numbers.txt
	git add .
	git commit -qm two
	git tag v1.1.0
)
export GOPRIVATE=git.corp.example
cat >list.txt <<'X'
git.corp.example/lib.git@v1.0.0
git.corp.example/lib.git@v1.1.0
golang.org/x/mod@v0.20.0
X

# machine NAME GOROOT: a machine of its own with this Go.
machine() {
	export GOROOT=$2 PATH=$2/bin:$tmp/bin:$original XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/$1/cache XDG_STATE_HOME=$tmp/$1/state GOPATH=$tmp/$1/go GOTOOLCHAIN=local
	unset GOMODCACHE
	echo "== $1: $(go version)"
}
original=$PATH

machine one "$old"
go mod download git.corp.example/lib.git@v1.1.0
modmirror sync -q -o one.tar --name team --lock team.lock list.txt
modmirror verify --deep one.tar
machine two "$new"
go mod download git.corp.example/lib.git@v1.1.0
zip=cache/download/git.corp.example/lib.git/@v/v1.1.0
if cmp -s "one/go/pkg/mod/$zip.zip" "two/go/pkg/mod/$zip.zip"; then
	echo "the two releases pack the same bytes: this test has nothing to show any more"
else
	echo "the two releases pack other bytes, $(stat -c %s "one/go/pkg/mod/$zip.zip") and $(stat -c %s "two/go/pkg/mod/$zip.zip"), of the same h1"
	cmp "one/go/pkg/mod/$zip.ziphash" "two/go/pkg/mod/$zip.ziphash"
fi
modmirror sync -q -o two.tar --lock team.lock list.txt
cmp one.tar two.tar || fail "other bytes with go1.27"
echo "the same bytes: $(sha256sum <two.tar)"

# A delta on the other machine carries no zip again.
echo 'golang.org/x/mod@v0.21.0' >>list.txt
modmirror sync -q -o delta.tar --base one.tar list.txt
tar tf delta.tar >delta.txt
if grep -E 'lib.git/.*\.zip|mod/@v/v0.20.0.zip' delta.txt; then fail "carried again"; fi
grep -q 'mod/@v/v0.21.0.zip' delta.txt || fail "the delta lacks what is new"

echo "PASS"
