// Package serve is the isolated side of modmirror: read-only HTTP handlers over a bundle.
//
// No path from a request reaches the file system: it is parsed, looked up in the
// index, and read at an offset. No client ever gets a complete wrong body: bytes are hashed
// on the way out, the end of a body is held back until its hash is known, and a mismatch
// cuts the connection.
//
//   - Up to 64 KiB: read, hashed and sent from memory; a bounded cache keeps what was verified.
//   - Larger and not yet verified: streamed while hashing.
//   - Larger and verified before: copied out as long as the bundle is still the same file (device,
//     inode, size, mtime, ctime), which is asked again before the last piece goes out.
//
// A range is served from verified files only. There is no sendfile: it lends pages of the page cache to
// the network, so that what is written into the file later reaches a slow client; and no mmap: media
// that is pulled would be a signal instead of an error.
package serve

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

const (
	// smallFile is the largest file in bytes that is served from memory.
	smallFile = 64 << 10

	// largeBuffer is what a transfer reads and sends at once, in bytes, while there are no more
	// than largeBuffers of them; further ones make do with smallBuffer, so that clients that
	// do not read cost little. The last 64 KiB of a file, or the last small buffer, are held back
	// until its hash is known.
	largeBuffer  = 256 << 10
	largeBuffers = 16
	smallBuffer  = 16 << 10

	// verifiers is how many files are hashed at once because someone asked for a part.
	verifiers = 2

	// cacheBytes bounds the cache of verified small files.
	cacheBytes = 12 << 20

	// maxPacked is the largest file in bytes that is packed for a client.
	maxPacked = 16 << 20

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

	cache   cache
	large   *largeFiles
	packing chan struct{} // held by who packs

	damage atomic.Pointer[string] // the first file that did not verify
}

