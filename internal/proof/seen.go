package proof

import (
	"fmt"
	"time"
)

// A Sighting is a tree head, and when it was seen. The checksum database appends a record when
// somebody asks for a version for the first time, so that one which a tree does not contain yet was
// new when the tree was seen, or unknown to everybody. The time in a .info file is that of a commit,
// which its author may set at will.
type Sighting struct {
	Seen time.Time
	Head Head
}

// LastBefore returns the sighting of the largest tree that was seen until t.
func LastBefore(list []Sighting, t time.Time) (last Sighting, ok bool) {
	for _, s := range list {
		if !s.Seen.After(t) && (!ok || s.Head.N > last.Head.N) {
			last, ok = s, true
		}
	}
	return last, ok
}

// A Cooldown is the least age that versions have to have.
type Cooldown struct {
	Days int
	Now  time.Time
	Seen []Sighting
}

// Begin returns the last moment at which a version may have been made.
func (c Cooldown) Begin() time.Time { return c.Now.AddDate(0, 0, -c.Days) }

// notYet returns the latest sighting of a tree without a record.
func (c Cooldown) notYet(record int64) (last Sighting, ok bool) {
	for _, s := range c.Seen {
		if record >= s.Head.N && !s.Seen.After(c.Now) && (!ok || s.Seen.After(last.Seen)) {
			last, ok = s, true
		}
	}
	return last, ok
}

// Young says why a version is, or may be, too young; "" when it is not. What counts is the number of
// its record, nil for none: the largest tree that was seen before the cooldown began must have it,
// and one that was seen since shows that it was not there. Only without such trees, or a record, it
// is the time that the version gives itself, which is zero when it gives none.
func (c Cooldown) Young(record *int64, made time.Time) string {
	claims := "it does not say when it was made"
	if !made.IsZero() {
		claims = "it says that it was made on " + made.UTC().Format(time.DateOnly)
	}
	if record != nil {
		last, ok := LastBefore(c.Seen, c.Begin())
		if ok && *record < last.Head.N {
			return ""
		}
		if s, later := c.notYet(*record); later {
			last, ok = s, true
		}
		if ok {
			return fmt.Sprintf("its record %d was not yet among the %d of the tree that was seen here on %s; %s",
				*record, last.Head.N, last.Seen.UTC().Format(time.DateOnly), claims)
		}
	}
	if !made.IsZero() && !made.After(c.Begin()) {
		return ""
	}
	return claims
}
