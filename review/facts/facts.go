// Package facts finds out what a module zip says by itself: its license, and what its code can do
// that code of its kind need not.
//
// Nothing is compiled or type-checked: an import of os/exec says that a package could start
// programs, not that it does. Files of tests, of testdata folders and of other folders that "./..."
// leaves out count for nothing but prebuilt objects, which have been hidden there before. Such a
// folder can be imported all the same, so that an import of one is a fact of its own. A file that is
// hostile costs one fact: time and memory for each are bounded.
package facts

import (
	"bytes"
	"cmp"
	"go/build/constraint"
	"go/parser"
	"go/scanner"
	"go/token"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/h1"
)

// A Kind is what code can do.
type Kind string

// The kinds, in the order of the words for people.
const (
	Cgo        Kind = "cgo"        // import "C"
	Assembly   Kind = "asm"        // a .s file
	Linkname   Kind = "linkname"   // a //go:linkname line
	Unsafe     Kind = "unsafe"     // import "unsafe"
	Exec       Kind = "exec"       // import "os/exec"
	Net        Kind = "net"        // import "net", "net/http" or another package that opens connections
	Syscall    Kind = "syscall"    // import "syscall" or "golang.org/x/sys/…", but for …/cpu
	Plugin     Kind = "plugin"     // import "plugin"
	Binary     Kind = "binary"     // a prebuilt object: .syso, archive, ELF, Mach-O, PE, wasm
	Large      Kind = "large"      // a file over 1 MiB that is no source
	Generate   Kind = "generate"   // a //go:generate line that fetches something
	Hidden     Kind = "hidden"     // import of a package in a folder that "./..." leaves out, such as testdata
	Unreadable Kind = "unreadable" // a .go file that does not parse, or is too long to be read whole
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{
		Cgo, Assembly, Linkname, Unsafe, Exec, Net, Syscall, Plugin, Binary, Large, Generate, Hidden, Unreadable,
	}
}

// Facts are what a module zip says.
type Facts struct {
	// License is the SPDX expression of the license files in the root of the module, joined by AND.
	// It is NoAssertion when one of them is not known, and None when there is none.
	License  string    `json:"license"`
	Licenses []License `json:"licenses,omitempty"` // all license files, by name
	Uses     []Use     `json:"uses,omitempty"`     // by kind
}

// Special values of Facts.License (https://spdx.github.io/spdx-spec/v2.3/package-information/).
const (
	NoAssertion = "NOASSERTION"
	None        = "NONE"
)

// A Use is a kind that a module shows.
type Use struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file"`             // the first file that shows it, by name
	Files  int    `json:"files"`            // how many do
	Detail string `json:"detail,omitempty"` // of that file: the import, the format of an object, the line
}

const (
	// MaxSource is how many bytes of a .go file are read.
	MaxSource = 4 << 20

	// largeSize is the size in bytes from which a file that is no source is a fact.
	largeSize = 1 << 20

	// maxDetail bounds the detail of a use in bytes.
	maxDetail = 200

	// magicSize is how many bytes of each file are read to know objects by.
	magicSize = 8
)

// A Scanner collects the facts of one zip. It is safe for concurrent use.
type Scanner struct {
	root     string          // PATH@VERSION/
	licenses map[string]bool // names of files that are read as licenses
	all      bool            // they are all that are in the root

	mu   sync.Mutex
	uses map[Kind]*Use
	read []License

	waiting      []licenseText // licenses that are not in read yet
	waitingBytes int
}

// New returns a Scanner of a module zip whose files are below PATH@VERSION/, and have these names.
func New(pathVersion string, names []string) *Scanner {
	s := &Scanner{root: pathVersion + "/", uses: make(map[Kind]*Use)}
	s.licenses, s.all = licenseFiles(s.root, names)
	return s
}

// Look returns a Scanner that sees the files of a module zip when the archive is hashed.
func Look(a *h1.Archive, m module.Version) *Scanner {
	names := make([]string, len(a.File))
	for i, file := range a.File {
		names[i] = file.Name
	}
	s := New(m.String(), names)
	a.Look = func(name string, size uint64) io.WriteCloser { return s.File(name, int64(size)) }
	return s
}

// buffers holds buffers for sources.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// A file keeps what is wanted of a file's content.
type file struct {
	*Scanner
	name string // in the module
	size int64
	want int // bytes that are kept
	buf  *bytes.Buffer
	seen bool // the content came in one piece, and was looked at
}

