package sources

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// DefaultVulnDB is the URL of Go's vulnerability database, the default of govulncheck.
const DefaultVulnDB = "https://vuln.go.dev"

// maxTrees bounds Sources.Trees. Each tree costs some requests to the checksum database.
const maxTrees = 1000

// A line is a line of a list.
type line struct {
	pos  string   // file:line
	dir  string   // folder that names in the line are relative to
	args []string // words after the first
}

// keywords holds the first words of lines, with the number of words that may follow.
var keywords = map[string]struct {
	min, max int
	add      func(*Sources, line) error
}{
	"module":     {1, 1, (*Sources).moduleLine},
	"only":       {1, 1, (*Sources).onlyLine},
	"maybe":      {1, 1, (*Sources).maybeLine},
	"head":       {2, 2, (*Sources).headLine},
	"missing-ok": {1, 1, (*Sources).missingLine},
	"tool":       {1, 1, func(s *Sources, l line) error { return s.addTool(l.pos+": "+l.args[0], l.args[0]) }},
	"deny":       {1, 1, func(s *Sources, l line) error { return s.addDeny(l.pos, l.args[0]) }},
	"toolchain":  {1, math.MaxInt, (*Sources).toolchainLine},
	"vulndb":     {0, 1, (*Sources).vulndbLine},
	"self":       {0, 2, (*Sources).selfLine},
	"policy":     {1, 1, (*Sources).policyLine},
}

// policyWords begin lines of a policy, which package policy reads. It has deny too, which here ends
// the sync before anything is fetched.
var policyWords = []string{
	"allow-only", "license", "vulns", "cooldown", "retracted", "deprecated", "new", "size", "except",
}

// addList adds the sources of a list. Folders in it are relative to dir.
func (s *Sources) addList(r io.Reader, file, dir string) error {
	text, err := listText(r, file)
	if err != nil {
		return err
	}
	sc := bufio.NewScanner(text)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		l := line{pos: fmt.Sprintf("%s:%d", file, n), dir: dir, args: words[1:]}
		if slices.Contains(policyWords, words[0]) {
			s.Policy = append(s.Policy, PolicyLine{Name: l.pos, Text: sc.Text()})
			continue
		}
		switch k, ok := keywords[words[0]]; {
		case len(words) == 1 && strings.Contains(words[0], "@"):
			err = s.addModule(l.pos+": "+words[0], words[0])
		case ok && k.min <= len(l.args) && len(l.args) <= k.max:
			err = k.add(s, l)
		case len(words) == 1 && wordHint(words[0]) != "":
			err = &Error{fmt.Errorf("%s: cannot read %.60q", l.pos, words[0]), wordHint(words[0])}
		default:
			err = fmt.Errorf("%s: cannot read %.60q: want module@query, module FOLDER, tool PACKAGE@query, "+
				"toolchain VERSION, vulndb, self PLATFORM, deny PREFIX/..., only module@version, maybe module@query, "+
				"head DATABASE SIZE, missing-ok module@version, policy FILE or a line of a policy", l.pos, strings.TrimSpace(text))
		}
		if err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// listText returns the text of a list without a byte order mark. It refuses what is not UTF-8 text
// by its beginning.
func listText(r io.Reader, file string) (*bufio.Reader, error) {
	text := bufio.NewReader(r)
	start, _ := text.Peek(512)
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")): // Windows programs write it before UTF-8
		text.Discard(3)
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return nil, &Error{fmt.Errorf("%s: not a list: it is UTF-16", file),
			"save it as UTF-8; PowerShell: Set-Content -Encoding utf8"}
	case bytes.IndexByte(start, 0) >= 0:
		return nil, fmt.Errorf("%s: not a list: it is not text", file)
	}
	return text, nil
}

// moduleLine adds the project or workspace in a folder.
func (s *Sources) moduleLine(l line) error {
	folder := l.args[0]
	at := len(s.List)
	if err := s.addFolder(folder, inFolder(l.dir, folder)); err != nil {
		return fmt.Errorf("%s: %w", l.pos, err)
	}
	if at < len(s.List) { // else an earlier source brought its workspace in
		s.List[at].Name = l.pos + ": " + folder
	}
	return nil
}

// onlyLine adds a version without what it requires.
func (s *Sources) onlyLine(l line) error {
	if err := s.addModule(l.pos+": "+l.args[0], l.args[0]); err != nil {
		return err
	}
	s.List[len(s.List)-1].OnlyThis = true
	return nil
}

// maybeLine adds a module that may not exist.
func (s *Sources) maybeLine(l line) error {
	s.addOptional(l.pos+": "+l.args[0], l.args[0])
	return nil
}

// headLine adds a tree that clients inside remember.
func (s *Sources) headLine(l line) error {
	size, err := strconv.ParseInt(l.args[1], 10, 64)
	if err != nil || size < 1 || modpath.CheckDB(l.args[0]) != nil {
		return fmt.Errorf("%s: want head DATABASE SIZE, as modmirror wants prints it", l.pos)
	}
	if len(s.Trees) == maxTrees {
		return fmt.Errorf("%s: more than %d lines head: keep those that are wanted most", l.pos, maxTrees)
	}
	s.Trees = append(s.Trees, Tree{l.pos, l.args[0], size})
	return nil
}

// missingLine adds a version that may be absent. Its path may be one that no module can have, such
// as one without a dot, since a go.mod may require that.
func (s *Sources) missingLine(l line) error {
	path, version, ok := strings.Cut(l.args[0], "@")
	if !ok || module.CheckImportPath(path) != nil || version == "" {
		return fmt.Errorf("%s: want missing-ok module@version", l.pos)
	}
	s.MissingOK[module.Version{Path: path, Version: version}] = true
	return nil
}

// toolchainLine adds a toolchain, or with auto those that the sources need.
func (s *Sources) toolchainLine(l line) error {
	platforms := l.args[1:]
	if l.args[0] != "auto" {
		return s.AddToolchain(l.pos, l.args[0], platforms)
	}
	for _, p := range platforms {
		if err := modpath.CheckPlatform(p); err != nil {
			return fmt.Errorf("%s: %w", l.pos, err)
		}
	}
	s.AutoToolchain, s.Platforms = true, append(s.Platforms, platforms...)
	return nil
}

// vulndbLine adds a vulnerability database.
func (s *Sources) vulndbLine(l line) error {
	s.VulnDB = DefaultVulnDB
	if len(l.args) == 1 {
		s.VulnDB = l.args[0]
		if !strings.Contains(l.args[0], "://") && !filepath.IsAbs(l.args[0]) {
			s.VulnDB = filepath.Join(l.dir, l.args[0])
		}
	}
	return nil
}

// policyLine adds a file with lines of a policy.
func (s *Sources) policyLine(l line) error {
	file := inFolder(l.dir, l.args[0])
	s.Policy = append(s.Policy, PolicyLine{Name: l.pos, File: file})
	s.Files = append(s.Files, file)
	return nil
}

// selfLine adds a bootstrap platform.
func (s *Sources) selfLine(l line) error {
	args := append(l.args, "", "")
	platform, file := args[0], args[1]
	if file != "" {
		file = inFolder(l.dir, file)
	}
	return s.AddBootstrap(l.pos, platform, file)
}
