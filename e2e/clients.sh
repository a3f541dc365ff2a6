#!/usr/bin/env bash
# Old and new go commands are as good inside as outside: the last release of each line from 1.13 on runs the commands of its time from one
# bundle, without a network, over HTTP and from the unpacked tar, with the checksum database on, and prints and writes the same as from a
# reference: the configured GOPROXY, with version lists, @latest and branches of just what the bundle carries.
#
#   e2e/clients.sh [MODMIRROR]
#
# ONLY="1.13 1.27" runs those lines only, KEEP=1 keeps the folder with all outputs, TIMES=1 writes there what each cell took. It is mostly
# unpacking and linking: TMPDIR=/dev/shm makes it twice as fast.
#
# Every cell of the table begins with an empty GOPATH and its own copy of the project; what is compared is stdout, how it ended, go.mod,
# go.sum and vendor/modules.txt. The releases are kept in the module cache, what they build in the build cache.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if ! unshare -rn true 2>/dev/null; then
	echo "SKIP: no network namespaces here"
	exit 0
fi
tmp=$(mktemp -d)
reference=
trap '[ -z "$reference" ] || kill "$reference" 2>/dev/null || true; chmod -R u+w "$tmp"; [ -n "${KEEP:-}" ] && echo "kept: $tmp" || rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
mkdir "$tmp/bin"
if [ $# -gt 0 ]; then cp "$1" "$tmp/bin/modmirror"; else go build -C "$here" -o "$tmp/bin/modmirror" ./cmd/modmirror; fi
unset GOFLAGS GOWORK GOSUMDB GOPRIVATE GONOSUMDB GONOPROXY
export GOPROXY GOCACHE
GOPROXY=$(go env GOPROXY) GOCACHE=$(go env GOCACHE)
export XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state GOWORK=off CGO_ENABLED=0
go telemetry off # its process, which outlives the go command, would write where rm works
export PATH=$tmp/bin:$PATH LC_ALL=C
cd "$tmp"

# The last release of each line, in the module cache, and executable as the go command would make it.
echo "== releases"
arch=$(go env GOARCH)
mkdir empty
cd empty
releases=$(go list -m -versions -f '{{range .Versions}}{{println .}}{{end}}' "golang.org/toolchain@v0.0.1-go1.21.13.linux-$arch" 2>/dev/null |
	sed -n "s/^v0\.0\.1-go\(1\.[0-9.]*\)\.linux-$arch\$/\1/p" | sort -t. -k2,2n -k3,3n |
	awk -F. '$2 >= 13 { last[$2] = $0; if ($2 > n) n = $2 } END { for (i = 13; i <= n; i++) if (i in last) print last[i] }')
[ -n "$releases" ] || { echo "SKIP: the configured GOPROXY does not answer"; exit 0; }
if [ -n "${ONLY:-}" ]; then releases=$(for r in $releases; do case " $ONLY " in *" ${r%.*} "*) echo "$r" ;; esac; done); fi
goroots=
for r in $releases; do
	dir=$(go mod download -json "golang.org/toolchain@v0.0.1-go$r.linux-$arch" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
	[ -d "$dir" ] || fail "no go$r"
	[ -x "$dir/bin/go" ] || find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod a+x {} +
	[ "$(GOROOT=$dir GOTOOLCHAIN=local "$dir/bin/go" version)" = "go version go$r linux/$arch" ] || fail "go$r does not run"
	goroots+="$r $dir"$'\n'
done
echo "$goroots" | cut -d' ' -f1 | tr '\n' ' '
echo
cd ..

# Projects: one for every release, one whose graph is pruned, one for a newer Go, and in that one that gets a module for a newer Go.
mkdir -p old pruned switch/newer
cat >old/go.mod <<'X'
module example.org/old

go 1.13

require (
	github.com/BurntSushi/toml v0.3.1
	github.com/cespare/xxhash/v2 v2.1.1
	github.com/dgrijalva/jwt-go v3.2.0+incompatible
	github.com/google/go-cmp v0.5.0
	github.com/spf13/pflag v1.0.3
	github.com/stretchr/testify v1.7.0
	golang.org/x/xerrors v0.0.0-20191204190536-9bdfabe68543
)
X
cat >old/main.go <<'X'
package main

import (
	"fmt"

	"github.com/BurntSushi/toml"
	"github.com/cespare/xxhash/v2"
	"github.com/dgrijalva/jwt-go"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"golang.org/x/xerrors"
)

func main() {
	var x struct{ A int }
	_, err := toml.Decode("A = 1", &x)
	fmt.Println(x, err, xxhash.Sum64String("x"), jwt.SigningMethodHS256.Alg(), cmp.Equal(x, x), pflag.NArg(), xerrors.New("an error"))
}
X
cat >old/main_test.go <<'X'
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRun(t *testing.T) { assert.NotPanics(t, main) }
X
cat >pruned/go.mod <<'X'
module example.org/pruned

go 1.18

require github.com/spf13/cast v1.5.0
X
cat >pruned/main.go <<'X'
package main

import (
	"fmt"

	"github.com/spf13/cast"
)

func main() { fmt.Println(cast.ToInt("12")) }
X
cat >switch/go.mod <<'X'
module example.org/switch

go 1.24

require github.com/spf13/pflag v1.0.3
X
cat >switch/main.go <<'X'
package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/pflag"
)

