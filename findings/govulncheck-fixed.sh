#!/usr/bin/env bash
# "Fixed in" of govulncheck, when an entry has a module twice.
#
# Seen with golang.org/x/vuln@v1.9.0. GO-2023-2185 of the Go vulnerability database is such an entry: its first part ends with Go 1.20.11, its second,
#   about a fix that was not complete, begins there and ends with 1.20.12. The database here has one entry of that form.
# Guessed: the version that is named as the fix is one that the entry does not affect: the function that chooses it is there to look for that.
# Seen: "-scan module" says that v0.3.7 is fixed in v0.4.0; for v0.4.0 it finds the same entry, fixed in v0.5.0. Who updates as told is told again.
# Reason, as read in internal/vulncheck: affectingVulnerabilities keeps only the parts of an entry that contain the version in use, and FixedVersion,
#   which checks a fix against all parts, is given those alone.
set -euo pipefail
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
GOBIN=$tmp/bin go install golang.org/x/vuln/cmd/govulncheck@v1.9.0
mkdir -p db/index db/ID p
echo '{"modified":"2026-01-02T03:04:05Z"}' >db/index/db.json
echo '[{"path":"golang.org/x/text","vulns":[{"id":"GO-0000-0001","modified":"2026-01-02T03:04:05Z","fixed":"0.5.0"}]}]' >db/index/modules.json
part() { # introduced, fixed
	echo '{"package":{"name":"golang.org/x/text","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"'"$1"'"},{"fixed":"'"$2"'"}]}],"ecosystem_specific":{}}'
}
cat >db/ID/GO-0000-0001.json <<X
{"schema_version":"1.3.1","id":"GO-0000-0001","modified":"2026-01-02T03:04:05Z","published":"2026-01-02T03:04:05Z","summary":"s","details":"d",
 "affected":[$(part 0 0.4.0),$(part 0.4.0 0.5.0)],
 "database_specific":{"url":"https://pkg.go.dev/vuln/GO-0000-0001","review_status":"REVIEWED"}}
X
cd p
printf 'package p\n\nimport _ "golang.org/x/text/language"\n' >p.go
fixed() { # version
	printf 'module example.com/p\n\ngo 1.20\n\nrequire golang.org/x/text %s\n' "$1" >go.mod
	GOFLAGS=-mod=mod go mod tidy 2>/dev/null
	../bin/govulncheck -db "file://$tmp/db" -scan module -json | { grep -o '"fixed_version": "[^"]*"' || true; } | cut -d'"' -f4 | sort -u | tr '\n' ' '
}
expect() { [ "$2" = "$3" ] || { echo "CHANGED: $1: $2, not $3"; exit 1; }; }
expect "fix of v0.3.7" "$(fixed v0.3.7)" "v0.4.0 "
expect "fix of v0.4.0" "$(fixed v0.4.0)" "v0.5.0 "
echo "as described"
