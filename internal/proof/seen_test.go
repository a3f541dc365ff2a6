package proof_test

import (
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/internal/proof"
)

// TestCooldown has versions that are old, young, and say something else about themselves.
func TestCooldown(t *testing.T) {
	now := time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)
	at := func(days int, n int64) proof.Sighting {
		return proof.Sighting{Seen: now.AddDate(0, 0, -days), Head: proof.Head{Tree: tlog.Tree{N: n}}}
	}
	seen := []proof.Sighting{at(40, 100), at(20, 300), at(15, 200), at(14, 310), at(13, 400)}
	record := func(n int64) *int64 { return &n }
	old, young := now.AddDate(-6, 0, 0), now.AddDate(0, 0, -1)
	for _, test := range []struct {
		about  string
		seen   []proof.Sighting
		record *int64
		made   time.Time
		want   string
	}{
		{"in the tree of that day", seen, record(309), young, ""},
		{"the next record, which lies", seen, record(310), old,
			"its record 310 was not yet among the 310 of the tree that was seen here on 2026-03-16; it says that it was made on 2020-03-30"},
		{"without a time", seen, record(399), time.Time{},
			"its record 399 was not yet among the 310 of the tree that was seen here on 2026-03-16; it does not say when it was made"},
		{"no tree is old enough", seen[4:], record(5), old, ""},
		{"no tree is old enough, and one that was seen since lacks it", seen[4:], record(400), old,
			"its record 400 was not yet among the 400 of the tree that was seen here on 2026-03-17; it says that it was made on 2020-03-30"},
		{"no tree is old enough, and it is young", seen[4:], record(5), young, "it says that it was made on 2026-03-29"},
		{"nothing is known", nil, record(5), time.Time{}, "it does not say when it was made"},
		{"no record", seen, nil, young, "it says that it was made on 2026-03-29"},
		{"no record, on the day", seen, nil, now.AddDate(0, 0, -14), ""},
	} {
		c := proof.Cooldown{Days: 14, Now: now, Seen: test.seen}
		if got := c.Young(test.record, test.made); got != test.want {
			t.Errorf("%s: %q, want %q", test.about, got, test.want)
		}
	}
}
