# What the benchmarks share. A script sources this file after "set -euo pipefail", and is then in a
# temporary folder, which goes away at its end together with the processes in pids.
#
# bench/all sets these variables, and nobody has to:
#   SHARED   a folder for programs, the project and its bundle, which scripts then make only once
#   RATIOS   a file to which "record" adds rows
#   BEFORE   a modmirror to compare with, of an earlier commit; --before of bench/all

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/modmirror-bench-XXXXXX")
shared=${SHARED:-$tmp}
before=${BEFORE:-}
caddy=github.com/caddyserver/caddy/v2@v2.10.0
port=$((20000 + RANDOM % 30000))
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	chmod -R u+w "$tmp" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT
export XDG_CONFIG_HOME=$shared/config XDG_STATE_HOME=$tmp/state
cd "$tmp"

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

ms() { echo $(($(date +%s%N) / 1000000)); }

# median FILE prints the median of the numbers in a file, one a line.
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# ratio A B prints A/B.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }

# record NAME VALUE [higher] adds a row to the table of bench/all. A lower value is better, unless
# the third word is "higher".
record() { [ -z "${RATIOS:-}" ] || printf '%s\t%s\t%s\n' "$1" "$2" "${3:-lower}" >>"$RATIOS"; }

# answers URL waits until a server answers a URL with a file.
answers() {
	local i
	for i in $(seq 3000); do
		! curl -sf -o /dev/null "$1" || return 0
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

# team MODULE@VERSION makes $team, the bundle of a module's project.
team() {
	projects "$1"
	team=$project.tar
	[ -f "$team" ] || GOMODCACHE=$tmp/none "$modmirror" sync -q --mirror "$tmp/team-mirror" -o "$team" "$project"
}