// File returns a writer for the content of a file, whose Close looks at it. It never fails.
func (s *Scanner) File(name string, size int64) io.WriteCloser {
	f := &file{Scanner: s, name: strings.TrimPrefix(name, s.root), size: size, want: magicSize}
	switch {
	case s.licenses[name]:
		f.want = maxLicense
	case path.Ext(name) == ".go" && IsBuilt(f.name):
		f.want = MaxSource
	}
	return f
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	if f.buf == nil {
		if int64(len(p)) == f.size { // most files are shorter than what is read at once
			f.look(p[:min(len(p), f.want)])
			f.seen = true
			return len(p), nil
		}
		f.buf = buffers.Get().(*bytes.Buffer)
		f.buf.Grow(int(min(int64(f.want), f.size)))
	}
	if room := f.want - f.buf.Len(); room > 0 {
		f.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Close implements io.Closer.
func (f *file) Close() error {
	switch {
	case f.seen:
	case f.buf == nil:
		f.look(nil)
	default:
		f.look(f.buf.Bytes())
		f.buf.Reset()
		if f.buf.Cap() <= 256<<10 { // a few larger ones would be kept for ever
			buffers.Put(f.buf)
		}
		f.buf = nil
	}
	return nil
}

// look looks at the content of a file, or as much of it as is wanted.
func (f *file) look(data []byte) {
	if format := objectFormat(f.name, data); format != "" {
		f.add(Binary, format)
	} else if f.size > largeSize && !isSource(f.name) {
		f.add(Large, strconv.FormatInt(f.size, 10)+" bytes")
	}
	switch {
	case f.licenses[f.root+f.name]:
		f.addLicense(data)
	case f.want == MaxSource:
		f.source(data)
	case path.Ext(f.name) == ".s" && IsBuilt(f.name):
		f.add(Assembly, "")
	}
}

// isLeftOut reports whether "./..." leaves out a folder (go help packages).
func isLeftOut(dir string) bool {
	for element := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if element == "testdata" || strings.HasPrefix(element, "_") || strings.HasPrefix(element, ".") {
			return true
		}
	}
	return false
}

// IsBuilt reports whether the go command builds a file, whose name is that in the module, outside
// of tests, unless something imports a folder that "./..." leaves out.
func IsBuilt(name string) bool {
	dir, base := path.Split(name)
	return !isLeftOut(dir) && !strings.HasSuffix(base, "_test.go") && !strings.HasPrefix(base, "_") && !strings.HasPrefix(base, ".")
}

// isSource reports whether a large file is one of text that people or generators write.
func isSource(name string) bool {
	switch path.Ext(name) {
	case ".go", ".s", ".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".m", ".proto", ".rl", ".y":
		return true
	}
	return false
}

// add notes that the file shows a kind.
func (f *file) add(kind Kind, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.uses[kind]
	if u == nil {
		u = &Use{Kind: kind, File: f.name, Detail: detail}
		f.uses[kind] = u
	} else if f.name < u.File {
		u.File, u.Detail = f.name, detail
	}
	u.Files++
}

// opensConnections has the packages of the standard library that open or accept connections.
var opensConnections = map[string]bool{
	"net": true, "net/http": true, "net/http/cgi": true, "net/http/fcgi": true, "net/http/httputil": true,
	"net/http/pprof": true, "net/rpc": true, "net/rpc/jsonrpc": true, "net/smtp": true, "crypto/tls": true,
	"log/syslog": true, "expvar": true,
}

// kindOf returns what an import says, "" for nothing.
func kindOf(imported string) Kind {
	switch {
	case imported == "C":
		return Cgo
	case imported == "unsafe":
		return Unsafe
	case imported == "os/exec":
		return Exec
	case imported == "plugin":
		return Plugin
	case imported == "golang.org/x/sys/cpu": // tells what the processor can do
		return ""
	case imported == "syscall", strings.HasPrefix(imported, "golang.org/x/sys/"):
		return Syscall
	case opensConnections[imported]:
		return Net
	case isLeftOut(imported):
		return Hidden
	}
	return ""
}

var (
	reGenerate = regexp.MustCompile(`(?m)^//go:generate[ \t].*`)

	// reFetches matches a command that fetches something from elsewhere.
	reFetches = regexp.MustCompile(`\b(curl|wget|git +clone|npx|npm +(install|ci)|pip3? +install|docker +(run|pull))\b` +
		`|https?://|\bgo +(run|install|get)\b.*@`)
)

// neverBuilt reports whether the build constraint of a .go file excludes it everywhere, as
// "//go:build ignore" does. Any other tag may be set or not.
func neverBuilt(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("//go:build")) && constraint.IsGoBuild(string(line)) {
			expr, err := constraint.Parse(string(line))
			return err == nil && !possible(expr, true)
		}
		if len(line) > 0 && !bytes.HasPrefix(line, []byte("//")) { // constraints come before the package clause
			return false
		}
	}
	return false
}

