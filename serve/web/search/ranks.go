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
	packages []packageRank // by id
}

// A packageRank is what is known of a package without a query.
type packageRank struct {
	id         int64
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
	rows, err := d.db.QueryContext(ctx, "SELECT id, weight, importers, name, last FROM package ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p packageRank
		var name, last string
		if err := rows.Scan(&p.id, &p.weight, &p.importers, &name, &last); err != nil {
			return nil, err
		}
		p.name, p.last = r.hash(name), r.hash(last)
		r.packages = append(r.packages, p)
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

// best returns the best MaxResults of the packages whose ids are in a text, ascending, for a query of
// which a part may be the name of a package.
func (r *ranks) best(ids, name string) (list []scored) {
	wanted := r.hash(name)
	left := r.packages
	for text := range strings.SplitSeq(ids, " ") { // ascending, as FTS4 has them
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			continue
		}
		for len(left) > 0 && left[0].id < id {
			left = left[1:]
		}
		if len(left) == 0 || left[0].id != id { // added since
			continue
		}
		p := &left[0]
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
		list = slices.Insert(list[:min(len(list), MaxResults-1)], min(at, MaxResults-1), scored{id, score})
	}
	return list
}
