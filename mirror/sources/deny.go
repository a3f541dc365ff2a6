package sources

import (
	"fmt"
	"strings"

	"golang.org/x/mod/module"
)

// addDeny adds the pattern of a deny line: a module path, or a prefix that ends in /....
func (s *Sources) addDeny(pos, pattern string) error {
	if module.CheckImportPath(strings.TrimSuffix(pattern, "/...")) != nil {
		return fmt.Errorf("%s: want deny MODULE, or deny PREFIX/... for all below it", pos)
	}
	s.Deny = append(s.Deny, pattern)
	return nil
}

// Denies returns the pattern of s.Deny that forbids a module path, or "".
func (s *Sources) Denies(path string) string {
	for _, d := range s.Deny {
		prefix, all := strings.CutSuffix(d, "/...")
		if path == prefix || all && strings.HasPrefix(path, prefix+"/") {
			return d
		}
	}
	return ""
}
