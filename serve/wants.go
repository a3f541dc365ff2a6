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

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

// maxWants is how many wants are kept, so that a client that asks for nonsense does not fill a
// disk.
const maxWants = 10_000

// maxReason is the longest reason in bytes.
const maxReason = 200

// maxWantsFile is the longest file of wants that is read, in bytes. A want takes less than 3 KiB:
// its path has at most modpath.MaxLength bytes.
const maxWantsFile = maxWants * 3 << 10

// A Recorder is told what clients ask for and do not get. *Wants is one. Several goroutines call
// its methods at once.
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

// A Want is something that clients asked for and that is not carried: a module, or a tree of the
// checksum database that a client remembers and the bundles do not know. It does not say who asked.
type Want struct {
	Path  string    `json:"path"`            // of a module; of a tree the name of its checksum database
	Query string    `json:"query,omitempty"` // a version, a branch or a commit; "latest" for a list of versions; "" for a tree
	Size  int64     `json:"size,omitempty"`  // records in the tree; 0 for a module
	Count int64     `json:"count"`           // requests
	First time.Time `json:"first"`           // when the first one came, and the last one
	Last  time.Time `json:"last"`

	// Perhaps says that clients asked only for .info files and lists. There may be no such module:
	// a go command that looks for a package asks about every path above it. For a tree it says that
	// the last eight bits of Size are unknown.
	Perhaps bool `json:"perhaps,omitempty"`

	// Reason is what somebody wrote who asked for it on the page, a visible line; "" for none.
	Reason string `json:"reason,omitempty"`
}

// key returns a name of the want that no other one has.
func (x *Want) key() string {
	if x.Size > 0 {
		return fmt.Sprintf("head %s %d", x.Path, x.Size)
	}
	return x.Path + "@" + x.Query
}

// check returns an error when sync would not accept x in a list.
func (x *Want) check() error {
	switch {
	case len(x.Reason) > maxReason || x.Reason != index.VisibleLine(x.Reason):
		return fmt.Errorf("a reason is one line of at most %d bytes", maxReason)
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

// released reports whether a version of the toolchain module can be of a released Go. Since Go 1.21
// that has three numbers; but go1.21.0 asks for go1.27 where go.mod says go 1.27
// (https://go.dev/doc/toolchain#version).
func released(v string) bool {
	v, ok := strings.CutPrefix(v, "v0.0.1-")
	if i := strings.LastIndexByte(v, '.'); ok && i > 0 {
		v = v[:i]
	}
	return !ok || version.IsValid(v) && (version.Lang(v) != v || version.Compare(v, "go1.21") < 0)
}

// Wants is a Recorder that keeps its records in a file. It is safe for concurrent use. Nothing is
// written before Save.
type Wants struct {
	file string

	mu      sync.Mutex              // guards what follows
	wants   map[string]*Want        // by key
	from    map[string]netip.Prefix // by key: the network that asked first since the start
	dirty   bool                    // something is not in the file yet
	evicted int64
}

// OpenWants reads the wants in a file. A missing file has none. It skips entries that sync would
// not accept in a list, and calls skipped, which may be nil, with the reason. It returns a
// *WantsFileError for a file of something else.
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
			err = x.check() // wants are printed, and given to sync
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

// SetAside renames the file, and returns empty wants for the old name with the new name of the
// file.
func (e *WantsFileError) SetAside(now time.Time) (w *Wants, name string, err error) {
	name = e.File + now.UTC().Format(".damaged-20060102T150405")
	if err := os.Rename(e.File, name); err != nil {
		return nil, "", err
	}
	w, err = OpenWants(e.File, nil)
	return w, name, err
}

// noVersion is the version that go commands give a module replaced by a folder. They ask for it now
// and then.
const noVersion = "v0.0.0-00010101000000-000000000000"

// Add records a request for something that is not carried, which came from an address. It ignores
// requests that no module or version can satisfy.
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
	case "upgrade", "patch": // go 1.11 and 1.12 ask for these as for versions
		x.Query = "latest"
	}
	w.add(x, from)
}

// AddTree records that a client remembers a tree of size records of a checksum database which the
// bundles do not know. When exact is false, only the bits above the last eight of size are known.
func (w *Wants) AddTree(db string, size int64, exact bool, from netip.Addr) {
	w.add(Want{Path: db, Size: size, Perhaps: !exact}, from)
}

// Ask records that somebody at an address wants a version of a module, or "latest", for a reason,
// which may be "". The error says what is wrong with that.
func (w *Wants) Ask(path, query, reason string, from netip.Addr) error {
	x := Want{Path: path, Query: cmp.Or(query, "latest"), Reason: index.VisibleLine(reason)}
	if err := x.check(); err != nil {
		return err
	}
	w.add(x, from)
	return nil
}

// add counts a want that came from an address, or adds it.
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
	have.Reason = cmp.Or(x.Reason, have.Reason)
	w.dirty = true
}

// evict removes a tenth of the wants: from the clients with the most, until none has more than the
// others, those with the fewest requests, the oldest of them first. w.mu is held.
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
	share, room := 0, maxWants-maxWants/10 // share is how many each client may keep
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

// Evicted returns how many wants were dropped for want of room.
func (w *Wants) Evicted() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.evicted
}

// List returns the wants, sorted by path and query.
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

// Save writes the file when something is new. After an error the next call tries again.
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

// maxTrees is how many trees ListFile names, those with the most requests. A sync makes some
// requests for each, and a client can name any number of them.
const maxTrees = 50

// ListFile returns the wants as a list file for sync. It leaves out modules that match the patterns
// in inside, separated by commas. All lines for modules say maybe: a client may ask for a module
// that does not exist, and that must not end a sync.
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
		b.WriteString(x.line())
	}
	return b.String()
}

// line returns the want as a line of a list file, with a comment that says how often and when.
func (x *Want) line() string {
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
	why := ""
	if x.Reason != "" {
		why = ": " + x.Reason
	}
	return fmt.Sprintf("%s # asked for %s, %s%s\n", line, times, when, why)
}
