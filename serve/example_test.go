package serve_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/serve"
)

// Serve a bundle below /go of an HTTP server of one's own.
func ExampleNewHandler() {
	file, key, remove := makeBundle()
	defer remove()

	view, err := store.OpenFiles(context.Background(), []string{file}, trust.NewKeyring(key), store.NoState())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer view.Close()

	wants := serve.MissFunc(func(r modpath.Request, _ netip.Addr) { fmt.Println("not carried:", r.Path) })
	mux := http.NewServeMux()
	mux.Handle("/go/", http.StripPrefix("/go", serve.NewHandler(view, slog.New(slog.DiscardHandler), wants)))
	server := httptest.NewServer(mux) // clients set GOPROXY to its URL with /go
	defer server.Close()

	for _, path := range []string{"/go/example.com/hello/@v/list", "/go/example.com/nowhere/@v/list"} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%s\n%s", resp.Status, body)
	}
	// Output:
	// 200 OK
	// v1.1.0
	// not carried: example.com/nowhere
	// 404 Not Found
	// example.com/nowhere is not in bundle test of 2023-11-14
	// no version of this module is carried whole
	// to have it carried, add this line to the list outside: example.com/nowhere@latest
}

// makeBundle makes a bundle, and returns its file with the public key that it is signed with.
func makeBundle() (file, key string, remove func()) {
	var t tb
	b := testbundle.Make(&t, "../testdata/mod", testbundle.WithoutLarge)
	return b.Path, b.Key.Verifier, func() {
		for _, dir := range t.dirs {
			os.RemoveAll(dir)
		}
	}
}

// A tb is as much of testing.TB as testbundle needs, for examples.
type tb struct {
	testing.TB
	dirs []string
}

func (t *tb) Helper() {}

func (t *tb) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (t *tb) TempDir() string {
	dir, err := os.MkdirTemp("", "modmirror-example-")
	if err != nil {
		panic(err)
	}
	t.dirs = append(t.dirs, dir)
	return dir
}
