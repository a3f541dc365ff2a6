package mirror

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestRetraction asks about versions that are not carried.
func TestRetraction(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if reason, is, known := c.Retraction("example.com/hello", "v1.0.0"); reason != "said the wrong thing" || !is || !known {
		t.Errorf("v1.0.0: %q, %v, %v", reason, is, known)
	}
	if _, is, known := c.Retraction("example.com/hello", "v1.1.0"); is || !known {
		t.Errorf("v1.1.0: %v, %v", is, known)
	}
	if _, _, known := c.Retraction("example.com/none", "v1.1.0"); known {
		t.Error("a module that is not there")
	}
}

func TestRetractedAndDeprecated(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.0.0", "example.com/hello@v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range c.Versions {
		if v.Mod.Path == "example.com/hello" {
			got[v.Mod.Version] = fmt.Sprint(v.Retracted, " ", v.Reason, " ", v.Deprecated)
		}
	}
	want := map[string]string{
		"v1.0.0": "true said the wrong thing use example.com/hello/v2.",
		"v1.2.0": "true published too early use example.com/hello/v2.",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSilentDatabase has the database not answer about a newest version, which only serves advice.
// The sync goes on without it.
func TestSilentDatabase(t *testing.T) {
	w := newWorld(t)
	w.up.Override("sumdb/"+testproxy.DBName+"/lookup/example.com/hello@v1.2.0", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	old := newestTimeout
	newestTimeout = 200 * time.Millisecond
	defer func() { newestTimeout = old }()
	start := time.Now()
	c, err := w.sync("example.com/hello@v1.0.0")
	if err != nil || time.Since(start) > 20*time.Second {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
	for _, v := range c.Versions {
		if v.Mod.Path == "example.com/hello" && (v.Latest != "v1.2.0" || v.Retracted) {
			t.Errorf("%+v", v)
		}
	}
}
