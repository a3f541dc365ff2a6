package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// A Source is something whose closure is wanted: a project or a module.
type Source struct {
	Name     string // as the user named it, with file:line when it came from a list
	Alone    bool   // the version itself and nothing else
	noZip    bool   // and not even its zip
	maybe    bool   // or nothing, when the upstream does not have it
	imported bool   // Tool is a package that a version without a go.mod imports

	// For a project:
	Dir   string        // its folder
	Mod   *modfile.File // its parsed go.mod, or what -modfile names in its place
	Sum   string        // file with its go.sum, which need not be there
	goSum goSum

	// For a workspace, whose modules are sources of their own besides:
	Work    *modfile.WorkFile // its parsed go.work, in Dir
	Members []Member
	InWork  bool    // a project that is here because it is a member
	work    *Source // of that workspace

	// For a module:
	Tool  string         // package path of a command: only what "go install" needs; Query.Path is the same
	Query module.Version // Version is a query, as after go get: a version, latest, v1, >=v1.2.0, a branch, a commit; or all
}

// A Member is a module of a workspace.
type Member struct {
	Dir string
	Mod *modfile.File
}

// Sources is what was asked for.
type Sources struct {
	List          []Source
	MissingOK     map[module.Version]bool // versions that may be absent
	AutoToolchain bool                    // carry the toolchains that the sources need
	Platforms     []string                // for which, such as linux/amd64; empty for this one
	Self          []Self                  // hosts inside that have nothing yet
	VulnDB        string                  // URL or folder of a vulnerability database to be carried, "" for none
	Deny          []string                // module paths, or prefixes that end in /..., that must not be carried
	Lines         []Line                  // lines of bundles that what is carried now joins
	Trees         []Tree                  // that clients inside remember
	Notes         []string                // lines that change nothing, and why
	Lock          *Lock                   // what must come out; nil for what there is now
	Files         []string                // that were read for it: lists, go.mod, go.sum, go.work

	options SourceOptions
	works   map[string]bool // absolute paths of the go.work files that were added
}

// A Tree is a tree of a checksum database that clients inside remember, as a line head of a list
// says: what they need to go on from it is carried.
type Tree struct {
	Name string // as in Source
	DB   string
	Size int64 // records
}

// A Line is what a line of bundles has of the checksum database. Its records are proven again,
// under the head of this run, and that the head continues those of the line.
type Line struct {
	Own     bool // it is the one that is continued, and not one that is only served beside it
	Heads   []proof.Head
	Records []proof.Record
	Has     func(path string) (bool, error) // whether it carries a file already
}

// maxTrees bounds Sources.Trees: each takes some requests to the checksum database.
const maxTrees = 1000

// AddVersion adds a module version and nothing that it needs, without its zip if only its go.mod is
// wanted.
func (s *Sources) AddVersion(name string, m module.Version, zip bool) {
	s.List = append(s.List, Source{Name: name, Alone: true, noZip: !zip, Query: m})
}

// A DeniedError says which modules of a closure a deny line forbids.
type DeniedError struct{ Modules []Denied }

// A Denied is a module version that is denied.
type Denied struct {
	Mod   module.Version
	Line  string   // what denies it, as after deny
	Chain []string // the requirements that bring it in, from the source
}

// Error says how many there are; the caller names them.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("%d of the modules are denied", len(e.Modules))
}

// goSum holds the lines of a go.sum file.
type goSum struct {
	file   string
	hashes map[module.Version][]string // the version has "/go.mod" behind it for the hash of that file
}

// A GoSumError says that a file is not what a go.sum says, although the checksum database agrees
// with it.
type GoSumError struct{ Err error }

// Error names the file and both hashes.
func (e *GoSumError) Error() string { return e.Err.Error() }

// Unwrap returns an error that wraps proof.ErrMismatch.
func (e *GoSumError) Unwrap() error { return e.Err }

// emptyGoModH1 is the hash that old go commands wrote for a go.mod that is made up; they are
// ignored, as by cmd/go (modfetch/fetch.go emptyGoModHash).
const emptyGoModH1 = "h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY="

// check reports whether go.sum has hashes for m and h1 is none of them.
func (g goSum) check(m module.Version, h1 string) error {
	want := g.hashes[m]
	for _, w := range want {
		if w == h1 {
			return nil
		}
	}
	if len(want) == 0 {
		return nil
	}
	return fmt.Errorf("%s %s is %s, but %s says %s: %w", m.Path, m.Version, h1, g.file, want[0], proof.ErrMismatch)
}

