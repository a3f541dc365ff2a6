package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/assemble"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/documents"
	"github.com/modmirror/modmirror/review/provenance"
	"github.com/modmirror/modmirror/review/report"
	"github.com/modmirror/modmirror/review/symbols"
)

// documentsHeap is the heap that the garbage collector aims at while documents are made, in bytes:
// the largest are in memory twice, beside what a sync has there.
const documentsHeap = 80 << 20

// addDocuments makes the review documents of a draft, whose vulnerabilities are vulns, nil without
// a database, and adds them. A policy's size is that of the whole.
func (r *syncReport) addDocuments(
	ctx context.Context, d *assemble.Draft, c review.Contents, vulns *review.Vulns,
) error {
	list, err := r.documents(ctx, d, c, vulns)
	if err != nil {
		return err
	}
	if err := d.AddReviews(ctx, d.Contents, list); err != nil {
		return err
	}
	v := r.policy.OverSize(d.Manifest.Size)
	if v != nil && len(r.result.Policy.Violations) == 0 {
		r.e.complain("with its review documents the bundle is against %s: %s: %s", v.Line, v.Text, v.What)
		r.result.Policy.Violations = append(r.result.Policy.Violations, *v)
		return r.flags.refuse(r.e, r.result.Policy, "sync", "no bundle was written")
	}
	return nil
}

// documents makes the review documents of a draft.
func (r *syncReport) documents(
	ctx context.Context, d *assemble.Draft, c review.Contents, vulns *review.Vulns,
) ([]bundle.Source, error) {
	debug.SetMemoryLimit(documentsHeap)
	defer syncMemory()
	files, err := inputFiles(d.Sources)
	if err != nil {
		return nil, err
	}
	projects, err := r.symbols(ctx, d, c)
	if err != nil {
		return nil, err
	}
	tree, err := d.TreeHash(ctx)
	if err != nil {
		return nil, err
	}
	in := documents.Input{
		Report: report.Input{
			Subject: review.Unsigned(c, d.Manifest, tree), Base: cmp.Or(d.Contents.Base, d.Contents.Whole),
			Checked: r.result.Policy.WithoutFolders(),
		},
		Vulns: vulns, Projects: projects, Key: d.Key, Dir: d.Tmp,
		Made: provenance.Inputs{
			Tree:    tree,
			Sources: inputNames(d.Sources), Files: files, Policy: r.policy.Lines(), Upstreams: r.upstreams,
			Version: version(), Go: runtime.Version(),
		},
	}
	list, verdict, err := documents.Make(ctx, in)
	if err == nil {
		r.e.say("review: %s", verdict)
	}
	return list, err
}

// symbols finds out what the projects of a sync call of what is vulnerable, if --review wants that.
func (r *syncReport) symbols(ctx context.Context, d *assemble.Draft, c review.Contents) ([]*symbols.Project, error) {
	if r.reviews != reviewSymbols {
		return nil, nil
	}
	dirs := projectFolders(d.Sources)
	db, err := c.Database(ctx)
	switch {
	case err != nil:
		return nil, err
	case db == nil:
		return nil, usagef("--review=%s needs a vulnerability database: add --vulndb", reviewSymbols)
	case len(dirs) == 0:
		return nil, usagef("--review=%s is about the code of projects, and none of the sources is one", reviewSymbols)
	}
	list, err := r.e.findSymbols(ctx, dirs, db)
	for _, p := range list {
		r.e.say("%s", symbolsText(p))
	}
	return list, err
}

// projectFolders returns the folders of the modules that sync was asked for.
func projectFolders(job *mirror.Job) (dirs []string) {
	seen := make(map[string]bool)
	for i := range job.List {
		s := &job.List[i]
		if s.Mod == nil || s.Mod.Module == nil {
			continue
		}
		abs, err := filepath.Abs(s.Dir)
		if err != nil || seen[abs] {
			continue
		}
		seen[abs] = true
		dirs = append(dirs, s.Dir)
	}
	return dirs
}

// inputNames returns what sync was asked for, without folders of this machine.
func inputNames(job *mirror.Job) (names []string) {
	for i := range job.List {
		s := &job.List[i]
		switch {
		case s.Mod != nil && s.Mod.Module != nil:
			names = append(names, s.Mod.Module.Mod.Path)
		case s.Mod == nil && s.Work == nil:
			names = append(names, s.Query.String())
		}
	}
	return names
}

// inputFiles returns the files that say what is needed, as they were read. go.mod and go.sum are
// named by their module.
func inputFiles(job *mirror.Job) (list []provenance.File, err error) {
	seen := make(map[provenance.File]bool)
	for _, file := range job.Files {
		f := provenance.File{Name: filepath.Base(file)}
		sum, ok := job.Sums[file]
		if !ok && f.Name == "go.mod" { // of a folder that replaces a module
			src, err := bundle.FileSource("", file)
			if err != nil {
				return nil, err
			}
			sum, ok = src.SHA256, true
		}
		if !ok {
			continue // a go.sum that does not exist, or a policy
		}
		f.SHA256 = sum
		if f.Name == "go.mod" || f.Name == "go.sum" {
			if module, err := symbols.ModuleOf(filepath.Dir(file)); err == nil {
				f.Name = module + "/" + f.Name
			}
		}
		if !seen[f] {
			seen[f] = true
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b provenance.File) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// madeLines returns what a bundle says about how it was made, for people.
func madeLines(s *provenance.Statement) []string {
	switch {
	case s == nil:
		return nil
	case s.UntrustedSigner != "":
		return []string{"how it was made, says " + s.UntrustedSigner + ", whose key is not trusted here"}
	}
	policy := "without a policy"
	if n := len(s.Policy); n > 0 {
		policy = "under a policy of " + number(n, "line")
	}
	return []string{
		"report: " + s.Verdict,
		fmt.Sprintf("made by modmirror %s, says %s, for %s, from %s, %s", s.Version, s.Signer,
			someOf(s.Sources, 5), someOf(s.Upstreams, 5), policy),
	}
}

// readProvenance returns what a bundle says about how it was made, nil when it says nothing.
func readProvenance(ctx context.Context, e *env, b *bundle.Bundle) (*provenance.Statement, error) {
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return nil, err
	}
	return provenance.Read(ctx, b, keyring)
}
