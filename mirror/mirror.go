// Package mirror is the connected side of modmirror: it takes sources (projects and
// modules) to a verified mirror directory.
//
// The way is: resolve queries; load the module graphs, as the go command does; that gives the
// closure, the set of versions of which the .mod, .info and perhaps .zip are wanted; fetch
// them; prove each version's record of the checksum database under one tree head; and only then
// give the files their names in the mirror directory. A file there is complete and
// verified, so a run that was killed loses what was under way and nothing else.
//
// Fetching is wide and hashing uses every core. Zips are never in memory; .mod and .info files
// of new versions are until their proof is done, some kilobytes each.
package mirror

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// DefaultParallel is how many requests are in flight at once unless told otherwise.
const DefaultParallel = 64

// readsInFlight bounds the goroutines that wait for one another's small reads.
const readsInFlight = 64

// waiting bounds the goroutines that wait for the network: each has a stack, and a go.mod can name
// tens of thousands of versions.
const waiting = 1000

// Config says how to sync. Its first group must be set.
type Config struct {
	Dir      string           // the mirror directory
	Upstream *upstream.Client // where modules come from

	DB       *proof.Database // checksum database; nil for GOSUMDB=off
	NoSumDB  string          // GONOSUMDB: patterns of modules outside the database
	NoProxy  string          // GONOPROXY: patterns of modules that are fetched directly, with the go command
	ModCache string          // GOMODCACHE to save downloads; "" for none
	Parallel int             // requests in flight; 0 means DefaultParallel
	Closed   bool            // closed closure for projects too
	Compat   bool            // also what go commands before 1.17 read, which prune no graphs

	Executable string // file of the modmirror that runs, for Self
	GoVersion  string // of the Go here, such as go1.26.8: a note says when a source needs a newer one

	Planned  func(build, all modgraph.Size) // told what was planned, before it is downloaded: the build lists of the sources, and with their closed closures
	Waiting  func(holder string)            // told once when another process has the directory
	Progress *Progress                      // updated while it runs; may be nil
}

// Progress is what a sync has done so far.
type Progress struct {
	Total, Done atomic.Int64 // module versions; Total is 0 while the graph is loaded
	Bytes       atomic.Int64 // fetched over the network
}

// A Version is a module version of a closure.
type Version struct {
	Mod         module.Version
	Time        time.Time
	Origin      string        // JSON of the .info file's Origin; "" without one
	Record      *proof.Record // proven; nil for a module outside the checksum database
	H1          string        // of the zip; "" when neither the zip nor a record is there
	GoModH1     string
	GoMod, Info File
	Zip         *File  // nil when only .mod and .info are carried
	Retracted   bool   // by the module's newest version, carried or not
	Reason      string // of the retraction
	Deprecated  string // the module's deprecation message, by the same
	Latest      string // that newest version, "" when the upstream did not say
}

// A Closure is what was asked for, in the mirror directory and verified.
type Closure struct {
	Versions     []Version // by path and version
	Missing      []Missing
	Requirements []modgraph.Requirement
	Queries      []Query
	DB           string           // name of the checksum database; "" for none
	Head         proof.Head       // that all records were proven under
	Heads        []proof.Head     // earlier ones that clients may remember, smallest first: Head continues them
	Notes        []string         // what is odd about it, and no reason to fail
	Vulns        []File           // the vulnerability database, when it is carried
	Bootstraps   []File           // modmirror and Go for hosts that have nothing yet
	NoGoMod      []module.Version // that were asked for and have no go.mod: the latest versions of what they import are carried
	Tiles        []string         // GOPROXY paths of the tiles that a go command asks for
	Stats        Stats

	Repacked int // versions whose zips are packed in another way than in the lock, with the same h1

	Resolved map[string][]string // versions by module@query; none where there was no such thing

	newestMods map[string]*modgraph.GoMod // by module path: what judges its versions

	Toolchains []string // lines of a list that carry the toolchains that sources need, newer than the Go here, and that were not asked for
}

// Stats says where the time went.
type Stats struct {
	Resolve, Prove, Total time.Duration // wall time; Prove runs beside fetching
	Hash                  time.Duration // over all cores, beside fetching
	Fetched               int64         // bytes over the network
	Reused                int64         // zips taken from GOMODCACHE
}

// A Mirror is an open mirror directory with what is needed to fill it.
type Mirror struct {
	cfg Config
	dir *Dir
}

// Open locks the mirror directory.
func Open(ctx context.Context, cfg Config) (*Mirror, error) {
	if cfg.Parallel <= 0 {
		cfg.Parallel = DefaultParallel
	}
	if cfg.Progress == nil {
		cfg.Progress = new(Progress)
	}
	dir, err := OpenDir(ctx, cfg.Dir, cfg.Waiting)
	if err != nil {
		return nil, err
	}
	return &Mirror{cfg, dir}, nil
}

// Close gives the mirror directory back.
func (m *Mirror) Close() error { return m.dir.Close() }

// Path returns where in the file system the file at a GOPROXY path is.
func (m *Mirror) Path(rel string) string { return m.dir.Path(rel) }
