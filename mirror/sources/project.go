package sources

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// addFolder adds what the go command would load in a folder: the workspace of the go.work there or
// above it, unless that does not use the folder's module; then the project of the go.mod there or
// above it (cmd/go/internal/modload/init.go FindGoWork and findModuleRoot).
func (s *Sources) addFolder(name, dir string) error {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s: no such folder, so no go.mod there", name)
	}
	root := findUp(dir, "go.mod")
	work, err := s.findWork(dir)
	if err != nil {
		return err
	}
	if work == "" && root == "" {
		return fmt.Errorf("%s: no go.mod there", name)
	}
	if work == "" {
		if name == "." { // people want to see where that is
			name = root
		}
		return s.addProject(name, filepath.Join(root, "go.mod"), dir)
	}
	if name == "." {
		name = filepath.Dir(work)
	}
	member, err := isMember(work, root)
	if err != nil {
		return err
	}
	if root != "" && !member && !sameFile(root, filepath.Dir(work)) {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s does not use it, so it is taken by itself, as with GOWORK=off",
			name, work))
		return s.addProject(name, filepath.Join(root, "go.mod"), dir)
	}
	if s.options.ModFile != "" {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: -modfile in GOFLAGS is left out, "+
			"since go commands refuse it in a workspace", name))
	}
	if abs, err := filepath.Abs(work); err == nil {
		if s.works[abs] { // another member brought it in
			return nil
		}
		s.works[abs] = true
	}
	if name != filepath.Dir(work) && !sameFile(dir, filepath.Dir(work)) {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: its workspace %s is carried, as go commands use that there; "+
			"GOWORK=off carries the module alone", name, work))
	}
	return s.addWorkspace(name, work)
}

// findUp returns the nearest folder, from dir upwards, that has a file of this name, or "".
func findUp(dir, name string) string {
	for {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.IsDir() {
			return dir
		}
		abs, err := filepath.Abs(dir)
		if err != nil || abs == filepath.Dir(abs) {
			return ""
		}
		dir = filepath.Join(dir, "..") // a relative dir stays relative, for messages
	}
}

// sameFile reports whether two names are of one file or folder.
func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// addProject adds the project of a go.mod file. from is the folder that a -modfile is relative to,
// or "" to ignore -modfile.
func (s *Sources) addProject(name, file, from string) error {
	dir := filepath.Dir(file)
	if alternate := s.options.ModFile; from != "" && alternate != "" {
		if !filepath.IsAbs(alternate) {
			alternate = filepath.Join(from, alternate)
		}
		if filepath.Ext(alternate) != ".mod" {
			return fmt.Errorf("-modfile in GOFLAGS is %s: its name must end in .mod", s.options.ModFile)
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s is read instead of go.mod, as GOFLAGS says",
			name, alternate))
		file = alternate
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(file) == "go.mod" {
		return fmt.Errorf("%s: no go.mod there", name)
	}
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(file, data, nil) // refuses versions that are not canonical
	if err != nil {
		return err // names file and line
	}
	if mod.Module == nil {
		return fmt.Errorf("%s: no module line", file)
	}
	if err := module.CheckImportPath(mod.Module.Mod.Path); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	sum, err := s.goSum(strings.TrimSuffix(file, ".mod") + ".sum")
	if err != nil {
		return err
	}
	s.Files = append(s.Files, file)
	s.read(file, sha256.Sum256(data))
	for _, r := range mod.Replace {
		if r.New.Version == "" {
			s.Files = append(s.Files, filepath.Join(inFolder(dir, r.New.Path), "go.mod"))
		}
	}
	s.List = append(s.List, Source{Name: name, Dir: dir, Mod: mod, Sum: sum.file, GoSum: sum})
	return nil
}

// inFolder returns path, which is relative to dir unless it is absolute.
func inFolder(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
