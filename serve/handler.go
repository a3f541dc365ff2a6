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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/time/rate"

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

	// missesLogged is how many requests for what is not carried are logged a second, after missBurst of them: the metric counts all, and
	// modmirror wants names all.
	missesLogged = 5
	missBurst    = 100

	// immutable is for what can never change under its name; brief for what a new
	// bundle may change.
	immutable = "public, max-age=31536000, immutable"
	brief     = "public, max-age=60"
)

// A handler serves the GOPROXY protocol, the checksum database included, from bundles.
type handler struct {
	view *bundle.View
	log  *slog.Logger
	miss func(r modpath.Request)

	refs   atomic.Int64 // requests being answered, and one more while it is not retired
	retire func()       // ends what goes on beside requests

	cache   cache
	large   map[*bundle.Bundle]*largeFiles // by the bundle whose index names the files
	buffers *buffers
	packing chan struct{} // held by who packs

	damage   atomic.Pointer[string] // the first file that did not verify
	scrubbed atomic.Int64           // files of the scrub's pass
	files    int64                  // in all catalogues

	ids     string // of the bundles, for the audit
	metrics *metrics
	missLog *rate.Limiter
}

// newHandler returns a handler for a view. It calls miss, when not nil, with each request for something that is not carried.
func newHandler(v *bundle.View, log *slog.Logger, miss func(modpath.Request), m *metrics) *handler {
	h := &handler{view: v, log: log, miss: miss, metrics: m, packing: make(chan struct{}, 1), large: make(map[*bundle.Bundle]*largeFiles), buffers: newBuffers()}
	h.missLog = rate.NewLimiter(missesLogged, missBurst)
	if h.miss == nil {
		h.miss = func(modpath.Request) {}
	}
	h.refs.Store(1)
	var ids []string
	for _, b := range v.Lines {
		h.large[b] = newLargeFiles(b, h.buffers, h.damaged)
		h.files += b.Manifest.Counts.Files
		ids = append(ids, b.ID())
	}
	h.ids = strings.Join(ids, ",")
	return h
}

// acquire takes part in the handler, until release; ok is false when it is retired and its view closed.
func (h *handler) acquire() (ok bool) {
	for {
		n := h.refs.Load()
		if n == 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends what acquire began. The view is closed with the last part, after the handler was retired by a release of its own.
func (h *handler) release() {
	if h.refs.Add(-1) == 0 {
		h.view.Close()
	}
}

// Damage returns the path of a file that did not verify, "" while there is none.
func (h *handler) Damage() string {
	if p := h.damage.Load(); p != nil {
		return *p
	}
	return ""
}

// ServeHTTP answers a request for a path of the GOPROXY protocol.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r)
	defer x.free()
	h.answer(x)
}

// answer answers a request for a path of the GOPROXY protocol.
func (h *handler) answer(x *exchange) {
	path := strings.TrimPrefix(x.req.URL.Path, "/")
	if c := h.cache.get(path); c != nil {
		x.kind = c.kind
		c.serve(x, x.req)
		return
	}
	req, err := modpath.Parse(path)
	if err != nil {
		if h.missLog.Allow() {
			h.log.Info("no path of the GOPROXY protocol", "path", fmt.Sprintf("%.200s", x.path), "client", x.origin().addr, "name", x.name, "request", x.requestID())
		}
		text(x, http.StatusNotFound, "not a path of the GOPROXY protocol")
		return
	}
	x.kind = kind(req.Kind)
	switch {
	case req.Kind == modpath.SumLookup:
		err = h.serveLookup(x, path, req)
	case req.Kind == modpath.SumLatest:
		err = h.serveHead(x, path, req)
	case req.Gzip:
		err = h.servePacked(x, path, req)
	default:
		err = h.serveFile(x, path, req)
	}
	h.failed(x, err)
}

// failed answers a request with an error that was not answered yet, if there is one.
func (h *handler) failed(x *exchange, err error) {
	if err == nil || x.req.Context().Err() != nil {
		return
	}
	h.log.Error("cannot answer", "path", x.path, "client", x.origin().addr, "request", x.requestID(), "err", err)
	text(x, http.StatusInternalServerError, "the server cannot read its bundle; its log says why, at request %s", x.requestID())
}

// serveFile serves a file of the bundle. A returned error was not answered yet.
func (h *handler) serveFile(x *exchange, path string, req modpath.Request) error {
	if data, ok, err := h.view.Merged(x.req.Context(), req); err != nil {
		return err
	} else if ok {
		h.made(path, req.Kind, data).serve(x, x.req)
		return nil
	}
	f, ok, err := h.view.File(x.req.Context(), path)
	if err != nil {
		return err
	}
	if !ok && req.Kind == modpath.Info && reCommit.MatchString(req.Version) {
		f, ok, err = h.byCommit(x.req.Context(), req)
		if err != nil {
			return err
		}
	}
	if !ok && req.Kind == modpath.SumTile {
		return h.serveTile(x, path, req)
	}
	if !ok {
		return h.notFound(x, req)
	}
	e := &entry{path: path, kind: kind(req.Kind), etag: etag(f.SHA256), contentType: contentType(req.Kind), control: brief, modified: f.In.Manifest.Created}
	switch req.Kind {
	case modpath.Info, modpath.Mod, modpath.Zip:
		e.control = immutable
		v, ok, err := h.view.Lookup(x.req.Context(), req.Path, req.Version)
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
		return h.large[f.In].serve(h, x, x.req, f.File, e)
	}
	if e.data, err = f.In.Read(f.File, smallFile); err != nil {
		if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
			h.damaged(path)
		}
		return err
	}
	h.cache.put(e)
	e.serve(x, x.req)
	return nil
}

