package serve

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

// maxWants is how many wants are kept: a client that asks for nonsense must not fill a disk. When
// there are more, a tenth goes: of the clients that have most of them, the least wanted.
const maxWants = 10_000

// maxWantsFile is the longest file of wants that is read, in bytes: each takes less than 3 KiB, as
// a path has at most modpath.MaxLength.
const maxWantsFile = maxWants * 3 << 10

// A Recorder is told what clients ask for and do not get. *Wants is one. Several goroutines call its
// methods at once.
type Recorder interface {
	// Add records a request for something that is not carried, which came from an address.
	Add(r modpath.Request, from netip.Addr)

	// AddTree records that a client remembers a tree of size records of a checksum database which
	// the bundles do not know. When exact is false, only the bits above the last eight of size are
	// known.
	AddTree(db string, size int64, exact bool, from netip.Addr)

	// Evicted returns how many records were dropped for want of room.
	Evicted() int64
}

// A MissFunc is a Recorder that is called with requests and ignores trees. nil ignores both.
type MissFunc func(r modpath.Request, from netip.Addr)

// Add calls f.
func (f MissFunc) Add(r modpath.Request, from netip.Addr) {
	if f != nil {
		f(r, from)
	}
}

// AddTree does nothing.
func (f MissFunc) AddTree(string, int64, bool, netip.Addr) {}

// Evicted returns 0.
func (f MissFunc) Evicted() int64 { return 0 }

// A Want is something that was asked for and is not carried: a module, or what a client needs that
// remembers a tree head of the checksum database which the bundles do not know. Who asked is not
// kept.
type Want struct {
	Path  string    `json:"path"`            // of a module, or the name of a checksum database
	Query string    `json:"query,omitempty"` // a version, a branch or a commit; "latest" when it was asked which versions there are
	Size  int64     `json:"size,omitempty"`  // records in the tree that a client remembers; 0 for a module
	Count int64     `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`

	// Perhaps says that only .info files and lists were asked for. A go command that looks for a
	// package asks about every path above it, so there may be no such module at all. Of a tree it
	// says that the last eight bits of its size are not known.
	Perhaps bool `json:"perhaps,omitempty"`
}

func (x *Want) key() string {
	if x.Size > 0 {
		return fmt.Sprintf("head %s %d", x.Path, x.Size)
	}
	return x.Path + "@" + x.Query
}

// check returns an error unless x can stand in a list for sync.
func (x *Want) check() error {
	switch {
	case x.Size != 0:
		if x.Size < 0 || x.Query != "" {
			return errors.New("not a tree head")
		}
		return modpath.CheckDB(x.Path)
	case !modpath.CanBeModule(x.Path):
		return fmt.Errorf("%.100q can be no module", x.Path)
	case x.Query == "latest":
		return nil
	case x.Path == modpath.Toolchain && !released(x.Query):
		return fmt.Errorf("%.100q was never released", x.Query)
	}
	return modpath.CheckRevision(x.Query)
}

// released reports whether a version of the toolchain module can be one of a released Go: since Go
// 1.21 that has three numbers, and go1.21.0 itself asks for go1.27 where go.mod says go 1.27
// (https://go.dev/doc/toolchain#version).
func released(v string) bool {
	v, ok := strings.CutPrefix(v, "v0.0.1-")
	if i := strings.LastIndexByte(v, '.'); ok && i > 0 {
		v = v[:i]
	}
	return !ok || version.IsValid(v) && (version.Lang(v) != v || version.Compare(v, "go1.21") < 0)
}

// Wants remembers what was asked for and is not carried, in a file that survives restarts. It is
// safe for concurrent use.
type Wants struct {
	file string

	mu      sync.Mutex
	wants   map[string]*Want        // by key
	from    map[string]netip.Prefix // by key, the network of the client that asked first, since the start
	dirty   bool
	evicted int64
}

// OpenWants reads the wants in a file; one that is not there has none. skipped, which may be nil,
// is told of entries that cannot stand in a list; they are left out. A file that is something else
// is a *WantsFileError.
func OpenWants(file string, skipped func(error)) (*Wants, error) {
	w := &Wants{file: file, wants: make(map[string]*Want), from: make(map[string]netip.Prefix)}
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Size() > maxWantsFile {
		return nil, &WantsFileError{file, fmt.Errorf("more than %d bytes", int64(maxWantsFile))}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, &WantsFileError{file, err}
	}
	for _, raw := range list[:min(len(list), maxWants)] {
		x := new(Want)
		err := json.Unmarshal(raw, x)
		if err == nil {
			err = x.check() // it is printed, and given to sync
		}
		if err != nil {
			if skipped != nil {
				skipped(fmt.Errorf("%s: left out: %w", file, err))
			}
			continue
		}
		w.wants[x.key()] = x
	}
	return w, nil
}

// A WantsFileError says that a file does not hold wants.
type WantsFileError struct {
	File string
	Err  error
}

// Error names the file.
func (e *WantsFileError) Error() string {
	return fmt.Sprintf("%s: not a list of wants: %v", e.File, e.Err)
}

// Unwrap returns the reason.
func (e *WantsFileError) Unwrap() error { return e.Err }

// SetAside gives the file another name, which it returns, and begins anew.
func (e *WantsFileError) SetAside(now time.Time) (w *Wants, name string, err error) {
	name = e.File + now.UTC().Format(".damaged-20060102T150405")
	if err := os.Rename(e.File, name); err != nil {
		return nil, "", err
	}
	w, err = OpenWants(e.File, nil)
	return w, name, err
}

