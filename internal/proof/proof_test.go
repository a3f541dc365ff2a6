package proof

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A log is a checksum database in memory.
type log struct {
	db     *Database
	signer note.Signer
	hashes []tlog.Hash
	recs   []Record

	spoil func(tlog.Tile, []byte) []byte
}

func newLog(t testing.TB) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "test.example/sumdb")
	if err != nil {
		t.Fatal(err)
	}
	db, err := ParseGOSUMDB(vkey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &log{db: db, signer: signer}
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

func (l *log) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var list [][]byte
	for _, t := range tiles {
		data, err := tlog.ReadTileData(t, l)
		if err != nil {
			return nil, err
		}
		if l.spoil != nil {
			data = l.spoil(t, data)
		}
		list = append(list, data)
	}
	return list, nil
}

func (l *log) SaveTiles([]tlog.Tile, [][]byte) error { return nil }

func (l *log) add(n int) {
	for range n {
		id := int64(len(l.recs))
		h := func(s string) string {
			return "h1:" + tlog.RecordHash([]byte(s+fmt.Sprint(id))).String()
		}
		r := Record{Mod: module.Version{Path: fmt.Sprintf("example.com/m%d", id), Version: "v1.0.0"}, ID: id, H1: h("zip"), GoModH1: h("mod")}
		hs, err := tlog.StoredHashes(id, r.Text(), l)
		if err != nil {
			panic(err)
		}
		l.recs = append(l.recs, r)
		l.hashes = append(l.hashes, hs...)
	}
}

func (l *log) head(n int) Head {
	h, err := tlog.TreeHash(int64(n), l)
	if err != nil {
		panic(err)
	}
	msg, err := note.Sign(&note.Note{Text: string(tlog.FormatTree(tlog.Tree{N: int64(n), Hash: h}))}, l.signer)
	if err != nil {
		panic(err)
	}
	head, err := l.db.ParseHead(msg)
	if err != nil {
		panic(err)
	}
	return head
}

// TestSpoiledTiles zeroes each hash of each tile, for trees of 1 to 100 records
// and some around tile boundaries (threats.md D7): a proof that uses the tile must fail.
func TestSpoiledTiles(t *testing.T) {
	sizes := []int{255, 256, 257, 300, 511, 513}
	for n := 1; n <= 100; n++ {
		sizes = append(sizes, n)
	}
	for _, size := range sizes {
		l := newLog(t)
		l.add(size)
		p := &Prover{Head: l.head(size), Source: l}
		if err := p.Records(l.recs); err != nil {
			t.Fatalf("good tree of %d: %v", size, err)
		}
		tiles := p.Tiles()
		for _, tile := range tiles {
			step := 1
			if size > 100 {
				step = 37
			}
			for i := 0; i < tile.W; i += step {
				l.spoil = func(got tlog.Tile, data []byte) []byte {
					if got == tile {
						clear(data[i*32 : i*32+32])
					}
					return data
				}
				p := &Prover{Head: l.head(size), Source: l}
				if err := p.Records(l.recs); !errors.Is(err, ErrMismatch) {
					t.Fatalf("tree of %d, hash %d of %s zeroed: %v", size, i, tile.Path(), err)
				}
			}
		}
		for _, cut := range []int{-32, 32, -1} {
			l.spoil = func(got tlog.Tile, data []byte) []byte {
				if cut < 0 {
					return data[:len(data)+cut]
				}
				return append(data, make([]byte, cut)...)
			}
			p := &Prover{Head: l.head(size), Source: l}
			if err := p.Records(l.recs); !errors.Is(err, ErrMismatch) {
				t.Fatalf("tree of %d, tiles %+d bytes: %v", size, cut, err)
			}
		}
	}
}