// serveTile cuts a tile from a wider one: bundles of other lines may have it when this one has none.
func (h *handler) serveTile(x *exchange, path string, req modpath.Request) error {
	data, err := h.view.Tile(x.req.Context(), req.DB, req.Tile)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	h.made(path, req.Kind, data).serve(x, x.req)
	return nil
}

// serveHead answers with the signed tree head that is served of a checksum database.
func (h *handler) serveHead(x *exchange, path string, req modpath.Request) error {
	head := h.view.Head(req.DB)
	if head == nil {
		return h.notFound(x, req)
	}
	h.made(path, req.Kind, head.Note).serve(x, x.req)
	return nil
}

// reCommit is what names a commit: at least seven hex digits, as git abbreviates.
var reCommit = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// byCommit returns the .info file of the carried version of a commit: the one whose Origin or whose pseudo-version
// has it. It is not found when several versions are of other commits that begin so.
func (h *handler) byCommit(ctx context.Context, req modpath.Request) (f bundle.Ref, ok bool, err error) {
	var found []index.Version
	commit := "" // the longest form of it
	for v, err := range h.view.Versions(ctx, req.Path) {
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
	var asked []index.Query
	for q, err := range h.view.Queries(ctx, req.Path) { // a commit that was asked for outside
		if err != nil {
			return f, false, err
		}
		if n := min(len(q.Query), len(req.Version)); n >= 7 && reCommit.MatchString(q.Query) && q.Query[:n] == req.Version[:n] {
			asked = append(asked, q)
		}
	}
	for _, q := range asked { // now that no connection to the index is held
		if v, ok, err := h.view.Lookup(ctx, q.Path, q.Version); err != nil {
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
	return h.view.File(ctx, modpath.Request{Kind: modpath.Info, Path: req.Path, Version: last.Version}.String())
}

// servePacked serves a file of the vulnerability database in gzip, which is how govulncheck asks for it over HTTP.
func (h *handler) servePacked(x *exchange, path string, req modpath.Request) error {
	e, err := h.pack(x.req.Context(), path, req)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	e.serve(x, x.req)
	return nil
}

// pack returns a packed file, and leaves it in the cache.
func (h *handler) pack(ctx context.Context, path string, req modpath.Request) (*entry, error) {
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
	data, err := h.view.ReadFile(ctx, plain.String(), maxPacked)
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
	return h.made(path, req.Kind, buf.Bytes()), nil
}

// made returns the entry of a body that was made here and is no file of the bundle, and leaves it in the cache.
func (h *handler) made(path string, k modpath.Kind, data []byte) *entry {
	e := &entry{path: path, kind: kind(k), data: data, etag: etag(sha256.Sum256(data)), contentType: contentType(k), control: brief, modified: h.view.Lines[0].Manifest.Created}
	if strings.HasSuffix(path, ".gz") {
		e.contentType = "application/gzip"
	}
	h.cache.put(e)
	return e
}

// etag returns the strong ETag of a body.
func etag(sum [32]byte) string { return `"` + hex.EncodeToString(sum[:]) + `"` }

// serveLookup answers a lookup of the checksum database with the record in the index
// and the head that is served.
func (h *handler) serveLookup(x *exchange, path string, req modpath.Request) error {
	head := h.view.Head(req.DB)
	if head == nil {
		return h.notFound(x, req)
	}
	v, ok, err := h.view.Record(x.req.Context(), req.DB, req.Path, req.Version)
	if err != nil {
		return err
	}
	if !ok {
		have, carried, err := h.view.Lookup(x.req.Context(), req.Path, req.Version)
		if err != nil {
			return err
		}
		if !carried || have.Record != nil {
			return h.notFound(x, req)
		}
		text(x, http.StatusNotFound, "%s@%s is carried, outside the checksum database: set GONOSUMDB=%[1]s (modmirror env prints all settings)", req.Path, req.Version)
		return nil
	}
	if !h.view.Proven(req.DB, *v.Record) {
		text(x, http.StatusNotFound, "%s@%s is carried, and its record %d cannot be proven in the tree of %d that is served here\n"+
			"the next bundle of its line must be made with the catalogues of this store: modmirror extract --catalog STORE", v.Path, v.Version, *v.Record, head.N)
		return nil
	}
	rec := proof.Record{ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1}
	rec.Mod.Path, rec.Mod.Version = v.Path, v.Version
	h.made(path, req.Kind, rec.Lookup(*head)).serve(x, x.req)
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
func (h *handler) damaged(path string) {
	h.damage.CompareAndSwap(nil, &path)
	h.metrics.failures.Inc()
	h.log.Error("a file of the bundle does not verify; its body was not sent", "path", path)
}

// An entry is what is known of a body that is served, and the body when it is small.
type entry struct {
	path        string
	kind        kind
	data        []byte
	etag        string
	contentType string
	control     string
	modified    time.Time

	once   sync.Once
	values headerValues
}

// headerValues are the values of an entry's response headers, as net/http has them. They are made once: a small file is sent in some
// microseconds, of which making them would be one.
type headerValues struct{ contentType, etag, control, modified, length []string }

var (
	acceptBytes = []string{"bytes"}
	noSniff     = []string{"nosniff"}
)

// headers sets the response headers, under their canonical names.
func (e *entry) headers(w http.ResponseWriter) {
	e.once.Do(func() {
		e.values = headerValues{[]string{e.contentType}, []string{e.etag}, []string{e.control}, nil, []string{strconv.Itoa(len(e.data))}}
		if !e.modified.IsZero() {
			e.values.modified = []string{e.modified.UTC().Format(http.TimeFormat)}
		}
	})
	h := w.Header()
	h["Content-Type"], h["Etag"], h["Cache-Control"], h["X-Content-Type-Options"] = e.values.contentType, e.values.etag, e.values.control, noSniff
	if e.values.modified != nil {
		h["Last-Modified"] = e.values.modified
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
	h := w.Header()
	h["Accept-Ranges"], h["Content-Length"] = acceptBytes, e.values.length
	if r.Method != http.MethodHead {
		w.Write(e.data)
	}
}

// An identity tells one state of a bundle's files from another.
type identity []fileState

// identityOf returns the identity that the files of a medium have now.
func identityOf(m *bundle.Medium) (identity, error) {
	var id identity
	for _, f := range m.Files() {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		id = append(id, stateOf(st))
	}
	return id, nil
}

// A fileState is what tells one state of a file from another.
type fileState struct {
	dev, inode   uint64
	size         int64
	mtime, ctime int64
	links        uint64
}

// same reports whether an identity is still that of the same contents. A file that lost or got a name, as one that was pruned while it is
// sent, has another ctime and is the same.
func (id identity) same(now identity) bool {
	return slices.EqualFunc(id, now, func(a, b fileState) bool {
		if a.links != b.links {
			a.ctime, a.links = b.ctime, b.links
		}
		return a == b
	})
}

// buffers are what transfers copy through.
type buffers struct {
	large chan []byte // of largeBuffer bytes, not in use
	small sync.Pool   // of *[]byte of smallBuffer bytes
}

func newBuffers() *buffers {
	b := &buffers{large: make(chan []byte, largeBuffers)}
	b.small.New = func() any { buf := make([]byte, smallBuffer); return &buf }
	for range largeBuffers {
		b.large <- nil // made when it is first used
	}
	return b
}

// get returns a buffer and what gives it back.
func (b *buffers) get() (buf []byte, done func()) {
	select {
	case buf = <-b.large:
		if buf == nil {
			buf = make([]byte, largeBuffer)
		}
		return buf, func() { b.large <- buf }
	default:
		p := b.small.Get().(*[]byte)
		return *p, func() { b.small.Put(p) }
	}
}

// largeFiles serves files that do not fit the cache, of one line, and remembers which were verified.
type largeFiles struct {
	bundle   *bundle.Bundle
	buffers  *buffers
	damaged  func(path string)
	partials chan struct{} // a slot for each file that is hashed for a part of it

	mu       sync.Mutex
	ids      map[*bundle.Medium]identity // of where files were verified
	verified []uint64                    // a bit for each file, by its number in the index
}

func newLargeFiles(b *bundle.Bundle, buf *buffers, damaged func(string)) *largeFiles {
	return &largeFiles{bundle: b, buffers: buf, damaged: damaged, partials: make(chan struct{}, verifiers),
		ids: make(map[*bundle.Medium]identity), verified: make([]uint64, b.Manifest.Counts.Files/64+1)}
}

// A located file is one whose place is known, and what its medium was when that was found out.
type located struct {
	index.File
	bundle.Place
	id identity
}

// locate finds the place of a file.
func (l *largeFiles) locate(f index.File) (located, error) {
	place, err := l.bundle.Find(f)
	if err != nil {
		return located{}, err
	}
	id, err := identityOf(place.Medium)
	return located{f, place, id}, err
}

// same returns an error when the medium is not what it was.
func (f *located) same() error {
	if id, err := identityOf(f.Medium); err != nil || !f.id.same(id) {
		return cmp.Or(err, errChanged)
	}
	return nil
}

func (f *located) content() *io.SectionReader {
	return io.NewSectionReader(f.Medium, f.Place.Offset, f.Size)
}

// isVerified reports whether f was verified in a medium that was the same.
func (l *largeFiles) isVerified(f *located) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.ids[f.Medium]; !ok || !slices.Equal(known, f.id) {
		l.ids[f.Medium] = f.id
		if ok {
			clear(l.verified)
		}
	}
	return l.verified[f.ID/64]>>(f.ID%64)&1 == 1
}

// setVerified remembers that f was verified, if its medium is what it was before.
func (l *largeFiles) setVerified(f *located) {
	err := f.same()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && slices.Equal(l.ids[f.Medium], f.id) {
		l.verified[f.ID/64] |= 1 << (f.ID % 64)
	}
}

// forget has f verified again before it is sent.
func (l *largeFiles) forget(f *located) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verified[f.ID/64] &^= 1 << (f.ID % 64)
}

var errHash = errors.New("its SHA-256 is not the one in the index")

var errChanged = errors.New("the bundle changed while a file was sent")

// serve serves a large file. A returned error was not answered yet; an error after
// the first byte cuts the connection instead.
func (l *largeFiles) serve(h *handler, w *exchange, r *http.Request, f index.File, e *entry) error {
	e.headers(w)
	w.Header().Set("Accept-Ranges", "bytes")
	if r.Method == http.MethodHead && plain(r) {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		return nil
	}
	at, err := l.locate(f)
	if err != nil {
		return err
	}
	if !plain(r) {
		p := &part{SectionReader: at.content(), l: l, ctx: r.Context(), renew: renewal(w), f: &at}
		http.ServeContent(w, r, "", e.modified, p)
		err = p.err
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		err = l.send(r.Context(), w, &at)
	}
	if err != nil {
		if r.Context().Err() == nil {
			h.log.Error("cut a connection", "path", e.path, "client", w.origin().addr, "request", w.requestID(), "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// send copies f to w. The last piece is written only when the hash of all is right or, for a file that was
// verified before, when its medium is still what it was then. w may be io.Discard.
func (l *largeFiles) send(ctx context.Context, w io.Writer, f *located) error {
	verified := l.isVerified(f)
	if verified && w == io.Discard {
		return nil
	}
	all, done := l.buffers.get()
	defer done()
	renew := renewal(w)
	src := f.content()
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
			if verified {
				if err := f.same(); err != nil {
					return err
				}
			}
			if !verified && [32]byte(sum.Sum(nil)) != f.SHA256 {
				l.damaged(f.Path)
				return &bundle.NotVerifiedError{What: f.Path, Err: errHash}
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
		l.setVerified(f)
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
	f        *located
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
		if p.err = p.f.same(); p.err != nil {
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
	return p.l.send(p.ctx, io.Discard, p.f)
}
