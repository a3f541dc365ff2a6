#!/usr/bin/env bash
# govulncheck -mode=query MODULE@VERSION.
#
# Seen with golang.org/x/vuln@v1.9.0, and a vulnerability database of three entries in the form of https://go.dev/doc/security/vuln/database.
# Guessed: the query prints the entries that affect the version: it refuses a query without one, and prints nothing for a version that none affects.
# Seen: if one entry affects the version, it prints all entries about the module whose last fix is above the version, also those that were introduced
#   after it. Asked for v0.3.7 it prints an entry that begins with v0.10.0; asked for v0.9.0, which no entry affects, it prints none.
#   "-scan module" of a project with the same version does not find that entry. A list of "known vulnerabilities of what is carried" that is made of
#   queries is too long, by a number that depends on other entries.
# Reason, as read in internal/client/client.go byModule: entries are filtered by their ranges, and the filtered list decides only whether there is an
#   answer; the list before the filter is the answer.
set -euo pipefail
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
GOBIN=$tmp/bin go install golang.org/x/vuln/cmd/govulncheck@v1.9.0
mkdir -p db/index db/ID
echo '{"modified":"2026-01-02T03:04:05Z"}' >db/index/db.json
cat >db/index/modules.json <<'X'
[{"path":"golang.org/x/text","vulns":[
  {"id":"GO-0000-0001","modified":"2026-01-02T03:04:05Z","fixed":"0.3.8"},
  {"id":"GO-0000-0002","modified":"2026-01-02T03:04:05Z","fixed":"0.20.0"},
  {"id":"GO-0000-0003","modified":"2026-01-02T03:04:05Z","fixed":"0.5.0"}]}]
X
entry() { # id, introduced, fixed
	cat >"db/ID/$1.json" <<X
{"schema_version":"1.3.1","id":"$1","modified":"2026-01-02T03:04:05Z","published":"2026-01-02T03:04:05Z","summary":"s","details":"d",
 "affected":[{"package":{"name":"golang.org/x/text","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"$2"},{"fixed":"$3"}]}],"ecosystem_specific":{}}],
 "database_specific":{"url":"https://pkg.go.dev/vuln/$1","review_status":"REVIEWED"}}
X
}
entry GO-0000-0001 0 0.3.8
entry GO-0000-0002 0.10.0 0.20.0
entry GO-0000-0003 0 0.5.0
ids() { { grep -o '"id": "GO-[^"]*"' || true; } | cut -d'"' -f4 | sort | tr '\n' ' '; }
query() { bin/govulncheck -db "file://$tmp/db" -mode=query -json "golang.org/x/text@$1" | ids; }
expect() { [ "$2" = "$3" ] || { echo "CHANGED: $1: $2, not $3"; exit 1; }; }
expect "query of v0.3.7" "$(query v0.3.7)" "GO-0000-0001 GO-0000-0002 GO-0000-0003 "
expect "query of v0.4.0" "$(query v0.4.0)" "GO-0000-0002 GO-0000-0003 "
expect "query of v0.9.0" "$(query v0.9.0)" ""

mkdir p
cd p
printf 'module example.com/p\n\ngo 1.20\n\nrequire golang.org/x/text v0.4.0\n' >go.mod
printf 'package p\n\nimport _ "golang.org/x/text/language"\n' >p.go
GOFLAGS=-mod=mod go mod tidy 2>/dev/null
found=$(../bin/govulncheck -db "file://$tmp/db" -scan module -json | { grep -o '"osv": "GO-[^"]*"' || true; } | cut -d'"' -f4 | sort -u | tr '\n' ' ')
expect "module scan of v0.4.0" "$found" "GO-0000-0003 "
echo "as described"
