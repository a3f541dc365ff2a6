package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// helpWidth is the largest number of columns of help.
const helpWidth = 80

// wrap breaks a text into lines of at most width columns, including the indent of each. A longer
// word has a line of its own.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > width {
			b.WriteString(indent + line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		b.WriteString(indent + line + "\n")
	}
	return b.String()
}

// paragraphs splits a usage text. Usage lines, examples and empty lines are verbatim; the other
// parts may be wrapped.
func paragraphs(usage string) (parts []string, verbatim []bool) {
	add := func(line string, asIs bool) {
		n := len(parts)
		if n > 0 && verbatim[n-1] == asIs && !(line == "" || parts[n-1] == "") {
			parts[n-1] += "\n" + line
			return
		}
		parts, verbatim = append(parts, line), append(verbatim, asIs)
	}
	for line := range strings.SplitSeq(strings.Trim(usage, "\n"), "\n") {
		heading := strings.HasSuffix(line, ":") && !strings.Contains(line, " ")
		add(line, line == "" || line[0] == ' ' || strings.HasPrefix(line, "Usage:") || heading)
	}
	return parts, verbatim
}

// flagLine returns how a flag is written, and its description.
func flagLine(f *pflag.Flag) (names, usage string) {
	value, usage := pflag.UnquoteUsage(f)
	names = "--" + f.Name
	if f.Shorthand != "" {
		names = "-" + f.Shorthand + ", " + names
	}
	switch {
	case f.Value.Type() == "bool":
	case f.NoOptDefVal != "":
		names += "[=" + strings.ReplaceAll(value, " ", "-") + "]"
		usage += " (alone: " + f.NoOptDefVal + ")"
	default:
		names += " " + strings.ReplaceAll(value, " ", "-")
	}
	switch f.DefValue {
	case "", "false", "0", "[]":
	default:
		usage += " (default " + f.DefValue + ")"
	}
	return names, usage
}

// helpText returns the help of a command: its usage text and its flags.
func helpText(c *command, fs *pflag.FlagSet) string {
	var b strings.Builder
	parts, verbatim := paragraphs(c.usage)
	for i, p := range parts {
		if verbatim[i] {
			b.WriteString(p + "\n")
		} else {
			b.WriteString(wrap(p, helpWidth, ""))
		}
	}
	b.WriteString("\nFlags:\n")
	fs.VisitAll(func(f *pflag.Flag) {
		names, usage := flagLine(f)
		fmt.Fprintf(&b, "  %s\n%s", names, wrap(usage, helpWidth, "      "))
	})
	return b.String()
}

// help prints the list of commands.
func (e *env) help() error {
	fmt.Fprint(e.stdout, `modmirror carries Go modules across an air gap.

Usage: modmirror COMMAND [flags] [args]

`)
	for _, c := range commands() {
		fmt.Fprintf(e.stdout, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprint(e.stdout, `
Outside:  modmirror sync -o team.tar            (in a Go project)
Inside:   modmirror trust add KEY
          modmirror serve team.tar
          eval "$(modmirror env http://127.0.0.1:8080)" && go build ./...

modmirror COMMAND --help tells more.
`)
	return e.stdout.err
}