// noVersion is what go commands call a module that a folder replaces, and ask about now and then.
const noVersion = "v0.0.0-00010101000000-000000000000"

// Add remembers a request that was answered with 404, and came from an address. What can be no
// module, or no version of one, is not remembered.
func (w *Wants) Add(r modpath.Request, from netip.Addr) {
	x := Want{Path: r.Path, Query: r.Version}
	switch r.Kind {
	case modpath.Mod, modpath.Zip, modpath.SumLookup:
	case modpath.Info:
		x.Perhaps = true
	case modpath.List, modpath.Latest:
		x.Query, x.Perhaps = "latest", true
	default:
		return
	}
	switch x.Query {
	case noVersion:
		return
	case "upgrade", "patch": // go 1.11 and 1.12 ask for these as for a version
		x.Query = "latest"
	}
	w.add(x, from)
}

// AddTree remembers that a client remembers a tree of a checksum database that the bundles do not
// know. exact is false when only the size's bits above the last eight are known.
func (w *Wants) AddTree(db string, size int64, exact bool, from netip.Addr) {
	w.add(Want{Path: db, Size: size, Perhaps: !exact}, from)
}

func (w *Wants) add(x Want, from netip.Addr) {
	if x.check() != nil {
		return
	}
	now := time.Now().UTC().Truncate(time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.wants[x.key()]
	if have == nil {
		if len(w.wants) >= maxWants {
			w.evict()
		}
		have = &x
		have.First = now
		w.wants[x.key()] = have
		w.from[x.key()] = client(from)
	}
	have.Count++
	have.Last = now
	have.Perhaps = have.Perhaps && x.Perhaps
	w.dirty = true
}

// evict removes a tenth: of the clients with the most wants, until none has more than the others,
// and of theirs what was asked for least, and longest ago. w.mu is held.
func (w *Wants) evict() {
	by := make(map[netip.Prefix][]*Want)
	for key, x := range w.wants {
		by[w.from[key]] = append(by[w.from[key]], x)
	}
	sizes := make([]int, 0, len(by))
	for _, list := range by {
		sizes = append(sizes, len(list))
		slices.SortFunc(list, func(a, b *Want) int { return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last)) })
	}
	slices.Sort(sizes)
	share, room := 0, maxWants-maxWants/10 // what each may keep
	for i, n := range sizes {
		if share = room / (len(sizes) - i); n > share {
			break
		}
		room -= n
	}
	for _, list := range by {
		for _, x := range list[min(share, len(list)):] {
			delete(w.wants, x.key())
			delete(w.from, x.key())
			w.evicted++
		}
	}
}

// Evicted returns how many wants were forgotten for want of room.
func (w *Wants) Evicted() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.evicted
}

// List returns the wants by path and query.
func (w *Wants) List() []Want {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list()
	slices.SortFunc(list, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query), cmp.Compare(a.Size, b.Size))
	})
	return list
}

func (w *Wants) list() (list []Want) {
	for _, x := range w.wants {
		list = append(list, *x)
	}
	return list
}

// Save writes the file when something is new.
func (w *Wants) Save() error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = false
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	data, err := json.MarshalIndent(w.List(), "", "\t")
	if err == nil {
		err = safefile.Write(w.file, append(data, '\n'), 0o600)
	}
	if err != nil {
		w.mu.Lock()
		w.dirty = true
		w.mu.Unlock()
		return fmt.Errorf("remembering what was asked for: %w", err)
	}
	return nil
}

// maxTrees is how many trees of clients a list names, those that were asked for most: connecting
// one takes a sync some requests, and a client can name any number of them.
const maxTrees = 50

// ListFile returns the wants as a list file for sync, but for modules of the patterns in inside,
// which are had elsewhere. All lines say maybe: a client may ask for what does not exist, and that
// must not end a sync.
func ListFile(wants []Want, inside string) string {
	named := make(map[string]bool)
	trees := make(map[Want]bool) // whose sizes are known
	upper := func(x Want) Want { return Want{Path: x.Path, Size: x.Size >> modpath.TileHeight} }
	for _, x := range wants {
		if x.Size > 0 && !x.Perhaps {
			trees[upper(x)] = true
		}
		if x.Query != "latest" {
			named[x.Path] = true
		}
	}
	most := slices.DeleteFunc(slices.Clone(wants), func(x Want) bool { return x.Size == 0 })
	slices.SortStableFunc(most, func(a, b Want) int { return cmp.Compare(b.Count, a.Count) })
	most = most[:min(len(most), maxTrees)]
	var b strings.Builder
	for _, x := range wants {
		if x.Size > 0 && !slices.Contains(most, x) {
			continue
		}
		if x.Size == 0 && (x.Query == "latest" && named[x.Path] || module.MatchPrefixPatterns(inside, x.Path)) {
			continue
		}
		if x.Size > 0 && x.Perhaps && trees[upper(x)] {
			continue
		}
		line := "maybe " + x.Path + "@" + x.Query
		if x.Size > 0 {
			line = fmt.Sprintf("head %s %d", x.Path, x.Size)
		}
		times := "once"
		if x.Count > 1 {
			times = fmt.Sprintf("%d times", x.Count)
		}
		when := x.First.Format(time.DateOnly)
		if last := x.Last.Format(time.DateOnly); last != when {
			when += " to " + last
		}
		fmt.Fprintf(&b, "%s # asked for %s, %s\n", line, times, when)
	}
	return b.String()
}
