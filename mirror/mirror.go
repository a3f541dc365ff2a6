// Package mirror is the connected side of modmirror: it brings what sources need into a verified
// mirror directory.
//
// A sync resolves queries and loads the module graphs as the go command does. That gives the
// closure: the module versions whose .mod, .info and perhaps .zip are wanted. The sync fetches
// those files, proves the record of each version in the checksum database under one tree head, and
// only then gives the files their names in the mirror directory. A file there is complete and
// verified, so a killed run loses nothing but the files in progress.
//
// Requests run side by side, and hashing uses every core. Zips are never in memory. The .mod and
// .info files of new versions, some kilobytes each, are in memory until their proof is done.
package mirror

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/review/facts"
)

// DefaultParallel is the number of requests in flight when Config.Parallel is 0.
const DefaultParallel = 64

// readsInFlight bounds the goroutines that read many small files.
const readsInFlight = 64

// waiting bounds the goroutines that wait for the network. Each has a stack, and a go.mod can name
// tens of thousands of versions.
const waiting = 1000

// Config holds the settings of a Mirror. Dir and Upstream must be set.
type Config struct {
	Dir      string           // the mirror directory
	Upstream *upstream.Client // the proxies that modules come from

	DB       *proof.Database // checksum database; nil for GOSUMDB=off
	NoSumDB  string          // GONOSUMDB: patterns of modules that have no records
	NoProxy  string          // GONOPROXY: patterns of modules that the go command fetches directly
	ModCache string          // GOMODCACHE, to save downloads; "" for none
	Parallel int             // requests in flight; 0 means DefaultParallel
	Closed   bool            // close the closures of projects too
	Compat   bool            // carry what go commands before 1.17 read too

	// MaxAge is how old an answer about the newest version of a carried module, or about the head
	// of the checksum database, may be to be taken from an earlier sync; 0 to always ask. Queries
	// are always asked.
	MaxAge time.Duration

	// Sightings asks for Closure.Seen. Each costs the check of a signature.
	Sightings bool

	// Cooldown is the least age in days of what queries are resolved to; 0 for any. See
	// proof.Cooldown.
	Cooldown int

	Executable string // the running modmirror, for bootstraps
	GoVersion  string // Go version here, such as go1.26.8; a sync reports sources that need a newer one

	// Planned is called before downloads with the sizes of the build lists and of the whole
	// closure. It may be nil.
	Planned  func(build, all modgraph.Size)
	Waiting  func(holder string) // is called once when another process holds the directory; may be nil
	Progress *Progress           // is updated during a sync; may be nil
}

// Progress counts what a sync has done so far.
type Progress struct {
	Total, Done atomic.Int64 // module versions; Total is 0 while graphs are loaded
	Bytes       atomic.Int64 // fetched over the network
}

// A Version is a module version of a closure, with the hashes of its files.
type Version struct {
	Mod         module.Version
	Time        time.Time
	Origin      string        // JSON of the .info file's Origin; "" without one
	Record      *proof.Record // proven record; nil for a module outside the checksum database
	H1          string        // of the zip; "" without a zip and a record
	GoModH1     string
	GoMod, Info File
	Zip         *File        // nil when only .mod and .info are carried
	Facts       *facts.Facts // of the zip; nil without one, and for a toolchain
	Retracted   bool         // the go.mod of the module's newest version retracts it
	Reason      string       // reason of the retraction
	Deprecated  string       // deprecation message in the same go.mod
	Latest      string       // newest version of the module, carried or not; "" when the upstream did not say
}

// A Closure is the verified result of a sync. Its files are in the mirror directory.
type Closure struct {
	Versions     []Version // by path and version
	Missing      []Missing
	Requirements []modgraph.Requirement
	Queries      []Query
	DB           string           // name of the checksum database; "" for none
	Seen         []proof.Sighting // heads that earlier syncs saw, oldest first; see Config.Sightings
	Head         proof.Head       // all records are proven under it
	Heads        []proof.Head     // earlier heads that clients may remember, smallest first; Head continues them
	Notes        []string         // oddities that do not fail the run
	Vulns        []File           // files of the vulnerability database
	Bootstraps   []File           // tars with modmirror and Go for hosts that have neither
	// NoGoMod lists the versions that were asked for and have no go.mod. The latest versions of
	// what they import are carried.
	NoGoMod []module.Version
	Tiles   []string // GOPROXY paths of the tiles that a go command asks for to verify the records
	Stats   Stats

	Repacked int // zips whose bytes differ from the lock and whose h1 does not

	Resolved map[string][]string // versions by module@query; empty when there was none

	newestMods map[string]*modgraph.GoMod // go.mod of the newest version, by module path

	// Toolchains has list lines for the toolchains that sources need, that are newer than the Go
	// here, and that were not asked for.
	Toolchains []string
}

// Stats says how long the steps of a sync took, and what it fetched.
type Stats struct {
	Resolve, Prove, Total time.Duration // wall time; Prove overlaps with fetching
	Hash                  time.Duration // summed over all cores
	Fetched               int64         // bytes over the network
	Reused                int64         // zips taken from GOMODCACHE
}

// A Mirror is an open mirror directory with its settings. Only one of its methods may run at a
// time, except for Path.
type Mirror struct {
	cfg Config
	dir *Dir
}

// Open opens and locks the mirror directory, and creates it if needed. It waits while another
// process holds it. The caller closes the Mirror.
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

// Close unlocks the mirror directory.
func (m *Mirror) Close() error { return m.dir.Close() }

// Path returns the file name for a GOPROXY path.
func (m *Mirror) Path(rel string) string { return m.dir.Path(rel) }
