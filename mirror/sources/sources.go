// Package sources parses what modmirror is asked to carry: projects, workspaces, modules, commands
// and list files.
//
// A source is taken as the go command would take it: a folder means the workspace or the project
// that the go command would load there, and go.sum lines are read by its rules. The package reads
// files and asks no network; what a query such as latest means is resolved by package mirror.
package sources

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// A Source is a project, a workspace, a module or a command whose closure is wanted.
type Source struct {
	Name     string // as the user named it, with file:line when it came from a list
	OnlyThis bool   // carry this version and nothing that it requires
	NoZip    bool   // with OnlyThis: carry no zip either
	Optional bool   // carry nothing when the upstream does not have it
	Imported bool   // Tool is a package that a version without a go.mod imports

	// For a project:
	Dir       string        // its folder
	Mod       *modfile.File // its parsed go.mod, or the file that -modfile names instead
	Sum       string        // name of its go.sum, which may not exist
	Workspace *Source       // for a project that was added as a member of a workspace

	// For a workspace, whose members are sources of their own too:
	Work    *modfile.WorkFile // its parsed go.work, in Dir
	Members []Member

	GoSum GoSum // of a project or a workspace

	// For a module:
	// Tool is the package path of a command, of which only what "go install" needs is carried.
	// Query.Path is the same.
	Tool string
	// Query.Version is a query as for go get: a version, latest, v1, >=v1.2.0, a branch, a commit;
	// or All.
	Query module.Version
}

// Sources lists everything that was asked for.
type Sources struct {
	List          []Source
	MissingOK     map[module.Version]bool // versions that may be absent
	AutoToolchain bool                    // carry the toolchains that the sources need
	Platforms     []string                // platforms of those, such as linux/amd64; empty for this one
	Bootstraps    []Bootstrap             // platforms of hosts inside that have neither modmirror nor Go
	VulnDB        string                  // URL or folder of the vulnerability database to carry, "" for none
	Policy        []PolicyLine            // of the policy that the bundle must keep
	Deny          []string                // module paths, or prefixes that end in /..., that must not be carried
	Trees         []Tree                  // trees that clients inside remember
	Notes         []string                // sources that change nothing, with the reason
	Files         []string                // files that were read: lists, go.mod, go.sum, go.work
	Sums          map[string][32]byte     // SHA-256 of what was read, by file; not of files of replacements and policies

	options Options
	works   map[string]bool // absolute paths of the go.work files that were added
}

// A PolicyLine is a line of a policy in a list, or names a file with such lines.
type PolicyLine struct {
	Name string // as in Source
	Text string // the line; "" for a file
	File string
}

// A Tree is a tree of a checksum database that clients inside remember, from a head line of a list.
// The consistency proof from it to the current tree is carried.
type Tree struct {
	Name string // as in Source
	DB   string // name of the checksum database
	Size int64  // records
}

// Options are the settings of the go command that decide what is loaded from a folder.
type Options struct {
	ModFile string // -modfile in GOFLAGS: read instead of the go.mod of a folder, and relative to that
	GoWork  string // GOWORK: a file, "off", or "" to look for a go.work
}

// Parse parses sources with the zero Options.
func Parse(args []string, stdin io.Reader) (*Sources, error) {
	return Options{}.Parse(args, stdin)
}

// Parse parses sources as a user names them: a folder, a go.mod, a go.work, a list file, "-" for a
// list on stdin, or module@query. A mistake for which there is advice is an *Error.
func (o Options) Parse(args []string, stdin io.Reader) (*Sources, error) {
	s := &Sources{MissingOK: make(map[module.Version]bool), options: o, works: make(map[string]bool)}
	for _, arg := range args {
		if err := s.add(arg, stdin); err != nil {
			return nil, err
		}
	}
	if len(s.List) == 0 && len(s.Bootstraps) == 0 && s.VulnDB == "" && len(s.Trees) == 0 && len(s.Notes) == 0 {
		return nil, errors.New("nothing to do: the sources name no module and no go.mod")
	}
	return s, nil
}

// An Error is a mistake in the name of a source, with advice.
type Error struct {
	Err  error
	Hint string // "" without advice
}

// Error says what is wrong.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// add adds what one argument names.
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
		h := sha256.New()
		if err := s.addList(io.TeeReader(f, h), arg, filepath.Dir(arg)); err != nil {
			return err
		}
		s.read(arg, [sha256.Size]byte(h.Sum(nil)))
		return nil
	case strings.Contains(arg, "@"):
		return s.addModule(arg, arg)
	case errors.Is(err, fs.ErrNotExist):
		return &Error{fmt.Errorf("%s: no such file or folder, and not a module@version", arg), wordHint(arg)}
	}
	return err
}

// read notes the SHA-256 of a file that was read.
func (s *Sources) read(file string, sum [sha256.Size]byte) {
	if s.Sums == nil {
		s.Sums = make(map[string][sha256.Size]byte)
	}
	s.Sums[file] = sum
}

// AddVersion adds a module version and nothing that it requires. With zip false, its zip is not
// carried either.
func (s *Sources) AddVersion(name string, m module.Version, zip bool) {
	s.List = append(s.List, Source{Name: name, OnlyThis: true, NoZip: !zip, Query: m})
}

// Learn adds the versions that a go command asked for at GOPROXY paths. Where it asked for a list
// or for @latest, Learn adds the latest version. It returns the names of the sources that are new.
func (s *Sources) Learn(paths []string) (added []string) {
	for _, p := range paths {
		r, err := modpath.Parse(p)
		if err != nil {
			continue
		}
		learned := Source{OnlyThis: true, Query: module.Version{Path: r.Path, Version: r.Version}}
		switch r.Kind {
		case modpath.Zip:
		case modpath.Mod, modpath.SumLookup:
			learned.NoZip = true
		case modpath.Info: // of a version, of a branch, or of a path that is only the beginning of a module's
			learned.Optional = true
		case modpath.List, modpath.Latest:
			learned.Optional, learned.Query.Version = true, "latest"
		default:
			continue
		}
		learned.Name = learned.Query.String()
		if learned.NoZip {
			learned.Name += "/go.mod"
		}
		if !slices.ContainsFunc(s.List, func(have Source) bool { return have.Name == learned.Name && have.OnlyThis }) {
			s.List = append(s.List, learned)
			added = append(added, learned.Name)
		}
	}
	return added
}
