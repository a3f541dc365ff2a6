package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/h1"
)

// TestWorld checks that the graph has all versions of all modules, no deeper than it should be, and
// that the world has files and records of them.
func TestWorld(t *testing.T) {
	const modules, depth = 43, 5
	w, err := newWorld(modules, depth)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[module.Version]bool)
	var level []node
	for i := range versions {
		level = append(level, node{-1, i, 0})
	}
	rounds := 0
	for ; len(level) > 0; rounds++ {
		var next []node
		for _, n := range level {
			if m := w.mod(n); !seen[m] {
				seen[m] = true
				next = append(next, w.needs(n)...)
			}
		}
		level = next
	}
	if len(seen) != modules*versions+versions || rounds > depth+1 {
		t.Errorf("%d versions in %d rounds, want %d in at most %d", len(seen), rounds, modules*versions+versions, depth+1)
	}
	for m := range seen {
		n, ok := w.find(m.Path, m.Version)
		if !ok || w.mod(n) != m {
			t.Fatalf("%s is not found", m)
		}
		data, err := w.zip(n)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := w.zip(n); string(again) != string(data) {
			t.Fatalf("%s: another zip the second time", m)
		}
	}
	for _, m := range []module.Version{
		{Path: "l0.bench.example/m01", Version: "v1.0.0"}, {Path: "l5.bench.example/m0", Version: "v1.0.0"},
		{Path: "l0.bench.example/m0", Version: "v1.5.0"}, {Path: "bench.example/fan5", Version: "v1.0.0"},
		{Path: "l4.bench.example/m7", Version: "v1.0.0"}, {Path: "example.com/m0", Version: "v1.0.0"},
	} {
		if _, ok := w.find(m.Path, m.Version); ok {
			t.Errorf("%s is found", m)
		}
	}

	s := httptest.NewServer(w)
	defer s.Close()
	get := func(path string, status int) string {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %s", path, resp.Status)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	const at = "/l0.bench.example/m0/@v/"
	if list := get(at+"list", 200); strings.Count(list, "\n") != versions {
		t.Errorf("list %q", list)
	}
	mod := get(at+"v1.0.0.mod", 200)
	record := get("/sumdb/"+dbName+"/lookup/l0.bench.example/m0@v1.0.0", 200)
	if !strings.Contains(record, "l0.bench.example/m0 v1.0.0/go.mod "+h1.GoMod([]byte(mod))+"\n") {
		t.Errorf("the record has not the hash of\n%s:\n%s", mod, record)
	}
	verifier, err := note.NewVerifier(w.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(get("/sumdb/"+dbName+"/latest", 200)), note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
	get(at+"v1.7.0.mod", 404)
	get("/l0.bench.example/m0/@latest", 404)
}
