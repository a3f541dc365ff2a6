// Package testbundle makes bundles for tests, of the modules in testdata/mod and one with a large
// zip.
package testbundle

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/review/facts"
)

// Large is a module whose zip is larger than what is served from memory.
var Large = module.Version{Path: "example.com/large", Version: "v1.0.0"}

// Claimed is a module of which the index has facts that its zip does not have. Of the others the
// index has none, as one of an older modmirror.
var Claimed = module.Version{Path: "example.com/hello", Version: "v1.1.0"}

// A TB is a bundle with what is needed to believe it.
type TB struct {
	Path     string
	Key      *trust.Key
	Trusted  *trust.Keyring
	DB       *proof.Database
	GOSUMDB  string // of DB, with its key
	Contents *bundle.Contents
	Draft    *bundle.Draft
}

// Modules are those in a bundle that Make makes: the last one is private.
var Modules = []module.Version{
	{Path: "corp.example/secret", Version: "v1.0.0"},
	{Path: "example.com/UpperCase", Version: "v1.0.0"},
	{Path: "example.com/hello", Version: "v1.1.0"},
	Large,
	{Path: "example.com/text", Version: "v1.0.0"},
	{Path: "example.com/text", Version: "v1.1.0"},
	{Path: "example.com/tip", Version: "v0.0.0-20200102030405-0123456789ab"},
}

// Make makes a bundle of Modules. example.com/text v1.0.0 has its go.mod only, corp.example/secret
// is private. modfiles is the folder testdata/mod; change may alter what goes in.
func Make(t testing.TB, modfiles string, change func(*bundle.Contents)) *TB {
	t.Helper()
	up, err := testproxy.New(modfiles)
	check(t, err)
	defer up.Close()
	noise := make([]byte, 300<<10) // does not compress
	r := rand.NewChaCha8([32]byte{1})
	r.Read(noise)
	check(t, up.Add(Large.Path, Large.Version, &txtar.Archive{Files: []txtar.File{
		{Name: "go.mod", Data: []byte("module " + Large.Path + "\n\ngo 1.20\n")},
		{Name: "noise.bin", Data: noise},
	}}))
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	check(t, err)
	c := &bundle.Contents{Name: "test", Sequence: 7, Created: time.Unix(1700000000, 0), DB: db.Name}
	get := func(kind modpath.Kind, m module.Version) bundle.Source {
		path := modpath.Request{Kind: kind, Path: m.Path, Version: m.Version}.String()
		data, err := up.Get(path)
		check(t, err)
		return bundle.DataSource(path, data)
	}
	var records []proof.Record
	for _, m := range Modules {
		data, err := up.Get(modpath.Lookup(db.Name, m))
		check(t, err)
		rec, _, err := db.ParseLookup(m, data)
		check(t, err)
		v := bundle.Version{
			Version: index.Version{Path: m.Path, Version: m.Version, Time: "2020-01-02T03:04:05Z", H1: rec.H1, GoModH1: rec.GoModH1},
			GoMod:   get(modpath.Mod, m), Info: get(modpath.Info, m),
		}
		v.ModSize = v.GoMod.Size
		if m.Path == "corp.example/secret" {
			v.Private = true
		} else {
			v.Record = &rec.ID
			records = append(records, rec)
		}
		if m.String() != "example.com/text@v1.0.0" {
			zip := get(modpath.Zip, m)
			v.Zip, v.ZipSize = &zip, &zip.Size
		}
		if m == Claimed {
			license, coverage := "MIT", 99.5
			v.License = &license
			v.Facts = []index.Fact{
				{Kind: index.LicenseFact, File: "LICENSE", Files: 1, Detail: license, Coverage: &coverage},
				{Kind: "exec", File: "hello.go", Files: 1, Detail: "os/exec"},
			}
		}
		c.Versions = append(c.Versions, v)
	}
	c.Missing = []index.Missing{{Path: "example.com/gone", Version: "v1.0.0", What: "zip", Status: 404, Reason: "gone", Chain: "x → example.com/gone@v1.0.0"}}
	msg, err := up.Get(modpath.Request{Kind: modpath.SumLatest, DB: db.Name}.String())
	check(t, err)
	c.Head, err = db.ParseHead(msg)
	check(t, err)
	p := &proof.Prover{Head: c.Head, Source: &httpTiles{up, db.Name, c}}
	check(t, p.ProveHead())
	check(t, p.Records(records))
	if change != nil {
		change(c)
	}
	tb := &TB{Contents: c, DB: db, GOSUMDB: up.GOSUMDB}
	tb.Key, err = trust.EphemeralKey("tester")
	check(t, err)
	tb.Trusted = trust.NewKeyring(tb.Key.Verifier)
	tb.Write(t)
	return tb
}

