package search

import (
	"context"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
)

// ranks is what a search sorts packages by, in memory: a word may find all of them.
type ranks struct {
	as       int64 // DB.changes when they were read
	seed     maphash.Seed
	packages []packageRank // by id; ids that are gone have a zero
}

// A packageRank is what is known of a package without a query.
type packageRank struct {
	weight     float32
	importers  uint32
	name, last uint32 // hashes: two names with the same one are as good as the same here
}

// loadRanks returns the ranks of all packages.
func (d *DB) loadRanks(ctx context.Context) (*ranks, error) {
	as := d.changes.Load()
	if r := d.ranks.Load(); r != nil && r.as == as {
		return r, nil
	}
	r := &ranks{as: as, seed: maphash.MakeSeed()}
	rows, err := d.db.QueryContext(ctx, "SELECT id, weight, importers, name, last FROM package")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		var p packageRank
		var name, last string
		if err := rows.Scan(&id, &p.weight, &p.importers, &name, &last); err != nil {
			return nil, err
		}
		p.name, p.last = r.hash(name), r.hash(last)
		if more := id + 1 - len(r.packages); more > 0 {
			r.packages = append(r.packages, make([]packageRank, more)...)
		}
		r.packages[id] = p
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	d.ranks.Store(r)
	return r, nil
}

func (r *ranks) hash(s string) uint32 { return uint32(maphash.String(r.seed, s)) }

// A scored package was found.
type scored struct {
	id    int64
	score float32
}

// best returns the best MaxResults of the packages whose ids are in a text, for a query of which a part may be
// the name of a package.
func (r *ranks) best(ids, name string) (list []scored) {
	wanted := r.hash(name)
	for text := range strings.SplitSeq(ids, " ") {
		id, err := strconv.Atoi(text)
		if err != nil || id >= len(r.packages) { // added since
			continue
		}
		p := &r.packages[id]
		score := p.weight
		if p.name == wanted || p.last == wanted {
			score += 20 + float32(min(p.importers, 50))
		}
		if len(list) == MaxResults && score <= list[MaxResults-1].score {
			continue
		}
		at, _ := slices.BinarySearchFunc(list, score, func(s scored, score float32) int {
			if s.score >= score { // those found earlier go first
				return -1
			}
			return 1
		})
		list = slices.Insert(list[:min(len(list), MaxResults-1)], min(at, MaxResults-1), scored{int64(id), score})
	}
	return list
}
