package mirror

import (
	"testing"

	"golang.org/x/mod/module"
)

// FuzzParseLock reads locks: every version that one names is a module version.
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
