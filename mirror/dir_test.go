package mirror

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLeftOverTempFilesAreRemoved(t *testing.T) {
	w := newWorld(t)
	left := filepath.Join(w.dir, "tmp", ".modmirror-tmp-X")
	os.MkdirAll(filepath.Dir(left), 0o755)
	if err := os.WriteFile(left, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync("example.com/text@v1.1.0"); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Dir(left)); len(list) != 0 {
		t.Errorf("tmp holds %v", list)
	}
}

// TestQuarantineKeepsLongNames checks that the evidence of a module with a long path is kept, with
// its whole path beside it.
func TestQuarantineKeepsLongNames(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	long := "example.com/" + strings.Repeat("some-long-element/", 20) + "m/@v/v1.0.0.zip"
	for _, rel := range []string{"example.com/m/@v/v1.0.0.zip", long, strings.Replace(long, "some", "same", 1)} {
		f, err := d.put(rel, []byte("evidence"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.quarantine(f.Name(), rel, errors.New("its hash is another one")); err != nil {
			t.Errorf("%.60s: %v", rel, err)
		}
	}
	reasons, err := filepath.Glob(filepath.Join(d.root, quarantineDir, "*.reason"))
	if err != nil || len(reasons) != 3 {
		t.Fatalf("quarantine has %d reasons, want 3 (%v)", len(reasons), err)
	}
	for _, name := range reasons {
		evidence, err := os.ReadFile(strings.TrimSuffix(name, ".reason"))
		if err != nil || string(evidence) != "evidence" {
			t.Errorf("%s: %q, %v", name, evidence, err)
		}
		reason, _ := os.ReadFile(name)
		if !strings.Contains(string(reason), "/m/@v/v1.0.0.zip: its hash is another one") {
			t.Errorf("%s says %q", name, reason)
		}
	}
}
