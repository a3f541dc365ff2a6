package sources

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
)

// addModule adds module@query.
func (s *Sources) addModule(name, arg string) error {
	path, query, ok := strings.Cut(arg, "@")
	if !ok || query == "" {
		return &Error{fmt.Errorf("%s: want module@version", name), "the newest version is " + path + "@latest"}
	}
	if err := module.CheckPath(path); err != nil {
		return &Error{fmt.Errorf("%s: %w", name, err), pathHint(path, query)}
	}
	err := checkQuery(query)
	// A version of another major may be the tag of one that is +incompatible.
	if module.CanonicalVersion(query) == query && module.Check(path, query+"+incompatible") != nil {
		err = module.Check(path, query)
		if m, ok := errors.AsType[*module.ModuleError](err); ok {
			err = m.Err // without the module's name, which the message has already
		}
	}
	if err != nil {
		return &Error{fmt.Errorf("%s: %w", name, err), queryHint(path, query)}
	}
	s.List = append(s.List, Source{Name: name, Query: module.Version{Path: path, Version: query}})
	return nil
}

// addOptional adds module@query that may not exist. It reports a mistake as a note, and takes the
// query all for latest.
func (s *Sources) addOptional(name, arg string) {
	if path, query, ok := strings.Cut(arg, "@"); ok && query == All {
		arg = path + "@latest"
	}
	if err := s.addModule(name, arg); err != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("left out: maybe %v", err))
		return
	}
	last := &s.List[len(s.List)-1]
	last.Optional, last.OnlyThis = true, last.Query.Path == modpath.Toolchain
}

// addTool adds a command as package@query. Package mirror finds out which module it is in.
func (s *Sources) addTool(name, arg string) error {
	pkg, query, ok := strings.Cut(arg, "@")
	if !ok || query == "" {
		return fmt.Errorf("%s: want package@version", name)
	}
	err := module.CheckImportPath(pkg)
	if first, _, _ := strings.Cut(pkg, "/"); err == nil && !strings.Contains(first, ".") {
		err = errors.New("no module's package: the first element of its path has no dot")
	}
	if err == nil && module.CanonicalVersion(query) != query {
		err = checkQuery(query)
	}
	if query == All {
		err = errors.New("a command is wanted in one version")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.List = append(s.List, Source{Name: name, Tool: pkg, Query: module.Version{Path: pkg, Version: query}})
	return nil
}

const standardHint = "a path without a dot in its first element is of the standard library, which comes with Go"

// wordHint returns advice for a word that names no source, or "".
func wordHint(word string) string {
	switch bare := withoutScheme(word); {
	case strings.Contains(word, " "):
		return "a command for the rehearsal goes behind an equals sign: --rehearse='" + word + "'"
	case module.CheckPath(bare) == nil:
		return "a module is named with a version: " + bare + "@latest"
	case module.CheckImportPath(word) == nil:
		return standardHint
	}
	return ""
}

// pathHint returns advice for a path that no module can have, or "".
func pathHint(path, query string) string {
	switch bare := withoutScheme(path); {
	case bare != path && module.CheckPath(bare) == nil:
		return "did you mean " + bare + "@" + query + "?"
	case isStandard(path):
		return standardHint
	}
	return ""
}

// isStandard reports whether a path may be of the standard library: its first element has no dot.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return module.CheckImportPath(path) == nil && !strings.Contains(first, ".")
}

// queryHint returns advice for a query that a module of this path cannot have, or "".
func queryHint(path, query string) string {
	prefix, _, ok := module.SplitPathVersion(path)
	major := semver.Major(query)
	switch typed := strings.TrimRight(query, ",;:"); {
	case ok && module.CanonicalVersion(query) == query && !strings.HasPrefix(path, "gopkg.in/"):
		if major == "v0" || major == "v1" {
			return "did you mean " + prefix + "@" + query + "?"
		}
		return "did you mean " + prefix + "/" + major + "@" + query + "?"
	case typed != query && checkQuery(typed) == nil:
		return "did you mean " + path + "@" + typed + "?"
	}
	return ""
}

// withoutScheme removes what a browser shows before and after a module path.
func withoutScheme(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	return strings.TrimSuffix(strings.TrimSuffix(s, "/"), ".git")
}
