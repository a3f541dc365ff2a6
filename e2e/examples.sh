#!/usr/bin/env bash
# What docs/examples shows works: with the real upstream, real tools, and a git repository for the private module.
#
#   e2e/examples.sh [VULNDB]     a vulnerability database unpacked; without one the vulndb lines are left out
#
# Inside is a network namespace with loopback only.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
examples=$here/docs/examples
vulndb=${1:-}
if ! unshare -rn true 2>/dev/null; then
	echo "SKIP: no network namespaces here"
	exit 0
fi
if ! go mod download -json rsc.io/quote@v1.5.2 >/dev/null 2>&1; then
	echo "SKIP: the configured GOPROXY does not answer"
	exit 0
fi
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
go build -C "$here" -o "$tmp/bin/modmirror" ./cmd/modmirror
outside=$(go env GOPROXY)
goversion=$(go env GOVERSION)
export HOME=$tmp/home PATH=$tmp/bin:$PATH GOPROXY=$outside GOFLAGS="-modcacherw" GOTOOLCHAIN=local GOCACHE=$(go env GOCACHE)
export XDG_CONFIG_HOME=$HOME/.config XDG_CACHE_HOME=$HOME/.cache XDG_STATE_HOME=$HOME/.state
go telemetry off # its process, which outlives the go command, would write where rm works
mkdir -p "$HOME"

list() { # a list as it is shown, but for the vulnerability database, which is not in reach, and the Go that is here
	if [ -n "$vulndb" ]; then sed "s#^vulndb\$#vulndb $vulndb#; s/go1\.26\.8/$goversion/"; else sed "/^vulndb\$/d; s/go1\.26\.8/$goversion/"; fi <"$examples/$1" >"$1"
}

echo "== team.txt, by weekly.sh"
git config --global user.email dev@corp.example
git config --global user.name dev
git config --global "url.file://$tmp/git/.insteadOf" https://git.corp.example/
git init -q -b main git/platform/log
(
	cd git/platform/log
	printf 'module git.corp.example/platform/log.git\n\ngo 1.25\n' >go.mod
	printf 'package log\n\n// Line is a line.\nconst Line = "private"\n' >log.go
	git add .
	git commit -qm one
	git tag v1.0.0
)
mkdir billing web outbox
printf 'module git.corp.example/billing\n\ngo 1.25\n\nrequire rsc.io/quote v1.5.2\n' >billing/go.mod
printf 'package billing\n\nimport "rsc.io/quote"\n\n// Hello says hello.\nvar Hello = quote.Hello()\n' >billing/billing.go
printf 'module git.corp.example/web\n\ngo 1.25\n\nrequire git.corp.example/platform/log.git v1.0.0\n' >web/go.mod
printf 'package main\n\nimport "git.corp.example/platform/log.git"\n\nfunc main() { println(log.Line) }\n' >web/main.go
export GOPRIVATE=git.corp.example
(cd billing && go mod tidy)
(cd web && go mod tidy)
list team.txt
sh "$examples/weekly.sh" team.txt outbox
(cd outbox && sha256sum -c ./*.sha256)
modmirror info outbox/team-*.tar

echo "== editor-tools.txt"
list editor-tools.txt
if ! modmirror sync -q -o tools.tar editor-tools.txt 2>tools.log; then
	# An upstream may refuse a version that one of the tools needs: those tools are left out here, and said.
	refused=$(sed -n 's/^modmirror:   wanted by editor-tools.txt:\([0-9]*\).*/\1/p' tools.log | sort -nu)
	[ -n "$refused" ] || { cat tools.log; exit 1; }
	for n in $refused; do
		echo "left out, since the upstream refuses what it needs: $(sed -n "${n}p" editor-tools.txt)"
		sed -i "${n}s/.*//" editor-tools.txt
	done
	modmirror sync -q -o tools.tar editor-tools.txt
fi

echo "== systemd units"
if command -v systemd-analyze >/dev/null; then
	cp "$examples"/modmirror-weekly.* .
	systemd-analyze verify ./modmirror-weekly.service ./modmirror-weekly.timer
else
	echo "SKIP: no systemd-analyze"
fi

echo "== gitlab-ci.yml, its script"
(
	export XDG_CONFIG_HOME=$tmp/ci HOME=$tmp/ci-home MODMIRROR_KEY=$tmp/ci-key
	mkdir -p "$HOME" ci
	go telemetry off
	cp "$tmp/home/.gitconfig" "$HOME"
	modmirror key new --file "$MODMIRROR_KEY" >/dev/null
	export XDG_CONFIG_HOME=$HOME/.config
	go telemetry off
	cp -r team.txt billing web ci
	cp "$examples/weekly.sh" ci
	cd ci
	sed -n '/^  script:/,/^  [a-z]*:$/s/^    - //p' "$examples/gitlab-ci.yml" | grep -v '^go install' >script.sh
	grep -q weekly.sh script.sh
	sh -eu script.sh
	ls outbox/team-*.tar
)

cat >inside.sh <<'INSIDE'
set -euo pipefail
ip link set lo up
unset GOPROXY GOPRIVATE
if (echo >/dev/tcp/1.1.1.1/53) 2>/dev/null; then echo "there is a network"; exit 1; fi
serve() { # BUNDLE PORT
	modmirror serve --addr "127.0.0.1:$2" "$1" 2>"serve-$2.log" &
	servers="${servers:-} $!"
	for _ in $(seq 50); do modmirror env "http://127.0.0.1:$2" >env.sh 2>/dev/null && break; sleep 0.1; done
	. ./env.sh
}
trap 'kill $servers' EXIT
serve tools.tar 8081
export GOTOOLCHAIN=auto GOPATH=$PWD/inside GOMODCACHE=$PWD/inside/mod GOBIN=$PWD/inside/bin
echo "== the tools of editors, without a network"
sed -n 's/^tool \([^ ]*\).*/\1/p' editor-tools.txt >tools
while read -r tool; do
	case $tool in
	*golangci*) # minutes of compiling: what it needs is there
		go install -n "$tool" >/dev/null 2>install.log || { cat install.log; exit 1; } ;;
	*) go install "$tool" ;;
	esac
	echo "$tool"
done <tools
ls "$GOBIN"

serve outbox/team-*.tar 8082
export GOMODCACHE=$PWD/inside/mod2
modmirror doctor --proxy http://127.0.0.1:8082
echo "== Dockerfile, its commands"
export GOFLAGS="-mod=readonly -modcacherw"
mkdir src
cp web/go.mod web/go.sum src
(
	cd src
	sed -n 's/^RUN //p' "$EXAMPLES/Dockerfile" | sed "s#-o /program#-o ../program#" >../docker.sh
	sed -n 1p ../docker.sh | sh -eux
	cp ../web/main.go .
	sed 1d ../docker.sh | sh -eux
)
./program
echo "== a host with nothing"
mkdir host
tar xf outbox/team-*.tar self/linux-amd64.tar
tar xf self/linux-amd64.tar -C host
env -i HOME="$PWD" PATH="$PWD/host/go/bin:$PWD/host:/usr/bin:/bin" GOTOOLCHAIN=local sh -euc 'go version; modmirror version; cd host/go/src/cmd/go; go env GOROOT'
INSIDE
if [ "$(go env GOHOSTOS)/$(go env GOHOSTARCH)" != linux/amd64 ]; then
	echo "SKIP inside: the example's self line is for linux/amd64"
	exit 0
fi
EXAMPLES=$examples unshare -rn bash inside.sh
echo "the examples work"