// NewHandler returns a handler for b. It calls miss, when not nil, with each
// request for something that is not carried.
func NewHandler(ctx context.Context, b *bundle.Bundle, log *slog.Logger, miss func(modpath.Request)) (*Handler, error) {
	h := &Handler{bundle: b, log: log, miss: miss, packing: make(chan struct{}, 1)}
	if h.miss == nil {
		h.miss = func(modpath.Request) {}
	}
	var err error
	if h.large, err = newLargeFiles(b, h.damaged); err != nil {
		return nil, err
	}
	if b.Manifest.DB == "" {
		return h, nil
	}
	path := modpath.Request{Kind: modpath.SumLatest, DB: b.Manifest.DB}.String()
	if h.head, err = b.ReadFile(ctx, path, proof.MaxLookup); errors.Is(err, fs.ErrNotExist) {
		return nil, &bundle.NotVerifiedError{What: path, Err: err}
	} else if err != nil {
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
	switch {
	case req.Kind == modpath.SumLookup:
		err = h.serveLookup(w, r, path, req)
	case req.Gzip:
		err = h.servePacked(w, r, path, req)
	default:
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
	if !ok && req.Kind == modpath.Info && reCommit.MatchString(req.Version) {
		f, ok, err = h.byCommit(r.Context(), req)
		if err != nil {
			return err
		}
	}
	if !ok {
		return h.notFound(w, r, req)
	}
	e := &entry{path: path, etag: etag(f.SHA256), contentType: contentType(req.Kind), control: brief, modified: h.bundle.Manifest.Created}
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

// reCommit is what names a commit: at least seven hex digits, as git abbreviates.
var reCommit = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// byCommit returns the .info file of the carried version of a commit: the one whose Origin or whose pseudo-version
// has it. It is not found when several versions are of other commits that begin so.
func (h *Handler) byCommit(ctx context.Context, req modpath.Request) (f index.File, ok bool, err error) {
	var found []index.Version
	commit := "" // the longest form of it
	for v, err := range h.bundle.Index.Versions(ctx, req.Path) {
		if err != nil {
			return f, false, err
		}
		if v.ZipSize == nil {
			continue
		}
		var origin struct{ Hash string }
		json.Unmarshal([]byte(v.Origin), &origin) // may be ""
		if rev, err := module.PseudoVersionRev(v.Version); err == nil && origin.Hash == "" {
			origin.Hash = rev
		}
		// A pseudo-version has the first 12 digits only.
		n := min(len(origin.Hash), len(req.Version))
		if n >= 7 && origin.Hash[:n] == req.Version[:n] {
			if n := min(len(commit), len(origin.Hash)); commit[:n] != origin.Hash[:n] {
				return f, false, nil
			}
			if len(origin.Hash) > len(commit) {
				commit = origin.Hash
			}
			found = append(found, v)
		}
	}
	for q, err := range h.bundle.Index.Queries(ctx, req.Path) { // a commit that was asked for outside
		if err != nil {
			return f, false, err
		}
		if n := min(len(q.Query), len(req.Version)); n < 7 || !reCommit.MatchString(q.Query) || q.Query[:n] != req.Version[:n] {
			continue
		}
		if v, ok, err := h.bundle.Index.Lookup(ctx, q.Path, q.Version); err != nil {
			return f, false, err
		} else if ok && v.ZipSize != nil {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return f, false, nil
	}
	// Several tags of one commit: the go command takes the highest.
	last := slices.MaxFunc(found, func(a, b index.Version) int { return semver.Compare(a.Version, b.Version) })
	return h.bundle.Index.File(ctx, modpath.Request{Kind: modpath.Info, Path: req.Path, Version: last.Version}.String())
}

// servePacked serves a file of the vulnerability database in gzip, which is how govulncheck asks for it over HTTP.
func (h *Handler) servePacked(w http.ResponseWriter, r *http.Request, path string, req modpath.Request) error {
	e, err := h.pack(r.Context(), path, req)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(w, r, req)
	}
	if err != nil {
		return err
	}
	e.serve(w, r)
	return nil
}

// pack returns a packed file, and leaves it in the cache.
func (h *Handler) pack(ctx context.Context, path string, req modpath.Request) (*entry, error) {
	select { // the index of all entries is a megabyte: one at a time
	case h.packing <- struct{}{}:
		defer func() { <-h.packing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e := h.cache.get(path); e != nil { // another request was faster
		return e, nil
	}
	plain := req
	plain.Gzip = false
	data, err := h.bundle.ReadFile(ctx, plain.String(), maxPacked)
	if bad, ok := errors.AsType[*bundle.NotVerifiedError](err); ok {
		h.damaged(bad.What)
	}
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return h.made(path, buf.Bytes(), "application/gzip"), nil
}

// made returns the entry of a body that was made here and is no file of the bundle, and leaves it in the cache.
func (h *Handler) made(path string, data []byte, contentType string) *entry {
	e := &entry{path: path, data: data, etag: etag(sha256.Sum256(data)), contentType: contentType, control: brief, modified: h.bundle.Manifest.Created}
	h.cache.put(e)
	return e
}

// etag returns the strong ETag of a body.
func etag(sum [32]byte) string { return `"` + hex.EncodeToString(sum[:]) + `"` }

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
	if !ok {
		return h.notFound(w, r, req)
	}
	if v.Record == nil {
		text(w, http.StatusNotFound, "%s@%s is carried, outside the checksum database: set GONOSUMDB=%[1]s (modmirror env prints all settings)", v.Path, v.Version)
		return nil
	}
	rec := proof.Record{ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1}
	rec.Mod.Path, rec.Mod.Version = v.Path, v.Version
	h.made(path, rec.Lookup(proof.Head{Note: h.head}), contentType(req.Kind)).serve(w, r)
	return nil
}

func contentType(k modpath.Kind) string {
	switch k {
	case modpath.Info, modpath.Latest, modpath.Vuln:
		return "application/json"
	case modpath.Zip:
		return "application/zip"
	case modpath.Self:
		return "application/x-tar"
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
	bundle   *bundle.Bundle
	damaged  func(path string)
	large    chan []byte   // buffers of largeBuffer bytes that are not in use
	small    sync.Pool     // of *[]byte of smallBuffer bytes
	partials chan struct{} // a slot for each file that is hashed for a part of it

	mu       sync.Mutex
	id       identity
	verified []uint64 // a bit for each file, by its number in the index
}

func newLargeFiles(b *bundle.Bundle, damaged func(string)) (*largeFiles, error) {
	l := &largeFiles{bundle: b, damaged: damaged, large: make(chan []byte, largeBuffers), partials: make(chan struct{}, verifiers)}
	l.small.New = func() any { buf := make([]byte, smallBuffer); return &buf }
	for range largeBuffers {
		l.large <- nil // made when it is first used
	}
	l.verified = make([]uint64, b.Manifest.Counts.Files/64+1)
	var err error
	l.id, err = l.now()
	return l, err
}

// buffer returns a buffer and what gives it back.
func (l *largeFiles) buffer() (buf []byte, done func()) {
	select {
	case buf = <-l.large:
		if buf == nil {
			buf = make([]byte, largeBuffer)
		}
		return buf, func() { l.large <- buf }
	default:
		p := l.small.Get().(*[]byte)
		return *p, func() { l.small.Put(p) }
	}
}

// now returns the identity that the bundle has now.
func (l *largeFiles) now() (identity, error) {
	st, err := l.bundle.File().Stat()
	if err != nil {
		return identity{}, err
	}
	return identityOf(st), nil
}

// isVerified reports whether file n was verified in a bundle that was id.
func (l *largeFiles) isVerified(n int64, id identity) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != l.id {
		l.id = id
		clear(l.verified)
	}
	return l.verified[n/64]>>(n%64)&1 == 1
}

// setVerified remembers that file n was verified in a bundle that was id before and is now.
func (l *largeFiles) setVerified(n int64, id identity) {
	now, err := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && id == now && id == l.id {
		l.verified[n/64] |= 1 << (n % 64)
	}
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
	id, err := l.now()
	if err != nil {
		return err
	}
	if !plain(r) {
		p := &part{SectionReader: l.bundle.Content(f), l: l, ctx: r.Context(), renew: renewal(w), f: f, id: id}
		http.ServeContent(w, r, "", e.modified, p)
		err = p.err
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		err = l.send(r.Context(), w, f, id)
	}
	if err != nil {
		if r.Context().Err() == nil {
			h.log.Error("cut a connection", "path", e.path, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// send copies f to w. The last piece is written only when the hash of all is right or, for a file that was
// verified in a bundle that was id, when the bundle is still that. w may be io.Discard.
func (l *largeFiles) send(ctx context.Context, w io.Writer, f index.File, id identity) error {
	verified := l.isVerified(f.ID, id)
	if verified && w == io.Discard {
		return nil
	}
	all, done := l.buffer()
	defer done()
	renew := renewal(w)
	src := l.bundle.Content(f)
	sum := sha256.New()
	for left := f.Size; left > 0; {
		buf := all[:min(left, int64(len(all)))]
		if hold := min(smallFile, int64(len(all))); left > hold { // so that what is held back is whole
			buf = buf[:min(int64(len(buf)), left-hold)]
		}
		if _, err := io.ReadFull(src, buf); err != nil {
			return fmt.Errorf("reading bundle: %w", err)
		}
		if !verified {
			sum.Write(buf)
		}
		if left -= int64(len(buf)); left == 0 {
			if now, err := l.now(); verified && (err != nil || now != id) {
				return cmp.Or(err, errChanged)
			}
			if !verified && [32]byte(sum.Sum(nil)) != f.SHA256 {
				l.damaged(f.Path)
				return &bundle.NotVerifiedError{What: f.Path, Err: errors.New("its SHA-256 is not the one in the index")}
			}
		}
		renew()
		if _, err := w.Write(buf); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if !verified {
		l.setVerified(f.ID, id)
	}
	return nil
}

// renewal returns what gives a client more time to take the next bytes.
func renewal(w io.Writer) func() {
	rw, ok := w.(http.ResponseWriter)
	if !ok {
		return func() {}
	}
	c := http.NewResponseController(rw)
	return func() { c.SetWriteDeadline(time.Now().Add(writeTimeout)) }
}

// A part reads a file for http.ServeContent: verified before the first byte, and given out only while
// the bundle is the same. Conditions that need no byte cost no hashing.
type part struct {
	*io.SectionReader
	l        *largeFiles
	ctx      context.Context
	renew    func()
	f        index.File
	id       identity
	verified bool
	err      error // what Read returned, which ServeContent keeps to itself
}

// Read reads from the verified file.
func (p *part) Read(b []byte) (n int, err error) {
	if !p.verified {
		if p.err = p.verify(); p.err != nil {
			return 0, p.err
		}
		p.verified = true
	}
	p.renew()
	if n, err = p.SectionReader.Read(b); n > 0 {
		if now, err := p.l.now(); err != nil || now != p.id {
			p.err = cmp.Or(err, errChanged)
			return 0, p.err
		}
	}
	return n, err
}

// verify hashes the file unless that was done before; a few at a time.
func (p *part) verify() error {
	select {
	case p.l.partials <- struct{}{}:
		defer func() { <-p.l.partials }()
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	return p.l.send(p.ctx, io.Discard, p.f, p.id)
}
