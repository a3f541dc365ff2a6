package bundle_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// smallBundle returns a bundle without the large zip.
func smallBundle(t testing.TB) *testbundle.TB {
	return testbundle.Make(t, modfiles, testbundle.WithoutLarge)
}

// FuzzTar changes bytes of a bundle, cuts and lengthens it: what is accepted is the bundle, to the
// byte.
func FuzzTar(f *testing.F) {
	tb := smallBundle(f)
	good, err := os.ReadFile(tb.Path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, 0, []byte{})
	f.Add(512, 0, []byte("modmirror bundle v2"))
	f.Add(len(good), 0, []byte{0})
	f.Add(len(good)-1024, 1024, []byte{})
	f.Add(60000, 512, bytes.Repeat([]byte{0}, 512))
	path := filepath.Join(f.TempDir(), "x.tar")
	f.Fuzz(func(t *testing.T, at, drop int, put []byte) {
		at = max(0, min(at, len(good)))
		drop = max(0, min(drop, len(good)-at))
		data := slices.Concat(good[:at], put, good[at+drop:])
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := testbundle.Verify(path, tb.Trusted, nil); (err == nil) != bytes.Equal(data, good) {
			t.Errorf("%d bytes at %d for %d: %v", len(put), at, drop, err)
		}
	})
}

// FuzzIndex has the thief of the key sign an index of which bytes were changed: it is read to its
// end, or refused.
func FuzzIndex(f *testing.F) {
	tb := smallBundle(f)
	f.Add(100, []byte{5})
	f.Add(4096, []byte{13, 0, 0})
	f.Add(28, []byte{0, 0, 0, 1})
	f.Add(8192+8, []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at int, put []byte) {
		path := tb.Forge(t, func(b []byte) []byte {
			copy(b[max(0, min(at, len(b))):], put)
			return b
		})
		defer os.Remove(path)
		if err := testbundle.Verify(path, tb.Trusted, nil); err != nil && !testbundle.Refused(err) {
			t.Errorf("%x at %d: %v", put, at, err)
		}
	})
}

// FuzzRows has the thief put values into the index: what is accepted can be printed.
func FuzzRows(f *testing.F) {
	tb := smallBundle(f)
	data, err := os.ReadFile(tb.Path)
	if err != nil {
		f.Fatal(err)
	}
	at := 512 + bundle.ManifestSize + 512
	seed := data[at : at+int(tb.Draft.Manifest.IndexSize)]
	columns := [][2]string{
		{"module", "path"}, {"module", "deprecated"}, {"module", "latest"}, {"version", "version"}, {"version", "time"}, {"version", "h1"}, {"version", "retracted"},
		{"version", "license"}, {"version", "origin"}, {"file", "path"}, {"missing", "what"}, {"missing", "reason"}, {"missing", "chain"}, {"missing", "version"},
		{"head", "hash"}, {"head", "note"}, {"bundle", "name"}, {"bundle", "digest"},
	}
	f.Add(0, "example.com/a", 2)
	f.Add(1, "use\u202eother", 2)
	f.Add(4, "2020-01-02T03:04:05Z", 1)
	f.Add(10, "zip", 1)
	f.Add(8, `{"VCS":"git"}`, 3)
	file := filepath.Join(f.TempDir(), "x.sqlite")
	f.Fuzz(func(t *testing.T, column int, value string, id int) {
		c := columns[uint(column)%uint(len(columns))]
		if err := os.WriteFile(file, seed, 0o644); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite3", file+"?_journal_mode=OFF")
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		_, err = db.Exec("UPDATE "+c[0]+" SET "+c[1]+" = ? WHERE id = ?", value, id)
		db.Close()
		if err != nil {
			return // one of SQLite's constraints
		}
		changed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path := tb.Forge(t, func([]byte) []byte { return changed })
		defer os.Remove(path)
		err = testbundle.Verify(path, tb.Trusted, nil)
		if err != nil && !testbundle.Refused(err) {
			t.Errorf("%v = %q: %v", c, value, err)
		}
		if err == nil && !bytes.Equal(changed, seed) && (index.CleanText(value) != value || strings.ContainsRune(value, '\x1b')) {
			t.Errorf("%v = %q was accepted", c, value)
		}
	})
}
