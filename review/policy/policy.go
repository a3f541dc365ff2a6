// Package policy decides whether a bundle may cross: it compares what the bundle would bring with
// the lines of a policy file, and says everything that is against them at once.
//
// A policy judges what crosses, the versions whose zip is in the file, and not what earlier bundles
// of the line have brought: a delta that carries a fix is not refused for what it fixes.
package policy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/review/facts"
)

// Rules, by the words with which their lines begin.
const (
	Deny       = "deny"
	AllowOnly  = "allow-only"
	License    = "license"
	Vulns      = "vulns"
	Cooldown   = "cooldown"
	Retracted  = "retracted"
	Deprecated = "deprecated"
	New        = "new"
	Size       = "size"
)

const (
	// maxFile is the longest policy file in bytes, and maxLines the most lines of all.
	maxFile, maxLines = 1 << 20, 10_000

	// maxDays is the longest cooldown. A mirror directory keeps tree heads for as long.
	maxDays = 365
)

// A Policy is what policy files say. The zero Policy allows everything.
type Policy struct {
	rules  map[string][]*rule // by their word, in the order of the lines
	except []*Exception
	lines  []string // without comments and spaces between words
}

// A rule is a line of a policy.
type rule struct {
	pos, text string   // where the line is, and what it says
	words     []string // patterns, identifiers of licenses, kinds, or the value of the rule
	days      int      // of a cooldown
	bytes     uint64   // of a size
	warn      bool
}

// An Exception lets something pass that a rule is against, until a day, for a reason.
type Exception struct {
	Line    string    `json:"line"` // FILE:LINE
	What    string    `json:"what"` // a rule, or the id or alias of a vulnerability
	Module  string    `json:"module"`
	Until   time.Time `json:"until"` // the last moment
	Because string    `json:"because"`

	used bool
}

// A SyntaxError is a line that is no line of a policy.
type SyntaxError struct {
	Line string // FILE:LINE
	Err  error
}

func (e *SyntaxError) Error() string { return e.Line + ": " + e.Err.Error() }
func (e *SyntaxError) Unwrap() error { return e.Err }

// Empty reports whether the policy has no rule.
func (p *Policy) Empty() bool { return p == nil || len(p.rules) == 0 }

// Lines returns the lines of the policy, without comments.
func (p *Policy) Lines() []string {
	if p == nil {
		return nil
	}
	return p.lines
}

// ReadFile adds the lines of a file. The error is a *SyntaxError for a line that cannot be read. A
// file without a line is an error: somebody counts on it.
func (p *Policy) ReadFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	before := len(p.lines)
	if err := p.Read(f, file); err != nil {
		return err
	}
	if len(p.lines) == before {
		return fmt.Errorf("%s: there is no line of a policy in it", file)
	}
	return nil
}

// Read adds the lines of a policy, which has a name for messages.
func (p *Policy) Read(r io.Reader, name string) error {
	in := &io.LimitedReader{R: r, N: maxFile + 1}
	sc := bufio.NewScanner(in)
	for n := 1; sc.Scan(); n++ {
		text := sc.Text()
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff") // Windows programs write it
		}
		if err := p.Add(fmt.Sprintf("%s:%d", name, n), text); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if in.N <= 0 {
		return fmt.Errorf("%s: longer than %d bytes", name, maxFile)
	}
	return nil
}

// syntax says for each first word how its line goes on, and reads it.
var syntax = []struct {
	word, usage string
	read        func(*Policy, *rule) error
}{
	{Deny, "deny MODULE[@VERSION]… or PREFIX/…", (*Policy).readPatterns},
	{AllowOnly, "allow-only MODULE… or PREFIX/…", (*Policy).readPatterns},
	{License, "license allow SPDX-ID… [warn]", (*Policy).readLicense},
	{Vulns, "vulns none|unless-fix-missing [warn]", (*Policy).readVulns},
	{Cooldown, "cooldown DAYSd [warn]", (*Policy).readCooldown},
	{Retracted, "retracted no|warn", (*Policy).readNo},
	{Deprecated, "deprecated no|warn", (*Policy).readNo},
	{New, "new KIND,… [no|warn]", (*Policy).readNew},
	{Size, "size BYTES [warn]", (*Policy).readSize},
	{"except", `except RULE|VULNERABILITY MODULE[@VERSION] until YYYY-MM-DD because "REASON"`, (*Policy).readExcept},
}

// Words returns the words with which lines of a policy begin.
func Words() (words []string) {
	for _, s := range syntax {
		words = append(words, s.word)
	}
	return words
}

