#!/usr/bin/env bash
# What must survive: kill -9 at random moments, Ctrl-C, a full disk, a failing fsync, two syncs at once.
# Uses this project's own modules from the configured GOPROXY.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
go build -C "$here" -o "$tmp/modmirror" ./cmd/modmirror
export XDG_CONFIG_HOME=$tmp/config SOURCE_DATE_EPOCH=1700000000
mkdir project
cp "$here/go.mod" "$here/go.sum" project/
sync() { GOMODCACHE=$tmp/none ./modmirror sync --name team --mirror "$1" -o "$2" project; }
fail() { echo "FAIL: $*"; exit 1; }
if ! sync warm good.tar 2>sync.log; then
	if grep -q 'modmirror doctor tells more' sync.log; then echo "SKIP: the configured GOPROXY does not answer"; exit 0; fi
	cat sync.log
	fail "the first sync"
fi

echo "== kill -9 at 30 random moments"
for i in $(seq 30); do
	sync killed killed.tar 2>/dev/null &
	pid=$!
	sleep "0.$(printf %03d $((RANDOM % 600)))"
	pkill -9 -P "$pid" 2>/dev/null || true
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	if [ -e killed.tar ]; then
		./modmirror verify killed.tar >/dev/null || fail "a bundle that does not verify after kill $i"
		rm killed.tar
	fi
	[ $((i % 5)) != 0 ] || rm -rf killed # and from nothing again
done
sync killed killed.tar 2>/dev/null || fail "the run after the kills"
./modmirror verify --deep killed.tar >/dev/null
for f in $(cd warm && find . -name '*.zip' -o -name '*.mod' -o -name '*.info'); do
	cmp -s "warm/$f" "killed/$f" || fail "$f differs after the kills"
done
[ -z "$(find . -maxdepth 1 -name '.modmirror-tmp-*' -newer good.tar -size +100M)" ] || fail "large leftovers"
rm -f .modmirror-tmp-*

echo "== Ctrl-C"
sync interrupted interrupted.tar 2>int.log &
pid=$!
sleep 0.3
pkill -INT -P "$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
[ ! -e interrupted.tar ] || ./modmirror verify interrupted.tar >/dev/null
[ -z "$(find . -name '.modmirror-tmp-*')" ] || fail "Ctrl-C left temporary files"
sync interrupted interrupted.tar 2>/dev/null
cmp interrupted.tar killed.tar || fail "another bundle after Ctrl-C"

if unshare -rm true 2>/dev/null; then
	echo "== a full disk under the bundle, and under the mirror directory"
	mkdir small
	unshare -rm sh -c '
		mount -t tmpfs -o size=5m none small
		GOMODCACHE=none ./modmirror sync --mirror warm -o small/full.tar project 2>full.log; echo $? >full.status
		ls -A small >full.left
		GOMODCACHE=none ./modmirror sync --mirror small/mirror -o full2.tar project 2>full2.log; echo $? >full2.status
		find small -name "*.zip" -path "*/@v/*" -size 0 >full2.left'
	[ "$(cat full.status) $(cat full2.status)" = "1 1" ] || fail "exit codes $(cat full.status full2.status)"
	grep -q 'no space left on device' full.log || fail "$(cat full.log)"
	grep -q 'no space left on device' full2.log || fail "$(cat full2.log)"
	[ ! -s full.left ] && [ ! -s full2.left ] && [ ! -e full2.tar ] || fail "left behind: $(cat full.left full2.left)"
	./modmirror verify good.tar >/dev/null
else
	echo "SKIP: a full disk needs mount namespaces"
fi

if strace -qq -o /dev/null true 2>/dev/null; then
	echo "== fsync fails"
	for call in fsync syncfs; do
		rm -rf broken
		if GOMODCACHE=$tmp/none strace -f -qq -o /dev/null -e trace=$call -e inject=$call:error=EIO ./modmirror sync --name team --mirror broken -o broken.tar project 2>broken.log; then
			fail "sync succeeded although $call fails"
		fi
		grep -q 'input/output error' broken.log || fail "$(cat broken.log)"
		[ ! -e broken.tar ] || fail "a bundle although $call fails"
	done
	sync broken broken.tar 2>/dev/null || fail "the run after it"
	cmp broken.tar killed.tar
else
	echo "SKIP: no strace here"
fi

echo "== two syncs, one mirror directory"
sync both one.tar 2>one.log &
pid=$!
sync both two.tar 2>two.log || fail "$(cat two.log)"
wait $pid || fail "$(cat one.log)"
cmp one.tar two.tar
echo "PASS: faults"
