package mirror

import (
	"encoding/json"
	"maps"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
)

// recentFile is where a mirror directory remembers what the upstream said a short time ago.
const recentFile = "recent"

// A recent remembers answers that change with time: the newest versions of modules and the head of
// the checksum database. With it a sync that follows another one soon, and whose sources are
// pinned, makes no request at all. It vouches for nothing: what it names is proven like all else.
type recent struct {
	maxAge time.Duration // how old an answer may be; 0 for none
	now    time.Time

	mu      sync.Mutex
	changed bool
	answers recentAnswers
}

// recentAnswers is the content of recentFile, in JSON.
type recentAnswers struct {
	Newest map[string]recentAnswer // by module path
	Heads  map[string]recentAnswer // by the name of the checksum database
}

// A recentAnswer is an answer with its time.
type recentAnswer struct {
	Asked   time.Time
	Version string `json:",omitempty"` // newest version of a module; "" when it has none
	Head    []byte `json:",omitempty"` // signed note
}

// readRecent reads what the mirror directory remembers. What is damaged or too old is forgotten.
func readRecent(dir *Dir, maxAge time.Duration) *recent {
	r := &recent{maxAge: maxAge, now: time.Now()}
	if data, ok, err := dir.read(recentFile); err == nil && ok {
		json.Unmarshal(data, &r.answers)
	}
	old := func(_ string, a recentAnswer) bool { return !r.holds(a) }
	maps.DeleteFunc(r.answers.Newest, old)
	maps.DeleteFunc(r.answers.Heads, old)
	return r
}

// holds reports whether an answer is young enough. One from the future is not.
func (r *recent) holds(a recentAnswer) bool {
	age := r.now.Sub(a.Asked)
	return age >= 0 && age < r.maxAge
}

// newest returns the newest version of a module.
func (r *recent) newest(path string) (version string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers.Newest[path]
	if a.Version != "" && module.Check(path, a.Version) != nil {
		return "", false
	}
	return a.Version, ok
}

// setNewest remembers the newest version of a module.
func (r *recent) setNewest(path, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers.Newest == nil {
		r.answers.Newest = make(map[string]recentAnswer)
	}
	r.answers.Newest[path] = recentAnswer{Asked: r.now, Version: version}
	r.changed = true
}

// head returns the head of a checksum database.
func (r *recent) head(db *proof.Database) (proof.Head, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers.Heads[db.Name]
	if !ok {
		return proof.Head{}, false
	}
	h, err := db.ParseHead(a.Head)
	return h, err == nil
}

// setHead remembers the head of a checksum database.
func (r *recent) setHead(db string, h proof.Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers.Heads == nil {
		r.answers.Heads = make(map[string]recentAnswer)
	}
	r.answers.Heads[db] = recentAnswer{Asked: r.now, Head: h.Note}
	r.changed = true
}

// write writes what is to be remembered.
func (r *recent) write(dir *Dir) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.maxAge <= 0 || !r.changed {
		return nil
	}
	r.changed = false
	data, err := json.Marshal(r.answers)
	if err != nil {
		return err
	}
	return dir.write(recentFile, data)
}
