package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/modmirror/modmirror/internal/safefile"
)

// pieceSize is a size of pieces that no read of these tests is aligned with.
const pieceSize = 100_003

// split writes data in pieces and returns the base name.
func split(t *testing.T, data []byte) string {
	t.Helper()
	base := filepath.Join(t.TempDir(), "team.tar")
	v, err := NewVolumes(base, pieceSize)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Discard()
	if _, err := v.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base + ".001"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a piece has its name before Commit: %v", err)
	}
	if err := v.Commit(); err != nil {
		t.Fatal(err)
	}
	if want := (len(data) + pieceSize - 1) / pieceSize; v.Pieces() != want {
		t.Errorf("%d pieces, want %d", v.Pieces(), want)
	}
	return base
}

// TestPieces reads what Volumes wrote: as one stream, at random, as contents, and as the names of
// pieces.
func TestPieces(t *testing.T) {
	data := noise(3*pieceSize + 17)
	base := split(t, data)
	for _, name := range []string{base, base + ".001"} {
		m, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if m.Name() != base || m.Size() != int64(len(data)) || m.CheckSize(m.Size()) != nil {
			t.Errorf("%s: %s has %d bytes, %v", name, m.Name(), m.Size(), m.CheckSize(m.Size()))
		}
		all, err := io.ReadAll(m.NewReader(t.Context(), 0, m.Size()))
		if err != nil || !bytes.Equal(all, data) {
			t.Errorf("%s: read %d bytes, %v", name, len(all), err)
		}
		for _, r := range [][2]int{{0, 1}, {pieceSize - 1, 2}, {pieceSize, pieceSize}, {50, 2*pieceSize + 10}, {len(data) - 1, 1}} {
			p := make([]byte, r[1])
			if n, err := m.ReadAt(t.Context(), p, int64(r[0])); err != nil || n != r[1] || !bytes.Equal(p, data[r[0]:r[0]+r[1]]) {
				t.Errorf("%d bytes at %d: %d, %v", r[1], r[0], n, err)
			}
		}
		if n, err := m.ReadAt(t.Context(), make([]byte, 20), int64(len(data)-5)); n != 5 || err != io.EOF {
			t.Errorf("beyond the end: %d, %v", n, err)
		}
		if got, want := m.Where(pieceSize-1, 2), base+".001 or "+base+".002"; got != want {
			t.Errorf("Where %q, want %q", got, want)
		}
	}
	stream, size, err := OpenInput(base)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if all, err := io.ReadAll(stream); err != nil || size != int64(len(data)) || !bytes.Equal(all, data) {
		t.Errorf("as input: %d of %d bytes, %v", len(all), size, err)
	}
	if got := Pieces(base); len(got) != 4 || !slices.Equal(got, Pieces(base+".003")) {
		t.Errorf("pieces %v", got)
	}
	if err := CheckPieces(Pieces(base)); err != nil {
		t.Error(err)
	}
	if err := CheckNoPieces(base); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CheckNoPieces: %v", err)
	}
	if _, err := NewVolumes(base, pieceSize); !errors.Is(err, fs.ErrExist) {
		t.Errorf("pieces were mixed with others: %v", err)
	}
}

