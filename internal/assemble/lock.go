package assemble

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/review/facts"
)

// errNotOfLock reports a bundle that differs from its lock although all versions are the same.
var errNotOfLock = &mirror.LockError{Reason: "all versions are those of the lock, but the bundle differs: " +
	"flags, GONOSUMDB or modmirror changed since the lock was made"}

// errOtherPacking reports a bundle that must differ from that of the lock, which does not say what
// is in it.
var errOtherPacking = &mirror.LockError{Reason: "it was made by an older modmirror, " +
	"whose bundles have other bytes"}

// ReadLock reads the lock in a file. It returns nil when the file does not exist, or its name is
// "".
func ReadLock(file string) (*mirror.Lock, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lock, err := mirror.ParseLock(data)
	if err != nil {
		return nil, hint.Add(hint.Usagef("%s: %v", file, err),
			"to make a new lock, name a file that does not exist")
	}
	return lock, nil
}

// otherLock adds a hint to an error that reports a difference from the lock. It returns other
// errors as they are.
func otherLock(err error) error {
	if _, ok := errors.AsType[*mirror.LockError](err); !ok {
		return err
	}
	return hint.Add(fmt.Errorf("lock: %w", err), "remove the lock to make a new one")
}

// useLock has the run make the bundle of its lock again: same name, sequence number and time.
func (r *Run) useLock() error {
	l := r.lock
	if err := bundle.CheckName(l.Name); err != nil {
		return fmt.Errorf("%s: %w", r.o.Lock, err)
	}
	if r.o.Name != "" && r.o.Name != l.Name || r.o.Sequence != 0 && r.o.Sequence != l.Sequence {
		return hint.Usagef("%s is the lock of bundle %s, sequence %d", r.o.Lock, l.Name, l.Sequence)
	}
	r.o.Name, r.o.Sequence, r.created = l.Name, l.Sequence, l.Created
	r.o.Sources.Lock = l
	return nil
}

// checkLock returns an error unless the base is that of the lock.
func (bs *bases) checkLock(lock *mirror.Lock) error {
	id := ""
	if bs.own != nil {
		id = bs.own.ID()
	}
	if lock.Base != id {
		return fmt.Errorf("lock: the base is %.16q, but the lock was made with %.16q", id, lock.Base)
	}
	return nil
}

// indexForm names what the bytes of an index depend on besides the contents.
var indexForm = fmt.Sprintf("schema %d, %s", index.SchemaVersion, facts.Version)

// checkContents compares the contents of the bundle, given by their digest, with the lock when the
// index must differ: zips of the closure are packed in another way than when the lock was made, or
// another modmirror made it, whose index has another form.
// It reports whether the index must be that of the lock.
func (r *Run) checkContents(c *mirror.Closure, digest string) (sameIndex bool, err error) {
	if r.lock == nil || c.Repacked == 0 && r.lock.Form == indexForm {
		return r.lock != nil, nil
	}
	switch r.lock.Contents {
	case digest:
	case "":
		return false, otherLock(errOtherPacking)
	default:
		return false, otherLock(errNotOfLock)
	}
	const but = "the bundle has the same contents but other bytes"
	if c.Repacked > 0 {
		r.o.Report.Say("%s packed differently than when the lock was made, with the same h1: %s",
			count(c.Repacked, "zip"), but)
	} else {
		r.o.Report.Say("the lock is of another modmirror, whose index has another form: %s", but)
	}
	return false, nil
}

// writeLock writes the lock of a bundle. learned are the GOPROXY paths that rehearsals missed.
func (r *Run) writeLock(c *mirror.Closure, w *Written, learned []string) error {
	lock := mirror.NewLock(c)
	lock.Name, lock.Sequence, lock.Created = r.name, r.sequence, r.created.UTC().Truncate(time.Second)
	lock.Tidied, lock.Learned, lock.Index, lock.Contents = r.tidied, learned, w.index, w.contents
	lock.Form = indexForm
	if r.bases.own != nil {
		lock.Base = r.bases.own.ID()
	}
	err := lock.Write(r.o.Lock)
	if err == nil {
		r.o.Report.Say("wrote %s: with it, sync --lock makes the same bytes again", r.o.Lock)
	}
	return err
}
