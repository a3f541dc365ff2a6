//go:build !unix

package upstream

import (
	"os/exec"
	"time"
)

// endGroup bounds the wait for a command that is killed. Processes that it started may go on.
func endGroup(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }
