//go:build unix

package vectors

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// What a hostile upstream may cost a sync.
const maxSyncMemory = 200 << 20

// TestZips has an upstream serve each zip, of a module that no checksum database knows, so that
// nothing but the rules of module zips speaks against it: synced here, for the class, and by the
// command, for memory and time.
func TestZips(t *testing.T) {
	up, err := testproxy.New(modfiles)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	client, err := upstream.New(up.URL, "off", 8)
	if err != nil {
		t.Fatal(err)
	}
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	if err != nil {
		t.Fatal(err)
	}
	bin := command(t)
	var most int64
	var longest time.Duration
	n := 0
	for _, v := range readAll(t) {
		if v.Kind != "zip" || v.Heavy && os.Getenv("EVERY_BYTE") == "" {
			continue
		}
		for recipe := range strings.SplitSeq(strings.Join(v.Recipe, "\n"), "\n---\n") {
			z, err := MakeZip(strings.Split(recipe, "\n"))
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			for kind, data := range map[modpath.Kind][]byte{modpath.Zip: z.Zip, modpath.Mod: z.Mod, modpath.Info: z.Info} {
				up.Override(modpath.Request{Kind: kind, Path: Module, Version: Version}.String(), func(w http.ResponseWriter, _ *http.Request) { w.Write(data) })
			}
			dir := t.TempDir()
			if !v.Heavy {
				got, err := classOfSync(mirror.Config{Dir: filepath.Join(dir, "mirror"), Upstream: client, DB: db, NoSumDB: "corp.example"})
				if got != v.Expect {
					t.Errorf("%s: %s (%v), want %s; %.300s", v.Name, got, err, v.Expect, recipe)
				}
				quarantined, _ := os.ReadDir(filepath.Join(dir, "mirror", "quarantine"))
				if v.Expect != "upstream" && (len(quarantined) > 0) != (v.Expect == "zip") {
					t.Errorf("%s: %d files in quarantine", v.Name, len(quarantined))
				}
			}
			if n++; raced && n%20 != 0 {
				continue
			}
			cmd := exec.Command(bin, "sync", "-q", "-o", filepath.Join(dir, "x.tar"), Module+"@"+Version)
			cmd.Env = append(os.Environ(), "GOPROXY="+up.URL, "GONOSUMDB=corp.example", "GOSUMDB="+up.GOSUMDB, "GONOPROXY=none", "GOPRIVATE=corp.example",
				"XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_STATE_HOME="+dir)
			exit, memory, took, out := measured(t, cmd)
			if want := map[string]int{"ok": 0, "zip": 3}[v.Expect]; exit != want && v.Expect != "upstream" || v.Expect == "upstream" && exit == 0 {
				t.Errorf("%s: exit code %d: %s", v.Name, exit, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "x.tar")); (err == nil) != (v.Expect == "ok") {
				t.Errorf("%s: the bundle is there, or not: %v", v.Name, err)
			}
			if memory > maxSyncMemory {
				t.Errorf("%s: %d MiB", v.Name, memory>>20)
			}
			most, longest = max(most, memory), max(longest, took)
		}
	}
	t.Logf("%d zips: at most %d MiB and %v", n, most>>20, longest.Round(time.Millisecond))
}

// classOfSync syncs the module of the vectors and says what it is refused for.
func classOfSync(cfg mirror.Config) (string, error) {
	src, err := sources.Parse([]string{Module + "@" + Version}, strings.NewReader(""))
	if err != nil {
		return "io", err
	}
	m, err := mirror.Open(context.Background(), cfg)
	if err != nil {
		return "io", err
	}
	defer m.Close()
	c, err := m.Sync(context.Background(), &mirror.Job{Sources: *src})
	switch {
	case errors.Is(err, proof.ErrMismatch) && !strings.Contains(err.Error(), ": info: "):
		return "zip", err
	case err != nil:
		return "upstream", err
	case len(c.Missing) > 0:
		return "incomplete", errors.New(c.Missing[0].Asked)
	}
	return "ok", nil
}
