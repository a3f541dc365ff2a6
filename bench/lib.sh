# What the benchmarks share. A script sources this file after "set -euo pipefail", and is then in a
# temporary folder, which goes away at its end together with the processes in pids.
#
# bench/all sets these variables, and nobody has to:
#   SHARED   a folder for programs, the project and its bundle, which scripts then make only once
#   RATIOS   a file to which "record" adds rows
#   BEFORE   a modmirror of an earlier commit to compare with, or a folder with its source. Rows about
#            synthetic bundles need the folder: each mkbundle writes the index of its own time.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/modmirror-bench-XXXXXX")
shared=${SHARED:-$tmp}
caddy=github.com/caddyserver/caddy/v2@v2.10.0
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	chmod -R u+w "$tmp" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT
export XDG_CONFIG_HOME=$shared/config XDG_STATE_HOME=$tmp/state
go telemetry off # its process, which outlives the go command, would write where rm works
cd "$tmp"

# outside PATH prints the path that the caller of the script means.
outside() { (cd "$OLDPWD" && realpath "$1"); }

skip() { echo "SKIP: $*"; exit 0; }
fail() { echo "FAIL: $*" >&2; exit 1; }

# needs TOOL... skips the script where a tool is not installed.
needs() { for tool in "$@"; do command -v "$tool" >/dev/null || skip "no $tool here"; done; }

# build PACKAGE... makes programs, and leaves their paths in variables with their names.
build() {
	local p name
	for p in "$@"; do
		name=${p##*/}
		[ -x "$shared/bin/$name" ] || go build -C "$here" -o "$shared/bin/$name" "./$p"
		declare -g "$name=$shared/bin/$name"
	done
}

before= before_mkbundle=
if [ -d "${BEFORE:-}" ]; then
	before=$shared/before/modmirror before_mkbundle=$shared/before/mkbundle
	[ -x "$before_mkbundle" ] || go build -C "$BEFORE" -o "$shared/before/" ./cmd/modmirror ./bench/mkbundle
elif [ -n "${BEFORE:-}" ]; then
	before=$BEFORE
fi

# ports sets port to the first of twenty ports on which nothing listens. They lie below those that the
# kernel gives to outgoing connections: a load test leaves thousands of these behind.
ports() {
	local n base low
	low=$(cut -f1 /proc/sys/net/ipv4/ip_local_port_range 2>/dev/null || echo 32768)
	[ "$low" -gt 12000 ] || low=32768
	for _ in $(seq 100); do
		base=$((10000 + RANDOM % (low - 10020)))
		for n in $(seq 0 19); do
			! (: <>"/dev/tcp/127.0.0.1/$((base + n))") 2>/dev/null || continue 2
		done
		port=$base
		return
	done
	fail "no twenty free ports in a row"
}
ports

ms() { echo $(($(date +%s%N) / 1000000)); }

# median FILE prints the median of the numbers in a file, one a line.
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# least FILE prints the least of the numbers in a file, one a line.
least() { sort -n "$1" | sed -n 1p; }

# ratio A B prints A/B.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }

# record NAME VALUE [higher] adds a row to the table of bench/all. A lower value is better, unless
# the third word is "higher".
record() { [ -z "${RATIOS:-}" ] || printf '%s\t%s\t%s\n' "$1" "$2" "${3:-lower}" >>"$RATIOS"; }

# compare NAME SERIES SERIES prints and records time and memory of a series of "measure" beside those
# of modmirror before.
compare() {
	local t m
	t=$(ratio "$(median "$2.ms")" "$(median "$3.ms")") m=$(ratio "$(median "$2.mib")" "$(median "$3.mib")")
	printf '    before: %.0f ms (%.0f ms of CPU, %.0f MiB): %.2f of the time, %.2f of the CPU, %.2f of the memory\n' \
		"$(median "$3.ms")" "$(median "$3.cpu")" "$(median "$3.mib")" "$t" "$(ratio "$(median "$2.cpu")" "$(median "$3.cpu")")" "$m"
	record "$1 : before" "$t"
	record "peak memory of $1 : before" "$m"
}

# answers URL waits until the server that was started last answers a URL with a file.
answers() {
	local i
	for i in $(seq 3000); do
		! curl -sf -o /dev/null "$1" || return 0
		kill -0 "${pids[-1]}" 2>/dev/null || break
		sleep 0.02
	done
	cat ./*.log >&2
	fail "$1 does not answer"
}

# projects MODULE@VERSION makes $project, a folder with the go.mod and go.sum of a module.
projects() {
	project=$shared/project-${1//[^a-z0-9]/-}
	[ ! -d "$project" ] || return 0
	local dir
	dir=$(go mod download -json "$1" 2>/dev/null | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p') || true
	[ -n "$dir" ] || skip "the configured GOPROXY does not answer for $1"
	mkdir -p "$project"
	cp "$dir/go.mod" "$dir/go.sum" "$project/"
	chmod -R u+w "$project"
}

# team MODULE@VERSION makes $team, the bundle of a module's project, and $before_team, the same of
# modmirror before, which may know other versions of the index.
team() {
	projects "$1"
	team=$project.tar before_team=$project.before.tar
	[ -f "$team" ] || GOMODCACHE=$tmp/none "$modmirror" sync -q --mirror "$tmp/team-mirror" -o "$team" "$project"
	[ -z "$before" ] || [ -f "$before_team" ] ||
		GOMODCACHE=$tmp/none "$before" sync -q --mirror "$tmp/team-mirror-before" -o "$before_team" "$project"
}

# modcache MODULE@VERSION makes $modcache, the module cache of a module's project.
modcache() {
	projects "$1"
	modcache=$project.modcache
	[ -d "$modcache" ] || (cd "$project" && GOFLAGS="-mod=mod -modcacherw" GOMODCACHE=$modcache go mod download all)
}

# trusted trusts the key of the bundles that "team" makes.
trusted() { "$modmirror" key show >team.pub && "$modmirror" trust add team.pub 2>/dev/null; }

# alone MODMIRROR prints the flags with which it serves and does nothing else: bench/pages is about
# pages. A modmirror of before may have none.
alone() {
	local help
	help=$("$1" serve --help)
	echo --no-scrub
	[[ $help != *--no-pages* ]] || echo --no-pages
}

# upstream BUNDLE serves a bundle on $port, and makes that the only upstream of go and modmirror.
upstream() {
	trusted
	"$modmirror" serve -q $(alone "$modmirror") --addr "127.0.0.1:$port" "$1" 2>upstream.log &
	pids+=($!)
	answers "http://127.0.0.1:$port/readyz"
	export GOPROXY=http://127.0.0.1:$port GOMODCACHE=$tmp/none GOFLAGS=-mod=mod
	export GONOSUMDB='' GONOPROXY='' GOPRIVATE='' GOENV=off
	unset GOSUMDB
}