// Add adds a line, which may be empty or a comment. The error is a *SyntaxError.
func (p *Policy) Add(pos, line string) error {
	line = strings.TrimSuffix(line, "\r")
	if strings.ContainsRune(line, '\r') { // line ends of long ago: all would be one line, perhaps a comment
		return &SyntaxError{pos, errors.New("a carriage return inside the line: save the file with other line ends")}
	}
	words, err := split(line)
	if err == nil && len(words) > 0 {
		p.lines = append(p.lines, quoted(words))
		err = p.addWords(&rule{pos: pos, text: strings.Join(words, " "), words: words[1:]}, words[0])
	}
	if err != nil {
		return &SyntaxError{pos, err}
	}
	return nil
}

func (p *Policy) addWords(r *rule, word string) error {
	if len(p.lines) > maxLines {
		return fmt.Errorf("more than %d lines", maxLines)
	}
	for _, s := range syntax {
		if s.word != word {
			continue
		}
		if err := s.read(p, r); err != nil {
			return fmt.Errorf("%w: want %s", err, s.usage)
		}
		if word == "except" {
			return nil
		}
		if p.rules == nil {
			p.rules = make(map[string][]*rule)
		}
		single := word != Deny && word != AllowOnly && word != License && word != New
		if single && p.rules[word] != nil {
			return fmt.Errorf("%s was said before, on %s", word, p.rules[word][0].pos)
		}
		p.rules[word] = append(p.rules[word], r)
		return nil
	}
	return fmt.Errorf("cannot read %.60q: a line begins with %s", word, strings.Join(Words(), ", "))
}

// split returns the words of a line. Text in double quotes is one word, without the quotes. A # at
// the begin of a word begins a comment.
func split(line string) (words []string, err error) {
	rest := line
	for {
		rest = strings.TrimLeft(rest, " \t")
		switch {
		case rest == "" || rest[0] == '#':
			return words, nil
		case rest[0] == '"':
			text, after, ok := strings.Cut(rest[1:], `"`)
			if !ok {
				return nil, errors.New(`a quotation mark " is open`)
			}
			words, rest = append(words, text), after
		default:
			n := strings.IndexAny(rest, " \t")
			if n < 0 {
				n = len(rest)
			}
			words, rest = append(words, rest[:n]), rest[n:]
		}
	}
}

// quoted returns words as a line.
func quoted(words []string) string {
	out := slices.Clone(words)
	for i, w := range out {
		if w == "" || strings.ContainsAny(w, " \t#") {
			out[i] = `"` + w + `"`
		}
	}
	return strings.Join(out, " ")
}

// takeWarn removes the word warn, or no, from the end of a line.
func (r *rule) takeWarn() {
	if n := len(r.words) - 1; n >= 0 && (r.words[n] == "warn" || r.words[n] == "no") {
		r.warn = r.words[n] == "warn"
		r.words = r.words[:n]
	}
}

func (p *Policy) readPatterns(r *rule) error {
	if len(r.words) == 0 {
		return errors.New("no module")
	}
	for _, w := range r.words {
		if err := checkPattern(w); err != nil {
			return err
		}
	}
	return nil
}

// checkPattern checks MODULE, MODULE@VERSION or PREFIX/….
func checkPattern(s string) error {
	path, version, versioned := strings.Cut(s, "@")
	prefix, all := strings.CutSuffix(path, "/...")
	host, _, _ := strings.Cut(prefix, "/")
	if module.CheckImportPath(prefix) != nil || host != strings.ToLower(host) ||
		versioned && (all || version == "" || module.CanonicalVersion(version) != version) {
		return fmt.Errorf("%.200q is neither a module, nor prefix/..., nor module@version", s)
	}
	return nil
}

// matches reports whether a pattern means a version.
func matches(pattern, path, version string) bool {
	p, v, versioned := strings.Cut(pattern, "@")
	prefix, all := strings.CutSuffix(p, "/...")
	return (path == prefix || all && strings.HasPrefix(path, prefix+"/")) && (!versioned || v == version)
}

// denies returns the first pattern of a deny line that means a version. The case of letters does not
// count: several hosts take github.com/Evil/x for github.com/evil/x.
func (r *rule) denies(path, version string) (string, bool) {
	for _, w := range r.words {
		if matches(strings.ToLower(w), strings.ToLower(path), strings.ToLower(version)) {
			return w, true
		}
	}
	return "", false
}

// allows reports whether a pattern of an allow-only line means a version.
func (r *rule) allows(path, version string) bool {
	return slices.ContainsFunc(r.words, func(w string) bool { return matches(w, path, version) })
}

func (p *Policy) readLicense(r *rule) error {
	r.takeWarn()
	if len(r.words) < 2 || r.words[0] != "allow" {
		return errors.New("no license is allowed")
	}
	r.words = r.words[1:]
	if before := p.rules[License]; before != nil && before[0].warn != r.warn {
		return fmt.Errorf("%s refuses or warns, and this line does the other", before[0].pos)
	}
	known := facts.KnownLicenses()
	for _, id := range r.words {
		if !known[id] && id != facts.None && id != facts.NoAssertion {
			return fmt.Errorf("%.100q is not an SPDX identifier that modmirror recognizes a license by%s", id,
				resembling(id, known))
		}
	}
	return nil
}

