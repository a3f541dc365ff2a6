package mirror

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror/upstream"
	"golang.org/x/mod/sumdb/tlog"
)

// TestTrees has heads that clients inside remember.
func TestTrees(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync(list(t, "example.com/text@v1.0.0", "head "+testproxy.DBName+" 3", "head "+testproxy.DBName+" 100000", "head sum.example 5"))
	if err != nil || len(c.Notes) != 2 {
		t.Fatalf("notes %q, %v", c.Notes, err)
	}
	if !strings.Contains(c.Notes[0]+c.Notes[1], "sync again later") || !strings.Contains(c.Notes[0]+c.Notes[1], "the checksum database is "+testproxy.DBName) {
		t.Errorf("notes %q", c.Notes)
	}
	w.cfg.NoSumDB = "example.com"
	if c, err = w.sync(list(t, "example.com/text@v1.0.0", "head "+testproxy.DBName+" 3")); err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "no module of a checksum database") {
		t.Errorf("notes %q, %v", c.Notes, err)
	}
}

// TestUnverified has a proxy that refuses to pass the checksum database on.
func TestUnverified(t *testing.T) {
	w := newWorld(t)
	w.up.Override("sumdb/"+testproxy.DBName+"/supported", testproxy.Status(400, "no"))
	_, err := w.sync("example.com/text@v1.0.0")
	if e, ok := errors.AsType[*UnverifiedError](err); !ok || len(e.Mods) != 1 || e.Mods[0].Path != "example.com/text" {
		t.Errorf("got %v", err)
	}
}

// TestManyHeads has a database whose answers carry different heads. The largest one counts.
func TestManyHeads(t *testing.T) {
	w := newYoungWorld(t)
	c, err := w.sync(project(t, head+"require (\n\texample.com/hello v1.1.0\n\texample.com/unpruned v1.0.0\n)\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.checkHead(c, int64(len(c.Versions))+1) // hello v1.2.0 has a record too, since its go.mod says what is retracted
}

// TestStaleLatest has a record that is newer than the upstream's cached /latest.
func TestStaleLatest(t *testing.T) {
	w := newYoungWorld(t)
	if _, err := w.up.Get("sumdb/" + testproxy.DBName + "/lookup/example.com/old@v0.1.0"); err != nil {
		t.Fatal(err)
	}
	stale, err := w.up.Get("sumdb/" + testproxy.DBName + "/latest")
	if err != nil {
		t.Fatal(err)
	}
	w.up.Override("sumdb/"+testproxy.DBName+"/latest", content(string(stale)))
	c, err := w.sync(project(t, head+"require example.com/text v1.1.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.checkHead(c, 2)
}

// checkHead checks that the head has this size and that all records are below it.
func (w *world) checkHead(c *Closure, size int64) {
	w.t.Helper()
	if c.Head.N != size {
		w.t.Errorf("head is of %d records, want the largest seen, %d", c.Head.N, size)
	}
	for _, v := range c.Versions {
		if v.Record == nil || v.Record.ID >= c.Head.N {
			w.t.Errorf("%s: record %+v is not below the head", v.Mod, v.Record)
		}
	}
}

// TestForkedDatabase has a database whose key signs a second history.
func TestForkedDatabase(t *testing.T) {
	w := newYoungWorld(t)
	if _, err := w.sync(project(t, head+"require example.com/hello v1.1.0\n")); err != nil {
		t.Fatal(err)
	}
	fork, err := testproxy.NewWithKey("../testdata/mod", w.up.SignerKey, w.up.GOSUMDB)
	if err != nil {
		t.Fatal(err)
	}
	defer fork.Close()
	for _, m := range []string{"old@v0.1.0", "deep@v1.0.0", "middle@v1.0.0", "fork@v1.0.1", "text@v1.0.0", "UpperCase@v1.0.0"} {
		m = strings.Replace(strings.Replace(m, "U", "!u", 1), "C", "!c", 1)
		if _, err := fork.Get("sumdb/" + testproxy.DBName + "/lookup/example.com/" + m); err != nil {
			t.Fatal(err)
		}
	}
	if w.cfg.Upstream, err = upstream.New(fork.URL, "off", 8); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync(project(t, head+"require example.com/unpruned v1.0.0\n")); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "example.com/unpruned/@v/v1.0.0.zip")); err == nil {
		t.Error("a zip of the fork is in the mirror directory")
	}
}

// TestSharedTile reads a tile in two goroutines, one of which fails for another tile meanwhile.
func TestSharedTile(t *testing.T) {
	begun, failed := make(chan bool), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/001") {
			<-begun
			http.Error(w, "gone", http.StatusForbidden)
			return
		}
		close(begun)
		<-failed
		w.Write(make([]byte, 256*tlog.HashSize))
	}))
	defer srv.Close()
	dir, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	up, err := upstream.New(srv.URL, "off", 8)
	if err != nil {
		t.Fatal(err)
	}
	f := &fetcher{dir: dir, up: up, net: newLimiter(10), progress: new(atomic.Int64)}
	s := &tileSource{ctx: t.Context(), c: newChecksums(&proof.Database{Name: "db", URL: srv.URL}, f)}
	zero, one := tlog.Tile{H: 8, W: 256}, tlog.Tile{H: 8, N: 1, W: 256}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.ReadTiles([]tlog.Tile{zero, one})
		first <- err
	}()
	<-begun
	go func() {
		_, err := s.ReadTiles([]tlog.Tile{zero})
		second <- err
	}()
	time.Sleep(200 * time.Millisecond) // the first is refused its other tile
	close(failed)
	if err := <-second; err != nil {
		t.Errorf("the tile is there, and: %v", err)
	}
	if err := <-first; !upstream.Refused(err) {
		t.Errorf("a tile that is refused: %v", err)
	}
}
