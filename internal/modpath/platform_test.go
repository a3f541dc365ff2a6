package modpath

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCheckPlatform(t *testing.T) {
	for p, ok := range map[string]bool{
		"linux/amd64": true, "windows/arm64": true, "wasip1/wasm": true, "linux/armv6l": true,
		"": false, "linux": false, "linux/": false, "/amd64": false, "linux-amd64": false, "linux/amd64/x": false,
		"Linux/amd64": false, "linux/sparc": false, "beos/amd64": false, "linux amd64": false, "linux/amd64 ": false,
	} {
		if err := CheckPlatform(p); (err == nil) != ok {
			t.Errorf("CheckPlatform(%q) = %v, want ok=%v", p, err, ok)
		}
	}
}

// TestPlatformsAreGos checks the platforms of the go command here.
func TestPlatformsAreGos(t *testing.T) {
	out, err := exec.Command("go", "tool", "dist", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if err := CheckPlatform(p); err != nil {
			t.Error(err)
		}
		if got := PlatformOf(PlatformName(p)); got != p {
			t.Errorf("%s became %s", p, got)
		}
		if v := ToolchainVersion("go1.26.8", p); checkVersion(v.Path, v.Version) != nil {
			t.Errorf("%v is not a version", v)
		}
	}
	if got := ToolchainVersion("go1.26.8", "linux/amd64").String(); got != "golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64" {
		t.Errorf("got %s", got)
	}
}
