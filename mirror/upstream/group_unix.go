//go:build unix

package upstream

import (
	"os/exec"
	"syscall"
	"time"
)

// endGroup makes a command end together with all processes that it started, such as a git that
// waits for a server.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
}
