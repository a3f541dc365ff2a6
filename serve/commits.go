package serve

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// minCommit is how many hex digits name a commit at least, as git abbreviates.
const minCommit = 7

// reCommit matches the name of a commit.
var reCommit = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// byCommit returns the .info file of the carried version of a commit. ok is false when no version
// is of that commit, and when versions of several commits match its abbreviation. Of several tags
// of one commit it takes the highest, as the go command does.
func (h *handler) byCommit(ctx context.Context, req modpath.Request) (f store.Ref, ok bool, err error) {
	tagged, ok, err := h.commitVersions(ctx, req.Path, req.Version)
	if err != nil || !ok {
		return f, false, err
	}
	asked, err := h.commitQueries(ctx, req.Path, req.Version)
	if err != nil {
		return f, false, err
	}
	found := append(tagged, asked...)
	if len(found) == 0 {
		return f, false, nil
	}
	highest := slices.MaxFunc(found, semver.Compare)
	return h.view.File(ctx, modpath.Request{Kind: modpath.Info, Path: req.Path, Version: highest}.String())
}

// commitVersions returns the versions of a module that are of a commit: by the hash in their
// Origin, else by that in a pseudo-version. ok is false when they are of several commits.
func (h *handler) commitVersions(ctx context.Context, path, commit string) (found []string, ok bool, err error) {
	longest := "" // form of the commit
	for v, err := range h.view.Versions(ctx, path) {
		if err != nil {
			return nil, false, err
		}
		if v.ZipSize == nil {
			continue
		}
		hash := commitOf(v)
		if !sameCommit(hash, commit) {
			continue
		}
		if n := min(len(longest), len(hash)); longest[:n] != hash[:n] {
			return nil, false, nil
		}
		if len(hash) > len(longest) {
			longest = hash
		}
		found = append(found, v.Version)
	}
	return found, true, nil
}

// commitQueries returns the versions to which queries for a commit were resolved when a bundle was
// made.
func (h *handler) commitQueries(ctx context.Context, path, commit string) (found []string, err error) {
	var asked []index.Query
	for q, err := range h.view.Queries(ctx, path) {
		if err != nil {
			return nil, err
		}
		if reCommit.MatchString(q.Query) && sameCommit(q.Query, commit) {
			asked = append(asked, q)
		}
	}
	for _, q := range asked { // only now: the loop above holds a connection to the index
		v, ok, err := h.view.Lookup(ctx, q.Path, q.Version)
		if err != nil {
			return nil, err
		}
		if ok && v.ZipSize != nil {
			found = append(found, v.Version)
		}
	}
	return found, nil
}

// commitOf returns the commit of a version, "" when it is unknown. That of a pseudo-version has its
// first 12 digits only.
func commitOf(v index.Version) string {
	var origin struct{ Hash string }
	json.Unmarshal([]byte(v.Origin), &origin) // Origin may be ""
	if rev, err := module.PseudoVersionRev(v.Version); err == nil && origin.Hash == "" {
		return rev
	}
	return origin.Hash
}

// sameCommit reports whether two names may be of one commit: one begins with the other.
func sameCommit(a, b string) bool {
	return min(len(a), len(b)) >= minCommit && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
}
