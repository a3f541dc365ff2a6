package serve

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// reCommit is what names a commit: at least seven hex digits, as git abbreviates.
var reCommit = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// byCommit returns the .info file of the carried version of a commit: the one whose Origin or whose pseudo-version
// has it. It is not found when several versions are of other commits that begin so.
func (h *handler) byCommit(ctx context.Context, req modpath.Request) (f bundle.Ref, ok bool, err error) {
	var found []index.Version
	commit := "" // the longest form of it
	for v, err := range h.view.Versions(ctx, req.Path) {
		if err != nil {
			return f, false, err
		}
		if v.ZipSize == nil {
			continue
		}
		var origin struct{ Hash string }
		json.Unmarshal([]byte(v.Origin), &origin) // may be ""
		if rev, err := module.PseudoVersionRev(v.Version); err == nil && origin.Hash == "" {
			origin.Hash = rev
		}
		// A pseudo-version has the first 12 digits only.
		n := min(len(origin.Hash), len(req.Version))
		if n >= 7 && origin.Hash[:n] == req.Version[:n] {
			if n := min(len(commit), len(origin.Hash)); commit[:n] != origin.Hash[:n] {
				return f, false, nil
			}
			if len(origin.Hash) > len(commit) {
				commit = origin.Hash
			}
			found = append(found, v)
		}
	}
	var asked []index.Query
	for q, err := range h.view.Queries(ctx, req.Path) { // a commit that was asked for outside
		if err != nil {
			return f, false, err
		}
		if n := min(len(q.Query), len(req.Version)); n >= 7 && reCommit.MatchString(q.Query) && q.Query[:n] == req.Version[:n] {
			asked = append(asked, q)
		}
	}
	for _, q := range asked { // now that no connection to the index is held
		if v, ok, err := h.view.Lookup(ctx, q.Path, q.Version); err != nil {
			return f, false, err
		} else if ok && v.ZipSize != nil {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return f, false, nil
	}
	// Several tags of one commit: the go command takes the highest.
	last := slices.MaxFunc(found, func(a, b index.Version) int { return semver.Compare(a.Version, b.Version) })
	return h.view.File(ctx, modpath.Request{Kind: modpath.Info, Path: req.Path, Version: last.Version}.String())
}
