package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
)

// restricted is a command for scripts. It gives up files as serve does that reads its first
// argument and writes below its second one, and prints what it can still do. The third argument is
// another file.
func restricted() {
	restrict(slog.New(slog.NewTextHandler(os.Stderr, nil)), needs{read: os.Args[1:2], write: os.Args[2:3]})
	try := func(what string, err error) {
		if err == nil {
			fmt.Println("can", what)
		} else {
			fmt.Println("cannot", what)
		}
	}
	_, err := os.ReadFile(os.Args[1])
	try("read what is served", err)
	try("write state", os.WriteFile(os.Args[2]+"/x", nil, 0o600))
	_, err = os.ReadFile("/proc/self/stat")
	try("read process metrics", err)
	_, err = os.ReadFile(os.Args[3])
	try("read other files", err)
	try("write what is served", os.WriteFile(os.Args[1], nil, 0o600))
	try("write other files", os.WriteFile(os.Args[3], nil, 0o600))
	try("run programs", exec.Command("/bin/true").Run())
}
