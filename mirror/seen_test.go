package mirror

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestSightings checks when the mirror directory notes a tree head, and which ones it keeps.
func TestSightings(t *testing.T) {
	w := newWorld(t)
	w.cfg.Sightings = true
	file := filepath.Join(w.dir, "sumdb", filepath.FromSlash(testproxy.DBName), "seen")
	read := func() (all []seenHead) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	sync := func() (before, after int) {
		t.Helper()
		c, err := w.sync("example.com/text@v1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		return len(c.Seen), len(read())
	}
	want := func(before, after int) {
		t.Helper()
		if b, a := sync(); b != before || a != after {
			t.Errorf("%d sightings before and %d after, want %d and %d", b, a, before, after)
		}
	}
	want(0, 1)
	want(1, 1) // a short time later
	note := read()[0].Note
	write := func(ages ...time.Duration) {
		t.Helper()
		var all []seenHead
		for _, age := range ages {
			all = append(all, seenHead{time.Now().Add(-age), note})
		}
		data, err := json.Marshal(all)
		if err == nil {
			err = os.WriteFile(file, data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * time.Hour
	write(13 * time.Hour)
	want(1, 2)
	write(900*day, 800*day, 500*day, 399*day, day) // of those that are too old, the last one says enough
	want(5, 4)
	write(-day) // the clock was wrong, and is right now
	want(0, 2)
	want(1, 2)
	if err := os.WriteFile(file, []byte(`[{"Seen":"2026-01-02T03:04:05Z","Note":"AAAA"}]`), 0o666); err != nil {
		t.Fatal(err)
	}
	want(0, 2) // nobody signed that

	// The clock was in 1970 when the tree had grown. That is no old tree.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(0, 1)
	small := time.Now()
	if err := w.up.Grow(); err != nil {
		t.Fatal(err)
	}
	w.cfg.MaxAge = 0
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(0, 1)
	grown := read()[0].Note
	data, err := json.Marshal([]seenHead{{time.Unix(0, 0), grown}, {small.Add(-30 * day), note}})
	if err == nil {
		err = os.WriteFile(file, data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	want(1, 3)
}

// TestCooldown checks to which versions queries are resolved when young ones do not count.
func TestCooldown(t *testing.T) {
	w := newYoungWorld(t)
	w.cfg.Cooldown = 14
	w.add("example.com/lib@v1.0.0", "go 1.20\n")
	// The sync sees a tree without the others. It was long ago.
	if _, err := w.sync("example.com/lib@v1.0.0"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "sumdb", filepath.FromSlash(testproxy.DBName), "seen")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), `"Seen":"20`, `"Seen":"19`, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v1.1.0", "v1.2.0", "v1.3.0-pre"} {
		w.add("example.com/lib@"+v, "go 1.20\n")
	}
	for query, want := range map[string]string{
		"latest": "v1.0.0", "v1": "v1.0.0", "<v1.2.0": "v1.0.0", ">=v1.0.0": "v1.0.0", "v1.2.0": "v1.2.0",
		">v1.0.0": "too young", "v1.2": "too young", ">v1.2.0": "too young",
	} {
		c, err := w.sync("example.com/lib@" + query)
		switch {
		case want == "too young":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", query, err)
			}
		case err != nil:
			t.Errorf("%s: %v", query, err)
		case len(c.Versions) != 1 || c.Versions[0].Mod.Version != want:
			t.Errorf("%s: %v, %v, want %s", query, zips(c), err, want)
		}
	}
}
