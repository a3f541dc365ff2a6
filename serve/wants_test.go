package serve

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/sources"
)

// someone is a client.
var someone = netip.MustParseAddr("192.0.2.1")

// reopen saves wants and reads them again; all of them must be read.
func reopen(t *testing.T, w *Wants) *Wants {
	t.Helper()
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenWants(w.file, func(err error) { t.Errorf("written and not read: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestWantsMakeRoom asks for more than is kept. A module with many requests stays, and a late one
// is recorded.
func TestWantsMakeRoom(t *testing.T) {
	w, err := OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	real := modpath.Request{Kind: modpath.Zip, Path: "example.com/real", Version: "v1.0.0"}
	w.Add(real, someone)
	w.Add(real, someone)
	for i := range 3 * maxWants {
		w.Add(modpath.Request{Kind: modpath.Info, Path: fmt.Sprintf("example.com/x%d", i), Version: "v1.0.0"}, someone)
	}
	w.Add(modpath.Request{Kind: modpath.Zip, Path: "example.com/late", Version: "v1.0.0"}, someone)
	w.Add(modpath.Request{Kind: modpath.SumTile}, someone)
	list := reopen(t, w).List()
	if len(list) > maxWants || len(list) < maxWants*8/10 {
		t.Errorf("%d wants, want at most %d and most of that", len(list), maxWants)
	}
	if n := 3*maxWants + 2 - int64(len(list)); w.Evicted() != n {
		t.Errorf("%d evicted, want %d", w.Evicted(), n)
	}
	for _, path := range []string{"example.com/real", "example.com/late"} {
		i := slices.IndexFunc(list, func(x Want) bool { return x.Path == path })
		if i < 0 || list[i].Perhaps || list[i].Count < 1 || list[i].First.After(list[i].Last) {
			t.Errorf("%s is forgotten, or wrong", path)
		}
	}
	if st, err := os.Stat(w.file); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// TestWantsAreShared has one client ask for more than is kept. The wants of other clients stay.
func TestWantsAreShared(t *testing.T) {
	w, err := OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(from, path string) {
		w.Add(modpath.Request{Kind: modpath.Zip, Path: path, Version: "v1.0.0"}, netip.MustParseAddr(from))
	}
	ask("192.0.2.2", "example.com/real")
	for i := range 500 {
		ask("192.0.2.3", fmt.Sprintf("example.com/many%d", i))
	}
	for i := range 2 * maxWants {
		ask(fmt.Sprintf("2001:db8::%x", i%65536), fmt.Sprintf("example.com/x%d", i)) // one host has them all
	}
	left := 0
	for _, x := range w.List() {
		if !strings.HasPrefix(x.Path, "example.com/x") {
			left++
		}
	}
	if left != 501 {
		t.Errorf("%d of the 501 wants of others are left", left)
	}
	if len(w.from) != len(w.wants) {
		t.Errorf("%d clients of %d wants", len(w.from), len(w.wants))
	}
}

// TestOneBadWantCostsNoOther reads files with bad entries, and files of something else.
func TestOneBadWantCostsNoOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wants.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const good = `{"path":"example.com/x","query":"v1.0.0","count":3}`
	for _, bad := range []string{`null`, `{}`, `7`, `{"path":"x"}`, `{"path":"example.com/y","query":"v1.8.0,"}`, `{"path":"example.com/y\u001b[2J","query":"latest"}`,
		`{"path":"example.com/y","query":"fix-#12"}`, `{"path":"example.com/y","query":"all"}`, `{"path":"sum.example","size":-1}`, `{"path":"sum.example","size":"7"}`} {
		write("[" + bad + "," + good + "]")
		skipped := 0
		w, err := OpenWants(file, func(error) { skipped++ })
		if err != nil {
			t.Errorf("%s: %v", bad, err)
			continue
		}
		if list := w.List(); len(list) != 1 || list[0].Path != "example.com/x" || skipped != 1 {
			t.Errorf("%s: %v, %d skipped", bad, list, skipped)
		}
	}
	for _, text := range []string{"{}", "", "[", good, "nonsense"} {
		write(text)
		_, err := OpenWants(file, nil)
		bad, ok := errors.AsType[*WantsFileError](err)
		if !ok {
			t.Fatalf("%s: %v, want a *WantsFileError", text, err)
		}
		w, name, err := bad.SetAside(time.Unix(1700000000, 0))
		if err != nil || len(w.List()) != 0 {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(name); err != nil || string(data) != text {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
		w.Add(modpath.Request{Kind: modpath.List, Path: "example.com/x"}, someone)
		reopen(t, w)
	}
}

// TestWantsLeaveOut has requests that nothing can satisfy.
func TestWantsLeaveOut(t *testing.T) {
	w, err := OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	toolchain := func(v string) string { return "golang.org/toolchain/@v/v0.0.1-" + v + ".linux-amd64.zip" }
	for _, path := range []string{
		"github.com/@v/list", "github.com/spf13/@v/list", "example.com/x/@v/all.info", "example.com/x/@v/none.info",
		"example.com/x/@v/v1.8.0,.info", "example.com/x/@v/$!t!a!g.info", "example.com/x/@v/fix-#12.info", "example.com/x/@v/a b.info",
		"example.com/x/@v/v0.0.0-00010101000000-000000000000.info", toolchain("go1.27"),
	} {
		if r, err := modpath.Parse(path); err == nil {
			w.Add(r, someone)
		}
	}
	if list := w.List(); len(list) != 0 {
		t.Errorf("wanted: %v", list)
	}
	for _, path := range []string{"example.com/x/@v/patch.info", toolchain("go1.27.0"), toolchain("go1.20"), "example.com/y/@v/v1.0.0.mod"} {
		r, err := modpath.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		w.Add(r, someone)
	}
	w.AddTree("sum.example", 1000, true, someone)
	w.AddTree("sum.example", 1023, false, someone) // of the same tree, as far as it tells
	w.AddTree("sum.example", 2047, false, someone)
	w.Add(modpath.Request{Kind: modpath.Info, Path: "corp.example/a", Version: "v1.0.0"}, someone)
	text := ListFile(reopen(t, w).List(), "corp.example")
	var lines []string
	for line := range strings.Lines(text) {
		line, comment, _ := strings.Cut(line, " # ")
		lines = append(lines, line)
		if !strings.HasPrefix(comment, "asked for once, ") {
			t.Errorf("%s: %s", line, comment)
		}
	}
	want := []string{"maybe example.com/x@latest", "maybe example.com/y@v1.0.0", "maybe golang.org/toolchain@v0.0.1-go1.20.linux-amd64",
		"maybe golang.org/toolchain@v0.0.1-go1.27.0.linux-amd64", "head sum.example 1000", "head sum.example 2047"}
	if !slices.Equal(lines, want) {
		t.Errorf("list:\n%s", text)
	}
}

// TestFewTreesAreListed has a client that names trees without end. The list has the trees with the
// most requests.
func TestFewTreesAreListed(t *testing.T) {
	w, err := OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(5000) {
		w.AddTree("sum.example", 1000+i*256, true, someone)
	}
	w.AddTree("sum.example", 7e9, true, someone)
	w.AddTree("sum.example", 7e9, true, someone)
	list := ListFile(w.List(), "")
	if n := strings.Count(list, "head "); n > maxTrees || !strings.Contains(list, "head sum.example 7000000000 # asked for 2 times") {
		t.Errorf("%d trees, want at most %d and the one of 7,000,000,000:\n%.300s", n, maxTrees, list)
	}
}

// FuzzWants asks for a path, among others, and restarts. The written wants are read again, and sync
// accepts the list.
func FuzzWants(f *testing.F) {
	for _, seed := range []string{"example.com/x/@v/v1.8.0,.info", "example.com/x/@v/$!t!a!g.info", "example.com/x/@v/fix-#12.info", "example.com/x/@v/a b.info",
		"example.com/x/@v/v1.(0).info", "example.com/x/@v/a=b.info", "example.com/x/@v/a[b.info", "example.com/x/@v/a%b.info", "example.com/x/@v/a&b.info",
		"example.com/x/@v/a^b.info", "example.com/x/@v/a{b.info", "example.com/x/@v/all.info", "example.com/x/@v/patch.info", "example.com/x/@v/>=v1.info",
		"example.com/x/@v/v1.0.0+meta.info", "example.com/x/v2/@v/v1.0.0.info", "gopkg.in/x/@v/v1.0.0.info", "golang.org/toolchain/@v/v0.0.1-go1.27.linux-amd64.zip",
		"example.com/x/@v/a@b.info", "example.com/x/@v/-.info", "sumdb/sum.example/lookup/example.com/x@v1.0.0", "example.com/~x/@v/list", "example.com/x/@latest"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := modpath.Parse(path)
		if err != nil {
			return
		}
		w, err := OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Add(modpath.Request{Kind: modpath.List, Path: "example.com/first"}, someone)
		w.Add(r, someone)
		again := reopen(t, w)
		if len(again.List()) != len(w.List()) {
			t.Fatalf("%d of %d wants were read again", len(again.List()), len(w.List()))
		}
		list := ListFile(again.List(), "")
		src, err := sources.Parse([]string{"-"}, strings.NewReader(list))
		if err != nil {
			t.Fatalf("sync does not take the list: %v\n%s", err, list)
		}
		if n := len(src.List) + len(src.Notes); n != len(again.List()) {
			t.Fatalf("%d sources and notes of %d lines\n%s", n, len(again.List()), list)
		}
	})
}
