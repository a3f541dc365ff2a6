package sources

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// A Member is a module of a workspace.
type Member struct {
	Dir string
	Mod *modfile.File
}

// findWork returns the go.work file that the go command would use in a folder, or "".
func (s *Sources) findWork(dir string) (string, error) {
	switch work := s.options.GoWork; {
	case work == "off":
		return "", nil
	case work == "" || work == "auto":
		if dir = findUp(dir, "go.work"); dir != "" {
			return filepath.Join(dir, "go.work"), nil
		}
		return "", nil
	case !filepath.IsAbs(work):
		return "", fmt.Errorf("GOWORK is %q: want the absolute path of a go.work, or off", work)
	default:
		return work, nil
	}
}

// readWork parses a go.work file, and returns its SHA-256. Errors of syntax name file and line.
func readWork(file string) (work *modfile.WorkFile, sum [sha256.Size]byte, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, sum, err
	}
	work, err = modfile.ParseWork(file, data, nil)
	return work, sha256.Sum256(data), err
}

// isMember reports whether a go.work file uses the module in dir.
func isMember(file, dir string) (bool, error) {
	if dir == "" {
		return false, nil
	}
	work, _, err := readWork(file)
	if err != nil {
		return false, err
	}
	for _, u := range work.Use {
		if sameFile(inFolder(filepath.Dir(file), u.Path), dir) {
			return true, nil
		}
	}
	return false, nil
}

// addWorkspace adds a workspace, and each of its members as a project.
func (s *Sources) addWorkspace(name, file string) error {
	work, workSum, err := readWork(file)
	if err != nil {
		return err
	}
	sum, err := s.goSum(file + ".sum")
	if err != nil {
		return err
	}
	s.Files = append(s.Files, file)
	s.read(file, workSum)
	ws := &Source{Name: name, Dir: filepath.Dir(file), Work: work, GoSum: sum}
	at := len(s.List)
	s.List = append(s.List, Source{})
	for _, u := range work.Use {
		dir := inFolder(ws.Dir, u.Path)
		if err := s.addProject(dir, filepath.Join(dir, "go.mod"), ""); err != nil {
			return fmt.Errorf("%s:%d: %w", file, u.Syntax.Start.Line, err)
		}
		m := &s.List[len(s.List)-1]
		m.Workspace = ws
		ws.Members = append(ws.Members, Member{m.Dir, m.Mod})
	}
	s.List[at] = *ws
	return nil
}
