package review

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/exp/apidiff"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review/facts"
)

// An APIChange is a change of what a module exports.
type APIChange struct {
	Package    string `json:"package"`    // import path
	Compatible bool   `json:"compatible"` // what was written for the old version compiles with the new one
	Text       string `json:"text"`
}

// An APIDiff is how what two versions export differs.
type APIDiff struct {
	Changes []APIChange `json:"changes"`          // incompatible ones first
	Unread  []string    `json:"unread,omitempty"` // files and packages that could not be read, and why
	// Unknown are objects whose type or value is not known, since another module computes it.
	Unknown []string `json:"unknown,omitempty"`
}

// Incompatible counts the incompatible changes.
func (d *APIDiff) Incompatible() int {
	i := slices.IndexFunc(d.Changes, func(c APIChange) bool { return c.Compatible })
	if i < 0 {
		return len(d.Changes)
	}
	return i
}

const (
	// maxAPI is how many bytes of source DiffAPI reads of a version.
	maxAPI = 64 << 20

	// maxDepth is how deep the declarations of a file may be nested. The type checker recurses.
	maxDepth = 10_000

	// maxAPITime is how long the comparison of two versions may take.
	maxAPITime = time.Minute

	// maxAPIChanges bounds the changes and what is not known or read, each, and maxAPIText the
	// length of their texts in bytes. maxAPIOut bounds all as JSON.
	maxAPIChanges = 10_000
	maxAPIText    = 1 << 10
	maxAPIOut     = 32 << 20
)

// ErrTooMuch says that there is too much to compare what two versions export.
var ErrTooMuch = errors.New("too much to compare what it exports")

// An APIWorker runs WorkAPI on in and out, in a process that may be killed. The type checker of the
// standard library knows no bounds: a few lines can take all memory, or the whole stack.
type APIWorker func(ctx context.Context, in io.Reader, out io.Writer) error

// DiffAPI compares what two versions export on linux/amd64 with cgo, by the rules of apidiff
// (https://pkg.go.dev/golang.org/x/exp/apidiff). Commands, internal packages and folders that
// "./..." leaves out do not count. Packages of other modules and of the standard library are not
// read: their types are told apart by name. It gives up after a minute. The error wraps ErrTooMuch when
// the versions have too much, and that of work.
func DiffAPI(ctx context.Context, old, now *Sources, work APIWorker) (*APIDiff, error) {
	slow := fmt.Errorf("%s: what it exports takes too long to compare", now.Mod)
	ctx, cancel := context.WithTimeoutCause(ctx, maxAPITime, slow)
	defer cancel()
	in, send := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := sendAPI(ctx, send, old, now)
		send.CloseWithError(err)
		sent <- err
	}()
	var out capped
	err := work(ctx, in, &out)
	in.Close()
	unsent := <-sent // the sources are not read any more
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case out.full: // a process whose output is not read fails for another reason
		return nil, fmt.Errorf("%s: more than %d MiB of differences: %w", now.Mod, maxAPIOut>>20, ErrTooMuch)
	case unsent != nil && !errors.Is(unsent, io.ErrClosedPipe):
		return nil, unsent
	case err != nil:
		return nil, fmt.Errorf("%s: what it exports cannot be compared: %w", now.Mod, err)
	}
	d := new(APIDiff)
	if err := json.Unmarshal(out.Bytes(), d); err != nil {
		return nil, fmt.Errorf("%s: what it exports cannot be compared: %w", now.Mod, err)
	}
	return d, nil
}

// A capped keeps up to maxAPIOut bytes, and fails on more.
type capped struct {
	bytes.Buffer
	full bool
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxAPIOut {
		c.full = true
		return 0, io.ErrShortWrite
	}
	return c.Buffer.Write(p)
}

// An apiFile is a file for WorkAPI. The first one has the versions.
type apiFile struct {
	Mods   [2]module.Version // old and new
	In     [2]bool           // in which of them it is
	Name   string
	Data   []byte
	Unread string // why there is no Data
}

