package safefile

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestCommitReplacesAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "file")
	if err := Write(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("before Commit the file holds %q, want the old content", got)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("after Commit the file holds %q, want the new content", got)
	}
	onlyFile(t, filepath.Dir(path), "file")
}

func TestDiscardLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "file"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("half")
	f.Discard()
	if err := f.Commit(); err == nil {
		t.Error("Commit after Discard succeeded")
	}
	onlyFile(t, dir)
}

func TestFailedRenameLeavesNoTemp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.Mkdir(path, 0o755); err != nil { // rename over a folder fails
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("data"), 0o644); err == nil {
		t.Error("Write over a folder succeeded")
	}
	onlyFile(t, dir, "file")
}

// onlyFile fails when dir holds anything but the names in want.
func onlyFile(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if len(got) != len(want) || (len(want) == 1 && got[0] != want[0]) {
		t.Errorf("folder holds %q, want %q", got, want)
	}
}

// TestForetoldNames has an attacker who knows the name of the temporary file put a link or a file
// there. Nothing is written to either.
func TestForetoldNames(t *testing.T) {
	newName = func() string { return "foretold" }
	defer func() { newName = rand.Text }()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	precious := filepath.Join(dir, "precious")
	temp := filepath.Join(dir, TempPrefix+"foretold")
	for _, lay := range []func() error{
		func() error { return os.WriteFile(temp, []byte("precious"), 0o600) },
		func() error { return os.Symlink("precious", temp) },
	} {
		if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := lay(); err != nil {
			t.Fatal(err)
		}
		if f, err := Create(filepath.Join(dir, "x"), 0o600); err == nil {
			f.Discard()
			t.Error("a file is written to that was there")
		}
		if f, err := CreateInRoot(root, "x", 0o600); err == nil {
			f.Discard()
			t.Error("a file is written to that was there, in a root")
		}
		for _, name := range []string{precious, temp} {
			if data, err := os.ReadFile(name); string(data) != "precious" {
				t.Errorf("%s has %q (%v)", name, data, err)
			}
		}
		os.Remove(temp)
	}
}

// TestLockOfAFullDisk checks that a lock whose text was cut short is a lock, and that another file
// is not.
func TestLockOfAFullDisk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	for text, ok := range map[string]bool{"": true, "p": true, "process": true, lockStart + "7": true, "x": false, "precious": false, "processor\n": false} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		unlock, err := Lock(t.Context(), name, nil)
		if err == nil {
			err = unlock()
		}
		if data, _ := os.ReadFile(name); (err == nil) != ok || !ok && string(data) != text {
			t.Errorf("%q: %v, and then %q", text, err, data)
		}
	}
}

// TestSweep checks that Sweep removes all temporary files, and SweepOld only old ones.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	lay := func(name string, age time.Duration) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
		return name
	}
	old, young, other := lay(TempPrefix+"old", 2*oldTemp), lay(TempPrefix+"young", 0), lay("other", 2*oldTemp)
	for _, test := range []struct {
		sweep func(string) error
		want  []string
	}{{SweepOld, []string{young, other}}, {Sweep, []string{other}}} {
		if err := test.sweep(dir); err != nil {
			t.Fatal(err)
		}
		var names []string
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left {
			names = append(names, f.Name())
		}
		if !slices.Equal(names, test.want) {
			t.Errorf("left: %v, want %v; %s", names, test.want, old)
		}
	}
}
