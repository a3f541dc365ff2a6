package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/review/facts"
)

const (
	// maxInfo is the longest .info file in bytes. Real ones have some hundred bytes.
	maxInfo = 64 << 10

	// maxWaiting and maxWaitingInfo are the longest .mod and .info files in bytes that wait for
	// their proof in memory; longer ones wait on disk. Real go.mod files have some thousand bytes.
	maxWaiting     = 64 << 10
	maxWaitingInfo = 2 << 10

	// maxLines is the largest number of lines in a go.mod that a graph reads. Parsing takes some
	// hundred bytes of memory a line. Real ones have up to two thousand lines.
	maxLines = 100_000
)

// A File is a file of the mirror directory.
type File struct {
	Path   string // GOPROXY path
	Size   int64  // in bytes
	SHA256 [32]byte
}

// A staged file is fetched and well-formed, and waits for the check of its hash. A new one gets its
// name after that; data, waiting or temp holds its content.
type staged struct {
	File
	h1      string
	packed  bool           // for a zip: it has the form of repack
	goModH1 string         // of the go.mod in a new zip; "" without one
	facts   *facts.Facts   // of a zip; nil for a toolchain
	temp    *safefile.File // of a zip
	scanned bool           // a zip of the mirror directory whose facts were not known

	mu      sync.Mutex
	data    []byte         // of a small file; guarded by mu
	waiting *safefile.File // of a long .mod or .info file; guarded by mu
}

// A goMod is a go.mod file that is asked for: queries, graphs, toolchains, retractions and the
// bundle may all want it, at the same time too.
type goMod struct {
	asking sync.Mutex
	staged *staged         // nil before it was fetched
	parsed *modgraph.GoMod // nil before it was parsed
	bad    error           // *modgraph.BadModError; nil for none
}

// A goInfo is a .info file that is asked for.
type goInfo struct {
	asking sync.Mutex
	staged *staged // nil before it was fetched
	info   info
	err    error // refusal of the upstream
}

// A fetcher gets the files of module versions from the mirror directory, or else from a module
// cache of the go command, or else from the upstream.
type fetcher struct {
	dir      *Dir
	up       *upstream.Client
	modCache string // GOMODCACHE, or ""
	noProxy  string // GONOPROXY: patterns of modules that direct fetches
	direct   *upstream.Direct
	net      *limiter   // bounds requests in flight
	cpu      h1.Limiter // bounds files of zips that are inflated
	zips     *limiter   // bounds zips that are hashed, each with its directory in memory
	open     *limiter   // bounds zips that are fetched or hashed, each with an open file
	record   func(context.Context, module.Version) (proof.Record, bool)
	// young says why a version is too young for a query; "" when it is not.
	young     func(context.Context, module.Version) (string, error)
	repacked  func(module.Version) bool // reports whether a zip must have the form of repack
	progress  *atomic.Int64
	bytes     atomic.Int64 // fetched over the network
	reused    atomic.Int64 // zips from a module cache
	hashNanos atomic.Int64 // time spent on hashing zips, over all cores

	lock   *Lock // answers queries; nil without a lock
	recent *recent

	mu       sync.Mutex
	resolved map[module.Version]*resolution // results of queries
	mods     map[module.Version]*goMod
	infos    map[module.Version]*goInfo
}

// small gets a .mod or .info file. check says whether its content is well-formed. Content of the
// mirror directory or of a module cache that is not well-formed is ignored. With an error of check
// about the upstream's content, small returns that content too.
func (f *fetcher) small(
	ctx context.Context, kind modpath.Kind, m module.Version, limit int64, check func([]byte) error,
) (*staged, []byte, error) {
	rel := versionFile(kind, m.Path, m.Version)
	s := &staged{File: File{Path: rel}}
	data, ok, err := f.dir.read(rel)
	if err != nil {
		return nil, nil, err
	}
	good := func() bool { // a damaged file must not decide what a module requires
		if !ok || int64(len(data)) > limit || kind == modpath.Mod && f.contradictsSumDB(ctx, m, data) {
			return false
		}
		return check(data) == nil
	}
	if !good() {
		// The go command writes .info files in a way of its own: each machine would carry other
		// bytes.
		if kind != modpath.Info {
			data, ok = f.cached(rel)
		}
		if !good() {
			var from string
			if data, from, err = f.get(ctx, m, rel, limit); err != nil {
				return nil, nil, err
			}
			err = answered(from, check(data))
		}
		if data == nil { // nil would mean that there is nothing to write
			data = []byte{}
		}
		most := maxWaiting
		if kind == modpath.Info {
			most = maxWaitingInfo
		}
		if s.data = data; len(data) > most {
			var err2 error
			if s.waiting, err2 = f.dir.put(rel, data); err2 != nil {
				return nil, nil, err2
			}
			s.data = nil
		}
	}
	s.Size = int64(len(data))
	s.SHA256 = sha256.Sum256(data)
	return s, data, err
}

// contradictsSumDB reports whether the checksum database has another hash for the go.mod of m.
func (f *fetcher) contradictsSumDB(ctx context.Context, m module.Version, data []byte) bool {
	r, ok := f.record(ctx, m)
	return ok && r.GoModH1 != h1.GoMod(data)
}

