package bundle_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

const modfiles = "../testdata/mod"

var ctx = context.Background()

func TestGoodBundle(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	if err := testbundle.Verify(tb.Path, tb.Trusted, tb.DB); err != nil {
		t.Fatal(err)
	}
}

// TestTarAgrees compares the bundle as archive/tar reads it with the index.
func TestTarAgrees(t *testing.T) {
	tb := testbundle.Make(t, modfiles, func(c *bundle.Contents) {
		for _, n := range []int{100, 101, 155, 200, 256, 257, 300} { // around the limits of ustar
			c.Tiles = append(c.Tiles, bundle.DataSource(listName("dir/", n), []byte("x")))
			c.Tiles = append(c.Tiles, bundle.DataSource(listName("n", n), make([]byte, 512)))
		}
	})
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f, err := os.Open(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	n := int64(0)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode != 0o644 || h.Uid != 0 || !h.ModTime.Equal(time.Unix(946684800, 0)) {
			t.Errorf("%s: %+v", h.Name, h)
		}
		if h.Name == "MANIFEST" || h.Name == "index.sqlite" {
			continue
		}
		n++
		file, ok, err := b.Index.File(ctx, h.Name)
		if err != nil || !ok || file.Size != h.Size {
			t.Fatalf("%s: %v, %v, size %d, tar says %d", h.Name, ok, err, file.Size, h.Size)
		}
		data, err := io.ReadAll(r)
		if err != nil || sha256.Sum256(data) != file.SHA256 {
			t.Errorf("%s: content differs (%v)", h.Name, err)
		}
	}
	if n != b.Manifest.Counts.Files {
		t.Errorf("tar has %d files, the manifest %d", n, b.Manifest.Counts.Files)
	}
	if err := testbundle.Verify(tb.Path, tb.Trusted, nil); err != nil {
		t.Error(err)
	}
}

// listName returns the path of a list, n bytes long, of a module that repeats elem.
func listName(elem string, n int) string {
	const head, tail = "a.b/", "f/@v/list"
	return head + strings.Repeat(elem, n)[:n-len(head)-len(tail)] + tail
}

