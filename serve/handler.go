// Package serve is the isolated side of modmirror: read-only HTTP handlers over a bundle.
//
// No path from a request reaches the file system: it is parsed, looked up in the
// index, and read at an offset. No client ever gets a complete wrong body: bytes are hashed
// on the way out, the end of a body is held back until its hash is known, and a mismatch
// cuts the connection.
//
//   - Up to 64 KiB: read, hashed and sent from memory; a bounded cache keeps what was verified.
//   - Larger and not yet verified: streamed while hashing.
//   - Larger and verified before, in a file that is still the same (device, inode,
//     size, mtime, ctime): sent by the kernel, which net/http arranges for an *os.File.
//
// A range is served from verified files only. There is no mmap: media that is pulled would
// be a signal instead of an error.
package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

const (
	// smallFile is the largest file in bytes that is served from memory, and how
	// much of a larger one is held back until its hash is known.
	smallFile = 64 << 10

	// cacheBytes bounds the cache of verified small files.
	cacheBytes = 12 << 20

	// immutable is for what can never change under its name; brief for what a new
	// bundle may change.
	immutable = "public, max-age=31536000, immutable"
	brief     = "public, max-age=60"
)

// A Handler serves the GOPROXY protocol, the checksum database included, from a bundle.
type Handler struct {
	bundle *bundle.Bundle
	log    *slog.Logger
	miss   func(r modpath.Request)
	head   []byte // the signed tree head; nil without a checksum database

	cache cache
	large largeFiles

	damage atomic.Pointer[string] // the first file that did not verify
}

// NewHandler returns a handler for b. It calls miss, when not nil, with each
// request for something that is not carried.
func NewHandler(ctx context.Context, b *bundle.Bundle, log *slog.Logger, miss func(modpath.Request)) (*Handler, error) {
	h := &Handler{bundle: b, log: log, miss: miss}
	if h.miss == nil {
		h.miss = func(modpath.Request) {}
	}
	st, err := b.File().Stat()
	if err != nil {
		return nil, err
	}
	h.large.reset(identityOf(st), b.Manifest.Counts.Files)
	if b.Manifest.DB == "" {
		return h, nil
	}
	path := modpath.Request{Kind: modpath.SumLatest, DB: b.Manifest.DB}.String()
	if h.head, err = b.ReadFile(ctx, path, proof.MaxLookup); err != nil {
		return nil, err
	}
	// Clients check the signature; here it matters that it is the head the manifest names.
	n, err := note.Open(h.head, note.VerifierList())
	if u, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		n = u.Note
	} else if err != nil {
		return nil, &bundle.NotVerifiedError{What: path, Err: err}
	}
	if tree, err := tlog.ParseTree([]byte(n.Text)); err != nil || tree != b.Manifest.Head {
		return nil, &bundle.NotVerifiedError{What: path, Err: errors.New("not the tree head that the manifest names")}
	}
	return h, nil
}

// Damage returns the path of a file that did not verify, "" while there is none.
func (h *Handler) Damage() string {
	if p := h.damage.Load(); p != nil {
		return *p
	}
	return ""
}

// ServeHTTP answers a request for a path of the GOPROXY protocol.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if c := h.cache.get(path); c != nil {
		c.serve(w, r)
		return
	}
	req, err := modpath.Parse(path)
	if err != nil {
		text(w, http.StatusNotFound, "not a path of the GOPROXY protocol")
		return
	}
	if req.Kind == modpath.SumLookup {
		err = h.serveLookup(w, r, path, req)
	} else {
		err = h.serveFile(w, r, path, req)
	}
	if err != nil && r.Context().Err() == nil {
		h.log.Error("cannot answer", "path", path, "err", err)
		text(w, http.StatusInternalServerError, "the server cannot read its bundle; its log says why")
	}
}

