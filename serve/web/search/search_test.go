package search

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/serve/web/render"
)

// carried are packages of some modules, by h1.
var carried = map[string][]render.Entry{
	"std": {
		{Dir: "net/http", Name: "http", Synopsis: "Package http provides HTTP client and server implementations.",
			Symbols: []string{"Handler", "HandlerFunc", "HandlerFunc.ServeHTTP", "StatusOK"}, Imports: []string{"context", "io"}},
		{Dir: "io", Name: "io", Symbols: []string{"Reader", "Reader.Read"}},
		{Dir: "internal/http", Name: "http"},
	},
	"cobra":  {{Name: "cobra", Synopsis: "A commander.", Symbols: []string{"Command"}, Imports: []string{"io", "net/http"}}, {Dir: "doc", Name: "doc"}},
	"yaml2":  {{Name: "yaml", Symbols: []string{"Marshal"}, Imports: []string{"io"}}},
	"yaml3":  {{Name: "yaml", Symbols: []string{"Marshal", "Node"}, Imports: []string{"io"}}},
	"user":   {{Name: "main", Imports: []string{"gopkg.in/yaml.v3", "net/http"}}, {Dir: "b", Name: "b", Imports: []string{"gopkg.in/yaml.v3"}}},
	"myhttp": {{Dir: "http", Name: "http", Synopsis: "handler of things"}},
}

var zips = []Zip{
	{"std", render.Std, "go1.26.8", "BSD-3-Clause"}, {"cobra", "github.com/spf13/cobra", "v1.9.1", "Apache-2.0"},
	{"yaml2", "gopkg.in/yaml.v2", "v2.4.0", "Apache-2.0"}, {"yaml3", "gopkg.in/yaml.v3", "v3.0.1", "MIT AND Apache-2.0"},
	{"user", "corp.example/user", "v1.0.0", ""}, {"myhttp", "corp.example/my", "v1.0.0", "MIT"},
}

func read(_ context.Context, z Zip, yield func([]render.Entry) error) error {
	return yield(carried[z.H1])
}

// update makes the database one of zips.
func update(t *testing.T, d *DB, zips []Zip) {
	t.Helper()
	err := d.Update(t.Context(), zips, read, func(z Zip, err error) { t.Errorf("%s: %v", z.Module, err) })
	if err != nil {
		t.Fatal(err)
	}
}