// SourceOptions are the settings of the go command that say what is loaded where.
type SourceOptions struct {
	ModFile string // of -modfile in GOFLAGS: taken in the place of the go.mod of folders; relative to them
	GoWork  string // GOWORK: a file, "off", or "" to look for one
}

// ParseSources parses what a user may name as a source: a folder, of which it takes what a go
// command would load there, a go.mod or go.work, a list file, "-" for a list on stdin, or
// module@query. Mistakes are a *SourceError.
func ParseSources(args []string, stdin io.Reader) (*Sources, error) {
	return SourceOptions{}.Parse(args, stdin)
}

// Parse is ParseSources with settings.
func (o SourceOptions) Parse(args []string, stdin io.Reader) (*Sources, error) {
	s := &Sources{MissingOK: make(map[module.Version]bool), options: o, works: make(map[string]bool)}
	for _, arg := range args {
		if err := s.add(arg, stdin); err != nil {
			return nil, err
		}
	}
	if len(s.List) == 0 && len(s.Self) == 0 && s.VulnDB == "" && len(s.Trees) == 0 && len(s.Notes) == 0 {
		return nil, errors.New("nothing to do: the sources name no module and no go.mod")
	}
	return s, nil
}

// A SourceError is a mistake in what was named as a source, with a next step.
type SourceError struct {
	Err  error
	Hint string
}

// Error says what is wrong.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns the same as an error.
func (e *SourceError) Unwrap() error { return e.Err }

func (s *Sources) add(arg string, stdin io.Reader) error {
	if arg == "-" {
		return s.addList(stdin, "stdin", ".")
	}
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return s.addFolder(arg, arg)
	case err == nil && filepath.Ext(arg) == ".mod":
		return s.addProject(arg, arg, "")
	case err == nil && filepath.Ext(arg) == ".work":
		return s.addWorkspace(arg, arg)
	case err == nil && !info.Mode().IsRegular() && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0:
		return fmt.Errorf("%s: neither a file nor a folder", arg)
	case err == nil:
		s.Files = append(s.Files, arg)
		f, err := os.Open(arg)
		if err != nil {
			return err
		}
		defer f.Close()
		return s.addList(f, arg, filepath.Dir(arg))
	case strings.Contains(arg, "@"):
		return s.addModule(arg, arg)
	case errors.Is(err, fs.ErrNotExist):
		return &SourceError{fmt.Errorf("%s: no such file or folder, and not a module@version", arg), wordHint(arg)}
	}
	return err
}

// wordHint says what was meant by a word that names no source, "" when that cannot be told.
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

const standardHint = "a path without a dot in its first element is of the standard library, which comes with Go"

// withoutScheme takes off what a browser puts before a module path, and behind it.
func withoutScheme(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	return strings.TrimSuffix(strings.TrimSuffix(s, "/"), ".git")
}

// addFolder adds what a go command would load in a folder: the workspace of the go.work there or
// above, unless its module is not in it, else the project of the go.mod there or above
// (cmd/go/internal/modload/init.go FindGoWork and findModuleRoot).
func (s *Sources) addFolder(name, dir string) error {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s: no such folder, so no go.mod there", name)
	}
	root := findUp(dir, "go.mod")
	work := s.options.GoWork
	switch {
	case work == "off":
		work = ""
	case work == "" || work == "auto":
		if work = findUp(dir, "go.work"); work != "" {
			work = filepath.Join(work, "go.work")
		}
	case !filepath.IsAbs(work):
		return fmt.Errorf("GOWORK is %q: want the absolute path of a go.work, or off", work)
	}
	if work == "" && root == "" {
		return fmt.Errorf("%s: no go.mod there", name)
	}
	if work == "" {
		if name == "." { // as people see where it is
			name = root
		}
		return s.addProject(name, filepath.Join(root, "go.mod"), dir)
	}
	if name == "." {
		name = filepath.Dir(work)
	}
	same, err := s.isMember(work, root)
	if err != nil {
		return err
	}
	if root != "" && !same && !sameFile(root, filepath.Dir(work)) {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s does not use it, so it is taken by itself, as with GOWORK=off", name, work))
		return s.addProject(name, filepath.Join(root, "go.mod"), dir)
	}
	if s.options.ModFile != "" {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: -modfile in GOFLAGS is left out, since go commands refuse it in a workspace", name))
	}
	if abs, err := filepath.Abs(work); err == nil {
		if s.works[abs] { // by another of its modules
			return nil
		}
		s.works[abs] = true
	}
	if name != filepath.Dir(work) && !sameFile(dir, filepath.Dir(work)) {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: taken is the workspace %s, as go commands take it there; GOWORK=off takes the module alone", name, work))
	}
	return s.addWorkspace(name, work)
}