// Add adds a private version, of some files, with their facts. Write then writes a bundle with it.
func (b *TB) Add(t testing.TB, path, version string, a *txtar.Archive) {
	t.Helper()
	modfiles := t.TempDir() // the proxy needs one module to begin with
	check(t, os.WriteFile(filepath.Join(modfiles, "example.com_none_v1.0.0.txt"), []byte("-- .mod --\nmodule example.com/none\n-- .info --\n{\"Version\":\"v1.0.0\"}\n"), 0o666))
	up, err := testproxy.New(modfiles)
	check(t, err)
	defer up.Close()
	check(t, up.Add(path, version, a))
	m := module.Version{Path: path, Version: version}
	get := func(kind modpath.Kind) bundle.Source {
		name := modpath.Request{Kind: kind, Path: path, Version: version}.String()
		data, err := up.Get(name)
		check(t, err)
		return bundle.DataSource(name, data)
	}
	zip := get(modpath.Zip)
	v := bundle.Version{GoMod: get(modpath.Mod), Info: get(modpath.Info), Zip: &zip}
	archive, err := h1.Open(t.Context(), bytes.NewReader(zip.Data), zip.Size)
	check(t, err)
	defer archive.Close()
	scan := facts.Look(archive, m)
	hash, err := archive.Hash(make(h1.Limiter, 1), m)
	check(t, err)
	found := scan.Facts()
	v.Facts = found.Rows()
	v.Version = index.Version{
		Path: path, Version: version, H1: hash.H1, GoModH1: h1.GoMod(v.GoMod.Data), ZipSize: &zip.Size, ModSize: v.GoMod.Size,
		Private: true, License: &found.License,
	}
	b.Contents.Versions = append(b.Contents.Versions, v)
	slices.SortStableFunc(b.Contents.Versions, func(x, y bundle.Version) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Version.Version, y.Version.Version))
	})
}

// Write writes the bundle anew, from its contents.
func (b *TB) Write(t testing.TB) {
	t.Helper()
	var err error
	b.Draft, err = bundle.NewDraft(context.Background(), b.Contents, t.TempDir())
	check(t, err)
	b.Path = filepath.Join(t.TempDir(), "test.tar")
	f, err := os.Create(b.Path)
	check(t, err)
	check(t, b.Draft.Write(context.Background(), f, b.Key))
	check(t, f.Close())
}

