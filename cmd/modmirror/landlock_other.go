//go:build !linux

package main

import "log/slog"

// restrict does nothing: only Linux has Landlock.
func restrict(*slog.Logger, needs) {}

func hasLandlock() bool { return false }

// bePolite does nothing: only Linux has what it uses.
func bePolite() {}
