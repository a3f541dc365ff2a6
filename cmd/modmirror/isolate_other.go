//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

// isolate makes cmd fail to start: only Linux has network namespaces.
func isolate(cmd *exec.Cmd) { cmd.Err = errors.ErrUnsupported }

func loopbackUp() error { return nil }
