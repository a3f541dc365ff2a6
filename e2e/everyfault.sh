#!/usr/bin/env bash
# Faults at the system calls that change files, of a small sync, import, sign, prune and publish: no space, an I/O error, a write that is cut
# short, a kill. What was there is there, or what was to come: whole, or named with an error; and the same command again brings what it brings
# without a fault.
#
#   e2e/everyfault.sh [N]       N calls of each kind and thread, 3 without it: strace counts the calls of each thread
#
# Prints how many faults were met. Uses golang.org/x/mod from the configured GOPROXY.
set -euo pipefail
most=${1:-3}
here=$(cd "$(dirname "$0")/.." && pwd)
base=/dev/shm
[ -w $base ] || base=${TMPDIR:-/tmp}
tmp=$(mktemp -d -p $base)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
command -v strace >/dev/null && strace -qq -o /dev/null true 2>/dev/null || { echo "SKIP: no strace here"; exit 0; }
go build -C "$here" -o "$tmp/mm" ./cmd/modmirror
export XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/xdg SOURCE_DATE_EPOCH=1700000000 GOMODCACHE=$tmp/none GOFLAGS=-modcacherw GODEBUG=
go telemetry off # its process, which outlives the go command, would write where rm works
fail() { echo "FAIL: $*"; exit 1; }

# A tree of its own as upstream, so that the network has no part in it.
echo only golang.org/x/mod@v0.20.0 >one.txt
(cat one.txt; echo only golang.org/x/mod@v0.21.0) >two.txt
if ! ./mm sync -q --name team --mirror online -o online.tar two.txt 2>sync.log; then
	if grep -q 'modmirror doctor tells more' sync.log; then echo "SKIP: the configured GOPROXY does not answer"; exit 0; fi
	cat sync.log
	fail "the first sync"
fi
./mm extract -q -d tree online.tar
export GOPROXY=file://$tmp/tree

# What the commands bring without a fault.
mkdir want
./mm sync -q --name team --mirror want/mirror -o want/one.tar one.txt
SOURCE_DATE_EPOCH=1700604800 ./mm sync -q --name team --mirror want/mirror --base want/one.tar -o want/two.tar two.txt
./mm key new --file second.key --name second >second.pub 2>/dev/null
./mm trust add "$(cat second.pub)" 2>/dev/null
./mm import -q --store want/store --state want/state want/one.tar want/two.tar
cp want/one.tar want/signed.tar
./mm sign --key second.key want/signed.tar >/dev/null
cp -r want/store want/pruned
cp -r want/state want/pruned-state
./mm prune --store want/pruned --state want/pruned-state --keep 1 >/dev/null 2>&1
./mm publish -q --to want/static --static want/one.tar

# prepare COMMAND: the folder w as it is before; run COMMAND: the command; check COMMAND: is it old or new; same COMMAND: is it new.
prepare() {
	rm -rf w trace
	mkdir w
	case $1 in
	sync) ;;
	import) ./mm import -q --store w/store --state w/state want/one.tar ;;
	sign) cp want/one.tar w/signed.tar ;;
	prune) cp -r want/store want/state w/ ;;
	publish) ;;
	esac
}
run() {
	case $1 in
	sync) "${@:2}" ./mm sync -q --name team --mirror w/mirror -o w/one.tar one.txt ;;
	import) "${@:2}" ./mm import -q --store w/store --state w/state want/two.tar ;;
	sign) "${@:2}" ./mm sign --key second.key w/signed.tar ;;
	prune) "${@:2}" ./mm prune --store w/store --state w/state --keep 1 ;;
	publish) "${@:2}" ./mm publish -q --to w/static --static want/one.tar ;;
	esac
}
check() {
	case $1 in
	sync) [ ! -e w/one.tar ] || cmp w/one.tar want/one.tar ;;
	import)
		cmp w/store/team-1700000000.tar want/one.tar
		[ ! -e w/store/team-1700604800.tar ] || cmp w/store/team-1700604800.tar want/two.tar
		;;
	sign) [ -e w/signed.tar.signing ] || ./mm verify w/signed.tar >/dev/null ;;
	prune) ./mm verify -q --deep w/store >/dev/null ;;
	publish) [ ! -d w/static ] || find w/static -type f ! -name '.modmirror*' ! -name modmirror.json -printf '%P\n' 2>/dev/null | while read -r f; do cmp "w/static/$f" "want/static/$f" || exit 1; done ;;
	esac
}
same() {
	case $1 in
	sync) cmp w/one.tar want/one.tar ;;
	import) cmp w/store/team-1700604800.tar want/two.tar && cmp w/store/team-1700000000.tar want/one.tar ;;
	sign) ./mm verify --require 2 w/signed.tar >/dev/null && [ ! -e w/signed.tar.signing ] ;;
	prune) [ "$(cd w/store && cat -- *.tar *.pack | sha256sum && ls | grep -vc "^lock$")" = "$(cd want/pruned && cat -- *.tar *.pack | sha256sum && ls | grep -vc "^lock$")" ] ;;
	publish) diff -r -x '.modmirror-tmp-*' w/static want/static ;; # which another run takes away when it is an hour old
	esac
}

