// Package testproxy is an upstream for tests: a module proxy with a checksum database, made of
// txtar files. It speaks real HTTP, and its database is x/mod's own test server.
//
// A module version is a file PATH_VERSION.txt in testdata/mod, with _ for / in the path. Its
// sections are the files of the module; the sections .info and .mod are the files of the protocol.
// Without .mod, go.mod is taken for it.
package testproxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
)

// DBName is the name of the checksum database.
const DBName = "sum.test.example/db"

// A mod holds the files that the proxy serves of a version.
type mod struct{ info, mod, zip []byte }

// A Server is a running upstream.
type Server struct {
	URL       string
	GOSUMDB   string // public key of the checksum database
	SignerKey string // private key of the checksum database

	http    *httptest.Server
	mods    map[module.Version]mod
	records *sumdb.TestServer

	mu       sync.Mutex
	override map[string]func(http.ResponseWriter, *http.Request)
	asked    map[string]int
	grown    int
	faked    int
	only     map[module.Version]bool // versions that lists may name; nil for all
}

// New starts an upstream for the modules in dir, with a new checksum database that has records of
// all but corp.example.
func New(dir string) (*Server, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, DBName)
	if err != nil {
		return nil, err
	}
	s, err := NewWithKey(dir, skey, vkey)
	if err != nil {
		return nil, err
	}
	byName := func(a, b module.Version) int { return cmp.Compare(a.String(), b.String()) }
	for _, m := range slices.SortedFunc(maps.Keys(s.mods), byName) {
		if !strings.HasPrefix(m.Path, "corp.example") { // a private module
			if err := s.Record(m); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Record makes the checksum database add a record of m, unless it has one.
func (s *Server) Record(m module.Version) error {
	_, err := s.Get(modpath.Lookup(DBName, m))
	return err
}

// Grow makes the checksum database grow by a record of a module that nobody needs.
func (s *Server) Grow() error {
	s.mu.Lock()
	s.grown++
	m := module.Version{Path: "example.org/filler", Version: fmt.Sprintf("v0.0.%d", s.grown)}
	s.mu.Unlock()
	if err := s.Add(m.Path, m.Version, &txtar.Archive{}); err != nil {
		return err
	}
	return s.Record(m)
}

// fakePath is the path of modules that have records and no files.
const fakePath = "example.net/fake"

// GrowBy makes the checksum database grow by n records of modules without files.
func (s *Server) GrowBy(n int) error {
	s.mu.Lock()
	first := s.faked
	s.faked += n
	s.mu.Unlock()
	for i := range n {
		m := module.Version{Path: fakePath, Version: fmt.Sprintf("v0.0.%d", first+i)}
		if _, err := s.records.Lookup(context.Background(), m); err != nil {
			return err
		}
	}
	return nil
}

// NewWithKey starts an upstream whose checksum database has a given key, perhaps another server's.
// The database adds a record when it is asked for it.
func NewWithKey(dir, skey, vkey string) (*Server, error) {
	s := &Server{
		GOSUMDB:   vkey,
		SignerKey: skey,
		mods:      make(map[module.Version]mod),
		override:  make(map[string]func(http.ResponseWriter, *http.Request)),
		asked:     make(map[string]int),
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no modules in %s: %v", dir, err)
	}
	for _, f := range files {
		a, err := txtar.ParseFile(f)
		if err != nil {
			return nil, err
		}
		name, version, _ := cutLast(strings.TrimSuffix(filepath.Base(f), ".txt"), "_")
		if err := s.Add(strings.ReplaceAll(name, "_", "/"), version, a); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	s.records = sumdb.NewTestServer(skey, s.gosum)
	db := http.StripPrefix("/sumdb/"+DBName, sumdb.NewServer(s.records))
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		f := s.override[path]
		s.asked[path]++
		s.mu.Unlock()
		switch {
		case f != nil:
			f(w, r)
		case path == "sumdb/"+DBName+"/supported":
		case strings.HasPrefix(path, "sumdb/"+DBName+"/"):
			db.ServeHTTP(w, r)
		default:
			s.serve(w, path)
		}
	}))
	s.URL = s.http.URL
	return s, nil
}