// findUp returns the nearest folder, from dir upwards, with a file of a name; "" for none.
func findUp(dir, name string) string {
	for {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.IsDir() {
			return dir
		}
		abs, err := filepath.Abs(dir)
		if err != nil || abs == filepath.Dir(abs) {
			return ""
		}
		dir = filepath.Join(dir, "..") // stays relative where it was, for messages
	}
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// isMember reports whether a go.work uses the module in a folder.
func (s *Sources) isMember(file, dir string) (bool, error) {
	if dir == "" {
		return false, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	work, err := modfile.ParseWork(file, data, nil)
	if err != nil {
		return false, err // has file:line
	}
	for _, u := range work.Use {
		folder := u.Path
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(filepath.Dir(file), folder)
		}
		if sameFile(folder, dir) {
			return true, nil
		}
	}
	return false, nil
}

// addWorkspace adds a workspace and each of its modules.
func (s *Sources) addWorkspace(name, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	work, err := modfile.ParseWork(file, data, nil)
	if err != nil {
		return err // has file:line
	}
	sum, err := readGoSum(file + ".sum")
	if err != nil {
		return err
	}
	s.Files = append(s.Files, file, file+".sum")
	ws := Source{Name: name, Dir: filepath.Dir(file), Work: work, goSum: sum}
	at := len(s.List)
	s.List = append(s.List, ws)
	for _, u := range work.Use {
		dir := u.Path
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(ws.Dir, dir)
		}
		if err := s.addProject(dir, filepath.Join(dir, "go.mod"), ""); err != nil {
			return fmt.Errorf("%s:%d: %w", file, u.Syntax.Start.Line, err)
		}
		m := &s.List[len(s.List)-1]
		m.InWork, m.work = true, &ws
		ws.Members = append(ws.Members, Member{m.Dir, m.Mod})
	}
	s.List[at] = ws
	return nil
}

// addProject adds the project of a go.mod. from is the folder in which a go command would be run
// that reads -modfile, "" when it is not to be read.
func (s *Sources) addProject(name, file, from string) error {
	dir := filepath.Dir(file)
	if alternate := s.options.ModFile; from != "" && alternate != "" {
		if !filepath.IsAbs(alternate) {
			alternate = filepath.Join(from, alternate)
		}
		if filepath.Ext(alternate) != ".mod" {
			return fmt.Errorf("-modfile in GOFLAGS is %s: its name must end in .mod", s.options.ModFile)
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s is read in the place of go.mod, as GOFLAGS says", name, alternate))
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
		return err // has file:line
	}
	if mod.Module == nil {
		return fmt.Errorf("%s: no module line", file)
	}
	if err := module.CheckImportPath(mod.Module.Mod.Path); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	sum, err := readGoSum(strings.TrimSuffix(file, ".mod") + ".sum")
	if err != nil {
		return err
	}
	s.Files = append(s.Files, file, sum.file)
	for _, r := range mod.Replace {
		if folder := r.New.Path; r.New.Version == "" {
			if !filepath.IsAbs(folder) {
				folder = filepath.Join(dir, folder)
			}
			s.Files = append(s.Files, filepath.Join(folder, "go.mod"))
		}
	}
	s.List = append(s.List, Source{Name: name, Dir: dir, Mod: mod, Sum: sum.file, goSum: sum})
	return nil
}

func (s *Sources) addModule(name, arg string) error {
	path, query, ok := strings.Cut(arg, "@")
	if !ok || query == "" {
		return &SourceError{fmt.Errorf("%s: want module@version", name), "the newest version is " + path + "@latest"}
	}
	if err := module.CheckPath(path); err != nil {
		return &SourceError{fmt.Errorf("%s: %w", name, err), pathHint(path, query)}
	}
	err := checkQuery(query)
	// A version of another major may be the tag of one that is +incompatible.
	if module.CanonicalVersion(query) == query && module.Check(path, query+"+incompatible") != nil {
		err = module.Check(path, query)
		if m, ok := errors.AsType[*module.ModuleError](err); ok {
			err = m.Err // without the name, which is there already
		}
	}
	if err != nil {
		return &SourceError{fmt.Errorf("%s: %w", name, err), queryHint(path, query)}
	}
	s.List = append(s.List, Source{Name: name, Query: module.Version{Path: path, Version: query}})
	return nil
}

// pathHint says what was meant by a path that no module has, "" when that cannot be told.
func pathHint(path, query string) string {
	switch bare := withoutScheme(path); {
	case bare != path && module.CheckPath(bare) == nil:
		return "did you mean " + bare + "@" + query + "?"
	case module.CheckImportPath(path) == nil && module.CheckPath(path) != nil && !strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
		return standardHint
	}
	return ""
}

// queryHint says what was meant by a version that a path cannot have, "" when that cannot be told.
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

// addMaybe adds a module if there is such a thing: it never fails, and means one version at most.
func (s *Sources) addMaybe(name, arg string) {
	if path, query, ok := strings.Cut(arg, "@"); ok && query == allQuery {
		arg = path + "@latest"
	}
	if err := s.addModule(name, arg); err != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("left out: maybe %v", err))
		return
	}
	last := &s.List[len(s.List)-1]
	last.maybe, last.Alone = true, last.Query.Path == modpath.Toolchain
}