// serveFile serves a file of the bundle. A returned error was not answered yet.
func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request, path string, req modpath.Request) error {
	f, ok, err := h.bundle.Index.File(r.Context(), path)
	if err != nil {
		return err
	}
	if !ok {
		return h.notFound(w, r, req)
	}
	e := &entry{path: path, etag: `"` + hex.EncodeToString(f.SHA256[:]) + `"`, contentType: contentType(req.Kind), control: brief, modified: h.bundle.Manifest.Created}
	switch req.Kind {
	case modpath.Info, modpath.Mod, modpath.Zip:
		e.control = immutable
		v, ok, err := h.bundle.Index.Lookup(r.Context(), req.Path, req.Version)
		if err != nil {
			return err
		}
		if !ok { // a query such as a branch: another bundle may answer another version
			e.control = brief
		} else if t, err := time.Parse(time.RFC3339, v.Time); err == nil {
			e.modified = t
		}
	case modpath.SumTile:
		e.control = immutable
	}
	if f.Size > smallFile {
		return h.large.serve(h, w, r, f, e)
	}
	e.data = make([]byte, f.Size)
	if _, err := h.bundle.File().ReadAt(e.data, h.bundle.Offset(f)); err != nil {
		return err
	}
	if sha256.Sum256(e.data) != f.SHA256 {
		h.damaged(path)
		return &bundle.NotVerifiedError{What: path, Err: errors.New("its SHA-256 is not the one in the index")}
	}
	h.cache.put(e)
	e.serve(w, r)
	return nil
}

// serveLookup answers a lookup of the checksum database with the record in the index
// and the bundle's head.
func (h *Handler) serveLookup(w http.ResponseWriter, r *http.Request, path string, req modpath.Request) error {
	if req.DB != h.bundle.Manifest.DB {
		return h.notFound(w, r, req)
	}
	v, ok, err := h.bundle.Index.Lookup(r.Context(), req.Path, req.Version)
	if err != nil {
		return err
	}
	if !ok || v.Record == nil {
		return h.notFound(w, r, req)
	}
	rec := proof.Record{ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1}
	rec.Mod.Path, rec.Mod.Version = v.Path, v.Version
	data := rec.Lookup(proof.Head{Note: h.head})
	sum := sha256.Sum256(data)
	e := &entry{path: path, data: data, etag: `"` + hex.EncodeToString(sum[:]) + `"`, contentType: "text/plain; charset=utf-8", control: brief, modified: h.bundle.Manifest.Created}
	h.cache.put(e)
	e.serve(w, r)
	return nil
}

func contentType(k modpath.Kind) string {
	switch k {
	case modpath.Info, modpath.Latest:
		return "application/json"
	case modpath.Zip:
		return "application/zip"
	case modpath.SumTile:
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}

// damaged remembers that a file did not verify.
func (h *Handler) damaged(path string) {
	h.damage.CompareAndSwap(nil, &path)
	h.log.Error("a file of the bundle does not verify; its body was not sent", "path", path)
}

// An entry is what is known of a body that is served, and the body when it is small.
type entry struct {
	path        string
	data        []byte
	etag        string
	contentType string
	control     string
	modified    time.Time
}

// headers sets the response headers.
func (e *entry) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", e.contentType)
	h.Set("ETag", e.etag)
	h.Set("Cache-Control", e.control)
	h.Set("X-Content-Type-Options", "nosniff")
	if !e.modified.IsZero() {
		h.Set("Last-Modified", e.modified.UTC().Format(http.TimeFormat))
	}
}

// plain reports whether a request wants the whole body, whatever it has seen before.
func plain(r *http.Request) bool {
	for _, name := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if r.Header[name] != nil {
			return false
		}
	}
	return true
}