// Forge writes a bundle around other index bytes, signed as if nothing had happened: what a
// thief of the bundle key can do. Payload and its place stay when size does.
func (b *TB) Forge(t testing.TB, change func(index []byte) []byte) string {
	t.Helper()
	data, err := os.ReadFile(b.Path)
	check(t, err)
	m := b.Draft.Manifest
	at := int64(512 + bundle.ManifestSize + 512)
	idx := change(bytes.Clone(data[at : at+m.IndexSize]))
	old := m.IndexSize
	m.Index, m.IndexSize = sha256.Sum256(idx), int64(len(idx))
	pad := func(n int64) int64 { return (n + 511) &^ 511 }
	m.Size += pad(m.IndexSize) - pad(old)
	manifest, err := m.Sign(b.Key.Signer)
	check(t, err)
	var out bytes.Buffer
	out.Write(data[:512])
	out.Write(manifest)
	out.Write(bundle.Header("index.sqlite", m.IndexSize))
	out.Write(idx)
	out.Write(make([]byte, pad(m.IndexSize)-m.IndexSize))
	out.Write(data[at+pad(old):])
	path := filepath.Join(t.TempDir(), "forged.tar")
	check(t, os.WriteFile(path, out.Bytes(), 0o644))
	return path
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// httpTiles reads tiles from the upstream and puts them into the contents.
type httpTiles struct {
	up *testproxy.Server
	db string
	c  *bundle.Contents
}

func (h *httpTiles) path(tile tlog.Tile) string {
	return modpath.Request{Kind: modpath.SumTile, DB: h.db, Tile: tile}.String()
}

func (h *httpTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var list [][]byte
	for _, t := range tiles {
		data, err := h.up.Get(h.path(t))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Path(), err)
		}
		list = append(list, data)
	}
	return list, nil
}

func (h *httpTiles) SaveTiles(tiles []tlog.Tile, data [][]byte) error {
	for i, t := range tiles {
		h.c.Tiles = append(h.c.Tiles, bundle.DataSource(h.path(t), data[i]))
	}
	return nil
}

// Variant writes a bundle of the same contents after change.
func (b *TB) Variant(t testing.TB, change func(*bundle.Contents)) *TB {
	t.Helper()
	out := *b
	c := *b.Contents
	c.Versions = slices.Clone(c.Versions)
	change(&c)
	out.Contents = &c
	out.Write(t)
	return &out
}

// OlderTree returns the tree of the first n records of the log under head, computed from the tiles
// of a bundle.
func OlderTree(ctx context.Context, b *bundle.Bundle, head proof.Head, n int64) (tlog.Tree, error) {
	h, err := tlog.TreeHash(n, tlog.TileHashReader(head.Tree, tileReader{bundle.Tiles(ctx, b)}))
	return tlog.Tree{N: n, Hash: h}, err
}

type tileReader struct{ proof.TileSource }

func (tileReader) Height() int                     { return 8 }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// Verify opens and verifies a bundle, deeply unless db is nil, and returns the first error.
func Verify(path string, keyring *trust.Keyring, db *proof.Database) error {
	ctx := context.Background()
	b, err := bundle.Open(ctx, path, keyring, "")
	if err != nil {
		return err
	}
	defer b.Close()
	var damage error
	report := func(d bundle.Damage) {
		if damage == nil {
			damage = &bundle.NotVerifiedError{What: d.Path, Err: d.Err}
		}
	}
	if db == nil {
		err = b.Verify(ctx, nil, report)
	} else {
		deep := &bundle.Deep{DB: db, AllRead: func() error { return damage }}
		err = b.VerifyDeep(ctx, deep, nil, report)
	}
	return cmp.Or(err, damage)
}

// Refused reports whether err is a *bundle.NotVerifiedError.
func Refused(err error) bool {
	_, ok := errors.AsType[*bundle.NotVerifiedError](err)
	return ok
}

// ChangeSQL returns a change of an index by SQL statements.
func ChangeSQL(t testing.TB, text string) func([]byte) []byte {
	return func(b []byte) []byte {
		out, err := SQL(t.TempDir(), b, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return out
	}
}

// Read returns the content of a file.
func Read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	check(t, err)
	return data
}

// Gunzip returns the content of a file that gzip packed.
func Gunzip(t testing.TB, file string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(Read(t, file)))
	check(t, err)
	data, err := io.ReadAll(z)
	check(t, err)
	return data
}

// WriteFile writes a file.
func WriteFile(t testing.TB, file string, data []byte) {
	t.Helper()
	check(t, os.WriteFile(file, data, 0o644))
}
