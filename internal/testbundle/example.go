package testbundle

import (
	"fmt"
	"os"
	"testing"
)

// Example returns as much of testing.TB as this package needs, for examples, and a function that
// removes its folders.
func Example() (t testing.TB, remove func()) {
	x := new(example)
	return x, func() {
		for _, dir := range x.dirs {
			os.RemoveAll(dir)
		}
	}
}

type example struct {
	testing.TB
	dirs []string
}

// Helper does nothing.
func (x *example) Helper() {}

// Fatal panics.
func (x *example) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// TempDir returns a new folder.
func (x *example) TempDir() string {
	dir, err := os.MkdirTemp("", "modmirror-example-")
	if err != nil {
		panic(err)
	}
	x.dirs = append(x.dirs, dir)
	return dir
}
