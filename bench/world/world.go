package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
)

// errNone says that the world has no such file.
var errNone = errors.New("not found")

const (
	dbName   = "sum.bench.example"
	versions = 5 // of each module
	requires = 3 // of each version, but on the last level
)

// A world answers for all modules. It makes files when it is asked for them.
type world struct {
	modules, depth, width int // width is the number of modules of a full level
	key                   string
	db                    http.Handler
}

// A node is a version of a module. The fans are modules on a level of their own, -1, one for each
// version of the others; fan i requires version i of all modules of level 0.
type node struct{ level, index, version int }

// newWorld makes a world of a number of modules and levels, with records of all versions.
func newWorld(modules, depth int) (*world, error) {
	if depth < 1 || modules < depth {
		return nil, fmt.Errorf("%d modules on %d levels: there must be a module on each level", modules, depth)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, dbName)
	if err != nil {
		return nil, err
	}
	w := &world{modules: modules, depth: depth, width: (modules + depth - 1) / depth, key: vkey}
	records := sumdb.NewTestServer(skey, w.gosum)
	for level := -1; level < depth; level++ {
		for i := range w.size(level) {
			for v := range w.versions(level) {
				if _, err := records.Lookup(context.Background(), w.mod(node{level, i, v})); err != nil {
					return nil, err
				}
			}
		}
	}
	signed, err := records.Signed(context.Background())
	if err != nil {
		return nil, err
	}
	w.db = http.StripPrefix("/sumdb/"+dbName, sumdb.NewServer(database{records, signed}))
	return w, nil
}

// A database is a test server that has all its records, so that it signs its tree head once.
type database struct {
	*sumdb.TestServer
	signed []byte
}

// Signed returns the tree head.
func (d database) Signed(context.Context) ([]byte, error) { return d.signed, nil }

// size returns the number of modules of a level.
func (w *world) size(level int) int {
	if level < 0 {
		return versions
	}
	return max(0, min(w.width, w.modules-level*w.width))
}

// versions returns the number of versions of a module on a level.
func (w *world) versions(level int) int {
	if level < 0 {
		return 1
	}
	return versions
}

// mod returns the path and version of a node.
func (w *world) mod(n node) module.Version {
	path := fmt.Sprintf("l%d.bench.example/m%d", n.level, n.index)
	if n.level < 0 {
		path = fmt.Sprintf("bench.example/fan%d", n.index)
	}
	return module.Version{Path: path, Version: fmt.Sprintf("v1.%d.0", n.version)}
}

// find returns the node of a path and version, or of a path alone.
func (w *world) find(path, version string) (n node, ok bool) {
	host, name, _ := strings.Cut(path, "/")
	var err error
	switch level, isLevel := strings.CutSuffix(host, ".bench.example"); {
	case isLevel:
		if n.level, err = strconv.Atoi(strings.TrimPrefix(level, "l")); err == nil {
			n.index, err = strconv.Atoi(strings.TrimPrefix(name, "m"))
		}
	default:
		n.level = -1
		n.index, err = strconv.Atoi(strings.TrimPrefix(name, "fan"))
	}
	if err == nil && version != "" {
		n.version, err = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(version, "v1."), ".0"))
	}
	if err != nil || n.level < -1 || n.level >= w.depth || n.index < 0 || n.index >= w.size(n.level) ||
		n.version < 0 || n.version >= w.versions(n.level) {
		return node{}, false
	}
	m := w.mod(n) // other spellings name no module
	return n, m.Path == path && (version == "" || m.Version == version)
}

// needs returns what a version requires. The first is the same version of the module below it, so
// that all versions of all modules are reached; the others are spread over the next level.
func (w *world) needs(n node) []node {
	var list []node
	if n.level < 0 {
		for i := range w.size(0) {
			list = append(list, node{0, i, n.index})
		}
		return list
	}
	size := w.size(n.level + 1)
	if n.level+1 >= w.depth || size == 0 {
		return nil
	}
	taken := make(map[int]bool)
	for k := range requires {
		i := (n.index + k*(7*n.index+13*n.version+1)) % size
		if !taken[i] { // go.mod names a module once
			taken[i] = true
			list = append(list, node{n.level + 1, i, (n.version + k) % versions})
		}
	}
	return list
}

// goMod returns a go.mod file.
func goMod(path string, requires []module.Version) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "module %s\n\ngo 1.16\n", path)
	for _, m := range requires {
		fmt.Fprintf(&b, "\nrequire %s %s\n", m.Path, m.Version)
	}
	return b.Bytes()
}

// project returns the go.mod file of the project that needs everything.
func (w *world) project() []byte {
	var list []module.Version
	for i := range versions {
		list = append(list, w.mod(node{-1, i, 0}))
	}
	return goMod("bench.example/project", list)
}

// gomod returns the go.mod file of a node.
func (w *world) gomod(n node) []byte {
	var list []module.Version
	for _, r := range w.needs(n) {
		list = append(list, w.mod(r))
	}
	return goMod(w.mod(n).Path, list)
}

// zip returns the zip of a node: its go.mod and a package.
func (w *world) zip(n node) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	m := w.mod(n)
	for _, file := range []struct {
		name string
		data []byte
	}{{"go.mod", w.gomod(n)}, {"m.go", fmt.Appendf(nil, "// Package m is %s.\npackage m\n", m)}} {
		f, err := z.CreateHeader(&zip.FileHeader{Name: m.String() + "/" + file.name, Method: zip.Deflate})
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(file.data); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// gosum returns the text of the record of a version.
func (w *world) gosum(path, version string) ([]byte, error) {
	n, ok := w.find(path, version)
	if !ok {
		return nil, fmt.Errorf("%s@%s: %w", path, version, errNone)
	}
	data, err := w.zip(n)
	if err != nil {
		return nil, err
	}
	m := w.mod(n)
	z, err := h1.Zip(context.Background(), make(h1.Limiter, 1), m, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", path, version, z.H1, h1.GoMod(w.gomod(n))), nil
}

// ServeHTTP answers as a module proxy with a checksum database.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch db, isDB := strings.CutPrefix(path, "sumdb/"+dbName+"/"); {
	case isDB && db == "supported":
		return
	case isDB:
		w.db.ServeHTTP(rw, r)
		return
	}
	data, err := w.file(path)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
	rw.Write(data)
}

// file returns the file at a path of the GOPROXY protocol.
func (w *world) file(path string) ([]byte, error) {
	r, err := modpath.Parse(path)
	if err != nil {
		return nil, err
	}
	n, ok := w.find(r.Path, r.Version)
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, errNone)
	}
	switch r.Kind {
	case modpath.List:
		var list []string
		for v := range w.versions(n.level) {
			list = append(list, w.mod(node{n.level, n.index, v}).Version)
		}
		return modpath.ListText(list), nil
	case modpath.Info:
		return fmt.Appendf(nil, `{"Version":%q,"Time":"2020-01-02T03:04:05Z"}`, r.Version), nil
	case modpath.Mod:
		return w.gomod(n), nil
	case modpath.Zip:
		return w.zip(n)
	}
	return nil, fmt.Errorf("%s: %w", path, errNone)
}