// addTool adds a command: package@query. Which module it is in is found out later.
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
	if query == allQuery {
		err = errors.New("a command is wanted in one version")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.List = append(s.List, Source{Name: name, Tool: pkg, Query: module.Version{Path: pkg, Version: query}})
	return nil
}

// Learn adds what a go command asked for at GOPROXY paths: those versions, or, where it asked which
// versions there are, the latest. It returns the names of what is new.
func (s *Sources) Learn(paths []string) (added []string) {
	for _, p := range paths {
		r, err := modpath.Parse(p)
		if err != nil {
			continue
		}
		learned := Source{Alone: true, Query: module.Version{Path: r.Path, Version: r.Version}}
		switch r.Kind {
		case modpath.Zip:
		case modpath.Mod, modpath.SumLookup:
			learned.noZip = true
		case modpath.Info: // of a version that was named, or of a branch; of a path that is only above one, too
			learned.maybe = true
		case modpath.List, modpath.Latest:
			learned.maybe, learned.Query.Version = true, "latest"
		default:
			continue
		}
		learned.Name = learned.Query.String()
		if learned.noZip {
			learned.Name += "/go.mod"
		}
		if !slices.ContainsFunc(s.List, func(have Source) bool { return have.Name == learned.Name && have.Alone }) {
			s.List = append(s.List, learned)
			added = append(added, learned.Name)
		}
	}
	return added
}

// denied returns the deny line that a module path is under, "" when there is none.
func (s *Sources) denied(path string) string {
	for _, d := range s.Deny {
		prefix, all := strings.CutSuffix(d, "/...")
		if path == prefix || all && strings.HasPrefix(path, prefix+"/") {
			return d
		}
	}
	return ""
}