// serve answers with the body in memory.
func (e *entry) serve(w http.ResponseWriter, r *http.Request) {
	e.headers(w)
	if !plain(r) {
		http.ServeContent(w, r, "", e.modified, bytes.NewReader(e.data))
		return
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", fmt.Sprint(len(e.data)))
	if r.Method != http.MethodHead {
		w.Write(e.data)
	}
}

// An identity tells one state of a file from another.
type identity struct {
	dev, inode   uint64
	size         int64
	mtime, ctime int64
}

// largeFiles serves files that do not fit the cache, and remembers which were verified.
type largeFiles struct {
	mu       sync.Mutex
	id       identity
	verified []uint64 // a bit for each file, by its number in the index
}

func (l *largeFiles) reset(id identity, files int64) {
	l.id, l.verified = id, make([]uint64, files/64+1)
}

// isVerified reports whether file n was verified in the file that st describes.
func (l *largeFiles) isVerified(n int64, st fs.FileInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := identityOf(st); id != l.id {
		l.id = id
		clear(l.verified)
	}
	return n/64 < int64(len(l.verified)) && l.verified[n/64]>>(n%64)&1 == 1
}

// setVerified remembers that file n was verified in the file that st described before and after.
func (l *largeFiles) setVerified(n int64, before, after fs.FileInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := identityOf(before); id == identityOf(after) && id == l.id && n/64 < int64(len(l.verified)) {
		l.verified[n/64] |= 1 << (n % 64)
	}
}

// same reports whether file is still what was verified.
func (l *largeFiles) same(file *os.File) error {
	st, err := file.Stat()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if identityOf(st) != l.id {
		return errChanged
	}
	return nil
}

// guarded reads a verified file, and only gives out what was read while it was still the same.
type guarded struct {
	*io.SectionReader
	same func() error
}

// Read reads and then looks whether the file has changed.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.SectionReader.Read(p)
	if n > 0 {
		if err := g.same(); err != nil {
			return 0, err
		}
	}
	return n, err
}

var errChanged = errors.New("the bundle changed while a file was sent")

// serve serves a large file. A returned error was not answered yet; an error after
// the first byte cuts the connection instead.
func (l *largeFiles) serve(h *Handler, w http.ResponseWriter, r *http.Request, f index.File, e *entry) error {
	e.headers(w)
	w.Header().Set("Accept-Ranges", "bytes")
	if r.Method == http.MethodHead && plain(r) {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		return nil
	}
	st, err := h.bundle.File().Stat()
	if err != nil {
		return err
	}
	verified := l.isVerified(f.ID, st)
	if !plain(r) {
		if !verified {
			if err := l.stream(h, io.Discard, f, e.path, st); err != nil {
				return err
			}
		}
		http.ServeContent(w, r, "", e.modified, &guarded{h.bundle.Content(f), func() error { return l.same(h.bundle.File()) }})
		return nil
	}
	w.Header().Set("Content-Length", fmt.Sprint(f.Size))
	if verified {
		err = sendFile(h, w, f)
	} else {
		err = l.stream(h, w, f, e.path, st)
	}
	if err != nil {
		if r.Context().Err() == nil {
			h.log.Error("cut a connection", "path", e.path, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// buffers holds buffers of smallFile bytes.
var buffers = sync.Pool{New: func() any { b := make([]byte, smallFile); return &b }}

// stream copies f to w while hashing. The last smallFile bytes are written only when the hash is right.
func (l *largeFiles) stream(h *Handler, w io.Writer, f index.File, path string, before fs.FileInfo) error {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	src := h.bundle.Content(f)
	sum := sha256.New()
	for left := f.Size; left > 0; {
		buf := (*p)[:min(left, smallFile)]
		if left > smallFile { // so that what is held back is whole
			buf = buf[:min(int64(len(buf)), left-smallFile)]
		}
		if _, err := io.ReadFull(src, buf); err != nil {
			return fmt.Errorf("reading bundle: %w", err)
		}
		sum.Write(buf)
		left -= int64(len(buf))
		if left == 0 && [32]byte(sum.Sum(nil)) != f.SHA256 {
			h.damaged(path)
			return &bundle.NotVerifiedError{What: path, Err: errors.New("its SHA-256 is not the one in the index")}
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	after, err := h.bundle.File().Stat()
	if err == nil {
		l.setVerified(f.ID, before, after)
	}
	return nil
}

// sendFile sends a verified file by way of the kernel. The last bytes go out only
// when the bundle is still the file that it was.
func sendFile(h *Handler, w http.ResponseWriter, f index.File) error {
	file, err := os.Open(h.bundle.File().Name()) // of its own, since it has a position
	if err != nil {
		return err
	}
	defer file.Close()
	if err := h.large.same(file); err != nil {
		return err
	}
	if _, err := file.Seek(h.bundle.Offset(f), io.SeekStart); err != nil {
		return err
	}
	send := func(n int64) error {
		sent, err := io.Copy(w, io.LimitReader(file, n))
		if err == nil && sent != n {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := send(f.Size - smallFile); err != nil {
		return err
	}
	if err := h.large.same(file); err != nil {
		return err
	}
	return send(smallFile)
}
