package serve

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

// maxWants is how many wants are kept: a client that asks for nonsense must not fill a disk.
const maxWants = 10_000

// A Want is something that was asked for and is not carried. Who asked is not kept.
type Want struct {
	Path  string    `json:"path"`
	Query string    `json:"query"` // a version, a branch or a commit; "latest" when it was asked which versions there are
	Count int64     `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`

	// Perhaps says that only .info files and lists were asked for. A go command that looks for a package asks
	// about every path above it, so there may be no such module at all.
	Perhaps bool `json:"perhaps,omitempty"`
}

// Wants remembers what was asked for and is not carried, in a file that survives restarts. It is safe for
// concurrent use.
type Wants struct {
	file string

	mu    sync.Mutex
	wants map[string]*Want // by path@query
	dirty bool
}

// OpenWants reads the wants in a file; one that is not there has none.
func OpenWants(file string) (*Wants, error) {
	w := &Wants{file: file, wants: make(map[string]*Want)}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Want
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: not a list of wants: %w", file, err)
	}
	for _, x := range list[:min(len(list), maxWants)] {
		// It is printed, and given to sync.
		if r := (modpath.Request{Kind: modpath.Info, Path: x.Path, Version: x.Query}).String(); r == "" || modpath.CheckFile(r) != nil {
			return nil, fmt.Errorf("%s: %.100q is no want", file, x.Path+"@"+x.Query)
		}
		w.wants[x.Path+"@"+x.Query] = &x
	}
	return w, nil
}

// noVersion is what go commands call a module that a folder replaces, and ask about now and then.
const noVersion = "v0.0.0-00010101000000-000000000000"

// Add remembers a request that was answered with 404.
func (w *Wants) Add(r modpath.Request) {
	query, perhaps := r.Version, false
	switch r.Kind {
	case modpath.Mod, modpath.Zip, modpath.SumLookup:
	case modpath.Info:
		perhaps = true
	case modpath.List, modpath.Latest:
		query, perhaps = "latest", true
	default:
		return
	}
	if query == noVersion {
		return
	}
	now := time.Now().UTC().Truncate(time.Second)
	key := r.Path + "@" + query
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.wants[key]
	if x == nil {
		if len(w.wants) >= maxWants {
			return
		}
		x = &Want{Path: r.Path, Query: query, First: now, Perhaps: true}
		w.wants[key] = x
	}
	x.Count++
	x.Last = now
	x.Perhaps = x.Perhaps && perhaps
	w.dirty = true
}

// List returns the wants by path and query.
func (w *Wants) List() []Want {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Want
	for _, x := range w.wants {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b Want) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query)) })
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

// ListFile returns the wants as a list file for sync, in which what may be no module at all is on lines that say maybe.
func ListFile(wants []Want) string {
	named := make(map[string]bool)
	for _, x := range wants {
		if x.Query != "latest" {
			named[x.Path] = true
		}
	}
	var b strings.Builder
	for _, x := range wants {
		if x.Query == "latest" && named[x.Path] {
			continue
		}
		line := x.Path + "@" + x.Query
		if x.Perhaps {
			line = "maybe " + line
		}
		fmt.Fprintf(&b, "%s # asked for %d times, %s to %s\n", line, x.Count, x.First.Format(time.DateOnly), x.Last.Format(time.DateOnly))
	}
	return b.String()
}
