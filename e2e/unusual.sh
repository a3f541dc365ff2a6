#!/usr/bin/env bash
# Projects with unusual go.mods, of real modules, sync and rehearse: each builds from its bundle alone.
#
#   e2e/unusual.sh [MODMIRROR]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
mkdir "$tmp/bin"
if [ $# -gt 0 ]; then cp "$1" "$tmp/bin/modmirror"; else go build -C "$here" -o "$tmp/bin/modmirror" ./cmd/modmirror; fi
if ! (cd / && go mod download golang.org/x/mod@v0.20.0) >/dev/null 2>&1; then
	echo "SKIP: the configured GOPROXY does not answer"
	exit 0
fi
export GOCACHE=$(go env GOCACHE) PATH=$tmp/bin:$PATH XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state
go telemetry off # its process, which outlives the go command, would write where rm works
unset GOWORK GOFLAGS
cd "$tmp"
passed=0

# project NAME [ENV=VALUE...]: syncs and rehearses the folder NAME.
project() {
	local name=$1
	shift
	if ! (cd "$name" && env "$@" modmirror sync -q --rehearse -o "$tmp/$name.tar" --name "$name") >log 2>&1; then
		cat log
		echo "FAIL: $name"
		exit 1
	fi
	modmirror verify --deep "$name.tar" >/dev/null
	passed=$((passed + 1))
	echo "ok: $name, $(modmirror list "$name.tar" | wc -l) versions"
}
main() { # FOLDER IMPORT...
	mkdir -p "$1"
	{
		echo 'package main'
		for i in "${@:2}"; do echo "import _ \"$i\""; done
		echo 'func main() {}'
	} >"$1/main.go"
}

# A workspace that has in its folders what its modules require of a host that is not there.
main private/app private.invalid/m/lib golang.org/x/mod/semver
main private/lib
sed -i 's/package main/package lib/; /func main/d' private/lib/main.go
printf 'module private.invalid/m/app\n\ngo 1.21\n\nrequire (\n\tgolang.org/x/mod v0.20.0\n\tprivate.invalid/m/lib v0.0.0\n)\n' >private/app/go.mod
printf 'module private.invalid/m/lib\n\ngo 1.21\n' >private/lib/go.mod
printf 'go 1.21\n\nuse (\n\t./app\n\t./lib\n)\n\nreplace private.invalid/m/lib v0.0.0 => ./lib\n' >private/go.work
project private GOPRIVATE=private.invalid

# No go line: everything is unpruned, and as of Go 1.16.
main noline golang.org/x/text/language
printf 'module example.com/noline\n\nrequire golang.org/x/text v0.3.7\n' >noline/go.mod
project noline

# Old, with versions from before modules.
main incompatible github.com/dgrijalva/jwt-go github.com/gofrs/uuid
printf 'module example.com/incompatible\n\ngo 1.13\n\nrequire (\n\tgithub.com/dgrijalva/jwt-go v3.2.0+incompatible\n\tgithub.com/gofrs/uuid v3.3.0+incompatible\n)\n' >incompatible/go.mod
project incompatible

# A fork in the place of a module, under its name.
main fork github.com/satori/go.uuid
printf 'module example.com/fork\n\ngo 1.21\n\nrequire github.com/satori/go.uuid v1.2.0\n\nreplace github.com/satori/go.uuid => github.com/gofrs/uuid v3.3.0+incompatible\n' >fork/go.mod
project fork

# Exclusions, retractions of its own, an ignored folder, godebug, comments, CRLF, quoted paths.
main odd golang.org/x/text/language golang.org/x/sync/errgroup
mkdir -p odd/node_modules/x
echo 'this is no Go' >odd/node_modules/x/x.go
printf '// Deprecated: of itself.\r\nmodule "example.com/odd"\r\n\r\ngo 1.25\r\n\r\ngodebug default=go1.21\r\n\r\nignore ./node_modules\r\n\r\nrequire (\r\n\tgolang.org/x/sync v0.10.0 // pinned\r\n\t"golang.org/x/text" v0.20.0\r\n)\r\n\r\nexclude golang.org/x/sync v0.9.0\r\n\r\nretract [v0.1.0, v0.2.0] // a mistake\r\n' >odd/go.mod
project odd

# Tools of the module, in the module.
main tools
printf 'module example.com/tools\n\ngo 1.24\n\ntool golang.org/x/tools/cmd/stringer\n\nrequire (\n\tgolang.org/x/mod v0.22.0 // indirect\n\tgolang.org/x/sync v0.10.0 // indirect\n\tgolang.org/x/tools v0.28.0 // indirect\n)\n' >tools/go.mod
(cd tools && modmirror sync -q --rehearse='go tool stringer -help 2>&1 | grep stringer >/dev/null' -o "$tmp/tools.tar" --name tools)
passed=$((passed + 1))
echo "ok: tools, $(modmirror list tools.tar | wc -l) versions"

# A major version, gopkg.in, and a nested module by folder, beside a vendor folder that is stale.
main nested gopkg.in/yaml.v3 github.com/cespare/xxhash/v2 example.com/nested/v4/sub
mkdir -p nested/sub nested/vendor/x
printf 'package sub\n\nimport _ "golang.org/x/mod/semver"\n' >nested/sub/sub.go
printf 'module example.com/nested/v4/sub\n\ngo 1.21\n\nrequire golang.org/x/mod v0.19.0\n' >nested/sub/go.mod
printf 'module example.com/nested/v4\n\ngo 1.21\n\nrequire (\n\texample.com/nested/v4/sub v0.0.0\n\tgithub.com/cespare/xxhash/v2 v2.3.0\n\tgopkg.in/yaml.v3 v3.0.1\n)\n\nrequire golang.org/x/mod v0.19.0 // indirect\n\nreplace example.com/nested/v4/sub => ./sub\n' >nested/go.mod
project nested

# Nothing but the standard library, and a toolchain line.
main alone net/http
printf 'module example.com/alone\n\ngo 1.21.0\n\ntoolchain go1.22.1\n' >alone/go.mod
project alone

# cgo, and packages for other systems.
main cgo github.com/mattn/go-sqlite3 golang.org/x/sys/cpu
printf '//go:build windows\n\npackage main\n\nimport _ "github.com/mattn/go-isatty"\n' >cgo/windows.go
printf 'module example.com/cgo\n\ngo 1.21\n\nrequire (\n\tgithub.com/mattn/go-isatty v0.0.20\n\tgithub.com/mattn/go-sqlite3 v1.14.24\n\tgolang.org/x/sys v0.28.0\n)\n' >cgo/go.mod
(cd cgo && CGO_ENABLED=0 modmirror sync -q --rehearse='GOOS=windows go vet ./... && go build ./...' -o "$tmp/cgo.tar" --name cgo)
passed=$((passed + 1))
echo "ok: cgo, $(modmirror list cgo.tar | wc -l) versions"

# Another go.mod, which GOFLAGS names.
main alternate golang.org/x/mod/semver
printf 'module example.com/alternate\n\ngo 1.21\n\nrequire golang.org/x/mod v0.1.0\n' >alternate/go.mod
printf 'module example.com/alternate\n\ngo 1.21\n\nrequire golang.org/x/mod v0.21.0\n' >alternate/go.local.mod
project alternate GOFLAGS=-modfile=go.local.mod
modmirror list alternate.tar | grep 'golang.org/x/mod.v0.21.0' >/dev/null

# Go 1.17, whose tidy looks at what 1.16 would choose.
main seventeen github.com/spf13/cobra
printf 'module example.com/seventeen\n\ngo 1.17\n\nrequire github.com/spf13/cobra v1.2.1\n\nrequire (\n\tgithub.com/inconshreveable/mousetrap v1.0.0 // indirect\n\tgithub.com/spf13/pflag v1.0.5 // indirect\n)\n' >seventeen/go.mod
(cd seventeen && modmirror sync -q --keep-going --rehearse -o "$tmp/seventeen.tar" --name seventeen) >log 2>&1 || { [ $? = 4 ] || { cat log; exit 1; }; }
[ -e seventeen.tar ] && passed=$((passed + 1)) && echo "ok: seventeen, $(modmirror list seventeen.tar | wc -l) versions"

# Untidy: a requirement too many, and one that is missing.
main untidy golang.org/x/mod/semver golang.org/x/sync/errgroup
printf 'module example.com/untidy\n\ngo 1.21\n\nrequire (\n\tgithub.com/google/uuid v1.6.0\n\tgolang.org/x/mod v0.20.0\n)\n' >untidy/go.mod
(cd untidy && modmirror sync -q --learn -o "$tmp/untidy.tar" --name untidy) >log 2>&1 || { cat log; exit 1; }
passed=$((passed + 1))
echo "ok: untidy, $(modmirror list untidy.tar | wc -l) versions"

echo "PASS: $passed projects"
