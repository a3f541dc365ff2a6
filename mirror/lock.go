package mirror

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror/modgraph"
)

// lockFormat names the format of a lock, with its version.
const lockFormat = "modmirror lock v1"

// maxLock is the longest lock in bytes.
const maxLock = 256 << 20

// A Lock records what a bundle was made of, so that the same bytes can be made elsewhere and later:
// the results of queries, the versions with their hashes, and the heads of the checksum database.
// .info files, which no proof covers, are pinned by their SHA-256. A zip is compared by its h1,
// which covers its contents; how it is packed depends on the Go release.
type Lock struct {
	Format   string    `json:"format"`
	Name     string    `json:"name"` // of the bundle, with its sequence, time and base
	Sequence int64     `json:"sequence"`
	Created  time.Time `json:"created"`
	Base     string    `json:"base,omitempty"`

	DB    string   `json:"db,omitempty"`    // name of the checksum database
	Head  string   `json:"head,omitempty"`  // signed tree head
	Heads []string `json:"heads,omitempty"` // earlier heads

	Queries map[string][]string `json:"queries,omitempty"` // versions by module@query; empty when there was none
	// Tidied has the tidied go.mod files of untidy projects, by the source's name.
	Tidied   map[string]string `json:"tidied,omitempty"`
	Learned  []string          `json:"learned,omitempty"` // GOPROXY paths that a rehearsal asked for
	Versions []LockedVersion   `json:"versions"`          // by path and version
	Missing  []Missing         `json:"missing,omitempty"`
	// Contents is a SHA-256 over the index's text, except for how zips are packed.
	Contents string `json:"contents,omitempty"`
	Index    string `json:"index"` // SHA-256 of the bundle's index
	// Form names what the index's bytes depend on besides the contents.
	Form string `json:"form,omitempty"`
	// Files is a SHA-256 over the vulnerability database and the bootstraps.
	Files string `json:"files,omitempty"`
}

// A LockedVersion is a version of a Lock.
type LockedVersion struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	H1      string `json:"h1,omitempty"`
	GoModH1 string `json:"goModH1"`
	Info    string `json:"info,omitempty"`   // SHA-256 of the .info file
	Zip     string `json:"zip,omitempty"`    // SHA-256 of the zip; "" when only .mod and .info are carried
	Latest  string `json:"latest,omitempty"` // newest version of the module upstream
}

// ParseLock parses a lock and checks its format and names.
func ParseLock(data []byte) (*Lock, error) {
	l := new(Lock)
	if len(data) > maxLock {
		return nil, errors.New("too large for a lock")
	}
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("not a lock: %w", err)
	}
	if l.Format != lockFormat {
		return nil, fmt.Errorf("its format is %.40q, this modmirror reads %q", l.Format, lockFormat)
	}
	for _, v := range l.Versions {
		if err := checkName(module.Version{Path: v.Path, Version: v.Version}); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Encode returns the content of the lock's file.
func (l *Lock) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(l, "", "\t")
	return append(data, '\n'), err
}

// Write writes the lock to a file.
func (l *Lock) Write(file string) error {
	data, err := l.Encode()
	if err != nil {
		return err
	}
	return safefile.Write(file, data, 0o666)
}

// NewLock returns the lock of a closure. Callers set the fields about the bundle.
func NewLock(c *Closure) *Lock {
	l := &Lock{
		Format: lockFormat, DB: c.DB, Head: string(c.Head.Note),
		Queries: c.Resolved, Missing: c.Missing, Files: hashFiles(c),
	}
	for _, h := range c.Heads {
		l.Heads = append(l.Heads, string(h.Note))
	}
	for _, v := range c.Versions {
		x := LockedVersion{Path: v.Mod.Path, Version: v.Mod.Version, H1: v.H1, GoModH1: v.GoModH1, Latest: v.Latest}
		if v.Info.Path != "" {
			x.Info = hex.EncodeToString(v.Info.SHA256[:])
		}
		if v.Zip != nil {
			x.Zip = hex.EncodeToString(v.Zip.SHA256[:])
		}
		l.Versions = append(l.Versions, x)
	}
	return l
}

// hashFiles returns a SHA-256 over the files of a closure that belong to no version, or "" without
// any.
func hashFiles(c *Closure) string {
	files := slices.Concat(c.Vulns, c.Bootstraps)
	if len(files) == 0 {
		return ""
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%x  %s\n", f.SHA256, f.Path)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A LockError says what differs from a lock.
type LockError struct{ Reason string }

// Error returns e.Reason.
func (e *LockError) Error() string { return e.Reason }

// check returns a *LockError when a closure differs from the lock. It counts repacked zips in c,
// and copies the lock's Missing, with the upstream's words of that time, to c.
func (l *Lock) check(c *Closure) error {
	fail := func(format string, args ...any) error { return &LockError{fmt.Sprintf(format, args...)} }
	now := NewLock(c)
	index := func(l *Lock) map[module.Version]LockedVersion {
		m := make(map[module.Version]LockedVersion, len(l.Versions))
		for _, v := range l.Versions {
			m[module.Version{Path: v.Path, Version: v.Version}] = v
		}
		return m
	}
	old, have := index(l), index(now)
	for _, m := range slices.SortedFunc(maps.Keys(have), modgraph.Compare) {
		x, ok := old[m]
		switch y := have[m]; {
		case !ok:
			return fail("%s is carried now and is not in the lock: the sources changed", m)
		case x.GoModH1 != y.GoModH1, x.H1 != y.H1:
			return fail("%s has another h1 than in the lock", m)
		case x.Info != y.Info:
			return fail("the .info of %s is not the one in the lock (SHA-256 %.16s…, was %.16s…); "+
				"no proof says which is right", m, y.Info, x.Info)
		case (x.Zip == "") != (y.Zip == ""):
			return fail("the zip of %s is carried either now or in the lock, not in both: the sources changed", m)
		case x.Zip != y.Zip: // the h1 covers the contents
			c.Repacked++
		}
	}
	for _, m := range slices.SortedFunc(maps.Keys(old), modgraph.Compare) {
		if _, ok := have[m]; !ok {
			return fail("%s is in the lock and is not carried now: the sources changed", m)
		}
	}
	if l.Files != now.Files {
		return fail("the vulnerability database or a bootstrap tar differs from the lock")
	}
	what := func(list []Missing) (names []string) {
		for _, m := range list {
			names = append(names, m.Mod.String()+" "+m.What)
		}
		return names
	}
	if a, b := what(l.Missing), what(c.Missing); !slices.Equal(a, b) {
		return fail("missing is %s, and was %s", strings.Join(b, ", "), strings.Join(a, ", "))
	}
	c.Missing = l.Missing
	return nil
}

// heads returns the head of the lock and the earlier ones. It checks their signatures.
func (l *Lock) heads(db *proof.Database) (head proof.Head, earlier []proof.Head, err error) {
	if l.DB != db.Name {
		return head, nil, &LockError{fmt.Sprintf("its checksum database is %q, not %s", l.DB, db.Name)}
	}
	for _, n := range l.Heads {
		h, err := db.ParseHead([]byte(n))
		if err != nil {
			return head, nil, err
		}
		earlier = append(earlier, h)
	}
	head, err = db.ParseHead([]byte(l.Head))
	return head, earlier, err
}

// latest returns the newest version of a module that the upstream had.
func (l *Lock) latest(path string) string {
	i, ok := slices.BinarySearchFunc(l.Versions, path, func(v LockedVersion, path string) int {
		return cmp.Compare(v.Path, path)
	})
	if !ok {
		return ""
	}
	return l.Versions[i].Latest
}
