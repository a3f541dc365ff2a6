package main

import (
	"slices"
	"strings"
	"testing"
)

// TestCompare checks which rows are bad, and that the best of several measurements counts.
func TestCompare(t *testing.T) {
	committed, err := parse("time\t1.00\tlower\tbench/a\nrate\t2.00\thigher\tbench/b\n" +
		"time of x : before\t1\tlower\tbench/a\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rows, remark string
		bad          []string
	}{
		{"time\t1.24\tlower\tbench/a\nrate\t1.51\thigher\tbench/b\n", "", nil},
		{"time\t1.26\tlower\tbench/a\nrate\t2\thigher\tbench/b\n", "WORSE", []string{"bench/a"}},
		{"time\t1\tlower\tbench/a\nrate\t1.49\thigher\tbench/b\n", "WORSE", []string{"bench/b"}},
		{"time\t1.5\tlower\tbench/a\nrate\t2\thigher\tbench/b\ntime\t1.1\tlower\tbench/a\n", "", nil},
		{"time\t1\tlower\tbench/a\nrate\t1\thigher\tbench/b\nrate\t2\thigher\tbench/b\n", "", nil},
		{"time\t0.5\tlower\tbench/a\nrate\t2\thigher\tbench/b\nnew\t9\tlower\tbench/c\n", "better:", nil},
		{"time\t1\tlower\tbench/a\n", "NOT MEASURED", []string{"bench/b"}},
		{"time\t1\tlower\tbench/a\nrate\t2\thigher\tbench/b\ntime of x : before\t9\tlower\tbench/a\n", "", nil},
	} {
		rows, err := parse(tc.rows)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if bad := compare(&out, rows, committed); !slices.Equal(bad, tc.bad) {
			t.Errorf("%q: bad %v, want %v", tc.rows, bad, tc.bad)
		}
		if !strings.Contains(out.String(), tc.remark) || tc.remark == "" && strings.Contains(out.String(), "WORSE") {
			t.Errorf("%q: no %q in\n%s", tc.rows, tc.remark, out.String())
		}
	}
	for _, text := range []string{"time\t1\tlower\n", "time\tx\tlower\ta\n", "time\t1\tfast\ta\n"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is taken for a row", text)
		}
	}
}
