package index

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// A connector opens connections that read one file, also when another file may have got its name.
// SQLite opens files by name only, so Connect compares the file that SQLite has opened.
type connector struct {
	file *os.File
	dsn  string
}

// opening is locked while SQLite opens a file and descriptors are compared.
var opening sync.Mutex

var errExchanged = errors.New("another file has the name of the index that was verified")

// Connect opens a connection and checks that SQLite has opened the file.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	want, err := c.file.Stat()
	if err != nil {
		return nil, err
	}
	same := func(name string) bool {
		st, err := os.Stat(name)
		return err == nil && os.SameFile(st, want)
	}
	opening.Lock()
	defer opening.Unlock()
	for range 3 { // the new descriptor may have the number of one that was closed meanwhile
		before, shown := descriptors()
		conn, err := sqlite.Open(c.dsn)
		if err != nil {
			return nil, err
		}
		if !shown && same(c.file.Name()) { // the best check without /proc
			return conn, nil
		}
		after, _ := descriptors()
		for fd := range after {
			if !before[fd] && same(filepath.Join(descriptorFolder, fd)) {
				return conn, nil
			}
		}
		conn.Close()
	}
	return nil, errExchanged
}

// Driver returns the driver of the connections.
func (c *connector) Driver() driver.Driver { return sqlite }

// descriptorFolder has a link for each open file of the process, on Linux.
const descriptorFolder = "/proc/self/fd"

// descriptors returns the numbers of the open files. shown is false where the system does not show
// them.
func descriptors() (open map[string]bool, shown bool) {
	dir, err := os.Open(descriptorFolder)
	if err != nil {
		return nil, false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	open = make(map[string]bool, len(names))
	for _, n := range names {
		open[n] = true
	}
	delete(open, strconv.Itoa(int(dir.Fd()))) // it is closed below
	return open, err == nil
}