// sendAPI sends the sources of two versions.
func sendAPI(ctx context.Context, w io.Writer, old, now *Sources) error {
	enc := gob.NewEncoder(w)
	pair := [2]*Sources{old, now}
	if err := enc.Encode(apiFile{Mods: [2]module.Version{old.Mod, now.Mod}}); err != nil {
		return err
	}
	var sent [2]int64
	for i, src := range pair {
		other := pair[1-i]
		for _, name := range slices.Sorted(maps.Keys(src.files)) {
			if path.Ext(name) != ".go" || !facts.IsBuilt(name) {
				continue
			}
			f := src.files[name]
			out := apiFile{Name: name}
			out.In[i] = true
			if other.files[name] != nil {
				same, err := sameFile(src, other, name)
				if err != nil {
					return err
				}
				if same && i > 0 {
					continue // it was sent
				}
				out.In[1-i] = same
			}
			if sent[i] += int64(f.UncompressedSize64); sent[i] > maxAPI {
				return fmt.Errorf("%s: more than %d MiB of sources: %w", src.Mod, maxAPI>>20, ErrTooMuch)
			}
			if f.UncompressedSize64 > facts.MaxSource {
				out.Unread = "too long"
			} else if data, err := src.read(name); err != nil {
				return err
			} else {
				out.Data = data
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := enc.Encode(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// WorkAPI compares what two versions export, which DiffAPI sends, and writes an APIDiff as JSON.
func WorkAPI(in io.Reader, out io.Writer) error {
	dec := gob.NewDecoder(in)
	var first apiFile
	if err := dec.Decode(&first); err != nil {
		return err
	}
	pair := [2]*api{newAPI(first.Mods[0]), newAPI(first.Mods[1])}
	for {
		f := new(apiFile)
		if err := dec.Decode(f); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		for i, a := range pair {
			if f.In[i] {
				a.addFile(f)
			}
		}
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(diffAPI(pair[0], pair[1]))
}

// diffAPI compares what two versions export.
func diffAPI(before, after *api) *APIDiff {
	d := new(APIDiff)
	dirs := slices.Collect(maps.Keys(before.dirs))
	for dir := range after.dirs {
		if before.dirs[dir] == nil {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	changed := before.changed(after, dirs)
	for _, dir := range dirs {
		if !after.isAPI(dir) || !changed[dir] {
			continue
		}
		was, is := before.exported(dir), after.exported(dir)
		switch {
		case before.unread[dir] || after.unread[dir]: // which is said
		case was != nil && is != nil:
			d.compare(was, is)
		case was != nil:
			d.add(was.Path(), false, "package "+was.Path()+": removed")
		case is != nil:
			d.add(is.Path(), true, "package "+is.Path()+": added")
		}
	}
	d.Unread = slices.Concat(d.Unread, before.bad, after.bad)
	for _, list := range []*[]string{&d.Unknown, &d.Unread} {
		if more := len(*list) - maxAPIChanges; more > 0 {
			*list = append((*list)[:maxAPIChanges], fmt.Sprintf("and %d more", more))
		}
	}
	slices.SortStableFunc(d.Changes, func(a, b APIChange) int {
		if a.Compatible != b.Compatible {
			if b.Compatible {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Package, b.Package)
	})
	if more := len(d.Changes) - maxAPIChanges; more > 0 {
		d.Changes = d.Changes[:maxAPIChanges]
		d.Unread = append(d.Unread, fmt.Sprintf("and %d more changes", more))
	}
	return d
}

func (d *APIDiff) add(pkg string, compatible bool, text string) {
	d.Changes = append(d.Changes, APIChange{apiLine(pkg), compatible, apiLine(text)})
}

// apiLine returns a text on one line, without what is not seen.
func apiLine(s string) string {
	s = strings.NewReplacer("\n", " ", "\t", " ").Replace(index.Visible(s))
	if len(s) > maxAPIText {
		s = strings.ToValidUTF8(s[:maxAPIText], "") + "…"
	}
	return s
}

// compare adds the changes of a package.
func (d *APIDiff) compare(old, now *types.Package) {
	defer func() {
		if r := recover(); r != nil { // a library, at sources of anybody
			d.Unread = append(d.Unread, apiLine(fmt.Sprintf("%s: apidiff: %v", now.Path(), r)))
		}
	}()
	for _, c := range apidiff.Changes(old, now).Changes {
		name, both := strings.CutSuffix(c.Message, ": value changed from unknown to unknown")
		if both && isUnknown(old, name) && isUnknown(now, name) {
			d.Unknown = append(d.Unknown, apiLine(now.Path()+": "+c.Message))
			continue
		}
		d.add(now.Path(), c.Compatible, c.Message)
	}
}

// isUnknown reports whether a name is a constant whose value is not known.
func isUnknown(pkg *types.Package, name string) bool {
	c, ok := pkg.Scope().Lookup(name).(*types.Const)
	return ok && c.Val().Kind() == constant.Unknown
}

// An api has the exported declarations of a version.
type api struct {
	mod     module.Version
	build   build.Context
	files   map[string]*apiFile
	dirs    map[string][]string // names of the files on the platform, by folder; "" is the root
	unread  map[string]bool     // folders of which a file could not be read
	loaded  map[string]*types.Package
	foreign map[string]*types.Package
	fset    *token.FileSet
	bad     []string // what could not be read
}

func newAPI(m module.Version) *api {
	a := &api{
		mod: m, fset: token.NewFileSet(), files: make(map[string]*apiFile), dirs: make(map[string][]string),
		unread: make(map[string]bool), loaded: make(map[string]*types.Package),
		foreign: make(map[string]*types.Package),
	}
	a.build = build.Default
	a.build.GOOS, a.build.GOARCH, a.build.CgoEnabled, a.build.BuildTags = "linux", "amd64", true, nil
	a.build.JoinPath = path.Join
	a.build.OpenFile = func(name string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(a.files[name].Data)), nil
	}
	return a
}

// addFile adds a file if it is one of the platform.
func (a *api) addFile(f *apiFile) {
	a.files[f.Name] = f
	if match, err := a.build.MatchFile(path.Dir(f.Name), path.Base(f.Name)); err == nil && !match {
		return
	}
	dir := strings.TrimSuffix(path.Dir(f.Name), ".")
	a.dirs[dir] = append(a.dirs[dir], f.Name)
}

// isAPI reports whether a folder's package can be imported by other modules.
func (a *api) isAPI(dir string) bool {
	return !slices.Contains(strings.Split(a.path(dir), "/"), "internal")
}

// exported returns the package in a folder, nil when there is none that can be imported.
func (a *api) exported(dir string) *types.Package {
	if pkg := a.load(dir); pkg != nil && pkg.Name() != "main" {
		return pkg
	}
	return nil
}

// path returns the import path of a folder.
func (a *api) path(dir string) string { return path.Join(a.mod.Path, dir) }

// dir is the reverse of path. ok is false for packages of other modules.
func (a *api) dir(importPath string) (dir string, ok bool) {
	rest, ok := strings.CutPrefix(importPath, a.mod.Path)
	dir = strings.TrimPrefix(rest, "/")
	return dir, ok && a.path(dir) == importPath && a.dirs[dir] != nil
}

// changed returns the folders whose files differ between two versions, and those that import them.
func (a *api) changed(b *api, dirs []string) map[string]bool {
	changed := make(map[string]bool)
	importers := make(map[string][]string)
	var work []string
	mark := func(dir string) {
		if !changed[dir] {
			changed[dir] = true
			work = append(work, dir)
		}
	}
	for _, dir := range dirs {
		if !slices.EqualFunc(a.dirs[dir], b.dirs[dir], func(x, y string) bool { return a.files[x] == b.files[y] }) {
			mark(dir)
			continue
		}
		for _, name := range b.dirs[dir] {
			f, err := parser.ParseFile(token.NewFileSet(), "", b.files[name].Data, parser.ImportsOnly)
			if err != nil {
				continue
			}
			for _, spec := range f.Imports {
				name := strings.Trim(spec.Path.Value, "\"`")
				own, is := b.dir(name)
				was, had := a.dir(name)
				switch {
				case is:
					importers[own] = append(importers[own], dir)
				case had: // it is gone
					importers[was] = append(importers[was], dir)
				}
			}
		}
	}
	for len(work) > 0 {
		dir := work[len(work)-1]
		work = work[:len(work)-1]
		for _, importer := range importers[dir] {
			mark(importer)
		}
	}
	return changed
}

// Import implements types.Importer.
func (a *api) Import(name string) (*types.Package, error) {
	if name == "unsafe" {
		return types.Unsafe, nil
	}
	dir, own := a.dir(name)
	if !own {
		return a.other(name), nil
	}
	if pkg := a.load(dir); pkg != nil {
		return pkg, nil
	}
	return nil, errors.New("no package there")
}

// other returns a package of another module, which has what declare found to be used of it.
func (a *api) other(name string) *types.Package {
	p := a.foreign[name]
	if p == nil {
		p = types.NewPackage(name, modpath.PackageName(name))
		p.MarkComplete()
		a.foreign[name] = p
	}
	return p
}

// load returns the package in a folder, nil when there is none. While it is being loaded, nothing
// may import it.
func (a *api) load(dir string) *types.Package {
	if pkg, ok := a.loaded[dir]; ok {
		return pkg
	}
	a.loaded[dir] = nil
	files := a.parse(dir)
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		a.declare(f)
	}
	a.loaded[dir] = a.check(dir, files)
	return a.loaded[dir]
}

// check checks the types of a package, which may have errors.
func (a *api) check(dir string, files []*ast.File) (pkg *types.Package) {
	defer func() {
		if r := recover(); r != nil { // a library, at sources of anybody
			a.unreadable(dir, a.path(dir), fmt.Errorf("type checker: %v", r))
			pkg = nil
		}
	}()
	conf := types.Config{
		IgnoreFuncBodies: true, FakeImportC: true, Importer: a, Error: func(error) {},
		Sizes: types.SizesFor("gc", a.build.GOARCH),
	}
	pkg, _ = conf.Check(a.path(dir), a.fset, files, nil)
	return pkg
}

// unreadable notes what could not be read of a folder.
func (a *api) unreadable(dir, name string, err error) {
	a.unread[dir] = true
	a.bad = append(a.bad, apiLine(fmt.Sprintf("%s %s: %v", name, a.mod.Version, err)))
}

// parse parses the files of a folder, without bodies of functions.
func (a *api) parse(dir string) (files []*ast.File) {
	for _, name := range a.dirs[dir] {
		file := a.files[name]
		if file.Unread != "" {
			a.unreadable(dir, name, errors.New(file.Unread))
			continue
		}
		data := bytes.TrimPrefix(file.Data, []byte("\ufeff"))
		f, err := parser.ParseFile(a.fset, "", data, parser.SkipObjectResolution)
		if err == nil && !shallow(f) {
			err = errors.New("nested too deep")
		}
		if err != nil {
			a.unreadable(dir, name, err)
			continue
		}
		if len(files) == 0 || f.Name.Name == files[0].Name.Name { // else it is ignored, or of a test
			files = append(files, f)
		}
	}
	return files
}

// shallow takes the bodies out of functions, and reports whether the rest can be checked.
func shallow(f *ast.File) bool {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			fn.Body = nil
		}
	}
	depth, deepest := 0, 0
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil {
			depth--
			return true
		}
		if fn, ok := n.(*ast.FuncLit); ok {
			fn.Body = &ast.BlockStmt{}
		}
		depth++
		deepest = max(deepest, depth)
		return true
	})
	return deepest <= maxDepth
}

// declare declares in packages of other modules the types that a file uses of them. All are
// interfaces: these can be embedded, be constraints, and be keys. What the file uses as a value
// stays undeclared, and has no type.
func (a *api) declare(f *ast.File) {
	names := make(map[string]*types.Package)
	for _, spec := range f.Imports {
		name := strings.Trim(spec.Path.Value, "\"`")
		if _, own := a.dir(name); own || name == "C" || name == "unsafe" {
			continue
		}
		p := a.other(name)
		local := p.Name()
		if spec.Name != nil {
			local = spec.Name.Name
		}
		names[local] = p
		spec.Name = ast.NewIdent(local) // the name is a guess, and must be the same everywhere
	}
	ast.Inspect(f, func(n ast.Node) bool {
		for _, t := range typesIn(n) {
			declareTypes(names, t)
		}
		return true
	})
}

// typesIn returns the type expressions right below a node.
func typesIn(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.Field:
		return []ast.Expr{n.Type}
	case *ast.TypeSpec:
		return []ast.Expr{n.Type}
	case *ast.ValueSpec:
		return []ast.Expr{n.Type}
	case *ast.CompositeLit:
		return []ast.Expr{n.Type}
	case *ast.ArrayType:
		return []ast.Expr{n.Elt}
	case *ast.MapType:
		return []ast.Expr{n.Key, n.Value}
	case *ast.ChanType:
		return []ast.Expr{n.Value}
	case *ast.Ellipsis:
		return []ast.Expr{n.Elt}
	}
	return nil
}

// declareTypes declares the types of other packages in a type expression, but for those in nodes
// that typesIn knows.
func declareTypes(names map[string]*types.Package, t ast.Expr) {
	switch t := t.(type) {
	case *ast.SelectorExpr:
		declareType(names, t, 0)
	case *ast.StarExpr:
		declareTypes(names, t.X)
	case *ast.ParenExpr:
		declareTypes(names, t.X)
	case *ast.UnaryExpr: // ~T
		declareTypes(names, t.X)
	case *ast.BinaryExpr: // A | B
		declareTypes(names, t.X)
		declareTypes(names, t.Y)
	case *ast.IndexExpr:
		declareType(names, t.X, 1)
		declareTypes(names, t.Index)
	case *ast.IndexListExpr:
		declareType(names, t.X, len(t.Indices))
		for _, x := range t.Indices {
			declareTypes(names, x)
		}
	}
}

// declareType declares the type of another package that an expression names, with so many type
// parameters.
func declareType(names map[string]*types.Package, x ast.Expr, params int) {
	sel, ok := x.(*ast.SelectorExpr)
	if !ok || !sel.Sel.IsExported() {
		return
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok || names[id.Name] == nil {
		return
	}
	p := names[id.Name]
	if p.Scope().Lookup(sel.Sel.Name) != nil {
		return
	}
	obj := types.NewTypeName(token.NoPos, p, sel.Sel.Name, nil)
	named := types.NewNamed(obj, types.NewInterfaceType(nil, nil), nil)
	var list []*types.TypeParam
	for range params {
		name := types.NewTypeName(token.NoPos, p, "T", nil)
		list = append(list, types.NewTypeParam(name, types.Universe.Lookup("any").Type()))
	}
	named.SetTypeParams(list)
	p.Scope().Insert(obj)
}
