package modpath

import (
	"errors"
	"path"
	"strings"
)

// CheckPattern returns an error that says why a pattern of GOPRIVATE, GONOPROXY or GONOSUMDB
// matches no module at all, and nil for a pattern that may match one (go help private,
// x/mod/module.MatchPrefixPatterns). The go command ignores such patterns silently, and then asks
// public proxies for private modules.
func CheckPattern(p string) error {
	switch {
	case p == "":
		return errors.New("it is empty")
	case strings.ContainsAny(p, " \t\r\n"):
		return errors.New("it has a blank in it: patterns are separated by commas alone")
	case strings.Contains(p, "://"):
		return errors.New("it is a URL: want a module path, without https:// in front")
	case strings.HasPrefix(p, "/"):
		return errors.New("it begins with a slash, which no module path does")
	case strings.HasSuffix(p, "..."):
		return errors.New("... is no wildcard here: a path covers all that is below it")
	case strings.Contains(p, "@"):
		return errors.New("it has a version: patterns are of paths")
	case strings.Contains(p, ";"):
		return errors.New("it has a semicolon in it: patterns are separated by commas")
	}
	if _, err := path.Match(p, ""); err != nil {
		return errors.New("a bracket or a backslash in it is not closed")
	}
	host, _, _ := strings.Cut(p, "/")
	if name, port, ok := strings.Cut(host, ":"); ok {
		return errors.New("it has a port (" + port + "): no module path has one, want " + name)
	}
	if !strings.ContainsAny(host, ".*?[") {
		return errors.New("its first element has no dot, and that of every module path does")
	}
	if strings.ToLower(host) != host {
		return errors.New("its host has upper case, which no module path's does")
	}
	return nil
}

// Patterns splits a comma-separated list of patterns as MatchPrefixPatterns does.
func Patterns(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
