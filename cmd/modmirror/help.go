package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// helpWidth is how many columns help takes at most.
const helpWidth = 80

// wrap breaks a text into lines of at most width columns, each behind an indent. A word that is
// longer stands alone.
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

// paragraphs splits a usage text into what stands as it is, such as examples, and paragraphs that
// may be wrapped.
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
		add(line, line == "" || line[0] == ' ' || strings.HasPrefix(line, "Usage:") || strings.HasSuffix(line, ":") && !strings.Contains(line, " "))
	}
	return parts, verbatim
}

// flagLine returns how a flag is written.
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

// helpText returns the help of a command.
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

// Variables of the environment that stand for flags that are repeated.
var flagVariables = map[string]string{
	"config": "MODMIRROR_CONFIG", "store": "MODMIRROR_STORE", "mirror": "MODMIRROR_MIRROR", "state": "MODMIRROR_STATE", "key": "MODMIRROR_KEY",
}

// applyVariables gives flags that were not set the values of their variables.
func applyVariables(command string, fs *pflag.FlagSet) error {
	for name, variable := range flagVariables {
		f := fs.Lookup(name)
		value := os.Getenv(variable)
		// prune takes a store or a mirror directory, and is told which.
		if f == nil || f.Changed || value == "" || command == "prune" && (name == "store" || name == "mirror") {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}
	return nil
}

func manCommand() *command {
	return &command{
		name:    "man",
		summary: "print the manual page",
		usage: `
Usage: modmirror man [COMMAND]

Prints the page of modmirror, or of one command, for man. It is made of the same
texts as --help.

Example:
  modmirror man >/usr/local/share/man/man1/modmirror.1
  modmirror man sync | man -l -
`,
		run: func(_ context.Context, e *env, args []string) error {
			switch len(args) {
			case 0:
				manPage(e.stdout, e)
				return nil
			case 1:
				for _, c := range commands() {
					if c.name == args[0] {
						manCommandPage(e.stdout, e, c)
						return nil
					}
				}
				return usagef("there is no command %q", args[0])
			}
			return usagef("want at most one command")
		},
	}
}

// roff escapes a text for man.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line[0] == '.' || line[0] == '\'' {
			b.WriteString(`\&`)
		}
		b.WriteString(line)
	}
	return b.String()
}

// manPage writes the page of the whole.
func manPage(w io.Writer, e *env) {
	fmt.Fprintf(w, ".TH MODMIRROR 1 \"\" \"modmirror %s\" \"User Commands\"\n", version())
	fmt.Fprintf(w, ".SH NAME\nmodmirror \\- %s\n.SH SYNOPSIS\n.B modmirror\n.I COMMAND\n[flags] [args]\n.SH COMMANDS\n", roff("Go modules for networks without internet: one signed file"))
	for _, c := range commands() {
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(c.name), roff(c.summary))
	}
	fmt.Fprint(w, ".SH ENVIRONMENT\n")
	for _, name := range slices.Sorted(maps.Keys(flagVariables)) {
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", flagVariables[name], roff("stands for --"+name))
	}
	fmt.Fprint(w, ".TP\n.B GOPROXY, GOSUMDB, GOPRIVATE, \\&...\n", roff("as go env has them: sync and doctor follow them"), "\n")
	fmt.Fprintf(w, ".SH EXIT STATUS\n")
	for _, x := range exitCodes {
		fmt.Fprintf(w, ".TP\n.B %d\n%s\n", x.code, roff(x.means))
	}
	for _, c := range commands() {
		fmt.Fprintf(w, ".SH %s\n", strings.ToUpper(c.name))
		manUsage(w, e, c)
	}
}

// manCommandPage writes the page of one command.
func manCommandPage(w io.Writer, e *env, c *command) {
	fmt.Fprintf(w, ".TH MODMIRROR-%s 1 \"\" \"modmirror %s\" \"User Commands\"\n", strings.ToUpper(c.name), version())
	fmt.Fprintf(w, ".SH NAME\nmodmirror\\-%s \\- %s\n.SH DESCRIPTION\n", roff(c.name), roff(c.summary))
	manUsage(w, e, c)
}

func manUsage(w io.Writer, e *env, c *command) {
	parts, verbatim := paragraphs(c.usage)
	for i, p := range parts {
		switch {
		case p == "":
			fmt.Fprint(w, ".PP\n")
		case verbatim[i]:
			fmt.Fprintf(w, ".nf\n%s\n.fi\n", roff(p))
		default:
			fmt.Fprintln(w, roff(p))
		}
	}
	flagSet(e, c).VisitAll(func(f *pflag.Flag) {
		names, usage := flagLine(f)
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(names), roff(usage))
	})
}