// cached reads a small file from the go command's module cache. Errors do not matter: the upstream
// has the file too.
func (f *fetcher) cached(rel string) (data []byte, ok bool) {
	if f.modCache == "" {
		return nil, false
	}
	data, err := os.ReadFile(f.cachePath(rel))
	return data, err == nil
}

func (f *fetcher) cachePath(rel string) string {
	return filepath.Join(f.modCache, "cache", "download", filepath.FromSlash(rel))
}

// get asks the upstream of a module for a small file. from is the URL that answered.
func (f *fetcher) get(
	ctx context.Context, m module.Version, rel string, limit int64,
) (data []byte, from string, err error) {
	data, err = f.counted(ctx, func() (data []byte, err error) {
		data, from, err = f.source(m).GetFrom(ctx, rel, limit)
		return data, err
	})
	return data, from, err
}

// answered adds the URL that answered to an error about the content of the answer.
func answered(from string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("in the answer to GET %s: %w", from, err)
}

// getURL gets a file of a checksum database or a vulnerability database.
func (f *fetcher) getURL(ctx context.Context, url string, limit int64) ([]byte, error) {
	return f.counted(ctx, func() ([]byte, error) { return f.up.GetURL(ctx, url, limit) })
}

// counted makes a request when a slot is free, and counts the bytes that it returns.
func (f *fetcher) counted(ctx context.Context, request func() ([]byte, error)) ([]byte, error) {
	if err := f.net.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.net.release()
	data, err := request()
	f.count(int64(len(data)))
	return data, err
}

// A source returns module files by their GOPROXY paths.
type source interface {
	GetFrom(ctx context.Context, path string, limit int64) (data []byte, from string, err error)
	Download(ctx context.Context, path string, f *os.File, limit int64, progress func(n int64)) error
}

// source returns the source of a module's files.
func (f *fetcher) source(m module.Version) source {
	if module.MatchPrefixPatterns(f.noProxy, m.Path) {
		return f.direct
	}
	return f.up
}

// goMod gets and parses a go.mod file. It returns a *modgraph.AbsentError when the upstream refuses
// the file, and a *modgraph.BadModError when the file cannot be parsed. Each file is fetched and
// parsed once.
func (f *fetcher) goMod(ctx context.Context, m module.Version) (*modgraph.GoMod, error) {
	g := entry(&f.mu, f.mods, m)
	g.asking.Lock()
	defer g.asking.Unlock()
	if g.parsed != nil || g.bad != nil {
		return g.parsed, g.bad
	}
	if g.staged != nil { // it was wanted for the bundle alone
		if data, ok, err := f.content(g.staged); err == nil && ok {
			if g.parsed, err = parseGoMod(m, data); err == nil {
				return g.parsed, nil
			}
		}
	}
	var parsed *modgraph.GoMod
	s, err := f.stage(ctx, m, func(data []byte) (err error) {
		parsed, err = parseGoMod(m, data)
		return err
	})
	switch {
	case err == nil:
		g.parsed, g.staged = parsed, s
	case s != nil: // the upstream has it so
		g.bad = err
		if g.staged == nil {
			g.staged = s
		} else {
			s.discard()
		}
	}
	return g.parsed, err
}

// parseGoMod parses a go.mod file of the graph. Its errors are *modgraph.BadModError.
func parseGoMod(m module.Version, data []byte) (*modgraph.GoMod, error) {
	if n := bytes.Count(data, []byte("\n")); n > maxLines {
		err := fmt.Errorf("%s/go.mod: %d lines, more than the limit of %d", m, n, maxLines)
		return nil, &modgraph.BadModError{Err: err}
	}
	mod, err := modfile.ParseLax(m.String()+"/go.mod", data, nil)
	if err == nil && mod.Module == nil {
		err = fmt.Errorf("%s/go.mod: no module line", m)
	}
	if err != nil {
		return nil, &modgraph.BadModError{Err: err}
	}
	return modgraph.Summarize(mod), nil
}

// entry returns what a map, guarded by mu, has for m. It adds a new one if there is none.
func entry[V any](mu *sync.Mutex, entries map[module.Version]*V, m module.Version) *V {
	mu.Lock()
	defer mu.Unlock()
	v := entries[m]
	if v == nil {
		v = new(V)
		entries[m] = v
	}
	return v
}

// content returns the content of a small file that was fetched. ok is false when the mirror
// directory lost it.
func (f *fetcher) content(s *staged) (data []byte, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.data != nil:
		return s.data, true, nil
	case s.waiting != nil:
		data, err = os.ReadFile(s.waiting.Name())
		return data, err == nil, err
	}
	return f.dir.read(s.Path)
}

// stagedMod returns the go.mod file of m without parsing it. A file that no graph reads need not be
// well-formed: only its hash counts, as for the go command.
func (f *fetcher) stagedMod(ctx context.Context, m module.Version) (*staged, error) {
	g := entry(&f.mu, f.mods, m)
	g.asking.Lock()
	defer g.asking.Unlock()
	if g.staged != nil {
		return g.staged, nil
	}
	s, err := f.stage(ctx, m, func([]byte) error { return nil })
	if err == nil {
		g.staged = s
	}
	return s, err
}

