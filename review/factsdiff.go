package review

import (
	"slices"

	"github.com/modmirror/modmirror/review/facts"
)

// A FactsDiff is how the facts of two versions differ.
type FactsDiff struct {
	License *[2]string   `json:"license,omitempty"` // before and now; nil when it is the same
	New     []facts.Use  `json:"new,omitempty"`
	Gone    []facts.Kind `json:"gone,omitempty"`
}

// Empty reports whether the facts are the same.
func (d *FactsDiff) Empty() bool { return d.License == nil && len(d.New) == 0 && len(d.Gone) == 0 }

// DiffFacts returns how facts differ. Without a version before, which old is nil for, everything is
// new.
func DiffFacts(old *facts.Facts, now facts.Facts) FactsDiff {
	if old == nil {
		return FactsDiff{License: &[2]string{"", now.License}, New: now.Uses}
	}
	var d FactsDiff
	if old.License != now.License {
		d.License = &[2]string{old.License, now.License}
	}
	has := func(list []facts.Use, kind facts.Kind) bool {
		return slices.ContainsFunc(list, func(u facts.Use) bool { return u.Kind == kind })
	}
	for _, u := range now.Uses {
		if !has(old.Uses, u.Kind) {
			d.New = append(d.New, u)
		}
	}
	for _, u := range old.Uses {
		if !has(now.Uses, u.Kind) {
			d.Gone = append(d.Gone, u.Kind)
		}
	}
	return d
}
