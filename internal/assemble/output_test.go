package assemble

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

func TestChooseNames(t *testing.T) {
	mod, err := modfile.Parse("go.mod", []byte("module example.com/group/app/v2\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	project := &mirror.Job{Sources: sources.Sources{List: []sources.Source{{Mod: mod}}}}
	workspace := &mirror.Job{Sources: sources.Sources{List: []sources.Source{{Work: new(modfile.WorkFile), Dir: "/home/dev/mono"}}}}
	modules := &mirror.Job{Sources: sources.Sources{List: []sources.Source{{Name: "example.com/a@latest"}}}}
	own := &bases{own: &bundle.Bundle{Manifest: bundle.Manifest{Name: "team", Sequence: 7}}}
	none := new(bases)
	secret := Packaging{Recipients: []age.Recipient{nil}}
	for _, test := range []struct {
		what         string
		o            Options
		bases        *bases
		name, output string
		newLine      bool
	}{
		{"a project", Options{Sources: project}, none, "app", "app.tar", true},
		{"a workspace", Options{Sources: workspace}, none, "mono", "mono.tar", true},
		{"modules", Options{Sources: modules}, none, "bundle", "bundle.tar", true},
		{"the output", Options{Sources: modules, Output: "d/team.tar"}, none, "team", "d/team.tar", true},
		{"no ending", Options{Sources: modules, Output: "team"}, none, "team", "team", true},
		{"nothing but an ending", Options{Sources: project, Output: "d/.tar"}, none, "app", "d/.tar", true},
		{"stdout", Options{Sources: project, Output: "-"}, none, "app", "-", true},
		{"--name", Options{Sources: project, Name: "n"}, none, "n", "n.tar", false},
		{"both", Options{Sources: project, Name: "n", Output: "o.tar"}, none, "n", "o.tar", false},
		{"encrypted", Options{Sources: project, Package: secret}, none, "app", "app.tar.age", true},
		{"an encrypted output", Options{Sources: project, Package: secret, Output: "x.tar.age"}, none, "x", "x.tar.age", true},
		{"a delta", Options{Sources: project}, own, "team", "team-8.tar", false},
		{"an encrypted delta", Options{Sources: project, Package: secret}, own, "team", "team-8.tar.age", false},
		{"a delta with a name", Options{Sources: project, Output: "d.tar"}, own, "team", "d.tar", false},
		{"a database", Options{Sources: &mirror.Job{Sources: sources.Sources{VulnDB: "u"}}}, none, "vulndb", "vulndb.tar", true},
		{"bootstraps", Options{Sources: &mirror.Job{Sources: sources.Sources{Bootstraps: []sources.Bootstrap{{}}, VulnDB: "u"}}}, none, "self", "self.tar", true},
	} {
		r := &Run{o: test.o, bases: test.bases, sequence: 8}
		if err := r.chooseNames(); err != nil {
			t.Errorf("%s: %v", test.what, err)
		} else if r.Name() != test.name || r.Output() != test.output || r.NewLine() != test.newLine {
			t.Errorf("%s: %s in %s, new line %v; want %s in %s, %v", test.what, r.Name(), r.Output(), r.NewLine(), test.name, test.output, test.newLine)
		}
	}
	r := &Run{o: Options{Sources: new(mirror.Job)}, bases: none}
	if err := r.chooseNames(); !contains(err, "nothing to do: the sources name no module") {
		t.Errorf("%v", err)
	}
	r = &Run{o: Options{Sources: project, Output: "bad name.tar"}, bases: none}
	if err := r.chooseNames(); !isUsage(err, "(set one with --name)") {
		t.Errorf("%v", err)
	}
}

func TestChooseSequence(t *testing.T) {
	own := &bases{own: &bundle.Bundle{Manifest: bundle.Manifest{Sequence: 7}}}
	r := &Run{o: Options{Sequence: 8}, bases: own}
	if err := r.chooseSequence(); err != nil || r.sequence != 8 {
		t.Errorf("%d, %v", r.sequence, err)
	}
	for n, text := range map[int64]string{-1: "--sequence must be positive", 7: "--sequence 7: that of the base is 7"} {
		if err := (&Run{o: Options{Sequence: n}, bases: own}).chooseSequence(); !isUsage(err, text) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestGuard tells which files may be replaced.
func TestGuard(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"ours", "theirs", "input", "source/file", "folder/x"} {
		if err := writeFile(path(name), "x"); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"link": "ours", "inputlink": "input", "sourcelink": "source"} {
		if err := os.Symlink(to, path(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(path("input"), path("hardlink")); err != nil {
		t.Fatal(err)
	}
	made := func(name string) error {
		if filepath.Base(name) == "ours" {
			return nil
		}
		return errors.New("it is not ours")
	}
	for _, test := range []struct {
		name      string
		overwrite bool
		err       string
	}{
		{"new", false, ""},
		{"ours", false, ""},
		{"theirs", false, "is there already and stays as it is: it is not ours"},
		{"theirs", true, ""},
		{"input", true, "this command reads "},
		{"hardlink", true, "this command reads "},
		{"inputlink", true, "this command reads "},
		{"unmade", false, "this command reads "}, // a source that does not exist yet
		{"source/file", true, "this command reads "},
		{"sourcelink/file", true, "this command reads "},
		{"source/new", false, ""},
		{"link", true, "is a link to ours: name the file itself"},
		{"folder", true, "is a folder: name a file in it"},
		{"missing/new", false, "output folder " + path("missing") + " does not exist"},
	} {
		g := &Guard{Overwrite: test.overwrite}
		g.Reads("", "-", path("input"), path("unmade"), path("source"))
		before, _ := os.ReadDir(dir)
		err := g.Check(path(test.name), made)
		if test.err == "" && err != nil || test.err != "" && !isUsage(err, test.err) {
			t.Errorf("%s, overwrite %v: %v, want %q", test.name, test.overwrite, err, test.err)
		}
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s: the check left %v of %v", test.name, after, before)
		}
	}
	if err := new(Guard).Check("-", nil); err != nil {
		t.Errorf("stdout: %v", err)
	}
	if err := new(Guard).Check(path("ours"), nil); !isUsage(err, "it is a file that modmirror did not make") {
		t.Errorf("a command that cannot tell: %v", err)
	}
	if err := new(Guard).Check(os.DevNull, nil); !isUsage(err, "is not a regular file") {
		t.Errorf("%v", err)
	}
}

// TestReplace replaces bundles of the same line alone, signed by a trusted key.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	w.bundle("team.tar", nil, "example.com/text@v1.1.0", "example.com/UpperCase@v1.0.0")
	o, _ := w.options("team.tar", "example.com/text@v1.1.0")
	o.Name = "other"
	if err := w.make(o); !isUsage(err, "it is a bundle of the line team, not of other") {
		t.Errorf("another line: %v", err)
	}
	o, _ = w.options("team.tar", "example.com/text@v1.1.0")
	o.Keys = func() ([]string, error) { return nil, nil }
	if err := w.make(o); !isUsage(err, "it is not a bundle of the line team: ") {
		t.Errorf("a key that is not trusted: %v", err)
	}
	o, _ = w.options("team.tar", "example.com/text@v1.1.0")
	o.Bases = []string{w.path("team.tar")}
	if err := w.make(o); !isUsage(err, "this command reads ") {
		t.Errorf("the base: %v", err)
	}
	o, _ = w.options("team.tar", "example.com/text@v1.1.0")
	o.Lock = w.path("x/../team.tar")
	if err := w.make(o); err == nil || !contains(err, "team.tar") {
		t.Errorf("the lock: %v", err)
	}
	o, _ = w.options("new.tar", "example.com/text@v1.1.0")
	o.Lock = w.path("new.tar")
	if err := w.make(o); !isUsage(err, "cannot be the lock and the bundle") {
		t.Errorf("the lock: %v", err)
	}
	w.must(os.WriteFile(w.path("signed.tar.sig"), nil, 0o666))
	o, _ = w.options("signed.tar", "example.com/text@v1.1.0")
	if err := w.make(o); !isUsage(err, "signed.tar.sig exists, with signatures") {
		t.Errorf("signatures: %v", err)
	}
	if got := w.versions("team.tar"); len(got) != 2 {
		t.Errorf("team.tar has %q", got)
	}
}

func TestPieces(t *testing.T) {
	w := newWorld(t)
	change := func(o *Options) { o.Package.Piece = 64 << 10 }
	w.bundle("team.tar", change, "example.com/text@v1.1.0")
	o, _ := w.options("team.tar", "example.com/text@v1.1.0")
	change(&o)
	if err := w.make(o); !isUsage(err, "team.tar.001 is there already") || !hasHint(err, "", "remove the old pieces") {
		t.Errorf("%v", err)
	}
	w.must(os.Remove(w.path("team.tar.001")))
	if err := w.make(o); !isUsage(err, "team.tar.") {
		t.Errorf("the rest of the pieces, or their list: %v", err)
	}
	o, _ = w.options("", "example.com/text@v1.1.0")
	change(&o)
	if _, err := o.Package.Open("-", io.Discard); !isUsage(err, "--split writes files") {
		t.Errorf("%v", err)
	}
}

// TestEncrypted writes a bundle that its recipient can open, whole and in pieces.
func TestEncrypted(t *testing.T) {
	w := newWorld(t)
	id, err := age.GenerateX25519Identity()
	w.must(err)
	for _, rehearsed := range []bool{false, true} {
		o, r := w.options("team.tar.age", "example.com/text@v1.1.0")
		o.Guard.Overwrite = true
		o.Package.Recipients = []age.Recipient{id.Recipient()}
		if rehearsed {
			o.Rehearse = func(context.Context, Rehearsal) ([]string, error) { return nil, nil }
		}
		w.must(w.make(o))
		plain, err := age.Decrypt(bytes.NewReader(read(t, w.path("team.tar.age"))), id)
		w.must(err)
		data, err := io.ReadAll(plain)
		w.must(err)
		w.must(os.WriteFile(w.path("plain.tar"), data, 0o666))
		if b := w.open("plain.tar"); b.ID() != r.written.Manifest.ID() || b.Manifest.Name != "team" {
			t.Errorf("rehearsed %v: %+v", rehearsed, b.Manifest)
		}
	}
	o, _ := w.options("team.tar.age", "example.com/text@v1.1.0")
	o.Package.Recipients = []age.Recipient{id.Recipient()}
	if err := w.make(o); !isUsage(err, "it is a file that modmirror did not make") { // nobody can tell of which line it is
		t.Errorf("%v", err)
	}
}

// TestDiscard leaves nothing of an output that was not committed.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []Packaging{{}, {Piece: 4}} {
		s, err := p.Open(filepath.Join(dir, "x.tar"), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(s, "some bytes"); err != nil {
			t.Fatal(err)
		}
		s.Discard()
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%+v: left %v", p, left)
		}
	}
}

func TestCopy(t *testing.T) {
	text := strings.Repeat("modmirror", 300_000)
	var out bytes.Buffer
	var counted int64
	if err := Copy(context.Background(), &out, strings.NewReader(text), func(n int64) { counted += n }); err != nil {
		t.Fatal(err)
	}
	if out.String() != text || counted != int64(len(text)) {
		t.Errorf("%d bytes copied, %d counted, of %d", out.Len(), counted, len(text))
	}
	ctx, cancel := context.WithCancel(context.Background())
	out.Reset()
	if err := Copy(ctx, &out, strings.NewReader(text), func(int64) { cancel() }); !errors.Is(err, context.Canceled) || out.Len() == len(text) {
		t.Errorf("%v after %d bytes", err, out.Len())
	}
}