func main() { fmt.Println(runtime.Version(), pflag.NArg()) }
X
cat >switch/newer/go.mod <<'X'
module example.org/newer

go 1.21
X
cat >switch/newer/main.go <<'X'
package main

import "golang.org/x/sync/errgroup"

func main() { new(errgroup.Group).Wait() }
X
cat >list.txt <<'X'
module ./old
module ./pruned
module ./switch
github.com/BurntSushi/toml@v0.4.1
github.com/google/go-cmp@v0.5.6
github.com/google/go-cmp@v0.5.9
github.com/spf13/pflag@v1.0.5
golang.org/x/sync@v0.17.0
golang.org/x/xerrors@master
golang.org/x/xerrors@7835f81
tool github.com/cespare/xxhash/v2/xxhsum@v2.1.2
toolchain auto
X

# A branch and the prefix of a commit: not every upstream answers for them, and a branch moves, so a folder before it does.
queries=$tmp/queries
mkdir -p queries/golang.org/x/xerrors/@v
tip='{"Version":"v0.0.0-20240903120638-7835f813f4da","Time":"2024-09-03T12:06:38Z"}'
echo "$tip" >queries/golang.org/x/xerrors/@v/master.info
echo "$tip" >queries/golang.org/x/xerrors/@v/7835f81.info

echo "== sync"
modmirror sync -q -o t.tar --compat 1.16 --goproxy "file://$queries,$GOPROXY" list.txt
modmirror list t.tar >carried
mkdir tree
tar xf t.tar -C tree
wc -l <carried

# The reference.
mkdir server
cat >server/main.go <<'X'
// The configured GOPROXY, its lists and @latest cut to what is carried. What it does not have, for whatever reason, is 404.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

var (
	carried = map[string][]string{} // the escaped path, its versions
	cache   sync.Map
)

func fetch(name string) ([]byte, bool) {
	if b, ok := cache.Load(name); ok {
		return b.([]byte), b.([]byte) != nil
	}
	var got []byte
	if b, err := os.ReadFile(filepath.Join(os.Args[2], name)); err == nil {
		got = b
	} else if b, err := os.ReadFile(filepath.Join(os.Args[3], "cache/download", name)); err == nil && (strings.HasSuffix(name, ".zip") || strings.HasSuffix(name, ".mod")) {
		got = b
	} else {
		for _, up := range strings.FieldsFunc(os.Args[4], func(r rune) bool { return r == ',' || r == '|' }) {
			if !strings.HasPrefix(up, "http") {
				continue
			}
			resp, err := http.Get(strings.TrimSuffix(up, "/") + "/" + name)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return nil, false
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == 200 {
				if b == nil {
					b = []byte{}
				}
				got = b
				break
			}
		}
	}
	cache.Store(name, got)
	return got, got != nil
}

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		p := escape(w[0])
		carried[p] = append(carried[p], w[1])
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("http://" + l.Addr().String())
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		var b []byte
		ok := false
		if p, is := strings.CutSuffix(name, "/@v/list"); is {
			var versions []string
			if versions, ok = carried[p]; ok {
				for _, v := range versions {
					if !pseudo(v) {
						b = append(b, v+"\n"...)
					}
				}
			}
		} else if p, is := strings.CutSuffix(name, "/@latest"); is {
			if v := latest(carried[p]); v != "" {
				b, ok = fetch(p + "/@v/" + escape(v) + ".info")
			}
		} else {
			b, ok = fetch(name)
		}
		fmt.Fprintln(os.Stderr, name, ok)
		if !ok {
			http.Error(w, "not found: "+name, 404)
			return
		}
		w.Write(b)
	}))
}