// checkName checks that a proxy can be asked for m, and that a file system can have its names.
func checkName(m module.Version) error {
	if err := module.Check(m.Path, m.Version); err != nil {
		return err
	}
	const longest = 240 // a name may have 255 bytes; this leaves room for .hashes
	for elem := range strings.SplitSeq(m.Path, "/") {
		// Escaping doubles upper case, and lookups have files named path@version.
		if 2*len(elem)+len(m.Version) > longest {
			return fmt.Errorf("%.100s: its name is too long for a file", m)
		}
	}
	return nil
}

// stage gets a go.mod file and keeps it until its hash is proven.
func (f *fetcher) stage(ctx context.Context, m module.Version, check func([]byte) error) (*staged, error) {
	if err := checkName(m); err != nil {
		return nil, &modgraph.AbsentError{Err: err}
	}
	s, data, err := f.small(ctx, modpath.Mod, m, modzip.MaxGoMod, check)
	if upstream.Refused(err) {
		return nil, &modgraph.AbsentError{Err: err}
	}
	if s == nil {
		return nil, err
	}
	s.h1 = h1.GoMod(data)
	return s, err
}

// An info is the content of a .info file.
type info struct {
	Version string
	Time    time.Time
	Origin  json.RawMessage
}

// parseInfo parses a .info file and checks that it is about version, or about any version when that
// is "".
func parseInfo(data []byte, version string) (info, error) {
	var i info
	if err := json.Unmarshal(data, &i); err != nil {
		return i, fmt.Errorf("not a .info file: %w", err)
	}
	if module.CanonicalVersion(i.Version) != i.Version || i.Version == "" {
		return i, fmt.Errorf("version %q is not canonical", i.Version)
	}
	if version != "" && i.Version != version {
		return i, fmt.Errorf("says version %q: %w", i.Version, proof.ErrMismatch)
	}
	if y := i.Time.UTC().Year(); !i.Time.IsZero() && (y < 1970 || y > 9999) {
		return i, fmt.Errorf("impossible time %v", i.Time)
	}
	return i, nil
}

// info gets the .info file of a version. It is fetched once.
func (f *fetcher) info(ctx context.Context, m module.Version) (*staged, info, error) {
	g := entry(&f.mu, f.infos, m)
	g.asking.Lock()
	defer g.asking.Unlock()
	if g.staged != nil || g.err != nil {
		return g.staged, g.info, g.err
	}
	var i info
	s, _, err := f.small(ctx, modpath.Info, m, maxInfo, func(data []byte) (err error) {
		if i, err = parseInfo(data, m.Version); err != nil {
			err = fmt.Errorf("%s: %s: %w", m, modpath.Info, err)
		}
		return err
	})
	switch {
	case err == nil:
		g.staged, g.info = s, i
	case upstream.Refused(err):
		g.err = err
	}
	return s, i, err
}

// count counts bytes that came over the network. n is negative for bytes that are fetched again.
func (f *fetcher) count(n int64) {
	f.bytes.Add(n)
	f.progress.Add(n)
}

// discard removes temporary files that no version of the closure needed, such as a long go.mod that
// only a query read.
func (f *fetcher) discard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.mods {
		g.staged.discard()
	}
	for _, g := range f.infos {
		g.staged.discard()
	}
}

// discard removes the temporary file of s, if it has one. s may be nil.
func (s *staged) discard() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, temp := range []*safefile.File{s.waiting, s.temp} {
		if temp != nil {
			temp.Discard()
		}
	}
}

// commit gives a staged file its name in the mirror directory.
func (f *fetcher) commit(s *staged) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.data != nil:
		data := s.data
		s.data = nil
		return f.dir.write(s.Path, data)
	case s.waiting != nil:
		waiting := s.waiting
		s.waiting = nil
		return f.dir.adopt(s.Path, waiting, s.Size)
	case s.temp != nil:
		temp := s.temp
		s.temp = nil
		if err := f.dir.adopt(s.Path, temp, s.Size); err != nil {
			return err
		}
		return f.writeHashes(s)
	case s.scanned:
		s.scanned = false
		return f.writeHashes(s)
	}
	return nil
}

// reject puts a file that does not verify into quarantine and returns reason.
func (f *fetcher) reject(s *staged, reason error) error {
	var err error
	switch {
	case s.data != nil:
		var temp *safefile.File
		if temp, err = f.dir.put(s.Path, s.data); err == nil {
			err = f.dir.quarantine(temp.Name(), s.Path, reason)
		}
	case s.waiting != nil:
		err = f.dir.quarantine(s.waiting.Name(), s.Path, reason)
	case s.temp != nil:
		err = f.dir.quarantine(s.temp.Name(), s.Path, reason)
	default:
		err = f.dir.quarantine(f.dir.Path(s.Path), s.Path, reason)
	}
	return errors.Join(reason, err)
}