func open1(t *testing.T, file string) *DB {
	t.Helper()
	d, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// paths returns the paths that a query finds.
func paths(t *testing.T, d *DB, query string) (list []string) {
	t.Helper()
	found, err := d.Find(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	for _, r := range found {
		list = append(list, r.Path)
	}
	return list
}

func TestFind(t *testing.T) {
	d := open1(t, filepath.Join(t.TempDir(), "search.sqlite"))
	update(t, d, zips)
	for _, test := range []struct {
		query string
		want  []string
	}{
		{"http", []string{"net/http", "corp.example/my/http", "internal/http"}},
		{"HTTP", []string{"net/http", "corp.example/my/http", "internal/http"}},
		{"net/http", []string{"net/http"}},
		{"http.Handler", []string{"net/http", "corp.example/my/http"}},
		{"ServeHTTP", []string{"net/http"}},
		{"serve", []string{"net/http"}},
		{"statu", []string{"net/http"}},
		{"yaml", []string{"gopkg.in/yaml.v3", "gopkg.in/yaml.v2"}},
		{"yaml node", []string{"gopkg.in/yaml.v3"}},
		{"license:MIT", []string{"gopkg.in/yaml.v3", "corp.example/my/http"}},
		{"license:apache-2.0 yaml", []string{"gopkg.in/yaml.v3", "gopkg.in/yaml.v2"}},
		{"commander", []string{"github.com/spf13/cobra"}},
		{"no such words", nil},
		{"", nil}, {"  \"'*(-) ", nil},
		{`yaml" OR "http`, nil}, {"NOT http", nil}, {"path:http NEAR/3 net", nil}, {"yaml*", []string{"gopkg.in/yaml.v3", "gopkg.in/yaml.v2"}},
		{strings.Repeat("http ", 5000), []string{"net/http", "corp.example/my/http", "internal/http"}},
	} {
		if got := paths(t, d, test.query); !slices.Equal(got, test.want) {
			t.Errorf("%.50q: %q, want %q", test.query, got, test.want)
		}
	}
	found, err := d.Find(t.Context(), "http.handler")
	if err != nil || !slices.Equal(found[0].Symbols, []string{"Handler", "HandlerFunc", "HandlerFunc.ServeHTTP"}) ||
		found[0].Importers != 2 || found[0].Module != render.Std || found[0].Version != "go1.26.8" || found[0].License != "BSD-3-Clause" {
		t.Errorf("%+v %v", found, err)
	}
	list, total, err := d.Importers(t.Context(), render.Std, "io", 2)
	if err != nil || total != 3 || len(list) != 2 || list[0].String() != "github.com/spf13/cobra@v1.9.1" {
		t.Errorf("%v %d %v", list, total, err)
	}
	synopses, err := d.Synopses(t.Context(), render.Std, "go1.26.8")
	if err != nil || len(synopses) != 3 || !strings.HasPrefix(synopses["net/http"], "Package http") {
		t.Errorf("%v %v", synopses, err)
	}
}

// TestLongerWords has a name behind very many words that begin alike, and letters that the index has
// in another form.
func TestLongerWords(t *testing.T) {
	d := open1(t, filepath.Join(t.TempDir(), "search.sqlite"))
	misc := render.Entry{Dir: "misc", Name: "misc", Synopsis: "Über alles."}
	for i := range maxTerms + 10 {
		misc.Symbols = append(misc.Symbols, fmt.Sprintf("Conta%04d", i))
	}
	list := []render.Entry{misc, {Dir: "context", Name: "context"}, {Dir: "x", Name: "x", Symbols: []string{"Rare"}}}
	next := func(_ context.Context, _ Zip, yield func([]render.Entry) error) error { return yield(list) }
	zip := Zip{"std", render.Std, "go1.26.8", "BSD-3-Clause"}
	if err := d.Update(t.Context(), []Zip{zip}, next, func(z Zip, err error) { t.Errorf("%s: %v", z.Module, err) }); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string][]string{
		"cont": {"context", "misc"}, "conte": {"context"}, "über": {"misc"}, "übe": {"misc"}, "rar": {"x"},
		"license:bsd cont": {"misc", "context"}, "license:bs": {"x", "misc", "context"}, "license:cont": nil,
	} {
		if got := paths(t, d, query); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}

// TestUpdate takes in what is new alone, forgets what is gone, and is not stopped by what cannot be
// read.
func TestUpdate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "search.sqlite")
	d := open1(t, file)
	update(t, d, zips[:3])
	d.Close()
	d = open1(t, file)
	var taken []string
	torn := errors.New("torn")
	var failed []string
	next := func(ctx context.Context, z Zip, yield func([]render.Entry) error) error {
		taken = append(taken, z.H1)
		switch z.H1 {
		case "user":
			return torn
		case "myhttp":
			yield(carried[z.H1])
			return &render.Error{Why: "one folder is too large"}
		}
		return read(ctx, z, yield)
	}
	err := d.Update(t.Context(), zips[1:], next, func(z Zip, err error) { failed = append(failed, z.H1) })
	if err != nil || !slices.Equal(taken, []string{"yaml3", "user", "myhttp"}) || !slices.Equal(failed, []string{"user", "myhttp"}) {
		t.Errorf("%v: took in %q, %q failed", err, taken, failed)
	}
	if got := paths(t, d, "http"); !slices.Equal(got, []string{"corp.example/my/http"}) {
		t.Errorf("%q", got)
	}
	if done, planned := d.Progress(); done != 3 || planned != 3 {
		t.Errorf("%d of %d", done, planned)
	}
	taken, failed = nil, nil
	if err := d.Update(t.Context(), zips[1:], next, func(z Zip, err error) {}); err != nil || !slices.Equal(taken, []string{"user"}) {
		t.Errorf("%v: took in %q again", err, taken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Update(ctx, zips, func(context.Context, Zip, func([]render.Entry) error) error {
		cancel()
		return ctx.Err()
	}, func(z Zip, err error) { t.Errorf("%s: %v", z.Module, err) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// TestOpen expects that a file of no use is made anew.
func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "search.sqlite")
	for _, content := range []string{"", "not SQLite, but long enough to have a header of some hundred bytes" + strings.Repeat(".", 5000)} {
		if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		d, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		update(t, d, zips[:1])
		if got := paths(t, d, "io"); !slices.Contains(got, "io") {
			t.Errorf("%q", got)
		}
		d.Close()
	}
	d := open1(t, file)
	if _, err := d.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open1(t, file)
	if got := paths(t, d, "io"); got != nil {
		t.Errorf("%q of a database of another version", got)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none", "search.sqlite")); err == nil {
		t.Error("a database in no folder")
	}
}

func TestCamel(t *testing.T) {
	for in, want := range map[string]string{
		"ServeHTTP": "Serve HTTP", "HTTPServer": "HTTP Server", "Tag.IsRoot": "Tag Is Root", "Reader": "", "X": "", "ÄnderÖl": "Änder Öl",
	} {
		if got := strings.Join(camel(in), " "); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// BenchmarkFind searches 100,000 packages.
func BenchmarkFind(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "search.sqlite"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	words := []string{"http", "json", "client", "server", "proto", "cache", "log", "config", "util", "store", "grpc", "yaml", "auth", "sql"}
	var list []Zip
	for i := range 1000 {
		list = append(list, Zip{fmt.Sprint(i), fmt.Sprintf("example.com/%s%d", words[i%len(words)], i), "v1.0.0", "MIT"})
	}
	read := func(_ context.Context, z Zip, yield func([]render.Entry) error) error {
		var entries []render.Entry
		for i := range 100 {
			name := words[(i*7+len(z.Module))%len(words)]
			e := render.Entry{Dir: fmt.Sprintf("%s/p%d", name, i), Name: name, Synopsis: "Package " + name + " provides a " + words[i%len(words)] + " for things."}
			for j := range 30 {
				e.Symbols = append(e.Symbols, fmt.Sprintf("New%sHandler%d", strings.ToUpper(words[(i+j)%len(words)]), j))
			}
			e.Imports = []string{"example.com/http0/http/p0", "example.com/json1/json/p1"}
			entries = append(entries, e)
		}
		return yield(entries)
	}
	if err := d.Update(b.Context(), list, read, func(Zip, error) {}); err != nil {
		b.Fatal(err)
	}
	for _, query := range []string{"http", "json client", "example.com/http0", "NewGRPCHandler7", "handler", "h", "license:MIT", "no such word"} {
		b.Run(strings.ReplaceAll(query, "/", "_"), func(b *testing.B) {
			worst := time.Duration(0)
			for b.Loop() {
				start := time.Now()
				if _, err := d.Find(b.Context(), query); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(start))
			}
			b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
		})
	}
}

// TestSymbols bounds the work for long queries and lists.
func TestSymbols(t *testing.T) {
	var names strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&names, "Naaaame%d ", i)
	}
	start := time.Now()
	got := symbolsOf(strings.Repeat("aaa aaaa ", 1000), names.String()+"AAA T.aaa")
	if want := []string{"AAA", "T.aaa"}; len(got) != maxSymbols || !slices.Equal(got[:2], want) {
		t.Errorf("%q", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