func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if 'A' <= r && r <= 'Z' {
			b.WriteByte('!')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// pseudo says whether v ends with a time of 14 digits and a commit of 12.
func pseudo(v string) bool {
	v, _, _ = strings.Cut(v, "+")
	i := strings.LastIndexByte(v, '-')
	return i > 14 && len(v)-i == 13 && strings.Trim(v[i-14:i], "0123456789") == "" && (v[i-15] == '-' || v[i-15] == '.')
}

// latest is the newest of the carried versions, which modmirror list has in the order of versions: a release, else a prerelease, else a commit.
func latest(versions []string) string {
	rank := func(v string) int {
		switch {
		case pseudo(v):
			return 0
		case strings.Contains(v, "-"):
			return 1
		}
		return 2
	}
	best := ""
	for _, v := range versions {
		if best == "" || rank(v) >= rank(best) {
			best = v
		}
	}
	return best
}
X
printf 'module server\n\ngo 1.21\n' >server/go.mod
go build -C server -o "$tmp/bin/reference" .
: >reference.url
reference carried "$queries" "$(go env GOMODCACHE)" "$GOPROXY" >reference.url 2>reference.log &
reference=$!
for _ in $(seq 50); do grep -q http reference.url && break; sleep 0.1; done

cat >cells.sh <<'CELLS'
# cells.sh SOURCE RELEASE GOROOT: each command of the release, from GOPROXY, to out/RELEASE/COMMAND.SOURCE.
set -u
source=$1 release=$2 top=$PWD
export GOROOT=$3 PATH=$3/bin:$PATH GO111MODULE=on GOENV=off GOTOOLCHAIN=local
minor=${release#1.}
minor=${minor%%.*}
out=$top/out/$release
mkdir -p "$out"
get="go get"
[ "$minor" -ge 18 ] || get="go get -d"

# cell NAME FROM PROJECT COMMAND: FROM is the first line that has the command. With go.sum, if there is one, as tidy made it from the reference.
cell() {
	name=$1 project=$3 start=$(date +%s%N)
	[ "$minor" -ge "$2" ] || return 0
	shift 3
	at=$top/at-$release
	mkdir -p "$at/home"
	cp -r "$top/$project" "$at/p"
	[ "$name" = download ] || [ "$name" = tidy ] || [ "$project" != old ] || cp "$out/tidied/go.mod" "$out/tidied/go.sum" "$at/p/"
	file=$out/$name.$source
	(
		set -o pipefail
		cd "$at/p"
		export HOME=$at/home GOPATH=$at/gopath GOMODCACHE=$at/gopath/pkg/mod GOBIN=$at/bin
		eval "$*"
	) >"$file.out" 2>"$file.err"
	rc=$?
	{
		echo "ended with $rc"
		sed "s#$at#AT#g; s#http://127.0.0.1:[0-9]*#PROXY#g; s#file://$top/tree#PROXY#g" "$file.out"
		for f in go.mod go.sum vendor/modules.txt; do
			[ ! -e "$at/p/$f" ] || { echo "-- $f"; cat "$at/p/$f"; }
		done
	} >"$file"
	if [ "$name $source" = "tidy reference" ]; then
		mkdir -p "$out/tidied"
		cp "$at/p/go.mod" "$at/p/go.sum" "$out/tidied/"
	fi
	rm -f "$file.out"
	chmod -R u+w "$at"
	rm -rf "$at"
	[ -z "${TIMES:-}" ] || echo "$release $name $source $(((($(date +%s%N) - start)) / 1000000)) ms" >>"$top/times"
}
cell tidy 13 old 'go mod tidy && [ "$(go env GOSUMDB)" != off ] && cat $GOPATH/pkg/sumdb/*/latest | wc -l'
cell download 13 old 'go mod download -json'
cell build 13 old 'go build -o prog . && ./prog && go list -m all && go mod graph'
cell test 13 old 'go test -vet=off . | sed "s/\t[0-9.]*s$//; s/\t(cached)$//" && go mod why -m all'
cell verify 13 old 'go mod download && go mod verify'
cell versions 13 old 'go list -m -versions github.com/BurntSushi/toml github.com/cespare/xxhash/v2 github.com/dgrijalva/jwt-go github.com/google/go-cmp github.com/spf13/pflag golang.org/x/xerrors'
cell list-u 13 old 'go list -m -u all'
cell latest 13 old "$get github.com/google/go-cmp/cmp@latest golang.org/x/xerrors@latest && go list -m all"
cell upgrade 13 old "$get github.com/google/go-cmp/cmp@upgrade golang.org/x/xerrors@upgrade && go list -m all"
cell get-u 13 old "$get -u ./... && go list -m all"
cell patch 13 old "$get -u=patch ./... && go list -m all"
cell branch 13 old "$get golang.org/x/xerrors@master && go list -m all"
cell commit 13 old "$get golang.org/x/xerrors@7835f81 && go list -m all"
cell install 16 old 'go install github.com/cespare/xxhash/v2/xxhsum@v2.1.2 && $GOBIN/xxhsum main.go'
cell vendor 13 old 'go mod vendor && find vendor | sort && go build -mod=vendor -o prog . && ./prog'
cell doc 27 old 'go doc github.com/google/go-cmp/cmp@v0.5.6'
cell switch 21 switch 'export GOTOOLCHAIN=auto && go version && go mod tidy && go build -o prog . && ./prog &&
	cd newer && go get golang.org/x/sync/errgroup@latest && go version && go build ./... && cat go.mod go.sum'
mod=
[ "$minor" -lt 16 ] || mod=-mod=mod
cell pruned 13 pruned "go build $mod -o prog . && ./prog && go list -m all && go mod graph"
cell compat 18 pruned 'go mod tidy -compat=1.16'
cell graph116 17 pruned 'go mod graph -go=1.16'
CELLS
columns="download build test tidy verify versions list-u latest upgrade get-u patch branch commit install vendor doc switch pruned compat graph116"

printf '%s' "$goroots" >goroots
cat >releases.sh <<'RELEASES'
# releases.sh SOURCE=GOPROXY...: the cells of all releases, two at a time, since most of a cell is one process that unpacks.
while read -r r dir; do
	[ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
	(
		s=$SECONDS
		for source; do GOPROXY=${source#*=} bash cells.sh "${source%%=*}" "$r" "$dir" || touch failed; done
		echo "go$r: $((SECONDS - s))s"
	) &
done <goroots
wait
[ ! -e failed ]
RELEASES
echo "== reference"
bash releases.sh "reference=$(cat reference.url)"
kill "$reference"
reference=

echo "== inside"
cat >inside.sh <<'INSIDE'
set -euo pipefail
ip link set lo up
unset GOPROXY
if (echo >/dev/tcp/1.1.1.1/53) 2>/dev/null; then echo "there is a network"; exit 1; fi
modmirror serve --addr 127.0.0.1:8087 t.tar 2>serve.log &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 50); do GONOPROXY= GOPRIVATE= modmirror env http://127.0.0.1:8087 >env.sh 2>/dev/null && break; sleep 0.1; done
. ./env.sh
bash releases.sh "http=$GOPROXY" "tree=file://$PWD/tree"
INSIDE
unshare -rn bash inside.sh

# What differs, in full, and the table.
bad=0
notes=
table="| go |$(printf ' %s |' $columns)"$'\n'"|---|$(for c in $columns; do printf -- '---|'; done)"
for r in $releases; do
	row="| $r |"
	for c in $columns; do
		ref=out/$r/$c.reference
		if [ ! -e "$ref" ]; then row+=" - |"; continue; fi
		what=
		for s in http tree; do
			cmp -s "$ref" "out/$r/$c.$s" && continue
			what+=" $s"
			bad=1
			echo "== go$r $c: DIFF $s"
			diff "$ref" "out/$r/$c.$s" | sed -n 1,20p || true
			echo "-- stderr of the reference"
			tail -5 "$ref.err"
			echo "-- stderr of $s"
			tail -5 "out/$r/$c.$s.err"
		done
		if [ -n "$what" ]; then
			row+=" DIFF$what |"
		elif [ "$(head -1 "$ref")" = "ended with 0" ]; then
			row+=" ok |"
		else
			row+=" ERROR |" # everywhere, which proves nothing
			bad=1
			notes+="go$r $c, everywhere: $(tail -1 "$ref.err")"$'\n'
		fi
	done
	table+=$'\n'$row
done
echo
echo "$table"
echo
[ -z "$notes" ] || printf '%s' "$notes"
[ "$bad" = 0 ] || fail "not the same"
echo "PASS in ${SECONDS}s"