// possible reports whether an expression can have a value, when the tag ignore is not set.
func possible(expr constraint.Expr, value bool) bool {
	switch x := expr.(type) {
	case *constraint.TagExpr:
		return x.Tag != "ignore" || !value
	case *constraint.NotExpr:
		return possible(x.X, !value)
	case *constraint.AndExpr:
		if value {
			return possible(x.X, true) && possible(x.Y, true)
		}
		return possible(x.X, false) || possible(x.Y, false)
	case *constraint.OrExpr:
		if value {
			return possible(x.X, true) || possible(x.Y, true)
		}
		return possible(x.X, false) && possible(x.Y, false)
	}
	return true
}

// source looks at a .go file, or as much of it as was kept.
func (f *file) source(data []byte) {
	if neverBuilt(data) {
		return
	}
	if f.size > MaxSource {
		f.add(Unreadable, "longer than "+strconv.Itoa(MaxSource)+" bytes")
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "", data, parser.ImportsOnly|parser.SkipObjectResolution)
	if err != nil {
		if f.size <= MaxSource {
			f.add(Unreadable, "")
		}
		return
	}
	seen := make(map[Kind]bool)
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if kind := kindOf(imported); kind != "" && !seen[kind] {
			seen[kind] = true
			f.add(kind, clip(imported))
		}
	}
	if !bytes.Contains(data, []byte("//go:")) {
		return
	}
	if bytes.Contains(data, []byte("//go:linkname")) {
		if line := linkname(data); line != "" {
			f.add(Linkname, clip(line))
		}
	}
	if bytes.Contains(data, []byte("//go:generate")) {
		for _, line := range reGenerate.FindAll(data, -1) {
			if reFetches.Match(line) {
				f.add(Generate, clip(string(line)))
				break
			}
		}
	}
}

// linkname returns the first //go:linkname line of a .go file that is no part of a string or another
// comment; "" for none. The compiler takes one wherever a comment may be.
func linkname(data []byte) string {
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile("", -1, len(data)), data, nil, scanner.ScanComments)
	for {
		_, tok, text := s.Scan()
		if tok == token.EOF {
			return ""
		}
		if rest, ok := strings.CutPrefix(text, "//go:linkname"); tok == token.COMMENT && ok && strings.TrimLeft(rest, " \t") != rest {
			return text
		}
	}
}

// clip returns the begin of a text.
func clip(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxDetail)], "")
	return strings.TrimRight(s, "\r")
}

// objects are the first bytes of prebuilt objects.
var objects = []struct{ magic, format string }{
	{"\x7fELF", "ELF"}, {"MZ", "PE"}, {"!<arch>\n", "archive"}, {"\x00asm", "wasm"},
	{"\xfe\xed\xfa\xce", "Mach-O"}, {"\xfe\xed\xfa\xcf", "Mach-O"}, {"\xce\xfa\xed\xfe", "Mach-O"},
	{"\xcf\xfa\xed\xfe", "Mach-O"},
}

// objectFormat returns the format of a prebuilt object; "" when a file is none. "MZ" is text in
// some files, so that a PE must have a name of one, or no name of text.
func objectFormat(name string, data []byte) string {
	ext := strings.ToLower(path.Ext(name))
	if ext == ".syso" {
		return "syso"
	}
	for _, o := range objects {
		if !bytes.HasPrefix(data, []byte(o.magic)) {
			continue
		}
		if o.format == "PE" && ext != ".exe" && ext != ".dll" && ext != ".sys" && ext != ".bin" && ext != "" {
			continue
		}
		return o.format
	}
	// A universal Mach-O and a Java class begin alike. A class has its version in the next bytes,
	// from 45 on; a Mach-O has the number of its architectures.
	if len(data) == magicSize && bytes.HasPrefix(data, []byte("\xca\xfe\xba\xbe\x00\x00\x00")) && data[7] < 40 {
		return "Mach-O"
	}
	return ""
}

// Facts returns what was found in the files that were closed. The first call for a zip with a rare
// license may take a second.
func (s *Scanner) Facts() Facts {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting, s.waitingBytes = nil, 0
	s.mu.Unlock()
	for _, l := range waiting {
		s.known(l.file, rare(l.text))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	licenses := slices.SortedFunc(slices.Values(s.read), func(a, b License) int { return cmp.Compare(a.File, b.File) })
	out := Facts{License: expression(licenses), Licenses: licenses}
	if !s.all {
		out.License = NoAssertion
	}
	for _, kind := range slices.Sorted(maps.Keys(s.uses)) {
		out.Uses = append(out.Uses, *s.uses[kind])
	}
	return out
}
