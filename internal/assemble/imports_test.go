package assemble

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the direction: a run knows no flags, no terminal, no server and no rehearsal,
// which it is handed as a func; and a rehearsal knows no run.
func TestImports(t *testing.T) {
	const module = "github.com/modmirror/modmirror/"
	for pkg, not := range map[string][]string{
		".":           {module + "serve", module + "internal/rehearse", "github.com/spf13/pflag", "golang.org/x/term"},
		"../rehearse": {module + "internal/assemble", "github.com/spf13/pflag"},
	} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", pkg, err)
		}
		deps := strings.Fields(string(out))
		for _, p := range not {
			if slices.Contains(deps, p) {
				t.Errorf("%s imports %s", pkg, p)
			}
		}
	}
}
