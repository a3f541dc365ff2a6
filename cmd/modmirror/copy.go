package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
)

// copyProject copies a project to dir, without go.sum and vendor. Local replacements outside of it are made absolute.
func (r *rehearsal) copyProject(dir string, s sources.Source) error {
	if err := r.copyTree(dir, s.Dir, "go.sum", "go.work", "vendor"); err != nil {
		return err
	}
	return writeGoMod(dir, s.Dir, s.Dir, s.Mod)
}

// copyWorkspace copies a workspace to dir, without go.sum files and vendor folders, and returns the folders of its
// modules there. A module outside of the workspace's folder is used where it is, and not returned.
func (r *rehearsal) copyWorkspace(dir string, s sources.Source) (modules []string, err error) {
	leave := []string{"go.work.sum", "vendor"}
	inside := make(map[string]string) // folders of modules, relative, by what go.work says
	for i, m := range s.Members {
		if rel, err := filepath.Rel(s.Dir, m.Dir); err == nil && filepath.IsLocal(rel) {
			inside[s.Work.Use[i].Path] = rel
			leave = append(leave, filepath.Join(rel, "go.sum"), filepath.Join(rel, "vendor"))
		}
	}
	if err := r.copyTree(dir, s.Dir, leave...); err != nil {
		return nil, err
	}
	base, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", modfile.Format(s.Work.Syntax), nil)
	if err != nil {
		return nil, err
	}
	for i, m := range s.Members {
		use := s.Work.Use[i].Path
		if rel, ok := inside[use]; ok {
			to := filepath.Join(dir, rel)
			if err := writeGoMod(to, m.Dir, s.Dir, m.Mod); err != nil {
				return nil, err
			}
			modules = append(modules, to)
			continue
		}
		if !filepath.IsAbs(use) {
			if err := work.DropUse(use); err != nil {
				return nil, err
			}
			if err := work.AddUse(filepath.Join(base, use), ""); err != nil {
				return nil, err
			}
		}
	}
	for _, rep := range work.Replace {
		if abs, outside := outsideOf(s.Dir, s.Dir, rep.New.Path); outside && rep.New.Version == "" {
			if err := work.AddReplace(rep.Old.Path, rep.Old.Version, abs, ""); err != nil {
				return nil, err
			}
		}
	}
	work.Cleanup()
	return modules, os.WriteFile(filepath.Join(dir, "go.work"), modfile.Format(work.Syntax), 0o666)
}

// writeGoMod writes the go.mod of the module in from, below root, to dir, its local replacements outside of root made absolute.
func writeGoMod(dir, from, root string, f *modfile.File) error {
	// A copy of the parsed file, since the source keeps its own.
	mod, err := modfile.Parse("go.mod", modfile.Format(f.Syntax), nil)
	if err != nil {
		return err
	}
	for _, r := range mod.Replace {
		if abs, outside := outsideOf(root, from, r.New.Path); outside && r.New.Version == "" {
			if err := mod.AddReplace(r.Old.Path, r.Old.Version, abs, ""); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), modfile.Format(mod.Syntax), 0o666)
}

// outsideOf returns the absolute form of a path that is relative to dir, and whether it is outside of root. A path
// that is absolute already stays as it is.
func outsideOf(root, dir, path string) (abs string, outside bool) {
	if filepath.IsAbs(path) {
		return path, false
	}
	base, err1 := filepath.Abs(root)
	abs, err2 := filepath.Abs(filepath.Join(dir, path))
	rel, err3 := filepath.Rel(base, abs)
	return abs, err1 == nil && err2 == nil && (err3 != nil || !filepath.IsLocal(rel))
}

// copyTree copies a folder, without version control, what this run writes, and what leave names below it. Links to the
// outside go on leading there.
func (r *rehearsal) copyTree(dir, from string, leave ...string) error {
	own, err := filepath.Abs(r.tmp)
	if err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		left := slices.Contains(leave, rel)
		switch abs, _ := filepath.Abs(path); {
		case d.IsDir() && (left || d.Name() == ".git" || d.Name() == ".hg" || d.Name() == ".svn" || abs == own):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o777)
		case left || abs == r.output || strings.HasPrefix(d.Name(), safefile.TempPrefix):
			return nil
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if !filepath.IsAbs(target) && !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) {
				target = filepath.Join(filepath.Dir(abs), target)
			}
			return os.Symlink(target, to)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(to, path)
	})
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