# judge WHAT: what the command, which ended with $status and said what is in out.log, left.
judge() {
	# Go's runtime wakes its threads with a write to an eventfd, and ends the process when that fails: this is like a kill.
	if [ ! -e trace ] || ! grep -q 'eventfd.*INJECTED' trace; then
		! grep -q '^panic:\|^fatal error:\|goroutine 1 ' out.log || { cat out.log; fail "$command, $1: a crash"; }
	fi
	check $command || { cat out.log; fail "$command, $1 (status $status): neither old nor new"; }
	[ $status = 0 ] || [ $status = 137 ] || [ -s out.log ] || fail "$command, $1: an error without words"
	if [ $status = 0 ]; then same $command || fail "$command, $1: success, and not what it brings"; fi
	run $command >again.log 2>&1 || true # it may say that it is there already
	same $command || { cat out.log again.log; fail "$command, $1: other things when it is run again"; }
}

faults=0 runs=0
declare -A met
for command in ${COMMANDS:-sync import sign prune publish}; do
	before=$faults
	for call in write pwrite64 fsync syncfs rename renameat linkat ftruncate openat copy_file_range; do
		kinds="error=ENOSPC error=EIO signal=SIGKILL"
		[ $call != openat ] || kinds="error=ENOSPC error=EMFILE"
		for kind in $kinds; do
			n=0
			while [ $n -lt "$most" ]; do
				n=$((n + 1))
				prepare $command
				set +e
				run $command strace -f -qq -y -o trace -e "trace=$call" -e "inject=$call:$kind:when=$n" >out.log 2>&1
				status=$?
				set -e
				runs=$((runs + 1))
				[ -z "${VERBOSE:-}" ] || echo "  $(date +%T) $command $call $kind $n: status $status"
				hits=$(grep -c 'INJECTED\|killed by SIGKILL' trace || true)
				[ "$hits" -gt 0 ] || break # no thread has so many of these calls
				faults=$((faults + 1))
				met[$call]=$((${met[$call]:-0} + 1))
				judge "$call $n, $kind"
			done
		done
	done
	for n in 1 100 511 1000 5000 10001 20001 50001 100001 150001 200001; do # a write that is cut short, and no more of the file then
		prepare $command
		set +e
		run $command prlimit --fsize=$n 2>&1 | cat >out.log
		status=${PIPESTATUS[0]}
		set -e
		judge "a file of $n bytes at most"
		[ "$status" = 0 ] || { faults=$((faults + 1)); met["short write"]=$((${met["short write"]:-0} + 1)); }
	done
	echo "$command: $((faults - before)) faults"
done
for call in "${!met[@]}"; do echo "  $call ${met[$call]}"; done | sort
echo "PASS: $faults faults met in $runs runs"
