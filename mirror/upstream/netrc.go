package upstream

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// netrc stores the credentials of $NETRC, ~/.netrc or, on Windows, ~/_netrc.
func (a *auth) netrc() error {
	name := os.Getenv("NETRC")
	if name == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil // without a home there is no file
		}
		name = filepath.Join(home, ".netrc")
		if old := filepath.Join(home, "_netrc"); runtime.GOOS == "windows" && exists(old) {
			name = old
		}
	}
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(parseNetrc(string(data))) { // the first entry of a machine has precedence
		r := http.Request{Header: make(http.Header)}
		r.SetBasicAuth(m.login, m.password)
		a.store(m.machine, r.Header)
	}
	return nil
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

type netrcMachine struct{ machine, login, password string }

// parseNetrc returns the machines of a netrc file (gnu.org/software/inetutils/manual, "The .netrc
// file"). Like cmd/go it ignores the default machine and macros.
func parseNetrc(data string) []netrcMachine {
	var list []netrcMachine
	var m netrcMachine
	macro := false
	for line := range strings.Lines(data) {
		f := strings.Fields(line)
		if macro {
			macro = len(f) > 0
			continue
		}
		for ; len(f) > 0 && f[0] != "default"; f = f[min(2, len(f)):] {
			if strings.HasPrefix(f[0], "#") || len(f) == 1 {
				break
			}
			switch f[0] {
			case "machine":
				m = netrcMachine{machine: f[1]}
			case "login":
				m.login = f[1]
			case "password":
				m.password = f[1]
			case "macdef":
				macro = true
			}
			if m.machine != "" && m.login != "" && m.password != "" {
				list = append(list, m)
				m = netrcMachine{}
			}
		}
		if len(f) > 0 && f[0] == "default" { // nothing may follow it
			break
		}
	}
	return list
}
