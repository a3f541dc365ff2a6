package review

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review/vulndb"
)

// A Catalog lists what is carried: an *index.Index, or Contents.
type Catalog interface {
	// Versions returns the versions of a module, or of all modules when path is "", by path and
	// version.
	Versions(ctx context.Context, path string) iter.Seq2[index.Version, error]
	// Requirements returns the module graph.
	Requirements(ctx context.Context) iter.Seq2[index.Requirement, error]
}

// Zips is a Catalog whose zips can be read: a Carried, or Contents.
type Zips interface {
	Catalog
	// Crosses reports whether the zip of a version is in the file that is carried across, and not
	// in that of an earlier bundle of its line.
	Crosses(ctx context.Context, v index.Version) (bool, error)
	// sum returns the SHA-256 of the zip of a version.
	sum(ctx context.Context, v index.Version) ([32]byte, error)
	// open opens the zip of a version, whose h1 is not compared yet. The caller closes it.
	open(ctx context.Context, v index.Version) (zipContent, error)
	// facts returns the facts of a version that has a license, as its index has them. ok is false
	// when they are not known.
	facts(ctx context.Context, v index.Version) (rows []index.Fact, ok bool, err error)
}

// A zipContent is the content of a zip.
type zipContent struct {
	io.ReaderAt
	io.Closer
	size int64
}

// A Carried has the catalog and zips of a bundle.
type Carried struct {
	*index.Index
	bundle *bundle.Bundle
}

// NewCarried returns the zips of a bundle.
func NewCarried(b *bundle.Bundle) Carried { return Carried{b.Index, b} }

// Crosses implements Zips.
func (c Carried) Crosses(ctx context.Context, v index.Version) (bool, error) {
	if v.ZipSize == nil {
		return false, nil
	}
	f, err := zipFile(ctx, c.bundle, v)
	return err == nil && c.bundle.Holder(f.Bundle) == c.bundle, err
}

func (c Carried) sum(ctx context.Context, v index.Version) ([32]byte, error) {
	f, err := zipFile(ctx, c.bundle, v)
	return f.SHA256, err
}

func (c Carried) open(ctx context.Context, v index.Version) (zipContent, error) {
	f, err := zipFile(ctx, c.bundle, v)
	if err != nil {
		return zipContent{}, err
	}
	content, err := c.bundle.Content(ctx, f)
	return zipContent{content, io.NopCloser(nil), f.Size}, err
}

func (c Carried) facts(ctx context.Context, v index.Version) ([]index.Fact, bool, error) {
	rows, err := c.FactsOf(ctx, v.Path, v.Version)
	return rows, c.HasFacts(), err
}

// Earlier has what the line of a bundle had before it: the versions of its catalog that do not
// cross with it.
type Earlier struct{ Zips }

// Versions implements Catalog.
func (e Earlier) Versions(ctx context.Context, path string) iter.Seq2[index.Version, error] {
	return func(yield func(index.Version, error) bool) {
		for v, err := range e.Zips.Versions(ctx, path) {
			crosses := false
			if err == nil {
				crosses, err = e.Crosses(ctx, v)
			}
			if !crosses && !yield(v, err) {
				return
			}
		}
	}
}

// Catalogs returns the catalogs of bundles, such as the lines of a store.
func Catalogs(bundles ...*bundle.Bundle) []Catalog {
	var list []Catalog
	for _, b := range bundles {
		list = append(list, b.Index)
	}
	return list
}

// Contents is the catalog of a bundle that is not written yet, after bundle.NewDraft.
type Contents struct {
	contents *bundle.Contents
	whole    map[module.Version]*bundle.Version // those with their zip
	opened   *vulndb.DB                         // zero until Database succeeds
}

// NewContents returns the catalog of what goes into a bundle.
func NewContents(c *bundle.Contents) Contents {
	out := Contents{contents: c, whole: make(map[module.Version]*bundle.Version), opened: new(vulndb.DB)}
	for i := range c.Versions {
		if v := &c.Versions[i]; v.Zip != nil {
			out.whole[module.Version{Path: v.Path, Version: v.Version.Version}] = v
		}
	}
	return out
}

// Before returns what the line of the bundle has already; nothing for one that begins its line.
func (c Contents) Before() (list []Zips) {
	for _, b := range []*bundle.Bundle{c.contents.Base, c.contents.Whole} {
		if b != nil {
			list = append(list, NewCarried(b))
		}
	}
	return list
}

// Sums reports whether there is a checksum database.
func (c Contents) Sums() bool { return c.contents.DB != "" }

