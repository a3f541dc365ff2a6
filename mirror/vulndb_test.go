package mirror

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVulnDB carries a vulnerability database from a folder, and then a newer state of it.
func TestVulnDB(t *testing.T) {
	w := newWorld(t)
	db := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(db, name)
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const old, later = `{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}`, `{"id":"GO-2026-0001","modified":"2026-02-01T00:00:00Z"}`
	write("index/vulns.json", "["+old+"]")
	write("index/modules.json", "[]")
	write("index/db.json", `{"modified":"2026-01-01T00:00:00Z"}`)
	write("ID/GO-2026-0001.json", old)
	name := list(t, "example.com/text@v1.0.0", "vulndb "+db)
	c, err := w.sync(name)
	if err != nil || len(c.Vulns) != 4 {
		t.Fatalf("%+v, %v", c, err)
	}
	stored := filepath.Join(w.dir, "vulndb/ID/GO-2026-0001.json")
	if got, err := os.ReadFile(stored); err != nil || string(got) != old {
		t.Errorf("%s, %v", got, err)
	}
	// The entry may be newer than the index, and is not read again while the index names the old
	// one.
	write("ID/GO-2026-0001.json", later)
	if _, err := w.sync(name); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(stored); string(got) != old {
		t.Errorf("read again: %s", got)
	}
	write("index/vulns.json", "["+later+"]")
	if _, err := w.sync(name); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(stored); string(got) != later {
		t.Errorf("not read again: %s", got)
	}
	for text, want := range map[string]string{
		"[]":                          "it names 0 entries",
		"<html>":                      "index/vulns.json: invalid character",
		"[" + old + "," + old + "]":   "twice",
		`[{"id":"../../etc/passwd"}]`: "not an id",
		`[{"id":"GO-2026-0002"}]`:     "GO-2026-0002",
		`[{"id":"GO-2026-0001","modified":"2027-01-01T00:00:00Z"}]`: "and the index names 2027",
	} {
		write("index/vulns.json", text)
		if _, err := w.sync(name); err == nil || !strings.Contains(err.Error(), "vulnerability database "+db) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	write("index/vulns.json", "["+later+"]")
	write("index/db.json", "<html>")
	if _, err := w.sync(name); err == nil || !strings.Contains(err.Error(), "index/db.json: it is not JSON") {
		t.Errorf("db.json: %v", err)
	}
}
