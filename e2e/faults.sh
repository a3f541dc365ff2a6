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
go telemetry off # its process, which outlives the go command, would write where rm works
mkdir project
cp "$here/go.mod" "$here/go.sum" project/
sync() { GOMODCACHE=$tmp/none ./modmirror sync --name team --mirror "$1" -o "$2" project; }
fail() { echo "FAIL: $*"; exit 1; }
if ! sync warm good.tar 2>sync.log; then
	if grep -q 'modmirror doctor tells more' sync.log; then echo "SKIP: the configured GOPROXY does not answer"; exit 0; fi
	cat sync.log
	fail "the first sync"
fi

echo "== kill -9 of sync at 50 random moments"
for i in $(seq 50); do
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
for f in $(cd warm && find . -type f \( -name '*.zip' -o -name '*.mod' -o -name '*.info' \)); do
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

echo "== kill -9 of import at 50 random moments"
sync line base.tar 2>/dev/null || fail "a line"
mkdir other
(cd other && go mod init example.org/other 2>/dev/null && GOFLAGS=-mod=mod go get golang.org/x/text@v0.21.0 2>/dev/null)
SOURCE_DATE_EPOCH=1700604800 GOMODCACHE=$tmp/none ./modmirror sync --mirror line --base base.tar -o delta.tar other 2>sync.log || { cat sync.log; fail "the delta"; }
import() { ./modmirror import --store store --state state "$@"; }
for i in $(seq 50); do
	import base.tar delta.tar 2>import.log &
	pid=$!
	sleep "0.$(printf %03d $((RANDOM % 500)))"
	pkill -9 -P "$pid" 2>/dev/null || true # the function runs in a shell of its own
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	for f in store/*.tar; do
		[ ! -e "$f" ] || ./modmirror verify "$f" >/dev/null || fail "$f does not verify after kill $i"
	done
	[ $((i % 7)) != 0 ] || rm -rf store state
done
import base.tar delta.tar 2>import.log || { cat import.log; fail "the import after the kills"; }
./modmirror verify --deep store/team-*.tar >/dev/null
cmp base.tar store/team-1700000000.tar
cmp delta.tar store/team-1700604800.tar
[ -z "$(find store -name '.modmirror-tmp-*')" ] || fail "leftovers in the store"

echo "== kill -9 of sign and prune at random moments"
./modmirror key new --file second.key --name second >second.pub 2>/dev/null
./modmirror trust add "$(cat second.pub)" 2>/dev/null
for i in $(seq 20); do
	cp base.tar signed.tar
	./modmirror sign --key second.key signed.tar 2>/dev/null &
	pid=$!
	sleep "0.0$(printf %02d $((RANDOM % 60)))"
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	./modmirror sign --key second.key signed.tar 2>/dev/null || fail "signing again after kill $i"
	./modmirror verify --require 2 signed.tar >/dev/null || fail "two signatures after kill $i"
	[ ! -e signed.tar.signing ] || fail "a journal is left"
done
for i in $(seq 20); do
	rm -rf pruned pruned-state
	cp -r store pruned
	cp -r state pruned-state
	./modmirror prune --store pruned --state pruned-state --keep 1 >/dev/null 2>&1 &
	pid=$!
	sleep "0.$(printf %03d $((RANDOM % 300)))"
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	./modmirror prune --store pruned --state pruned-state --keep 1 >/dev/null 2>prune.log || { cat prune.log; fail "pruning again after kill $i"; }
	[ "$(ls pruned/*.tar | wc -l) $(ls pruned/*.pack | wc -l)" = "1 1" ] || fail "after kill $i: $(ls pruned)"
done

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

	echo "== outputs on read-only media"
	unshare -rm sh -c '
		mount -t tmpfs -o size=1m none small
		echo there >small/there
		mount -o remount,ro small
		i=0
		for args in "sync --mirror warm -o small/ro.tar project" "split --split 1M -o small/pieces.tar good.tar" "extract -d small/tree good.tar" \
			"publish --to small/static --static good.tar" "key new --file small/key --name ro" "import --store small/store --state small/state good.tar"; do
			i=$((i + 1))
			GOMODCACHE=none ./modmirror $args >/dev/null 2>ro$i.log
			echo "$? $(grep -c "read-only file system" ro$i.log) $args"
		done >ro.txt
		ls -A small >ro.left'
	[ "$(grep -c '^1 1 ' ro.txt)" = 6 ] && [ "$(cat ro.left)" = there ] || fail "read-only media: $(cat ro.txt ro.left ro?.log)"

	echo "== a full disk under import, split and prune"
	unshare -rm sh -c '
		mount -t tmpfs -o size=5m none small
		./modmirror import --store small/store --state state-full base.tar 2>full3.log; echo $? >full3.status
		find small -type f ! -name lock >full3.left
		./modmirror split --split 1M -o small/pieces.tar base.tar 2>full4.log; echo $? >full4.status
		find small -name "pieces*" >full4.left
		umount small
		mount -t tmpfs -o size=$(($(du -sm store | cut -f1) + 10))m none small
		cp store/* small/ 2>/dev/null
		dd if=/dev/zero of=small/filler bs=1M 2>/dev/null
		./modmirror prune --store small --state state --keep 1 2>full5.log >/dev/null; echo $? >full5.status
		rm -f small/filler
		for f in small/*.tar; do cmp "$f" "store/$(basename "$f")" || echo differs; done >full5.left'
	[ "$(cat full3.status) $(cat full4.status) $(cat full5.status)" = "1 1 1" ] || fail "exit codes $(cat full3.status full4.status full5.status): $(cat full3.log full4.log full5.log)"
	for n in 3 4 5; do
		grep -q 'no space left on device' full$n.log || fail "$(cat full$n.log)"
		[ ! -s full$n.left ] || fail "left behind: $(cat full$n.left)"
	done
	import base.tar 2>import.log || fail "the store after a full disk elsewhere"
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
	if strace -f -qq -o /dev/null -e trace=fsync -e inject=fsync:error=EIO ./modmirror import --store nosync --state nosync-state base.tar 2>broken.log; then
		fail "import succeeded although fsync fails"
	fi
	grep -q 'input/output error' broken.log || fail "$(cat broken.log)"
	[ -z "$(find nosync -name '*.tar')" ] || fail "a bundle in the store although fsync fails"
	./modmirror import --store nosync --state nosync-state base.tar 2>/dev/null || fail "the import after it"
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
