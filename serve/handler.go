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
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
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
	"github.com/modmirror/modmirror/bundle/media"
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
	miss func(r modpath.Request, from netip.Addr)
	tree func(db string, size int64, exact bool, from netip.Addr)

	inside *Inside // nil for none

	refs   atomic.Int64 // requests being answered, and one more while it is not retired
	retire func()       // ends what goes on beside requests

	ctx context.Context // of what goes on beside requests; nil for a handler without a server

	cache   cache
	large   map[*bundle.Bundle]*largeFiles // by the bundle whose index names the files
	buffers *buffers
	packing chan struct{} // held by who packs

	damage   sync.Map     // paths of files that did not verify, and not since
	damages  atomic.Int64 // how many there are
	scrubbed atomic.Int64 // files of the scrub's pass
	files    int64        // in all catalogues

	ids     string // of the bundles, for the audit
	metrics *metrics
	missLog *rate.Limiter
}

// newHandler returns a handler for a view. It calls miss, when not nil, with each request for something that is not carried.
func newHandler(v *bundle.View, log *slog.Logger, miss func(modpath.Request, netip.Addr), m *metrics) *handler {
	h := &handler{view: v, log: log, miss: miss, metrics: m, packing: make(chan struct{}, 1), large: make(map[*bundle.Bundle]*largeFiles), buffers: newBuffers()}
	h.missLog = rate.NewLimiter(missesLogged, missBurst)
	if h.miss == nil {
		h.miss = func(modpath.Request, netip.Addr) {}
	}
	h.tree = func(string, int64, bool, netip.Addr) {}
	h.refs.Store(1)
	var ids []string
	for _, b := range v.Lines {
		h.large[b] = newLargeFiles(b, h.buffers, h.damaged, h.repaired)
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
func (h *handler) Damage() (path string) {
	if h.damages.Load() > 0 {
		h.damage.Range(func(p, _ any) bool { path = p.(string); return false })
	}
	return path
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
	if _, ok := errors.AsType[*media.UnavailableError](err); ok {
		h.log.Error("cannot answer: the storage does not", "path", x.path, "client", x.origin().addr, "request", x.requestID(), "err", err)
		x.Header().Set("Retry-After", "10")
		text(x, http.StatusServiceUnavailable, "the storage behind this server does not answer, and this is not cached here; try again later (request %s)", x.requestID())
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
		h.made(path, req, data).serve(x, x.req)
		return nil
	}
	f, when, known, ok, err := h.view.FileOf(x.req.Context(), path, req.Path, req.Version)
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
	e := &entry{path: path, kind: kind(req.Kind), etag: etag(f.SHA256), contentType: contentType(req), control: brief, modified: h.view.Made(f.In)}
	switch req.Kind {
	case modpath.Info, modpath.Mod, modpath.Zip:
		if known { // else it is a query such as a branch: another bundle may answer another version
			e.control = immutable
		}
		if t, err := time.Parse(time.RFC3339, when); err == nil {
			e.modified = t
		}
	case modpath.SumTile:
		e.control = immutable
	}
	if f.Size > smallFile {
		return h.large[f.In].serve(h, x, f.File, e)
	}
	if e.data, err = f.In.Read(x.req.Context(), f.File, smallFile); err != nil {
		if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
			h.damaged(path)
		}
		return err
	}
	h.repaired(path)
	h.cache.put(e)
	e.serve(x, x.req)
	return nil
}

// serveTile cuts a tile from a wider one: bundles of other lines may have it when this one has none.
func (h *handler) serveTile(x *exchange, path string, req modpath.Request) error {
	data, err := h.view.Tile(x.req.Context(), req.DB, req.Tile)
	h.unknownTree(x, req, err == nil)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	h.made(path, req, data).serve(x, x.req)
	return nil
}

// unknownTree tells of a tree that a client remembers and that the bundles do not know: a client
// asks for the tiles at the right edge of its tree, whose widths tell its size; those of known
// trees are files of a bundle (x/mod/sumdb/tlog, tile.go). Where the client has these in its cache
// it asks for full tiles that show how that tree goes on, which tell the size but for its last
// eight bits.
func (h *handler) unknownTree(x *exchange, req modpath.Request, found bool) {
	head := h.view.Head(req.DB)
	if head == nil {
		return
	}
	t := req.Tile
	full := int64(1) << t.H
	size, exact := int64(0), false
	switch {
	case t.L == 0 && int64(t.W) < full:
		size, exact = t.N*full+int64(t.W), true
	case t.L == 0 && !found:
		size = t.N*full + full - 1
	case t.L == 1 && int64(t.W) < full && !found:
		size = (t.N*full + int64(t.W)) * full
	}
	if size > 0 && size != head.N {
		h.metrics.trees.Inc()
		h.tree(req.DB, size, exact, x.origin().addr)
	}
}

// serveHead answers with the signed tree head that is served of a checksum database.
func (h *handler) serveHead(x *exchange, path string, req modpath.Request) error {
	head := h.view.Head(req.DB)
	if head == nil {
		return h.notFound(x, req)
	}
	h.made(path, req, head.Note).serve(x, x.req)
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
	return h.made(path, req, buf.Bytes()), nil
}

// made returns the entry of a body that was made here and is no file of the bundle, and leaves it in the cache.
func (h *handler) made(path string, req modpath.Request, data []byte) *entry {
	e := &entry{path: path, kind: kind(req.Kind), data: data, etag: etag(sha256.Sum256(data)), contentType: contentType(req), control: brief, modified: h.view.Made(h.view.Lines[0])}
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
	h.made(path, req, rec.Lookup(*head)).serve(x, x.req)
	return nil
}

func contentType(r modpath.Request) string {
	if r.Gzip {
		return "application/gzip"
	}
	switch r.Kind {
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
	if _, known := h.damage.LoadOrStore(path, true); !known {
		h.damages.Add(1)
		if h.ctx != nil {
			go h.recheck(path)
		}
	}
	h.metrics.failures.Inc()
	h.log.Error("a file of the bundle does not verify; its body was not sent", "path", path)
}

// recheckInterval is how long after a file of a bucket did not verify it is fetched again.
const recheckInterval = 5 * time.Second

// recheck fetches a file of a bucket again until it verifies: it may have been changed on its way, and nobody asks a server that is not ready.
func (h *handler) recheck(path string) {
	for sleep(h.ctx, recheckInterval) && h.acquire() {
		remote, err := h.refetch(path)
		h.release()
		if !remote || err == nil {
			return
		}
	}
}

func (h *handler) refetch(path string) (remote bool, err error) {
	f, ok, err := h.view.File(h.ctx, path)
	if err != nil || !ok {
		return false, err
	}
	src, err := h.large[f.In].open(h.ctx, f.File)
	if err != nil {
		return true, err
	}
	defer src.close()
	if _, ok := src.(*fetched); !ok { // nothing of it is fetched again
		return false, nil
	}
	return true, src.verify(h.ctx)
}

// repaired forgets that, when all of the file was verified since: one in a bucket may have been changed on its way.
func (h *handler) repaired(path string) {
	if h.damages.Load() == 0 {
		return
	}
	if _, known := h.damage.LoadAndDelete(path); known {
		h.damages.Add(-1)
		h.log.Info("a file that did not verify does now", "path", path)
	}
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