// TestBadPieces takes pieces away, damages and exchanges them.
func TestBadPieces(t *testing.T) {
	data := noise(3*pieceSize + 17)
	want := int64(len(data))
	open := func(base string) Media {
		t.Helper()
		m, err := Open(base)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	base := split(t, data)
	os.Remove(base + ".003")
	err := open(base).CheckSize(want)
	if missing, ok := errors.AsType[*MissingPieceError](err); !ok || !slices.Equal(missing.Names, []string{base + ".003"}) {
		t.Errorf("a missing piece: %v", err)
	}
	base = split(t, data)
	if err := os.Truncate(base+".002", 10); err != nil {
		t.Fatal(err)
	}
	if err := open(base).CheckSize(want); !isNotVerified(err) || !strings.Contains(err.Error(), ".002") {
		t.Errorf("a short piece: %v", err)
	}
	if err := CheckPieces(Pieces(base)); !isNotVerified(err) || !strings.Contains(err.Error(), ".002") {
		t.Errorf("a short piece, by the list: %v", err)
	}
	if err := open(split(t, data)).CheckSize(want / 2); !isNotVerified(err) {
		t.Errorf("too many pieces: %v", err)
	}
	if err := open(split(t, noise(10))).CheckSize(1 << 30); !isNotVerified(err) {
		t.Errorf("more pieces than can be named: %v", err)
	}
	many := &MissingPieceError{Names: make([]string, 12)}
	if !strings.HasSuffix(many.Error(), "and 2 more") {
		t.Error(many)
	}
	m := open(split(t, data))
	if err := m.Remove(); err != nil || len(Pieces(m.Name())) != 0 {
		t.Errorf("Remove: %v, %v", Pieces(m.Name()), err)
	}
}

// TestLocalContent opens contents of a file and of pieces, and replaces the file.
func TestLocalContent(t *testing.T) {
	data := noise(2 * pieceSize)
	file := filepath.Join(t.TempDir(), "team.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	const at, n = pieceSize - 100, 200
	ref := Ref{Path: "content", Offset: at, Size: n, SHA256: sha256.Sum256(data[at : at+n])}
	for _, name := range []string{file, split(t, data)} {
		m, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if got, err := m.ReadContent(t.Context(), ref); err != nil || !bytes.Equal(got, data[at:at+n]) {
			t.Errorf("%s: %v", name, err)
		}
		wrong := ref
		wrong.Offset++
		if _, err := m.ReadContent(t.Context(), wrong); !isNotVerified(err) {
			t.Errorf("%s: another content: %v", name, err)
		}
		c, err := m.Open(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, err := c.ReadAt(t.Context(), p, 5); err != nil || !bytes.Equal(p, data[at+5:at+15]) {
			t.Errorf("%s: %v", name, err)
		}
		if c.Verifies() || len(c.Identity()) == 0 || c.Check(t.Context()) != nil {
			t.Errorf("%s: verifies %v, identity %v, %v", name, c.Verifies(), c.Identity(), c.Check(t.Context()))
		}
		first := name
		if name != file {
			first = name + ".001"
		}
		if err := os.Chtimes(first, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context()); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: changed: %v", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStream copies as far as is read, and notices a stream of another length than the manifest
// says.
func TestStream(t *testing.T) {
	data := noise(1 << 20)
	open := func(r io.Reader) *Stream {
		f, err := safefile.Create(filepath.Join(t.TempDir(), "copy"), 0o666)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Discard)
		return NewStream("stdin", r, f, MaxSize)
	}
	r := bytes.NewReader(data)
	s := open(r)
	p := make([]byte, 1000)
	if _, err := s.ReadAt(t.Context(), p, 500); err != nil || !bytes.Equal(p, data[500:1500]) {
		t.Errorf("%v", err)
	}
	if r.Len() < len(data)-512<<10 {
		t.Errorf("%d bytes left: it read ahead", r.Len())
	}
	if err := s.CheckSize(int64(len(data))); err != nil || s.Size() != int64(len(data)) {
		t.Errorf("%d bytes, %v", s.Size(), err)
	}
	ref := Ref{"x", 100, 50, sha256.Sum256(data[100:150])}
	if got, err := s.ReadContent(t.Context(), ref); err != nil || !bytes.Equal(got, data[100:150]) {
		t.Error(err)
	}
	if err := s.End(t.Context()); err != nil {
		t.Error(err)
	}
	for what, size := range map[string]int64{"longer": int64(len(data)) - 1, "shorter": int64(len(data)) + 1} {
		s := open(bytes.NewReader(data))
		s.CheckSize(size)
		if err := s.End(t.Context()); !isNotVerified(err) {
			t.Errorf("a stream that is %s: %v", what, err)
		}
	}
	_, err := open(bytes.NewReader(data)).ReadAt(t.Context(), p, int64(len(data))-10)
	if err != io.EOF {
		t.Errorf("beyond the end: %v", err)
	}
	cut := open(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)))
	_, err = cut.ReadAt(t.Context(), p, int64(len(data))-10)
	if _, ok := errors.AsType[*UnreadError](err); !ok {
		t.Errorf("a stream that breaks: %v", err)
	}
}

// TestStalledStream has a stream stall: what was copied is read, and a read of more ends with its
// context. Beyond what is asked for, a stream is copied only when its size is known.
func TestStalledStream(t *testing.T) {
	f, err := safefile.Create(filepath.Join(t.TempDir(), "copy"), 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	data := noise(4096)
	r, w := io.Pipe()
	defer w.Close()
	s := NewStream("stdin", r, f, MaxSize)
	defer s.Close()
	go w.Write(data)
	p := make([]byte, len(data))
	if _, err := s.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
		t.Fatal(err)
	}
	s.CheckSize(3 * int64(len(data)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.ReadAt(ctx, make([]byte, len(data)), int64(len(data)))
		ended <- err
	}()
	if _, err := s.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) { // while it waits
		t.Error(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a read of a stream that stalls: %v", err)
	}
	if _, err := w.Write(data); err != nil { // is read ahead: nobody asks for it now
		t.Error(err)
	}
	if _, err := s.ReadAt(t.Context(), p, int64(len(data))); err != nil || !bytes.Equal(p, data) {
		t.Error(err)
	}
}

// TestSizes parses sizes as flags have them.
func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "700M": 700 << 20, "25G": 25 << 30, "64k": 64 << 10, "64KiB": 64 << 10, "1T": 1 << 40, "12": 12,
		"": -1, "x": -1, "1.5G": -1, "-1": -1, "9999999999T": -1, "1 G": -1,
	} {
		got, err := ParseSize(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]int64{"fat32": 1<<32 - 1, "dvd": 1<<32 - 2048, "64k": 64 << 10, "63k": -1, "x": -1} {
		got, err := ParsePieceSize(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("piece %q: %d, %v", text, got, err)
		}
	}
}

// TestFolder lists a folder of bundles.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.tar", "a.tar", ".modmirror-tmp-1", "a.tar.sig"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "incoming"), 0o700)
	items, err := Folder(dir).List(t.Context())
	if err != nil || fmt.Sprint(names(items)) != "[a.tar a.tar.sig b.tar]" {
		t.Errorf("%v, %v", names(items), err)
	}
	before := items[0].Version
	if err := os.WriteFile(items[0].Path, []byte("longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if items, err = Folder(dir).List(t.Context()); err != nil || items[0].Version == before {
		t.Errorf("the version stays %q, %v", before, err)
	}
	m, err := items[0].Open(t.Context())
	if err != nil || m.Size() != 6 || items[0].Signatures != items[1].Path {
		t.Fatalf("%v, %v, signatures %q", m, err, items[0].Signatures)
	}
	m.Close()
	if f := Folder(dir); f.Heals() {
		t.Error("a folder heals")
	}
}

func names(items []Item) (list []string) {
	for _, i := range items {
		list = append(list, i.Name)
	}
	return list
}
