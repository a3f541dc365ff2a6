#!/bin/sh
# A week's bundle: weekly.sh LIST OUTBOX
#
# Makes OUTBOX/NAME-YYYY-Www.tar from LIST, NAME.txt, verifies every byte of it, and puts a list for
# sha256sum -c beside it. Run again in the same week it writes the file anew. modmirror keeps what it
# fetched, so a week costs what is new in it.
set -eu
list=$1 outbox=$2
name=$(basename "$list" .txt)
bundle=$name-$(date -u +%G-W%V).tar
modmirror sync --name "$name" -o "$outbox/$bundle" "$list"
modmirror verify --deep "$outbox/$bundle"
cd "$outbox"
sha256sum "$bundle" >"$bundle.sha256"