// Crosses implements Zips.
func (c Contents) Crosses(_ context.Context, v index.Version) (bool, error) {
	x := c.whole[module.Version{Path: v.Path, Version: v.Version}]
	return x != nil && x.Zip.File != "", nil
}

func (c Contents) sum(_ context.Context, v index.Version) (sum [32]byte, err error) {
	x := c.whole[module.Version{Path: v.Path, Version: v.Version}]
	if x == nil {
		return sum, fmt.Errorf("%s@%s: %w", v.Path, v.Version, fs.ErrNotExist)
	}
	return x.Zip.SHA256, nil
}

func (c Contents) open(ctx context.Context, v index.Version) (zipContent, error) {
	x := c.whole[module.Version{Path: v.Path, Version: v.Version}]
	switch {
	case x == nil:
		return zipContent{}, fmt.Errorf("%s@%s: %w", v.Path, v.Version, fs.ErrNotExist)
	case x.Zip.File == "":
		return NewCarried(c.contents.Base).open(ctx, v)
	}
	f, err := os.Open(x.Zip.File)
	return zipContent{f, f, x.Zip.Size}, err
}

func (c Contents) facts(_ context.Context, v index.Version) ([]index.Fact, bool, error) {
	x := c.whole[module.Version{Path: v.Path, Version: v.Version}]
	if x == nil {
		return nil, false, nil
	}
	return x.Facts, true, nil
}

// Versions implements Catalog.
func (c Contents) Versions(_ context.Context, path string) iter.Seq2[index.Version, error] {
	return func(yield func(index.Version, error) bool) {
		for _, v := range c.contents.Versions {
			if (path == "" || v.Path == path) && !yield(v.Version, nil) {
				return
			}
		}
	}
}

// Requirements implements Catalog.
func (c Contents) Requirements(context.Context) iter.Seq2[index.Requirement, error] {
	return func(yield func(index.Requirement, error) bool) {
		for _, r := range c.contents.Requirements {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Vulns compares what goes into the bundle with the vulnerability database that does, for some
// seconds at most. It returns nil without one.
func (c Contents) Vulns(ctx context.Context) (*Vulns, error) {
	return brief(ctx, c.Database, []Catalog{c})
}

// Database opens the vulnerability database that goes into the bundle, once. It returns nil when
// none does.
func (c Contents) Database(ctx context.Context) (*vulndb.DB, error) {
	if !c.opened.Modified.IsZero() {
		return c.opened, nil
	}
	files := make(map[string]bundle.Source, len(c.contents.Vulns))
	for _, s := range c.contents.Vulns {
		files[s.Path] = s
	}
	db, err := openDatabase(ctx, func(ctx context.Context, name string, limit int64) ([]byte, error) {
		path := modpath.VulnFile(name)
		s, ok := files[path]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		case s.Data != nil:
			return s.Data, nil
		case s.File == "": // an earlier bundle of the line has it
			return c.contents.Base.ReadFile(ctx, path, limit)
		case s.Size > limit:
			return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
		}
		data, err := os.ReadFile(s.File)
		if err == nil && sha256.Sum256(data) != s.SHA256 {
			err = &bundle.ChangedError{File: s.File}
		}
		return data, err
	})
	if db != nil && err == nil {
		*c.opened = *db
	}
	return db, err
}

// Databases opens the vulnerability databases of bundles, each that there is. The error says why
// others cannot be read.
func Databases(ctx context.Context, bundles ...*bundle.Bundle) (list []*vulndb.DB, err error) {
	for _, b := range bundles {
		db, bad := Database(ctx, b)
		if db != nil {
			list = append(list, db)
		}
		err = cmp.Or(err, bad)
	}
	return list, err
}

// Database opens the vulnerability database of bundles: the newest one. It returns nil when none
// carries one, and an error when none that is carried can be read.
func Database(ctx context.Context, bundles ...*bundle.Bundle) (newest *vulndb.DB, err error) {
	var first error
	for _, b := range bundles {
		db, err := openDatabase(ctx, func(ctx context.Context, name string, limit int64) ([]byte, error) {
			return b.ReadFile(ctx, modpath.VulnFile(name), limit)
		})
		first = cmp.Or(first, err)
		if db != nil && (newest == nil || db.Modified.After(newest.Modified)) {
			newest = db
		}
	}
	if newest != nil {
		return newest, nil
	}
	return nil, first
}

// openDatabase returns nil when there is no database.
func openDatabase(ctx context.Context, read vulndb.Reader) (*vulndb.DB, error) {
	db, err := vulndb.Open(ctx, read)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return db, err
}
