// Package render turns texts of modules into HTML: documentation, sources and READMEs.
//
// The texts are anybody's. Work does what is asked for in a process of its own, which may be
// killed: parsers and printers of Go recurse as deep as their input is nested. That process opens
// no file. Texts go straight from the zip to it, and it looks at them after the last one was sent
// and found unchanged.
package render

import (
	"fmt"
	"html/template"
	"io"
)

const (
	// MaxFile is the longest file in bytes that is rendered.
	MaxFile = 16 << 20

	// MaxFiles bounds the bytes of the files of one package.
	MaxFiles = 64 << 20
)

// A File is a file of a package.
type File struct {
	Name   string // without the folder
	Size   int64  // in bytes
	Unread string // why it is not read; "" otherwise

	// Open opens the content, which has Size bytes. It is called in the process that asks.
	Open func() (io.ReadCloser, error)

	data []byte // in the process that answers
}

// Context says where a text belongs, for the links in it.
type Context struct {
	Base    string   // path of the site, "" or /prefix
	Path    string   // of the module, "std" for the standard library
	Version string   // of the module
	Dir     string   // folder in the module, "" for its root
	Carried []string // sorted paths of the modules that links may lead to, with "std" if it is carried
}

// A Request asks for one of the answers below.
type Request struct {
	Context

	// For a Package: the files of a folder, and a platform; "" for the first that has files. Of
	// tests only those with examples count.
	GOOS, GOARCH string
	Files        []*File

	// Catalog asks for the Entries of all these folders instead.
	Catalog []Folder

	// For a Source or a Readme: the only file.
	Source, Readme *File

	// Check returns nil when all that was read of the files is still what was verified. It is called
	// in the process that asks, after the last file.
	Check func() error
}

// A Folder is a folder of a module, for a catalog.
type Folder struct {
	Dir   string
	Files []*File
}

// An Answer has what was asked for.
type Answer struct {
	Package *Package
	Catalog []Entry
	Source  *Source
	HTML    template.HTML // of the README
	Err     string        // why there is nothing, "" otherwise
}

// An Entry is a package as a search finds it.
type Entry struct {
	Dir      string
	Name     string
	Synopsis string
	Symbols  []string // what it exports: F, T, T.M
	Imports  []string // sorted import paths, without those of tests
}

// files returns the files of a request in the order in which they are sent.
func (r *Request) files() (list []*File) {
	list = append(list, r.Files...)
	for _, f := range r.Catalog {
		list = append(list, f.Files...)
	}
	for _, f := range []*File{r.Source, r.Readme} {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}

func answer(req *Request) (a *Answer) {
	defer func() {
		if r := recover(); r != nil { // a library, at sources of anybody
			a = &Answer{Err: fmt.Sprintf("it cannot be shown: %v", r)}
		}
	}()
	a = new(Answer)
	var err error
	switch {
	case req.Source != nil:
		a.Source = highlight(req.Source, &req.Context)
	case req.Readme != nil:
		a.HTML, err = readme(req.Readme, &req.Context)
	case req.Catalog != nil:
		a.Catalog = catalog(req)
	default:
		a.Package, err = newPackage(req)
	}
	if err != nil {
		return &Answer{Err: err.Error()}
	}
	return a
}
