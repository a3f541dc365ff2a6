package index

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// A connector opens connections that read one file, whatever has its name by then. SQLite opens
// files by name only, and keeps them open: so it is looked up what it has opened.
type connector struct {
	file *os.File
	dsn  string
}

// opening is held while SQLite opens a file and descriptors are compared.
var opening sync.Mutex

var errExchanged = errors.New("another file has the name of the index that was verified")

// Connect opens a connection and checks that SQLite has opened the file.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	opening.Lock()
	defer opening.Unlock()
	for range 3 { // a descriptor that was closed meanwhile may have given its number to the new one
		before := descriptors(c.file)
		conn, err := sqlite.Open(c.dsn)
		if err != nil {
			return nil, err
		}
		after := descriptors(c.file)
		for fd, open := range after {
			if open && (!before[fd] || fd == byName) {
				return conn, nil
			}
		}
		conn.Close()
	}
	return nil, errExchanged
}

// Driver returns the driver of the connections.
func (c *connector) Driver() driver.Driver { return sqlite }

// byName stands for a descriptor where the system does not show them.
const byName = "by name"

// descriptors returns those of this process that are open on a file. Where the system does not show
// them it is byName, when the file is the one that has its name.
func descriptors(file *os.File) map[string]bool {
	const dir = "/proc/self/fd"
	found := make(map[string]bool)
	want, err := file.Stat()
	if err != nil {
		return found
	}
	same := func(name string) bool {
		st, err := os.Stat(name)
		return err == nil && os.SameFile(st, want)
	}
	fds, err := os.ReadDir(dir)
	if err != nil {
		found[byName] = same(file.Name())
	}
	for _, fd := range fds {
		if same(filepath.Join(dir, fd.Name())) {
			found[fd.Name()] = true
		}
	}
	return found
}
