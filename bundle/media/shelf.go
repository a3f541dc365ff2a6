package media

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/modmirror/modmirror/internal/safefile"
)

// SignaturesExt ends the name of the file of detached signatures beside a bundle.
const SignaturesExt = ".sig"

// A Shelf is a place where bundles lie side by side: a folder, or a bucket of object storage.
type Shelf interface {
	// String returns the path of the folder or the URL of the bucket.
	String() string

	// List returns the files on the shelf, by name.
	List(ctx context.Context) ([]Item, error)

	// Failing returns since when the shelf does not answer, and why; a nil error when it does.
	Failing() (since time.Time, err error)

	// Heals reports whether contents that do not verify are fetched again, so that damage may pass
	// without a new bundle.
	Heals() bool

	// Stats returns the counters of the cache, and false without a cache.
	Stats() (CacheStats, bool)
}

// An Item is a file on a shelf.
type Item struct {
	Name       string // within the shelf
	Path       string // for messages
	Version    string // changes when the file does
	Signatures string // path of the file of detached signatures; "" for none
	Open       func(ctx context.Context) (Media, error)
}

// A Folder is a shelf in a folder of this machine.
type Folder string

// String returns the path.
func (f Folder) String() string { return string(f) }

// List returns the files in the folder, without temporary ones and the lock. It does not open them.
func (f Folder) List(context.Context) ([]Item, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || e.IsDir() || strings.HasPrefix(e.Name(), safefile.TempPrefix) {
			continue
		}
		if err != nil {
			return nil, err
		}
		name := filepath.Join(string(f), e.Name())
		items = append(items, Item{
			Name:       e.Name(),
			Path:       name,
			Version:    fmt.Sprintf("%d %d", st.Size(), st.ModTime().UnixNano()),
			Signatures: name + SignaturesExt,
			Open:       func(context.Context) (Media, error) { return Open(name) },
		})
	}
	return items, nil
}

// Failing returns no error.
func (f Folder) Failing() (time.Time, error) { return time.Time{}, nil }

// Heals returns false.
func (f Folder) Heals() bool { return false }

// Stats returns false.
func (f Folder) Stats() (CacheStats, bool) { return CacheStats{}, false }