// resembling returns a hint at a known word that differs in case alone, or that a word begins.
func resembling(word string, known map[string]bool) string {
	for _, k := range slices.Sorted(maps.Keys(known)) {
		if strings.EqualFold(k, word) || len(word) >= 3 && len(k) > len(word) && strings.EqualFold(k[:len(word)], word) {
			return ", perhaps " + k
		}
	}
	return ""
}

// aboutModules are the rules that an exception can be made from.
var aboutModules = []string{Deny, AllowOnly, License, Vulns, Cooldown, Retracted, Deprecated, New}

// Values of the rule Vulns.
const (
	vulnsNone             = "none"
	vulnsUnlessFixMissing = "unless-fix-missing"
)

func (p *Policy) readVulns(r *rule) error {
	r.takeWarn()
	if len(r.words) != 1 || r.words[0] != vulnsNone && r.words[0] != vulnsUnlessFixMissing {
		return errors.New("cannot read which are refused (Go's database gives no severities)")
	}
	return nil
}

func (p *Policy) readCooldown(r *rule) error {
	r.takeWarn()
	bad := fmt.Errorf("want 1 to %d days, such as 14d", maxDays)
	if len(r.words) != 1 {
		return bad
	}
	days, err := strconv.Atoi(strings.TrimSuffix(r.words[0], "d"))
	if err != nil || !strings.HasSuffix(r.words[0], "d") || days < 1 || days > maxDays {
		return bad
	}
	r.days = days
	return nil
}

func (p *Policy) readNo(r *rule) error {
	if len(r.words) != 1 || r.words[0] != "no" && r.words[0] != "warn" {
		return errors.New("want no, or warn")
	}
	r.takeWarn()
	return nil
}

func (p *Policy) readNew(r *rule) error {
	r.takeWarn()
	if len(r.words) == 0 {
		return errors.New("no kind")
	}
	r.words = strings.FieldsFunc(strings.Join(r.words, ","), func(c rune) bool { return c == ',' })
	if len(r.words) == 0 {
		return errors.New("no kind")
	}
	for _, k := range r.words {
		if !slices.Contains(facts.Kinds(), facts.Kind(k)) {
			return fmt.Errorf("%.60q is none of the kinds %s", k, join(facts.Kinds()))
		}
		for _, other := range p.rules[New] {
			if slices.Contains(other.words, k) {
				return fmt.Errorf("%s was said before, on %s", k, other.pos)
			}
		}
	}
	return nil
}

// join returns kinds with commas.
func join(kinds []facts.Kind) string {
	var words []string
	for _, k := range kinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ",")
}

func (p *Policy) readSize(r *rule) (err error) {
	r.takeWarn()
	if len(r.words) == 1 {
		r.bytes, err = humanize.ParseBytes(r.words[0])
	}
	if len(r.words) != 1 || err != nil || r.bytes == 0 || r.bytes > math.MaxInt64 {
		return errors.New("want a size, such as 200MiB")
	}
	return nil
}

func (p *Policy) readExcept(r *rule) error {
	w := r.words
	if len(w) != 6 || w[2] != "until" || w[4] != "because" {
		return errors.New("an exception has a module, an end and a reason")
	}
	if err := checkPattern(w[1]); err != nil {
		return err
	}
	day, err := time.Parse(time.DateOnly, w[3])
	if err != nil {
		return fmt.Errorf("%.40q is not a day", w[3])
	}
	if strings.Trim(w[5], " .…?!-") == "" {
		return errors.New("an exception needs a reason")
	}
	if !slices.Contains(aboutModules, w[0]) && !strings.Contains(w[0], "-") {
		return fmt.Errorf("%.60q is neither a rule about modules nor the id of a vulnerability", w[0])
	}
	p.except = append(p.except, &Exception{
		Line: r.pos, What: w[0], Module: w[1], Until: day.AddDate(0, 0, 1).Add(-1), Because: w[5],
	})
	return nil
}

// Cooldown returns the least age of versions in days, 0 for none. The rule may only warn.
func (p *Policy) Cooldown() int {
	if p.Empty() || len(p.rules[Cooldown]) == 0 || p.rules[Cooldown][0].warn {
		return 0
	}
	return p.rules[Cooldown][0].days
}

// excepted returns the exception for something that a rule is against: one that holds, or else one
// that has ended. ids are those of a vulnerability.
func (p *Policy) excepted(now time.Time, word, path, version string, ids ...string) (e *Exception, holds bool) {
	var ended *Exception
	for _, x := range p.except {
		if x.What != word && !slices.Contains(ids, x.What) || !matches(x.Module, path, version) {
			continue
		}
		x.used = true
		if !now.After(x.Until) {
			return x, true
		}
		ended = x
	}
	return ended, false
}
