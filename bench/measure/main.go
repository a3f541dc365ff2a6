// Command measure runs a command, and adds what it took to three files, a line each: wall time to
// TO.ms and processor time to TO.cpu, in milliseconds, and peak memory to TO.mib, in MiB.
//
//	measure TO COMMAND...
//
// It leaves the command's output in TO.log. When the command fails measure shows the output, and
// ends with the same exit code.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("measure: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: measure TO COMMAND...")
	}
	var out bytes.Buffer
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, &out
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err := os.WriteFile(os.Args[1]+".log", out.Bytes(), 0o666); err != nil {
		log.Fatal(err)
	}
	if err != nil {
		os.Stderr.Write(out.Bytes())
		if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() > 0 {
			os.Exit(failed.ExitCode())
		}
		log.Fatal(os.Args[2], ": ", err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		log.Fatal("this system does not say how much memory a process had")
	}
	for name, value := range map[string]string{
		"ms":  fmt.Sprintf("%.1f", wall.Seconds()*1000),
		"cpu": fmt.Sprintf("%.1f", cpu.Seconds()*1000),
		"mib": fmt.Sprintf("%.1f", float64(use.Maxrss)/1024), // Linux counts in KiB
	} {
		if err := add(os.Args[1]+"."+name, value); err != nil {
			log.Fatal(err)
		}
	}
}

// add appends a line to a file.
func add(name, line string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
