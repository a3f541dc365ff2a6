package main

import (
	"strings"
	"testing"
	"time"
)

// A client that asks for a go.mod, thinks for 100 ms, asks for two zips at once, and ends 40 ms
// after them.
const example = "0\t400000\tdelay\t50000\n" +
	"10000\t60000\t200\t100\t/a.example/@v/v1.0.0.mod\n" +
	"160000\t210000\t200\t1048576\t/a.example/@v/v1.0.0.zip\n" +
	"161000\t360000\t502\t0\t/b.example/@v/v1.0.0.zip\n"

// TestReport checks that the report names the gaps, and what ended and began around them.
func TestReport(t *testing.T) {
	l, err := parse(example)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	l.report(&out, 2, 20*time.Millisecond)
	for _, want := range []string{
		"3 requests, 50ms each; the first began after 10ms, the last ended 40ms before the log did, at 400ms",
		" zip         2         0        1  1.0        160ms       360ms",
		"  0s  161ms   0.3     110ms (start) … /b.example/@v/v1.0.0.zip",
		"210ms  190ms   0.8      40ms /a.example/@v/v1.0.0.zip … (end)",
		"together 351ms, with none 150ms",
		"chain of 2 requests",
		" 60ms  101ms /a.example/@v/v1.0.0.mod … /b.example/@v/v1.0.0.zip",
		"all gaps together 151ms; in requests zip 199ms (1) mod 50ms (1)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestParse checks that other files are refused.
func TestParse(t *testing.T) {
	for _, text := range []string{"", "a\n", "0\t1\tdelay\t0\n", "0\tx\t200\t1\t/a\n", "5\t1\t200\t1\t/a\n"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is taken for a log", text)
		}
	}
}
