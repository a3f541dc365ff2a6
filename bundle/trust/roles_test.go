package trust

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRoles checks who may sign for whom. A key that has two roles counts in one of them.
func TestRoles(t *testing.T) {
	maker, approver, both, none := newKey(t, "maker"), newKey(t, "approver"), newKey(t, "both"), newKey(t, "none")
	file := filepath.Join(t.TempDir(), "trusted")
	keyring, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	add := func(key *Key, roles ...string) {
		t.Helper()
		if added, err := keyring.Add(key.Verifier, roles...); err != nil || !added {
			t.Fatal(added, err)
		}
	}
	add(maker, Maker)
	add(approver)
	add(approver, Approver)
	add(both, Approver, Maker)
	add(none)
	if added, err := keyring.Add(both.Verifier); err != nil || added || len(keyring.Roles(both.Verifier)) != 2 {
		t.Errorf("a key that is there: %v, %v", added, err)
	}
	if keyring, err = Read(file); err != nil {
		t.Fatal(err)
	}
	name := func(keys ...*Key) (list []string) {
		for _, k := range keys {
			list = append(list, k.Verifier[:strings.LastIndex(k.Verifier, "+")])
		}
		return list
	}
	for _, test := range []struct {
		require string
		signers []string
		want    string // "" for enough
	}{
		{"1", name(none), ""},
		{"2", name(none), "signed by 1 of the trusted keys, and 2 are required"},
		{"2", name(none, maker), ""},
		{"maker:1,approver:1", name(maker, approver), ""},
		{"maker:1,approver:1", name(both), "signed by 0 of the trusted keys in the role of maker"},
		{"maker:1,approver:1", name(both, none), "signed by 0 of the trusted keys in the role of maker"},
		{"maker:1,approver:1", name(both, maker), ""},
		{"maker:1,approver:1", name(both, approver), ""},
		{"maker:1,approver:1", name(maker, none), "signed by 0 of the trusted keys in the role of approver"},
		{"maker:2", name(maker, both), ""},
		{"maker:2", name(maker, approver, none), "signed by 1 of the trusted keys in the role of maker, and 2 are required"},
		{"approver:1", name(approver), ""},
		{"3,approver:1", name(approver, maker), "signed by 2 of the trusted keys, and 3 are required"},
		{"3,approver:1", name(approver, maker, none), ""},
		{"maker:1", []string{"maker+00000000"}, "signed by 0 of the trusted keys in the role of maker"},
	} {
		if err := keyring.SetRequirement(test.require); err != nil {
			t.Fatal(err)
		}
		few := keyring.Check(test.signers)
		if few == nil && test.want != "" || few != nil && (test.want == "" || !strings.HasPrefix(few.Error(), test.want)) {
			t.Errorf("%s by %v: %v, want %q", test.require, test.signers, few, test.want)
		}
		reversed := slices.Clone(test.signers)
		slices.Reverse(reversed)
		if again := keyring.Check(reversed); (again == nil) != (few == nil) {
			t.Errorf("%s by %v: the order counts", test.require, test.signers)
		}
	}
	if _, err := keyring.Remove("both"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(data), both.Verifier) || !strings.Contains(string(data), approver.Verifier+" approver\n") {
		t.Errorf("%s, %v", data, err)
	}
}

// TestBadRoles has roles and requirements that are none.
func TestBadRoles(t *testing.T) {
	none, file := newKey(t, "none"), filepath.Join(t.TempDir(), "trusted")
	keyring := NewKeyring()
	for _, bad := range []string{"", "0", "-1", "x", "1,1", "maker", "maker:0", "owner:1", "maker:1,maker:1", "1001", "maker:1,"} {
		if err := keyring.SetRequirement(bad); err == nil {
			t.Errorf("--require %q is taken", bad)
		}
	}
	if added, err := keyring.Add(newKey(t, "team\u202e").Verifier); err == nil || added {
		t.Error("a key whose name has a character that is not seen is taken")
	}
	if _, err := keyring.Add(none.Verifier, "owner"); err == nil {
		t.Error("a role that is none is taken")
	}
	name, rest, _ := strings.Cut(none.Verifier, "+")
	hash, public, _ := strings.Cut(rest, "+")
	for _, bad := range []string{
		name + "+" + hash + "+" + public[:9] + "\r" + public[9:], name + "+" + strings.ToUpper(hash) + "+" + public,
		none.Verifier + "\n" + none.Verifier + " maker",
	} {
		if strings.ToUpper(hash) == hash && strings.Contains(bad, "+"+hash+"+"+public) && !strings.Contains(bad, "\n") {
			continue // a hash of digits alone
		}
		if err := os.WriteFile(file, []byte(bad+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if k, err := Read(file); err == nil {
			t.Errorf("a file with %q is read: %v", bad, k.Keys)
		}
	}
	if err := os.WriteFile(file, []byte(none.Verifier+" owner\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("a file with a role that is none: %v", err)
	}
}