func TestExtends(t *testing.T) {
	l := newLog(t)
	l.add(600)
	fork := &log{db: l.db, signer: l.signer}
	fork.add(3)
	fork.recs[2].H1 = fork.recs[1].H1
	hs, _ := tlog.StoredHashes(2, []byte("other"), fork)
	fork.hashes = append(fork.hashes[:tlog.StoredHashIndex(0, 2)], hs...)
	for _, n := range []int{1, 2, 3, 255, 256, 257, 599, 600} {
		p := &Prover{Head: l.head(600), Source: l}
		if err := p.ProveConsistency(l.head(n)); err != nil {
			t.Errorf("tree 600 over its own tree %d: %v", n, err)
		}
	}
	p := &Prover{Head: l.head(600), Source: l}
	if err := p.ProveConsistency(fork.head(3)); !errors.Is(err, ErrMismatch) {
		t.Errorf("fork: %v, want a mismatch", err)
	}
	p = &Prover{Head: l.head(10), Source: l}
	if err := p.ProveConsistency(l.head(11)); !errors.Is(err, ErrMismatch) {
		t.Errorf("smaller head: %v, want a mismatch", err)
	}
}

func TestRecordsRefuses(t *testing.T) {
	l := newLog(t)
	l.add(20)
	for name, spoil := range map[string]func(*Record){
		"other hash":        func(r *Record) { r.H1 = r.GoModH1 },
		"other go.mod hash": func(r *Record) { r.GoModH1 = r.H1 },
		"other number":      func(r *Record) { r.ID = 3 },
		"other module":      func(r *Record) { r.Mod.Path = "example.com/evil" },
		"past the tree":     func(r *Record) { r.ID = 20 },
		"negative":          func(r *Record) { r.ID = -1 },
	} {
		r := l.recs[7]
		spoil(&r)
		p := &Prover{Head: l.head(20), Source: l}
		if err := p.Records([]Record{l.recs[1], r}); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
	}
}

func TestUnreadableTileIsNoMismatch(t *testing.T) {
	l := newLog(t)
	l.add(20)
	p := &Prover{Head: l.head(20), Source: failing{}}
	if err := p.Records(l.recs); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("got %v, want a plain error: nothing was shown to be wrong", err)
	}
}

type failing struct{}

func (failing) ReadTiles([]tlog.Tile) ([][]byte, error) { return nil, errors.New("no network") }
func (failing) SaveTiles([]tlog.Tile, [][]byte) error   { return nil }

func TestParseLookup(t *testing.T) {
	l := newLog(t)
	l.add(20)
	r, head := l.recs[7], l.head(20)
	good := string(r.Lookup(head))
	got, gotHead, err := l.db.ParseLookup(r.Mod, []byte(good))
	if err != nil || got != r || gotHead.Tree != head.Tree {
		t.Fatalf("ParseLookup = %v, %v, %v", got, gotHead.Tree, err)
	}
	other := newLog(t)
	other.add(20)
	lines := strings.SplitAfter(good, "\n")
	for name, msg := range map[string]string{
		"empty":             "",
		"html":              "<html>log in</html>",
		"line missing":      lines[0] + lines[1] + strings.Join(lines[3:], ""),
		"extra line":        lines[0] + lines[1] + lines[2] + "example.com/evil v1.0.0 " + r.H1 + "\n" + strings.Join(lines[3:], ""),
		"lines swapped":     lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""),
		"other module":      string(l.recs[8].Lookup(head)),
		"number with a 0":   "0" + good,
		"outside of tree":   "20\n" + strings.Join(lines[1:], ""),
		"negative number":   "-1\n" + strings.Join(lines[1:], ""),
		"head by other key": string(r.Lookup(other.head(20))),
		"head cut":          good[:len(good)-10],
		"text before head":  lines[0] + lines[1] + lines[2] + "\nexample.com/evil v1 h1:x\n" + strings.Join(lines[3:], ""),
		"too long":          good + strings.Repeat("\n", MaxLookup),
	} {
		if _, _, err := l.db.ParseLookup(r.Mod, []byte(msg)); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
	}
}

