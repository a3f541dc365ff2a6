package modpath

import (
	"cmp"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Later reports whether @latest prefers version a to b: releases come before prereleases, those
// before pseudo-versions, and then the higher version
// (https://go.dev/ref/mod#version-queries, "latest").
func Later(a, b string) bool {
	rank := func(v string) int {
		switch {
		case module.IsPseudoVersion(v):
			return 0
		case semver.Prerelease(v) != "":
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), semver.Compare(a, b)) > 0
}
