//go:build !unix

package upstream

import (
	"os/exec"
	"time"
)

// endGroup has a command end in time; what it started may go on.
func endGroup(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }
