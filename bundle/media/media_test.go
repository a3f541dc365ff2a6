package media

import (
	"path/filepath"
	"testing"
)

// TestOpenMissing opens files that do not exist: no media are returned with the error.
func TestOpenMissing(t *testing.T) {
	for _, name := range []string{"team.tar", "team.tar.001", "."} {
		if m, err := Open(filepath.Join(t.TempDir(), name)); m != nil || err == nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}
