package media

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzPieceList reads lists of pieces: what one names has a name that stays where it is.
func FuzzPieceList(f *testing.F) {
	sum := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	f.Add([]byte("# team.tar in 2 pieces\n" + sum + "  team.tar.001\n" + sum + "  team.tar.002\n"))
	f.Add([]byte(sum + "  ../x.001\n"))
	f.Add([]byte(sum + "  ...001\n\x00"))
	file := filepath.Join(f.TempDir(), "team.tar.sha256")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := ReadList(file)
		if err != nil {
			return
		}
		for name := range list {
			if filepath.Base(name) != name || name == "" || name[0] == '.' {
				t.Errorf("a piece is called %q", name)
			}
		}
	})
}
