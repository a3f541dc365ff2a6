package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

func manCommand() *command {
	return &command{
		name:    "man",
		summary: "print the manual page",
		usage: `
Usage: modmirror man [COMMAND]

Prints the page of modmirror, or of one command, for man. It has the same texts as
--help.

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

// roff escapes a text for roff(7).
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

// manPage writes the page that has all commands.
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
	fmt.Fprint(w, ".TP\n.B GOPROXY, GOSUMDB, GOPRIVATE, \\&...\n",
		roff("as go env has them: sync and doctor follow them"), "\n")
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

// manUsage writes the usage text and the flags of a command.
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
