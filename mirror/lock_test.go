package mirror

import (
	"testing"

	"golang.org/x/mod/module"
)

// FuzzParseLock checks that every version in an accepted lock is a module version.
func FuzzParseLock(f *testing.F) {
	good, err := (&Lock{Format: lockFormat, Name: "team", Versions: []LockedVersion{{Path: "example.com/x", Version: "v1.0.0"}}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":"modmirror lock v1","versions":[{"path":"../x","version":"v1"}]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock(data)
		if err != nil {
			return
		}
		for _, v := range l.Versions {
			if err := module.Check(v.Path, v.Version); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLockComparesContents has zips that are packed in another way, and zips with other contents.
func TestLockComparesContents(t *testing.T) {
	closure := func() *Closure {
		v := Version{Mod: module.Version{Path: "example.com/x", Version: "v1.0.0"}, H1: "h1:x", GoModH1: "h1:m", Zip: &File{SHA256: [32]byte{1}}}
		return &Closure{Versions: []Version{v}}
	}
	lock := NewLock(closure())
	same := closure()
	if err := lock.check(same); err != nil || same.Repacked != 0 {
		t.Errorf("the same: %v, %d repacked", err, same.Repacked)
	}
	repacked := closure()
	repacked.Versions[0].Zip.SHA256[0]++
	if err := lock.check(repacked); err != nil || repacked.Repacked != 1 {
		t.Errorf("packed in another way: %v, %d repacked", err, repacked.Repacked)
	}
	for name, change := range map[string]func(*Version){
		"h1":     func(v *Version) { v.H1 = "h1:y" },
		"go.mod": func(v *Version) { v.GoModH1 = "h1:y" },
		"no zip": func(v *Version) { v.Zip = nil },
	} {
		c := closure()
		change(&c.Versions[0])
		if err := lock.check(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
