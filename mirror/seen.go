package mirror

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
)

const (
	// seenEvery is how long after a tree head was noted another one is.
	seenEvery = 12 * time.Hour

	// seenKept is how long tree heads are kept: the longest cooldown and some days.
	seenKept = 400 * 24 * time.Hour
)

// A seenHead is an element of the file of sightings, which is JSON.
type seenHead struct {
	Seen time.Time
	Note []byte // signed
}

// seenFile returns the path of the file in which a mirror directory keeps the heads of the checksum
// database that it saw, with the time.
func (c *checksums) seenFile() string { return c.path("seen") }

// sightings returns the heads that earlier runs saw, oldest first. It leaves out what is damaged, and
// what the clock must have been wrong for: times in the future, and a head that is larger than one
// that was seen later.
func (c *checksums) sightings(now time.Time) (list []proof.Sighting) {
	for _, s := range c.allSeen() {
		if h, err := c.db.ParseHead(s.Note); err == nil && !s.Seen.After(now) {
			list = append(list, proof.Sighting{Seen: s.Seen, Head: h})
		}
	}
	all := slices.Clone(list)
	return slices.DeleteFunc(list, func(s proof.Sighting) bool {
		return slices.ContainsFunc(all, func(t proof.Sighting) bool {
			return t.Seen.After(s.Seen) && t.Head.N < s.Head.N
		})
	})
}

// allSeen returns what is in the file, by time.
func (c *checksums) allSeen() (list []seenHead) {
	data, ok, err := c.fetch.dir.read(c.seenFile())
	if err != nil || !ok || json.Unmarshal(data, &list) != nil {
		return nil
	}
	slices.SortStableFunc(list, func(a, b seenHead) int { return a.Seen.Compare(b.Seen) })
	return list
}

// noteSighting notes that a head was seen now, unless one was a short time ago.
func (c *checksums) noteSighting(head proof.Head, now time.Time) error {
	list := c.allSeen()
	past := slices.IndexFunc(list, func(s seenHead) bool { return s.Seen.After(now) })
	if past < 0 {
		past = len(list)
	}
	if past > 0 && now.Sub(list[past-1].Seen) < seenEvery {
		return nil
	}
	list = slices.Insert(list, past, seenHead{now, head.Note})
	for len(list) > 1 && now.Sub(list[1].Seen) > seenKept { // the first one tells nothing that it does not
		list = list[1:]
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return c.fetch.dir.write(c.seenFile(), data)
}

// youngFor returns the function that says why a version is too young for a query. A module outside
// the checksum database never is, when there is one.
func (r *run) youngFor(days int) func(context.Context, module.Version) (string, error) {
	if days == 0 {
		return func(context.Context, module.Version) (string, error) { return "", nil }
	}
	cool := proof.Cooldown{Days: days, Now: time.Now()}
	if r.sums != nil {
		cool.Seen = r.sums.seen
	}
	return func(ctx context.Context, m module.Version) (string, error) {
		var record *int64
		if r.public(m) {
			rec, err := r.sums.lookup(ctx, m)
			if err != nil {
				return "", err
			}
			record = &rec.ID
		} else if r.sums != nil {
			return "", nil
		}
		if cool.Young(record, time.Time{}) == "" {
			return "", nil
		}
		_, info, err := r.fetch.info(ctx, m)
		return cool.Young(record, info.Time), err
	}
}
