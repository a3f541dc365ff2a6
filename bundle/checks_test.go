package bundle_test

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestOthersMayNotWrite has others own, or be allowed to write to, what holds what was verified or
// seen: none of it is used.
func TestOthersMayNotWrite(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	state := t.TempDir()
	open := func() error {
		b, err := bundle.Open(ctx, tb.Path, tb.Trusted, state)
		if err == nil {
			b.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(state, "index")
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "who could exchange what was verified") {
			t.Errorf("%s: %v", what, err)
		}
	}
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(folder, 0o777)
	refused("the folder of indexes", open())
	chmod(folder, 0o700)
	chmod(state, 0o777)
	refused("the state folder", open())
	chmod(state, 0o700)

	// A copy that others can write to is not used; it is made anew.
	name := filepath.Join(folder, tb.Draft.Manifest.ID()+".sqlite")
	chmod(name, 0o666)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, state)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if st, err := os.Stat(name); b.Seen || err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("an index that others may write to is used: %v, %v", st.Mode(), err)
	}
}

// otherZip returns a zip of a module version that has another content than the real one.
func otherZip(t *testing.T, m module.Version, goMod string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, text := range map[string]string{"go.mod": goMod, "evil.go": "package evil\n"} {
		f, err := w.Create(m.String() + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestForgedContent has the thief of the bundle key carry another content of a public module in a
// zip that is one, under the h1 that the checksum database has: only hashing it tells.
func TestForgedContent(t *testing.T) {
	tb := testbundle.Make(t, modfiles, func(c *bundle.Contents) {
		v := &c.Versions[2]
		z := bundle.DataSource(v.Zip.Path, otherZip(t, module.Version{Path: v.Path, Version: v.Version.Version}, string(v.GoMod.Data)))
		v.Zip, v.ZipSize = &z, &z.Size
	})
	if err := testbundle.Verify(tb.Path, tb.Trusted, nil); err != nil {
		t.Fatalf("signed properly, so plain verification accepts it: %v", err)
	}
	if err := testbundle.Verify(tb.Path, tb.Trusted, tb.DB); !testbundle.Refused(err) {
		t.Errorf("deep verification says %v", err)
	}
	// The index says another size than the file has.
	tb = testbundle.Make(t, modfiles, nil)
	path := tb.Forge(t, testbundle.ChangeSQL(t, "UPDATE version SET zip_size = zip_size + 1 WHERE id = 3"))
	if err := testbundle.Verify(path, tb.Trusted, tb.DB); !testbundle.Refused(err) {
		t.Errorf("another zip_size: %v", err)
	}
}

// TestForkSigned has the database's own key sign a fork: an earlier head, beside the real one, that
// the real one does not continue.
func TestForkSigned(t *testing.T) {
	up, err := testproxy.New(modfiles)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	signer, err := note.NewSigner(up.SignerKey)
	if err != nil {
		t.Fatal(err)
	}
	tb := testbundle.Make(t, modfiles, nil)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	head := tb.Contents.Head
	older, err := testbundle.OlderTree(ctx, b, head, head.N-1)
	if err != nil {
		t.Fatal(err)
	}
	// A database whose key we have: the same trees, and the notes signed by it.
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(tree tlog.Tree) proof.Head {
		msg, err := note.Sign(&note.Note{Text: string(tlog.FormatTree(tree))}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return proof.Head{Tree: tree, Note: msg}
	}
	// A fork with the tile that it needs: another record among those of the real tree.
	leaves, err := bundle.Tiles(ctx, b).ReadTiles([]tlog.Tile{{H: 8, W: int(head.N)}})
	if err != nil {
		t.Fatal(err)
	}
	tile := bytes.Clone(leaves[0][:older.N*tlog.HashSize])
	tile[5*tlog.HashSize] ^= 1
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(list []int64) (out []tlog.Hash, err error) {
		for _, i := range list {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i := range older.N {
		hashes, err := tlog.StoredHashesForRecordHash(i, tlog.Hash(tile[i*tlog.HashSize:]), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	fork := tlog.Tree{N: older.N}
	if fork.Hash, err = tlog.TreeHash(older.N, reader); err != nil {
		t.Fatal(err)
	}
	forged := bundle.DataSource(modpath.Request{Kind: modpath.SumTile, DB: db.Name, Tile: tlog.Tile{H: 8, W: int(older.N)}}.String(), tile)
	for _, test := range []struct {
		name string
		head tlog.Tree
		ok   bool
	}{{"an earlier head", older, true}, {"a fork", fork, false}} {
		bad := tb.Variant(t, func(c *bundle.Contents) {
			c.Head = sign(head.Tree)
			c.Heads = []proof.Head{sign(test.head)}
			if !test.ok {
				c.Tiles = append(slices.Clone(c.Tiles), forged)
			}
		})
		err := testbundle.Verify(bad.Path, bad.Trusted, db)
		if (err == nil) != test.ok || err != nil && !testbundle.Refused(err) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestLatestOfAnotherNote: the head that a client reads is the one under which all was proven, to
// the byte.
func TestLatestOfAnotherNote(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	// The same tree with a signature more: true, and not the note that clients get.
	path := tb.Forge(t, testbundle.ChangeSQL(t, "UPDATE head SET note = note || '— other.example AAAAAAAA' || char(10)"))
	if err := testbundle.Verify(path, tb.Trusted, tb.DB); !testbundle.Refused(err) || !strings.Contains(err.Error(), "not the head") {
		t.Error(err)
	}
}

// TestHostileCatalog: what a catalog alone says is believed as far as its signature goes, and has
// no files.
func TestHostileCatalog(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	other := tb.Variant(t, func(c *bundle.Contents) { c.Sequence = 8 })
	catalog := func(tb *testbundle.TB) string {
		b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		file, err := b.WriteCatalog(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, second := catalog(tb), catalog(other)
	idx := strings.TrimSuffix(good, ".manifest") + ".index.sqlite"
	b, err := bundle.Open(ctx, good, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	if b.HasFiles() {
		t.Error("a catalog has files")
	}
	if _, err := b.ReadFile(ctx, "example.com/hello/@v/v1.1.0.mod", 1<<20); err == nil {
		t.Error("a catalog has the content of a file")
	}
	if err := b.Verify(ctx, nil, func(bundle.Damage) {}); err == nil {
		t.Error("a catalog verifies as if it had files")
	}
	b.Close()
	manifest, index := testbundle.Read(t, good), testbundle.Read(t, idx)
	for name, spoil := range map[string]func(){
		"the index of another bundle": func() {
			testbundle.WriteFile(t, idx, testbundle.Read(t, strings.TrimSuffix(second, ".manifest")+".index.sqlite"))
		},
		"the manifest of another bundle": func() { testbundle.WriteFile(t, good, testbundle.Read(t, second)) },
		"a bit of the index":             func() { index := bytes.Clone(index); index[5000] ^= 1; testbundle.WriteFile(t, idx, index) },
		"a shorter index":                func() { testbundle.WriteFile(t, idx, index[:len(index)-4096]) },
		"a bit of the manifest":          func() { m := bytes.Clone(manifest); m[30] ^= 1; testbundle.WriteFile(t, good, m) },
		"a long manifest":                func() { testbundle.WriteFile(t, good, append(bytes.Clone(manifest), '\n')) },
		"an index that is a folder":      func() { os.Remove(idx); os.Mkdir(idx, 0o700) },
	} {
		os.RemoveAll(idx)
		testbundle.WriteFile(t, good, manifest)
		testbundle.WriteFile(t, idx, index)
		spoil()
		if b, err := bundle.Open(ctx, good, tb.Trusted, ""); err == nil {
			b.Close()
			t.Errorf("%s: opened", name)
		}
	}
}
