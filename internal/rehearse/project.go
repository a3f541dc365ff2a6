package rehearse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror/sources"
)

// copyProject copies a project to dir, without go.sum and vendor. Local replacements that lead out
// of the project become absolute.
func (o *Options) copyProject(dir string, s sources.Source) error {
	if err := o.copyTree(dir, s.Dir, "go.sum", "go.work", "vendor"); err != nil {
		return err
	}
	return writeGoMod(dir, s.Dir, s.Dir, s.Mod)
}

// copyWorkspace copies a workspace to dir, without go.sum files and vendor folders. It returns the
// folders of the copied modules. Modules outside of the workspace's folder are neither copied nor
// returned: the copy's go.work names them where they are.
func (o *Options) copyWorkspace(dir string, s sources.Source) (modules []string, err error) {
	leave := []string{"go.work.sum", "vendor"}
	inside := make(map[string]string) // relative folders of modules, by the path in go.work
	for i, m := range s.Members {
		if rel, err := filepath.Rel(s.Dir, m.Dir); err == nil && filepath.IsLocal(rel) {
			inside[s.Work.Use[i].Path] = rel
			leave = append(leave, filepath.Join(rel, "go.sum"), filepath.Join(rel, "vendor"))
		}
	}
	if err := o.copyTree(dir, s.Dir, leave...); err != nil {
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

// writeGoMod writes f, the go.mod of the module in from, to dir. Local replacements that lead out
// of root become absolute.
func writeGoMod(dir, from, root string, f *modfile.File) error {
	// Parsing again copies the file: f belongs to the source.
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

// outsideOf returns the absolute form of a path that is relative to dir, and whether it leads out
// of root. It returns an absolute path as it is, with false.
func outsideOf(root, dir, path string) (abs string, outside bool) {
	if filepath.IsAbs(path) {
		return path, false
	}
	base, err1 := filepath.Abs(root)
	abs, err2 := filepath.Abs(filepath.Join(dir, path))
	rel, err3 := filepath.Rel(base, abs)
	return abs, err1 == nil && err2 == nil && (err3 != nil || !filepath.IsLocal(rel))
}

// copyTree copies a folder, without version control, the files that this run writes, and the
// relative paths in leave. Links that lead out of the folder become absolute.
func (o *Options) copyTree(dir, from string, leave ...string) error {
	own, err := filepath.Abs(o.Dir)
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
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		left := slices.Contains(leave, rel)
		switch {
		case d.IsDir() && (left || versionControl[d.Name()] || abs == own):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o777)
		case left, abs == o.Output, strings.HasPrefix(d.Name(), safefile.TempPrefix):
			return nil
		case d.Type() == fs.ModeSymlink:
			return copyLink(to, abs, rel)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(to, path)
	})
}

// versionControl names the folders in which version control systems keep their data.
var versionControl = map[string]bool{".git": true, ".hg": true, ".svn": true}

// copyLink makes the link to, which leads where the link from does. rel is from relative to the
// copied folder.
func copyLink(to, from, rel string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) && !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) {
		target = filepath.Join(filepath.Dir(from), target)
	}
	return os.Symlink(target, to)
}

// copyFile copies a regular file, with its permissions and writable.
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

// newProject makes a project in dir that requires a module and uses all of it: go mod tidy then
// loads every package, and the build has the package at the module's root, if that can be imported.
func newProject(dir, module string, run runner) error {
	if _, err := run("go", "mod", "init", "rehearsal.example/new"); err != nil {
		return err
	}
	if _, err := run("go", "get", module); err != nil {
		return err
	}
	path, _, _ := strings.Cut(module, "@")
	list, err := run("go", "list", "-e", "-f", "{{if and .Name (not .Error)}}{{.Name}} {{.ImportPath}}{{end}}", path+"/...")
	if err != nil {
		return err
	}
	tools, root, all := projectFiles(path, list)
	if len(tools) > 0 {
		if _, err := run("go", append([]string{"mod", "edit"}, tools...)...); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "new.go"), []byte(root), 0o666),
		os.WriteFile(filepath.Join(dir, "all.go"), []byte(all), 0o666))
}

// projectFiles returns what a project needs to use all packages of the module path. list has a line
// "name importpath" for each package. tools are arguments of go mod edit; root is a file that
// imports the module's root, if it can be imported; all imports every package that can be imported,
// behind a build tag: go mod tidy reads files whatever their tags are.
func projectFiles(path, list string) (tools []string, root, all string) {
	root = "package new\n"
	all = "//go:build rehearsal\n\npackage new\n\n"
	for line := range strings.Lines(list) {
		name, pkg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "main":
			tools = append(tools, "-tool="+pkg)
		case strings.Contains(pkg+"/", "/internal/"), strings.Contains(pkg+"/", "/vendor/"):
		default:
			imported := fmt.Sprintf("import _ %q\n", pkg)
			all += imported
			if pkg == path {
				root += "\n" + imported
			}
		}
	}
	return tools, root, all
}
