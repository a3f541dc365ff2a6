package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

func completionCommand() *command {
	return &command{
		name:    "completion",
		summary: "print shell completion",
		usage: `
Usage: modmirror completion bash|zsh|fish

Example:
  source <(modmirror completion bash)
`,
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("completion needs bash, zsh or fish")
			}
			names, flags := completionWords(e)
			switch args[0] {
			case "bash", "zsh":
				if args[0] == "zsh" {
					fmt.Fprintln(e.stdout, "autoload -U +X bashcompinit && bashcompinit")
				}
				fmt.Fprint(e.stdout, "_modmirror() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n")
				fmt.Fprintf(e.stdout, "  if [ \"$COMP_CWORD\" = 1 ]; then words='%s'; else case ${COMP_WORDS[1]} in\n", strings.Join(names, " "))
				for i, n := range names {
					fmt.Fprintf(e.stdout, "    %s) words='%s' ;;\n", n, strings.Join(flags[i], " "))
				}
				fmt.Fprint(e.stdout, "  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _modmirror modmirror\n")
			case "fish":
				for i, c := range commands() {
					fmt.Fprintf(e.stdout, "complete -c modmirror -n __fish_use_subcommand -a %s -d '%s'\n",
						c.name, c.summary)
					for _, f := range flags[i] {
						if long, ok := strings.CutPrefix(f, "--"); ok {
							fmt.Fprintf(e.stdout, "complete -c modmirror -n '__fish_seen_subcommand_from %s' -l %s\n",
								c.name, long)
						}
					}
				}
			default:
				return usagef("no completion for %q: want bash, zsh or fish", args[0])
			}
			return nil
		},
	}
}

// completionWords returns the names of the commands and, for each, its flags and fixed arguments.
func completionWords(e *env) (names []string, words [][]string) {
	fixed := map[string][]string{
		"key": {"new", "show"}, "trust": {"add", "list", "remove"}, "completion": {"bash", "zsh", "fish"},
	}
	for _, c := range commands() {
		names = append(names, c.name)
		list := fixed[c.name]
		flagSet(e, c).VisitAll(func(f *pflag.Flag) { list = append(list, "--"+f.Name) })
		words = append(words, append(list, "--help"))
	}
	return names, words
}
