#!/usr/bin/env bash
# The canonical hash of OpenVEX, as go-vex makes it.
#
# Seen with github.com/openvex/go-vex v0.2.9.
# Guessed: CanonicalHash of one document is one value: it is there to compare documents, and GenerateCanonicalID names them by it. It takes time in
#   proportion to the document.
# Seen: a document with one product that has a hash and two identifiers (purl and cpe, as the specification shows) has two canonical hashes, one or the
#   other from call to call. Of 8,000 statements it takes some 20 times as long as of 2,000, and not 4: 10 s.
# Reason, as read in pkg/vex: the hashed string is built from maps in the order of their iteration, which Go makes random, and by += for each statement.
set -euo pipefail
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cd "$tmp"
cat >main.go <<'X'
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/openvex/go-vex/pkg/vex"
)

func document(statements int) *vex.VEX {
	doc := vex.New()
	doc.Author = "somebody"
	day := time.Unix(1700000000, 0).UTC()
	doc.Timestamp = &day
	for i := range statements {
		doc.Statements = append(doc.Statements, vex.Statement{
			Vulnerability: vex.Vulnerability{Name: vex.VulnerabilityID("CVE-2026-" + strconv.Itoa(10000+i))},
			Status:        vex.StatusFixed,
			Products: []vex.Product{{Component: vex.Component{
				ID:     "pkg:golang/example.com/module@v1.0.0",
				Hashes: map[vex.Algorithm]vex.Hash{vex.SHA256: "ab"},
				Identifiers: map[vex.IdentifierType]string{
					vex.PURL: "pkg:golang/example.com/module@v1.0.0", vex.CPE23: "cpe:2.3:a:example:module:1.0.0:*:*:*:*:*:*:*",
				},
			}}},
		})
	}
	return &doc
}

func main() {
	if len(os.Args) == 1 {
		hashes := make(map[string]bool)
		for range 200 {
			h, err := document(1).CanonicalHash()
			if err != nil {
				panic(err)
			}
			hashes[h] = true
		}
		fmt.Println(len(hashes))
		return
	}
	took := func(n int) time.Duration {
		doc := document(n)
		best := time.Hour
		for range 3 {
			start := time.Now()
			if _, err := doc.CanonicalHash(); err != nil {
				panic(err)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	few, many := took(2000), took(8000)
	fmt.Fprintln(os.Stderr, few, many)
	fmt.Println(many > 8*few)
}
X
go mod init example.com/p 2>/dev/null
go mod edit -require github.com/openvex/go-vex@v0.2.9
GOFLAGS=-mod=mod go build -o p . 2>/dev/null
expect() { [ "$2" = "$3" ] || { echo "CHANGED: $1: $2, not $3"; exit 1; }; }
expect "canonical hashes of one document" "$(./p)" 2
expect "8,000 statements take more than 8 times as long as 2,000" "$(./p time)" true
echo "as described"