// addList reads a list file. Folders in it are relative to dir.
func (s *Sources) addList(r io.Reader, file, dir string) error {
	text := bufio.NewReader(r)
	start, _ := text.Peek(512)
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")): // a mark that Windows programs put before UTF-8
		text.Discard(3)
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return &SourceError{fmt.Errorf("%s: not a list: it is UTF-16", file), "save it as UTF-8; PowerShell: Set-Content -Encoding utf8"}
	case bytes.IndexByte(start, 0) >= 0:
		return fmt.Errorf("%s: not a list: it is not text", file)
	}
	sc := bufio.NewScanner(text)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		pos := fmt.Sprintf("%s:%d", file, n)
		switch {
		case len(f) == 1 && strings.Contains(f[0], "@"):
			if err := s.addModule(pos+": "+f[0], f[0]); err != nil {
				return err
			}
		case f[0] == "module" && len(f) == 2:
			folder := f[1]
			if !filepath.IsAbs(folder) {
				folder = filepath.Join(dir, folder)
			}
			at := len(s.List)
			if err := s.addFolder(f[1], folder); err != nil {
				return fmt.Errorf("%s: %w", pos, err)
			}
			if at < len(s.List) { // else its workspace is there already
				s.List[at].Name = pos + ": " + f[1]
			}
		case f[0] == "only" && len(f) == 2:
			if err := s.addModule(pos+": "+f[1], f[1]); err != nil {
				return err
			}
			s.List[len(s.List)-1].Alone = true
		case f[0] == "maybe" && len(f) == 2:
			s.addMaybe(pos+": "+f[1], f[1])
		case f[0] == "head" && len(f) == 3:
			size, err := strconv.ParseInt(f[2], 10, 64)
			if err != nil || size < 1 || modpath.CheckDB(f[1]) != nil {
				return fmt.Errorf("%s: want head DATABASE SIZE, as modmirror wants prints it", pos)
			}
			if len(s.Trees) == maxTrees {
				return fmt.Errorf("%s: more than %d lines head: keep those that are wanted most", pos, maxTrees)
			}
			s.Trees = append(s.Trees, Tree{pos, f[1], size})
		case f[0] == "missing-ok" && len(f) == 2:
			path, version, ok := strings.Cut(f[1], "@")
			// Also what no module can be, such as a path without a dot: somebody's go.mod may
			// require it.
			if !ok || module.CheckImportPath(path) != nil || version == "" {
				return fmt.Errorf("%s: want missing-ok module@version", pos)
			}
			s.MissingOK[module.Version{Path: path, Version: version}] = true
		case f[0] == "tool" && len(f) == 2:
			if err := s.addTool(pos+": "+f[1], f[1]); err != nil {
				return err
			}
		case f[0] == "deny" && len(f) == 2:
			pattern := strings.TrimSuffix(f[1], "/...")
			if module.CheckImportPath(pattern) != nil {
				return fmt.Errorf("%s: want deny MODULE, or deny PREFIX/... for all below it", pos)
			}
			s.Deny = append(s.Deny, f[1])
		case f[0] == "toolchain" && len(f) >= 2 && f[1] == "auto":
			for _, p := range f[2:] {
				if err := CheckPlatform(p); err != nil {
					return fmt.Errorf("%s: %w", pos, err)
				}
			}
			s.AutoToolchain, s.Platforms = true, append(s.Platforms, f[2:]...)
		case f[0] == "toolchain" && len(f) >= 2:
			if err := s.AddToolchain(pos, f[1], f[2:]); err != nil {
				return err
			}
		case f[0] == "vulndb" && len(f) <= 2:
			s.VulnDB = DefaultVulnDB
			if len(f) == 2 {
				s.VulnDB = f[1]
				if !strings.Contains(f[1], "://") && !filepath.IsAbs(f[1]) {
					s.VulnDB = filepath.Join(dir, f[1])
				}
			}
		case f[0] == "self" && len(f) <= 3:
			f = append(f, "", "")
			if f[2] != "" && !filepath.IsAbs(f[2]) {
				f[2] = filepath.Join(dir, f[2])
			}
			if err := s.AddSelf(pos, f[1], f[2]); err != nil {
				return err
			}
		case len(f) == 1 && wordHint(f[0]) != "":
			return &SourceError{fmt.Errorf("%s: cannot read %.60q", pos, f[0]), wordHint(f[0])}
		default:
			return fmt.Errorf("%s: cannot read %.60q: want module@query, module FOLDER, tool PACKAGE@query, toolchain VERSION, vulndb, self PLATFORM, deny PREFIX/..., only module@version, maybe module@query, head DATABASE SIZE or missing-ok module@version", pos, strings.TrimSpace(line))
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// readGoSum parses a go.sum file; one that is not there is empty. Lines are read
// as cmd/go reads them (modfetch/fetch.go readGoSum): three fields, others are errors.
func readGoSum(file string) (goSum, error) {
	g := goSum{file: file, hashes: make(map[module.Version][]string)}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return g, fmt.Errorf("%s:%d: malformed go.sum line: %d fields, want 3", file, n, len(f))
		}
		if strings.HasPrefix(f[2], "h1:") && f[2] != emptyGoModH1 { // hashes of other kinds are ignored, as cmd/go does
			m := module.Version{Path: f[0], Version: f[1]}
			g.hashes[m] = append(g.hashes[m], f[2])
		}
	}
	return g, nil
}
