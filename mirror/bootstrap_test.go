package mirror

import (
	"archive/zip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/selftar"
)

// TestBootstrap checks the tar for hosts that have nothing: the Go of the toolchain, and the
// running modmirror.
func TestBootstrap(t *testing.T) {
	w := newWorld(t)
	w.cfg.Executable = filepath.Join(t.TempDir(), "modmirror")
	if err := os.WriteFile(w.cfg.Executable, []byte("executable"), 0o755); err != nil {
		t.Fatal(err)
	}
	name := list(t, "self", "toolchain go1.99.1 linux/amd64")
	if modpath.ThisPlatform != "linux/amd64" {
		if _, err := w.sync(name); err == nil || !strings.Contains(err.Error(), "which Go?") {
			t.Errorf("no toolchain for this platform: %v", err)
		}
		return
	}
	c, err := w.sync(name)
	if err != nil || len(c.Bootstraps) != 1 || c.Bootstraps[0].Path != "self/linux-amd64.tar" {
		t.Fatalf("%+v, %v", c, err)
	}
	tool := modpath.ToolchainVersion("go1.99.1", "linux/amd64")
	z, err := zip.OpenReader(filepath.Join(w.dir, versionFile(modpath.Zip, tool.Path, tool.Version)))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := os.Open(filepath.Join(w.dir, c.Bootstraps[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := selftar.Check(t.Context(), f, &z.Reader, tool); err != nil {
		t.Error(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != c.Bootstraps[0].Size {
		t.Errorf("size %d, %v", c.Bootstraps[0].Size, err)
	}
	// Without a toolchain line it is that of the Go here.
	w.cfg.GoVersion = "go1.99.1 X:experiment"
	if c, err := w.sync(list(t, "self")); err != nil || fmt.Sprint(zips(c)) != "["+tool.String()+"]" || len(c.Bootstraps) != 1 {
		t.Errorf("the Go here: %+v, %v", c, err)
	}
	w.cfg.GoVersion = ""
	if _, err := w.sync(list(t, "self")); err == nil || !strings.Contains(err.Error(), "which Go?") {
		t.Errorf("no Go here: %v", err)
	}
}