func TestParseGOSUMDB(t *testing.T) {
	for s, want := range map[string]string{
		"sum.golang.org":                         "sum.golang.org ",
		"sum.golang.org https://example.com/db/": "sum.golang.org https://example.com/db",
		"sum.golang.google.cn":                   "sum.golang.org https://sum.golang.google.cn",
		SumGolangOrg:                             "sum.golang.org ",
	} {
		db, err := ParseGOSUMDB(s)
		if err != nil {
			t.Error(err)
		} else if got := db.Name + " " + db.URL; got != want {
			t.Errorf("ParseGOSUMDB(%q) = %q, want %q", s, got, want)
		}
	}
	if db, err := ParseGOSUMDB("off"); db != nil || err != nil {
		t.Errorf("off: %v, %v", db, err)
	}
	for _, s := range []string{"", "example.com", "a b c", "sum.golang.org+033de0ae+AAAA"} {
		if _, err := ParseGOSUMDB(s); err == nil {
			t.Errorf("ParseGOSUMDB(%q) succeeded", s)
		}
	}
}

// FuzzParseLookup checks that an accepted answer can be made again from its parts.
func FuzzParseLookup(f *testing.F) {
	l := newLog(f)
	l.add(3)
	f.Add([]byte(l.recs[1].Lookup(l.head(3))))
	f.Add([]byte("1\nexample.com/m1 v1.0.0 h1:x\n\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, head, err := l.db.ParseLookup(l.recs[1].Mod, msg)
		if err == nil && string(r.Lookup(head)) != string(msg) {
			t.Errorf("accepted %q, which is not %q", msg, r.Lookup(head))
		}
	})
}

// TestTwoSpoiledTiles spoils two tiles at once (threats.md D6), in a tree of some tiles: a proof
// that uses either must fail.
func TestTwoSpoiledTiles(t *testing.T) {
	l := newLog(t)
	l.add(1300)
	head := l.head(1300)
	p := &Prover{Head: head, Source: l}
	if err := p.Records(l.recs); err != nil {
		t.Fatal(err)
	}
	tiles := p.Tiles()
	if len(tiles) < 6 {
		t.Fatalf("only %d tiles", len(tiles))
	}
	for _, a := range tiles {
		for _, b := range tiles {
			l.spoil = func(got tlog.Tile, data []byte) []byte {
				if got == a || got == b {
					data[0] ^= 1
				}
				return data
			}
			for _, all := range [][]Record{l.recs, {l.recs[0], l.recs[0], l.recs[1299]}} {
				p := &Prover{Head: head, Source: l}
				err := p.Records(all)
				used := slices.Contains(p.Tiles(), a) || slices.Contains(p.Tiles(), b)
				if len(all) == len(l.recs) && !errors.Is(err, ErrMismatch) || err == nil && used {
					t.Fatalf("%s and %s spoiled: %v", a.Path(), b.Path(), err)
				}
			}
		}
	}
}

// FuzzTile changes a tile that a proof reads: no record is proven that is another one than was
// logged.
func FuzzTile(f *testing.F) {
	l := newLog(f)
	l.add(300)
	head := l.head(300)
	p := &Prover{Head: head, Source: l}
	if err := p.Records(l.recs); err != nil {
		f.Fatal(err)
	}
	tiles := p.Tiles()
	f.Add(0, 0, []byte{1}, 7)
	f.Add(1, 40, []byte("another hash"), 299)
	f.Add(2, 0, []byte{}, 0)
	f.Fuzz(func(t *testing.T, which, at int, put []byte, id int) {
		tile := tiles[uint(which)%uint(len(tiles))]
		rec := l.recs[uint(id)%uint(len(l.recs))]
		other := rec
		other.H1 = l.recs[(uint(id)+1)%uint(len(l.recs))].H1
		changed := false
		source := &log{db: l.db, signer: l.signer, hashes: l.hashes, recs: l.recs, spoil: func(got tlog.Tile, data []byte) []byte {
			if got == tile {
				before := bytes.Clone(data)
				copy(data[max(0, min(at, len(data))):], put)
				changed = changed || !bytes.Equal(before, data)
			}
			return data
		}}
		if err := (&Prover{Head: head, Source: source}).Records([]Record{other}); !errors.Is(err, ErrMismatch) {
			t.Errorf("%v was proven: %v", other, err)
		}
		if err := (&Prover{Head: head, Source: source}).Records([]Record{rec}); (err == nil) == changed {
			t.Errorf("tile changed %v: %v", changed, err)
		}
	})
}