// TestEveryByte changes bytes of a bundle: the signed text, the end, and a sample of the rest, or
// each byte of a smaller bundle when $EVERY_BYTE is set, as CI has it. Each change must be refused.
func TestEveryByte(t *testing.T) {
	every := os.Getenv("EVERY_BYTE") != ""
	var change func(*bundle.Contents)
	if every {
		change = testbundle.WithoutLarge
	}
	tb := testbundle.Make(t, modfiles, change)
	good, err := os.ReadFile(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	step := 97
	if every {
		step = 1
	}
	var at []int // the bytes to change
	for i := range good {
		if i < 1024 || i > len(good)-1100 || i%step == 0 { // the signed text, and the end
			at = append(at, i)
		}
	}
	dir := t.TempDir()
	parts := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for part := range parts {
		wg.Go(func() {
			mine := at[part*len(at)/parts : (part+1)*len(at)/parts]
			changeBytes(t, tb, good, filepath.Join(dir, fmt.Sprintf("bad-%d.tar", part)), mine)
		})
	}
	wg.Wait()
	path := filepath.Join(dir, "bad.tar")
	for _, n := range []int{0, 1, 511, 512, 20000, len(good) - 1, len(good) - 512} {
		if err := os.WriteFile(path, good[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := testbundle.Verify(path, tb.Trusted, nil); !testbundle.Refused(err) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for _, more := range [][]byte{{0}, make([]byte, 512), good} {
		if err := os.WriteFile(path, append(bytes.Clone(good), more...), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := testbundle.Verify(path, tb.Trusted, nil); !testbundle.Refused(err) {
			t.Errorf("%d bytes longer: %v", len(more), err)
		}
	}
}

// changeBytes changes each of some bytes of a bundle, in a file of its own, and expects that each
// change is refused.
func changeBytes(t *testing.T, tb *testbundle.TB, good []byte, path string, at []int) {
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Error(err)
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for _, i := range at {
		for _, b := range []byte{good[i] ^ byte(1<<(i%8)), 0} {
			if b == good[i] {
				continue
			}
			f.WriteAt([]byte{b}, int64(i))
			if err := testbundle.Verify(path, tb.Trusted, nil); !testbundle.Refused(err) {
				t.Errorf("byte %d changed to %d: %v", i, b, err)
				return
			}
		}
		f.WriteAt(good[i:i+1], int64(i))
	}
	if err := testbundle.Verify(path, tb.Trusted, nil); err != nil {
		t.Errorf("with all bytes as they were: %v", err)
	}
}

// TestHostileIndex has a thief of the bundle key sign indexes that are not what they should be
// (threats.md, I).
func TestHostileIndex(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	setU32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
	}
	for name, change := range map[string]func([]byte) []byte{
		"not SQLite":              func([]byte) []byte { return []byte("hello") },
		"empty page":              func(b []byte) []byte { clear(b[4096:8192]); return b },
		"all but header":          func(b []byte) []byte { clear(b[100:]); return b },
		"cut":                     func(b []byte) []byte { return b[:len(b)-4096] },
		"application_id":          setU32(68, 1),
		"user_version":            setU32(60, 4),
		"another user_version":    setU32(60, 1),
		"WAL":                     func(b []byte) []byte { b[18], b[19] = 2, 2; return b },
		"UTF-16":                  setU32(56, 2),
		"page size":               func(b []byte) []byte { b[16], b[17] = 2, 0; return b },
		"b-tree loop":             testbundle.Loop,
		"view":                    testbundle.ChangeSQL(t, "DROP TABLE query; CREATE VIEW query AS SELECT 1 AS id"),
		"trigger":                 testbundle.ChangeSQL(t, "CREATE TRIGGER t AFTER INSERT ON file BEGIN SELECT 1; END"),
		"virtual table":           testbundle.ChangeSQL(t, "CREATE VIRTUAL TABLE v USING rtree(a, b, c)"),
		"recursive view":          testbundle.ChangeSQL(t, "CREATE VIEW v AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r"),
		"expression index":        testbundle.ChangeSQL(t, "CREATE INDEX e ON file (abs(size))"),
		"generated column":        testbundle.ChangeSQL(t, "ALTER TABLE query ADD COLUMN g INTEGER GENERATED ALWAYS AS (1) VIRTUAL"),
		"extra table":             testbundle.ChangeSQL(t, "CREATE TABLE extra (id INTEGER)"),
		"missing table":           testbundle.ChangeSQL(t, "DROP TABLE requirement"),
		"offset negative":         testbundle.ChangeSQL(t, "UPDATE file SET offset = -512 WHERE id = 3"),
		"offset past end":         testbundle.ChangeSQL(t, "UPDATE file SET offset = 9223372036854775807 WHERE id = 3"),
		"size overflow":           testbundle.ChangeSQL(t, "UPDATE file SET size = 9223372036854775807 WHERE id = 3"),
		"overlap":                 testbundle.ChangeSQL(t, "UPDATE file SET size = size + 512 WHERE id = 3"),
		"over the header":         testbundle.ChangeSQL(t, "UPDATE file SET offset = 0 WHERE path = 'README.txt'"),
		"row without entry":       testbundle.ChangeSQL(t, "INSERT INTO file (path, bundle, offset, size, sha256) SELECT 'zzz', 1, max(offset + size) + 1024, 1, zeroblob(32) FROM file"),
		"entry without row":       testbundle.ChangeSQL(t, "DELETE FROM file WHERE id = 5"),
		"last entry, no row":      testbundle.ChangeSQL(t, "DELETE FROM file WHERE offset = (SELECT max(offset) FROM file)"),
		"traversal":               testbundle.ChangeSQL(t, "UPDATE file SET path = '../../../etc/x' WHERE id = 3"),
		"absolute":                testbundle.ChangeSQL(t, "UPDATE file SET path = '/etc/x' WHERE id = 3"),
		"control characters":      testbundle.ChangeSQL(t, "UPDATE file SET path = 'a' || char(10) || 'b' WHERE id = 3"),
		"other bundle":            testbundle.ChangeSQL(t, "UPDATE bundle SET name = 'other'"),
		"no bundle":               testbundle.ChangeSQL(t, "PRAGMA foreign_keys = OFF; DELETE FROM bundle"),
		"dangling module":         testbundle.ChangeSQL(t, "PRAGMA foreign_keys = OFF; UPDATE version SET module = 999 WHERE id = 1"),
		"missing row, count":      testbundle.ChangeSQL(t, "DELETE FROM missing"),
		"wrong type":              testbundle.ChangeSQL(t, "PRAGMA ignore_check_constraints = ON; UPDATE file SET size = 'big' WHERE id = 3"),
		"unsorted path":           testbundle.ChangeSQL(t, "UPDATE file SET path = 'aaa' WHERE id = 30"),
		"rows of a 2nd bundle":    testbundle.ChangeSQL(t, "INSERT INTO bundle (id, digest, name, sequence, payload) VALUES (0, 'x', 'test', 1, 0)"),
		"file of a 2nd bundle":    testbundle.ChangeSQL(t, "INSERT INTO bundle (id, digest, name, sequence, payload) VALUES (0, 'x', 'test', 1, 0); UPDATE file SET bundle = 0 WHERE id = 3"),
		"no tree, yet a record":   testbundle.ChangeSQL(t, "UPDATE version SET record = 1000000 WHERE id = 2"),
		"negative record":         testbundle.ChangeSQL(t, "UPDATE version SET record = -1 WHERE id = 2"),
		"neither":                 testbundle.ChangeSQL(t, "UPDATE version SET record = NULL WHERE id = 2"),
		"private, with a record":  testbundle.ChangeSQL(t, "UPDATE module SET private = 1"),
		"private, no version":     testbundle.ChangeSQL(t, "INSERT INTO module (path, private, deprecated, latest) VALUES ('example.com', 1, '', '')"),
		"private, a pattern":      testbundle.ChangeSQL(t, "UPDATE module SET path = '*' WHERE private"),
		"private, two patterns":   testbundle.ChangeSQL(t, "UPDATE module SET path = 'corp.example,*' WHERE private"),
		"long path":               testbundle.ChangeSQL(t, "UPDATE module SET path = 'example.com/' || hex(zeroblob(300000)) WHERE id = 2"),
		"long text":               testbundle.ChangeSQL(t, "UPDATE module SET deprecated = hex(zeroblob(300000)) WHERE id = 2"),
		"very long text":          testbundle.ChangeSQL(t, "UPDATE module SET deprecated = hex(zeroblob(1000000)) WHERE id = 2"),
		"terminal, deprecated":    testbundle.ChangeSQL(t, "UPDATE module SET deprecated = char(27) || '[2J' WHERE id = 2"),
		"terminal, chain":         testbundle.ChangeSQL(t, "UPDATE missing SET chain = 'a' || char(8238) || 'b'"),
		"terminal, missing":       testbundle.ChangeSQL(t, "UPDATE missing SET path = 'a' || char(10) || 'b'"),
		"terminal, NUL before":    testbundle.ChangeSQL(t, "UPDATE missing SET path = CAST(x'61001b' AS TEXT)"),
		"terminal, requirement":   testbundle.ChangeSQL(t, "INSERT INTO requirement (path, version, requires, wanted, indirect) VALUES ('a', 'v1', 'b' || char(155), 'v1', 0)"),
		"not UTF-8":               testbundle.ChangeSQL(t, "UPDATE missing SET reason = CAST(x'ff' AS TEXT)"),
		"not an h1":               testbundle.ChangeSQL(t, "UPDATE version SET h1 = 'h1:x' WHERE id = 3"),
		"time with an offset":     testbundle.ChangeSQL(t, "UPDATE version SET time = '2020-01-02T03:04:05+02:00' WHERE id = 3"),
		"time with a fraction":    testbundle.ChangeSQL(t, "UPDATE version SET time = '2020-01-02T03:04:05.5Z' WHERE id = 3"),
		"bytes for a text":        testbundle.ChangeSQL(t, "PRAGMA ignore_check_constraints = ON; UPDATE module SET deprecated = x'41' WHERE id = 2"),
		"text for a number":       testbundle.ChangeSQL(t, "PRAGMA ignore_check_constraints = ON; UPDATE requirement SET indirect = 'no'; INSERT INTO requirement (path, version, requires, wanted, indirect) VALUES ('a', 'v1', 'b', 'v1', 7)"),
		"short hash":              testbundle.ChangeSQL(t, "PRAGMA ignore_check_constraints = ON; UPDATE file SET sha256 = x'41' WHERE id = 3"),
		"fact of no kind":         testbundle.ChangeSQL(t, "UPDATE fact SET kind = 'a b' WHERE id = 1"),
		"fact of no file":         testbundle.ChangeSQL(t, "UPDATE fact SET file = '' WHERE id = 1"),
		"fact of no files":        testbundle.ChangeSQL(t, "UPDATE fact SET files = 0 WHERE id = 1"),
		"fact, coverage":          testbundle.ChangeSQL(t, "UPDATE fact SET coverage = 101 WHERE id = 1"),
		"fact, terminal":          testbundle.ChangeSQL(t, "UPDATE fact SET detail = 'a' || char(8238) WHERE id = 1"),
		"fact of no version":      testbundle.ChangeSQL(t, "PRAGMA foreign_keys = OFF; UPDATE fact SET version = 999 WHERE id = 1"),
		"missing what":            testbundle.ChangeSQL(t, "UPDATE missing SET what = 'else'"),
		"missing, status":         testbundle.ChangeSQL(t, "UPDATE missing SET status = -1"),
		"no time":                 testbundle.ChangeSQL(t, "UPDATE version SET time = 'yesterday' WHERE id = 3"),
		"negative size":           testbundle.ChangeSQL(t, "UPDATE version SET zip_size = -1 WHERE id = 3"),
		"version of another path": testbundle.ChangeSQL(t, "UPDATE version SET version = 'v3.0.0' WHERE id = 3"),
		"negative file id":        testbundle.ChangeSQL(t, "UPDATE file SET id = -5 WHERE id = 3"),
		"file id of another":      testbundle.ChangeSQL(t, "UPDATE file SET id = 1000 WHERE id = 3"),
		"not a file of a proxy":   testbundle.ChangeSQL(t, "UPDATE file SET path = 'evil.sh' WHERE id = (SELECT max(id) FROM file)"),
		"MANIFEST again":          testbundle.ChangeSQL(t, "UPDATE file SET path = 'MANIFEST' WHERE id = 2"),
		"freelist with secret":    testbundle.ChangeSQL(t, "CREATE TABLE x (y); INSERT INTO x VALUES (zeroblob(100000)); DROP TABLE x; CREATE TABLE x (z)"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			path := tb.Forge(t, change)
			if err := testbundle.Verify(path, tb.Trusted, tb.DB); !testbundle.Refused(err) {
				t.Errorf("got %v, want it refused", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	// The same way of forging, with nothing changed, is accepted: the cases above were refused for
	// their change.
	if err := testbundle.Verify(tb.Forge(t, func(b []byte) []byte { return b }), tb.Trusted, tb.DB); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if err := testbundle.Verify(tb.Forge(t, testbundle.ChangeSQL(t, "UPDATE version SET license = 'MIT' WHERE id = 1")), tb.Trusted, tb.DB); err != nil {
		t.Errorf("harmless change: %v", err)
	}
}

// TestForgedModule has the thief forge what is in the checksum database: Deep must see it.
func TestForgedModule(t *testing.T) {
	for name, change := range map[string]func(*bundle.Contents){
		"go.mod": func(c *bundle.Contents) {
			v := &c.Versions[2]
			v.GoMod = bundle.DataSource(v.GoMod.Path, []byte("module example.com/hello\n\nrequire example.com/evil v1.0.0\n"))
			v.ModSize = v.GoMod.Size
		},
		"zip": func(c *bundle.Contents) {
			z := bundle.DataSource(c.Versions[2].Zip.Path, c.Versions[5].Zip.Data)
			c.Versions[2].Zip, c.Versions[2].ZipSize = &z, &z.Size
		},
		"zip and its h1": func(c *bundle.Contents) {
			z := bundle.DataSource(c.Versions[4].GoMod.Path[:len(c.Versions[4].GoMod.Path)-3]+"zip", c.Versions[5].Zip.Data)
			c.Versions[4].Zip, c.Versions[4].ZipSize, c.Versions[4].H1 = &z, &z.Size, c.Versions[5].H1
		},
		"record number": func(c *bundle.Contents) { *c.Versions[2].Record = 0 },
		"tile": func(c *bundle.Contents) {
			d := bytes.Clone(c.Tiles[0].Data)
			d[5] ^= 1
			c.Tiles[0] = bundle.DataSource(c.Tiles[0].Path, d)
		},
		"tile left out":  func(c *bundle.Contents) { c.Tiles = nil },
		"another head":   func(c *bundle.Contents) { c.Head.Hash[3] ^= 1 },
		"head of nobody": func(c *bundle.Contents) { c.Head.Note = bytes.Replace(c.Head.Note, []byte("—"), []byte("- "), 1) },
		"larger head":    func(c *bundle.Contents) { c.Head.N++ },
		"Go of nobody": func(c *bundle.Contents) {
			c.Bootstraps = append(c.Bootstraps, bundle.DataSource("self/linux-amd64.tar", make([]byte, 1024)))
		},
		"two h1 exchange": func(c *bundle.Contents) { c.Versions[2].H1, c.Versions[5].H1 = c.Versions[5].H1, c.Versions[2].H1 },
		"zip without a version": func(c *bundle.Contents) {
			c.Tiles = append(c.Tiles, bundle.DataSource("example.com/evil/@v/v1.0.0.zip", []byte("PK")))
		},
		"go.mod without a version": func(c *bundle.Contents) {
			c.Tiles = append(c.Tiles, bundle.DataSource("example.com/evil/@v/v1.0.0.mod", []byte("module example.com/evil\n")))
		},
		"zip where only the go.mod is accounted for": func(c *bundle.Contents) {
			c.Tiles = append(c.Tiles, bundle.DataSource("example.com/text/@v/v1.0.0.zip", []byte("PK")))
		},
		"lookup of a private module": func(c *bundle.Contents) {
			c.Tiles = append(c.Tiles, bundle.DataSource("sumdb/"+c.DB+"/lookup/corp.example/secret@v1.0.0", []byte("0\n")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tb := testbundle.Make(t, modfiles, change)
			if err := testbundle.Verify(tb.Path, tb.Trusted, nil); err != nil && !strings.Contains(name, "head") {
				t.Fatalf("signed properly, so plain verification accepts it: %v", err)
			}
			if err := testbundle.Verify(tb.Path, tb.Trusted, tb.DB); err == nil || (!testbundle.Refused(err) && !strings.Contains(err.Error(), "not exist")) {
				t.Errorf("deep verification says %v", err)
			}
		})
	}
}

// TestForgedLookupFile has the thief put something else than the head into a lookup file: a go
// command would read it from the unpacked tree.
func TestForgedLookupFile(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f, ok, err := b.Index.File(ctx, "sumdb/"+tb.DB.Name+"/lookup/example.com/hello@v1.1.0")
	if !ok || err != nil {
		t.Fatal(err)
	}
	place, err := b.Find(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := b.Read(ctx, f, f.Size)
	if err != nil {
		t.Fatal(err)
	}
	copy(data[len(data)-50:], strings.Repeat("A", 48))
	path := tb.Forge(t, testbundle.ChangeSQL(t, fmt.Sprintf("UPDATE file SET sha256 = x'%x' WHERE id = %d", sha256.Sum256(data), f.ID)))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(data, place.Offset); err != nil {
		t.Fatal(err)
	}
	if err := testbundle.Verify(path, tb.Trusted, nil); err != nil {
		t.Fatalf("signed properly, so plain verification accepts it: %v", err)
	}
	if err := testbundle.Verify(path, tb.Trusted, tb.DB); !testbundle.Refused(err) {
		t.Errorf("deep verification says %v", err)
	}
}

// TestSignatures are the vectors S1 to S15 of threats.md that a single bundle can have.
func TestSignatures(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	m := tb.Draft.Manifest
	key := func(name string) *trust.Key {
		k, err := trust.EphemeralKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(keys ...*trust.Key) []byte {
		var signers []note.Signer
		for _, k := range keys {
			signers = append(signers, k.Signer)
		}
		data, err := m.Sign(signers...)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	pad := func(s string) []byte {
		s = strings.TrimRight(s, "\n") + "\n"
		return append([]byte(s), bytes.Repeat([]byte("\n"), bundle.ManifestSize-len(s))...)
	}
	good := string(sign(tb.Key))
	var others []*trust.Key
	for i := range 15 {
		others = append(others, key(fmt.Sprint("other", i)))
	}
	lines := strings.Split(strings.TrimRight(good, "\n"), "\n")
	sig := lines[len(lines)-1]
	// A signature is 68 bytes, so the base64 ends in a character with two bits that do not count,
	// and =.
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.IndexByte(digits, sig[len(sig)-2])
	flipped := sig[:len(sig)-10] + string(digits[(strings.IndexByte(digits, sig[len(sig)-10])+1)%64]) + sig[len(sig)-9:]
	loose := sig[:len(sig)-2] + digits[last^1:][:1] + "="
	for _, tc := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"good", []byte(good), true},
		{"good and unknown", sign(tb.Key, others[0]), true},
		{"16 signatures", sign(append(others, tb.Key)...), true},
		{"the same signature twice", pad(good[:strings.LastIndex(good, sig)] + sig + "\n" + sig), true},
		{"another one of a trusted key, bad", pad(strings.TrimRight(good, "\n") + "\n" + flipped), false},
		{"another one of a trusted key, bad, first", pad(good[:strings.LastIndex(good, sig)] + flipped + "\n" + sig), false},
		{"101 signatures", pad(good[:strings.LastIndex(good, sig)] + strings.Repeat(sig+"\n", 101)), false},
		{"unsigned", pad(m.Text()), false},
		{"wrong key", sign(others[0]), false},
		{"same name, other key", sign(key("tester")), false},
		{"bad signature of a known key", pad(strings.Replace(good, "sequence 7", "sequence 8", 1)), false},
		{"CRLF", pad(strings.ReplaceAll(strings.TrimRight(good, "\n"), "\n", "\r\n")), false},
		{"BOM", pad("\ufeff" + good), false},
		{"control character", pad(strings.Replace(good, "name test", "name te\x01st", 1)), false},
		{"text behind", append([]byte(strings.TrimRight(good, "\n")+"\n\nmore"), bytes.Repeat([]byte("\n"), 100)...), false},
		{"short", []byte(good)[:bundle.ManifestSize-1], false},
		{"base64 that is not canonical", pad(strings.Replace(good, sig, loose, 1)), false},
		{"base64 with spaces", pad(strings.Replace(good, sig, sig[:20]+" "+sig[20:], 1)), false},
	} {
		_, err := bundle.OpenManifest(tc.data, tb.Trusted)
		if (err == nil) != tc.ok || (err != nil && !testbundle.Refused(err)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// How many have signed: a public key counts once, whatever it is called (S9, S10).
	a, b, c := key("a"), key("b"), key("c")
	alias := testbundle.Renamed(t, a, "alias")
	for _, tc := range []struct {
		name    string
		signers []*trust.Key
		require int
		ok      bool
	}{
		{"2 of 3", []*trust.Key{a, b}, 2, true},
		{"3 of 3", []*trust.Key{a, b, c}, 3, true},
		{"1 of 3", []*trust.Key{c}, 2, false},
		{"one trusted and one unknown", []*trust.Key{c, others[0]}, 2, false},
		{"one key under two names", []*trust.Key{a, alias}, 2, false},
		{"one key under two names, and another", []*trust.Key{a, alias, b}, 2, true},
		{"none required is one", []*trust.Key{others[0]}, 0, false},
	} {
		keyring := trust.NewKeyring(a.Verifier, alias.Verifier, b.Verifier, c.Verifier)
		keyring.Require = tc.require
		_, err := bundle.OpenManifest(sign(tc.signers...), keyring)
		if (err == nil) != tc.ok || (err != nil && !testbundle.Refused(err)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// A manifest of A with the index of B.
	other := testbundle.Make(t, modfiles, func(c *bundle.Contents) { c.Sequence = 8 })
	f, err := os.OpenFile(other.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := bundle.Resign(f, m, tb.Key); err != nil {
		t.Fatal(err)
	}
	if err := testbundle.Verify(other.Path, tb.Trusted, nil); !testbundle.Refused(err) {
		t.Errorf("manifest of another bundle: %v", err)
	}
}

// TestParseManifest gives texts that are almost right to a parser that knows one.
func TestParseManifest(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	good := tb.Draft.Manifest.Text()
	if m, err := bundle.ParseManifest(good); err != nil || m.ID() != tb.Draft.Manifest.ID() {
		t.Fatal(m, err)
	}
	for _, change := range [][2]string{
		{"bundle v1", "bundle v2"}, {"bundle v1", "bundle  v1"}, {"name test", "name ../test"}, {"name test", "name "}, {"name test\n", ""},
		{"sequence 7", "sequence 07"}, {"sequence 7", "sequence -7"}, {"sequence 7", "sequence 99999999999999999999"},
		{"sequence 7\n", "sequence 7\nsequence 7\n"}, {"size ", "size -"}, {"files", "filez"}, {"head sum.test", "head  sum.test"},
		{"Z\n", "+00:00\n"}, {"missing 1", "missing 1 "}, {"modules", "extra 1\nmodules"},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%q is not in the text:\n%s", change[0], good)
		}
		if _, err := bundle.ParseManifest(text); err == nil {
			t.Errorf("%q for %q was accepted", change[1], change[0])
		}
	}
	if _, err := bundle.ParseManifest(good + "\n"); err == nil {
		t.Error("a further line was accepted")
	}
}

// FuzzParseManifest checks that an accepted text is the only one for what it says.
func FuzzParseManifest(f *testing.F) {
	f.Add("modmirror bundle v1\nname x\nsequence 1\ncreated 2023-11-14T22:13:20Z\nsize 100\nindex " + strings.Repeat("0", 64) + " 10\nmodules 0\nversions 0\nmodonly 0\nprivate 0\nfiles 0\nmissing 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := bundle.ParseManifest(text); err == nil && m.Text() != text {
			t.Errorf("accepted %q, which is %q", text, m.Text())
		}
	})
}

func TestWriteChecksSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.zip")
	tb := testbundle.Make(t, modfiles, func(c *bundle.Contents) {
		if err := os.WriteFile(file, c.Versions[2].Zip.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		c.Versions[2].Zip.File, c.Versions[2].Zip.Data = file, nil
	})
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[50] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	err = tb.Draft.Write(ctx, io.Discard, tb.Key)
	if changed, ok := errors.AsType[*bundle.ChangedError](err); !ok || changed.File != file {
		t.Errorf("got %v, want a ChangedError that names %s", err, file)
	}
}

// TestSeenIndexIsHashedAgain: a verified copy in the state directory that someone altered is not
// used.
func TestSeenIndexIsHashedAgain(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	state := t.TempDir()
	for i := range 2 {
		b, err := bundle.Open(ctx, tb.Path, tb.Trusted, state)
		if err != nil {
			t.Fatal(err)
		}
		if b.Seen != (i == 1) {
			t.Errorf("open %d: Seen is %v", i, b.Seen)
		}
		b.Close()
	}
	files, err := filepath.Glob(state + "/index/*.sqlite")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-100] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, state)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Seen {
		t.Error("the altered copy was used")
	}
	if got, err := os.ReadFile(files[0]); err != nil || sha256.Sum256(got) != b.Manifest.Index {
		t.Error("the copy was not made anew")
	}
}

// TestPlainSQLiteOpens: an unmodified sqlite3 shell reads the index.
func TestPlainSQLiteOpens(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	data, err := os.ReadFile(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	at := 512 + bundle.ManifestSize + 512
	testbundle.ChangeSQL(t, "SELECT path, version FROM version JOIN module ON module.id = module")(data[at : at+int(tb.Draft.Manifest.IndexSize)])
}
