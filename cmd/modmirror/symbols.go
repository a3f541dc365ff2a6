package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/symbols"
	"github.com/modmirror/modmirror/review/vulndb"
)

// findSymbols analyzes the modules in folders by a vulnerability database. It takes the memory that
// it needs.
func (e *env) findSymbols(
	ctx context.Context, dirs []string, db *vulndb.DB,
) (list []*symbols.Project, err error) {
	limit, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	for _, dir := range dirs {
		if _, err := symbols.ModuleOf(dir); err != nil {
			return nil, usagef("%v: want the folder of a module, which has a go.mod", err)
		}
	}
	tmp, err := os.MkdirTemp("", "modmirror-vulndb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if tmp, err = filepath.Abs(tmp); err != nil {
		return nil, err
	}
	if err := db.WriteFolder(ctx, tmp); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		e.say("%s: looking for calls of what is vulnerable, as govulncheck does", dir)
		p, err := symbols.Find(ctx, dir, tmp)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, hint.Add(fmt.Errorf("finding calls of what is vulnerable: %w", err),
				"the project must build here: does \"go build ./...\" work in %s?", dir)
		}
		list = append(list, p)
	}
	return list, nil
}

// symbolsText says in one line what was found of a project.
func symbolsText(p *symbols.Project) string {
	const text = "%s: of %s in what it requires it may call %d, imports the packages of %d, and does neither with %d"
	return fmt.Sprintf(text, p.Module, number(len(p.Vulns), "known vulnerability"),
		p.Count(symbols.Called), p.Count(symbols.Imported), p.Count(symbols.Required))
}

// printSymbols prints vulnerabilities of projects, the worst first.
func printSymbols(w io.Writer, list []*symbols.Project) (err error) {
	for _, p := range list {
		for i := range p.Vulns {
			v := &p.Vulns[i]
			fmt.Fprintf(w, "%s: %s: %s\n    in %s, %s\n", v.Level, idText(v.ID, v.Aliases), v.Summary, v.String(), v.Action())
			for _, f := range v.Trace {
				fmt.Fprintf(w, "    %s\n", f)
			}
		}
		_, err = fmt.Fprintf(w, "%s; built for %s with %s\n", symbolsText(p), p.Platform, p.Go)
	}
	return err
}

// failSymbols is failVulns for projects.
func failSymbols(e *env, list []*symbols.Project, failOn string) error {
	n := 0
	for _, p := range list {
		for i := range p.Vulns {
			v := &p.Vulns[i]
			if failOn == failOnAny || failOn == failOnFixable && v.Fixed != "" ||
				failOn == failOnCalled && v.Level == symbols.Called {
				n++
			}
		}
	}
	return refuseFindings(e, n, failOn)
}

// refuseFindings returns errDenied, after it has said why, when there are findings that --fail-on
// means.
func refuseFindings(e *env, n int, failOn string) error {
	if n == 0 {
		return nil
	}
	e.complain("%s, and --fail-on is %s", number(n, "finding"), failOn)
	return errDenied
}

// sourceVulns prints what projects call of what is vulnerable, in the form that the flags want.
func (f *vulnsFlags) sourceVulns(ctx context.Context, e *env, s *subject, db *vulndb.DB) error {
	list, err := e.findSymbols(ctx, f.sources, db)
	if err != nil {
		return err
	}
	switch {
	case f.asJSON:
		err = writeJSON(e.stdout, list)
	case f.asVEX:
		author, created := s.author(db.Modified)
		doc, vexErr := review.NewVEX(author, created, symbols.Statements(list...))
		if vexErr != nil {
			return vexErr
		}
		err = writeJSON(e.stdout, doc)
	default:
		err = printSymbols(e.stdout, list)
	}
	if err != nil {
		return err
	}
	return failSymbols(e, list, f.failOn)
}
