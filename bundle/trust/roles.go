package trust

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Roles of keys.
const (
	Maker    = "maker"    // makes bundles
	Approver = "approver" // looked at a bundle and lets it cross
)

// CheckRoles returns an error for a word that is no role, or one that is there twice.
func CheckRoles(roles []string) error {
	for i, r := range roles {
		if r != Maker && r != Approver {
			return fmt.Errorf("%.40q is no role: want %s or %s", r, Maker, Approver)
		}
		if slices.Contains(roles[:i], r) {
			return fmt.Errorf("the role %s twice", r)
		}
	}
	return nil
}

// Roles returns the roles of a key, which is as in Key.Verifier.
func (t *Keyring) Roles(key string) []string { return t.roles[key] }

func (t *Keyring) setRoles(key string, roles []string) {
	if t.roles == nil {
		t.roles = make(map[string][]string)
	}
	t.roles[key] = roles
}

// SetRequirement parses who must have signed: a number of keys such as 2, roles such as
// maker:1,approver:1, or both.
func (t *Keyring) SetRequirement(text string) error {
	t.Require, t.RequireRoles = 0, nil
	for part := range strings.SplitSeq(text, ",") {
		role, number, isRole := strings.Cut(strings.TrimSpace(part), ":")
		if !isRole {
			number = role
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 1000 {
			return fmt.Errorf("%.60q: want a number of keys from 1 on, or roles such as %s:1,%s:1", text, Maker, Approver)
		}
		if !isRole {
			if t.Require > 0 {
				return fmt.Errorf("%.60q: two numbers of keys", text)
			}
			t.Require = n
			continue
		}
		if err := CheckRoles([]string{role}); err != nil {
			return err
		}
		if t.RequireRoles[role] > 0 {
			return fmt.Errorf("the role %s twice", role)
		}
		if t.RequireRoles == nil {
			t.RequireRoles = make(map[string]int)
		}
		t.RequireRoles[role] = n
	}
	return nil
}

// checkRoles returns an error unless each required role has enough signers. signers are public keys
// with their roles. It assigns each key to one role, so that as many places as possible are filled:
// a maximum matching by augmenting paths.
func (t *Keyring) checkRoles(signers map[string][]string) *TooFewError {
	filled := make(map[string][]string) // keys by role
	var assign func(key string, seen map[string]bool) bool
	assign = func(key string, seen map[string]bool) bool {
		for _, role := range signers[key] {
			if t.RequireRoles[role] == 0 || seen[role] {
				continue
			}
			seen[role] = true
			if len(filled[role]) < t.RequireRoles[role] {
				filled[role] = append(filled[role], key)
				return true
			}
			for i, other := range filled[role] { // it may have another role to go to
				if assign(other, seen) {
					filled[role][i] = key
					return true
				}
			}
		}
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(signers)) {
		assign(key, make(map[string]bool))
	}
	for _, role := range slices.Sorted(maps.Keys(t.RequireRoles)) {
		if have := len(filled[role]); have < t.RequireRoles[role] {
			return &TooFewError{Role: role, Want: t.RequireRoles[role], Have: have}
		}
	}
	return nil
}