// Close stops the server.
func (s *Server) Close() { s.http.Close() }

// Override makes f answer requests for a path, which has no leading slash. nil ends that.
func (s *Server) Override(path string, f func(http.ResponseWriter, *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override[path] = f
}

// Restore ends all overrides.
func (s *Server) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.override)
}

// Asked returns the number of requests for a path.
func (s *Server) Asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// Requests returns how often each path was asked for.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

// Only makes the lists name no other versions than carried, as those of an upstream that has what a
// bundle carries. nil ends that.
func (s *Server) Only(carried map[module.Version]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.only = carried
}

// Get returns the body that the server answers for a path.
func (s *Server) Get(path string) ([]byte, error) {
	resp, err := http.Get(s.URL + "/" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Status returns a handler that answers with a status and a text.
func Status(code int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) }
}

// Add adds a version of a module.
func (s *Server) Add(path, version string, a *txtar.Archive) error {
	m := module.Version{Path: path, Version: version}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": "2020-01-02T03:04:05Z"})
	if err != nil {
		return err
	}
	out := mod{info: info, mod: []byte("module " + path + "\n")}
	var files []modzip.File
	for _, f := range a.Files {
		switch f.Name {
		case ".info":
			out.info = f.Data
		case ".mod":
			out.mod = f.Data
		default:
			if f.Name == "go.mod" {
				out.mod = f.Data
			}
			files = append(files, zipFile(f))
		}
	}
	var zip bytes.Buffer
	if err := modzip.Create(&zip, m, files); err != nil {
		return err
	}
	out.zip = zip.Bytes()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mods[m] = out
	return nil
}

func (s *Server) serve(w http.ResponseWriter, path string) {
	r, err := modpath.Parse(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	switch r.Kind {
	case modpath.List:
		var list []string
		s.mu.Lock()
		defer s.mu.Unlock()
		only := s.only
		known := false
		for m := range s.mods {
			known = known || m.Path == r.Path
			if m.Path == r.Path && !module.IsPseudoVersion(m.Version) && (only == nil || only[m]) {
				list = append(list, m.Version)
			}
		}
		if !known {
			break
		}
		slices.SortFunc(list, semver.Compare)
		for _, v := range list {
			fmt.Fprintln(w, v)
		}
		return
	case modpath.Info, modpath.Mod, modpath.Zip:
		s.mu.Lock()
		defer s.mu.Unlock()
		m, ok := s.mods[module.Version{Path: r.Path, Version: r.Version}]
		if !ok && r.Kind == modpath.Info { // a tag of a major version that the path does not have
			m, ok = s.mods[module.Version{Path: r.Path, Version: r.Version + "+incompatible"}]
		}
		if !ok {
			break
		}
		w.Write(map[modpath.Kind][]byte{modpath.Info: m.info, modpath.Mod: m.mod, modpath.Zip: m.zip}[r.Kind])
		return
	}
	http.Error(w, "not found: "+path, http.StatusNotFound) // for @latest too, like some upstreams
}

// gosum returns the text of the record of a version.
func (s *Server) gosum(path, version string) ([]byte, error) {
	if path == fakePath {
		sum := h1.GoMod([]byte(version))
		return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[3]s\n", path, version, sum), nil
	}
	m := module.Version{Path: path, Version: version}
	s.mu.Lock()
	f, ok := s.mods[m]
	s.mu.Unlock()
	if !ok {
		return nil, os.ErrNotExist
	}
	z, err := h1.Zip(context.Background(), make(h1.Limiter, 1), m, bytes.NewReader(f.zip), int64(len(f.zip)))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", path, version, z.H1, h1.GoMod(f.mod)), nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// A zipFile is a section as a file of x/mod/zip.
type zipFile txtar.File

func (f zipFile) Path() string { return f.Name }
func (f zipFile) Lstat() (os.FileInfo, error) {
	return fileInfo{f}, nil
}
func (f zipFile) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.Data)), nil }

// A fileInfo is the fs.FileInfo of a zipFile.
type fileInfo struct{ f zipFile }

func (i fileInfo) Name() string       { return filepath.Base(i.f.Name) }
func (i fileInfo) Size() int64        { return int64(len(i.f.Data)) }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }
